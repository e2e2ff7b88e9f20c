"""The machine's state: what it delivers, as the C++ program `probe` measures it before and after each run.

A virtual machine does not report its clock, nor on which physical cores the host runs it; both change while something is timed.
"""

import math
from collections.abc import Mapping

PROBES = ("clock_ghz", "multiply_adds_per_ns", "round_trip_ns")  # see engines/infer/probe.cpp; one thread has no round trip
MAX_RATIO = 1.9  # of two readings in one state: round trips vary by up to 1.8, the others by 1.1; states differ by 2 to 5


def interference(background_cores: float, own_cores: float) -> dict[str, float]:
    """`background_cores`, which other processes kept busy (NaN where unknown), and `stopped_cores`, the part of one left idle.

    `own_cores` are those that the timed process kept busy: at least one, unless it had to share it or was stopped.
    """
    others = 0.0 if math.isnan(background_cores) else background_cores
    return {"background_cores": background_cores, "stopped_cores": max(0.0, 1 - own_cores - others)}


def differ(first: Mapping[str, float], second: Mapping[str, float]) -> bool:
    """Whether two readings are of different states, by the probes that both have."""
    return any(max(first[name] / second[name], second[name] / first[name]) > MAX_RATIO for name in first.keys() & second.keys())

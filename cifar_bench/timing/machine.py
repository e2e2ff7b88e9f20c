"""The machine while something is timed: one measurement at a time, the background load, the state, and the clock."""

import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import psutil

from cifar_bench.engines import infer
from cifar_bench.records.state import PROBES, interference
from cifar_lib import InputError

# The name of a Linux socket that has no file: one for all users of the machine, whatever their folders are.
LOCK = os.environ.get("CIFAR_BENCH_LOCK", "cifar-latency-report")  # tests that judge no latency have locks of their own

# A run is contended where the background load exceeds so many cores, however many the machine has; the system counts it in
# ticks, so a short run is allowed a few ticks more. The limit looks at the cause, never at the latency.
MAX_BACKGROUND_CORES, TICKS_S = 0.1, 0.06  # cores; seconds
IDLE_TIMEOUT_S = 30  # of waiting until the machine is idle


@contextmanager
def measurement_lock() -> Iterator[None]:
    """Wait until no other measurement runs on this machine. The system releases the lock of a killed process, too."""
    with socket.socket(socket.AF_UNIX) as lock:
        waiting = False
        while not _bound(lock):
            if not waiting:
                print("waiting for another measurement on this machine to end", file=sys.stderr)
            waiting = True
            time.sleep(0.2)
        yield


def _bound(lock: socket.socket) -> bool:
    """Bind `lock` to the name LOCK unless another process has that name; other systems than Linux have none."""
    try:
        if sys.platform == "linux":
            lock.bind(f"\0{LOCK}")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise
    return True


class BackgroundLoad:
    """The processor time that other processes use from now on, on the cores that this process may use."""

    def __init__(self) -> None:
        self.started, self.before = time.monotonic(), self._seconds()

    def read(self) -> dict[str, float]:
        """How many cores other processes kept busy on average, `background_cores`, and `stopped_cores`; NaN where unknown.

        That is the part of the time in which neither another process ran nor this one, which never waits as it computes: it was
        stopped.
        """
        passed, (counted, used, own) = time.monotonic() - self.started, np.subtract(self._seconds(), self.before)
        return interference(used / passed if counted else np.nan, own / passed)

    def _seconds(self) -> tuple[float, float, float]:
        """Processor time so far: all that was counted, what other processes used, and what this one did.

        Waiting for input or output is idle time; the time of virtual machines' guests is counted as the user's already.
        """
        allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
        all_cores = enumerate(psutil.cpu_times(percpu=True))
        cores = [core._asdict() for number, core in all_cores if not allowed or number in allowed]
        counted = sum(core[name] for core in cores for name in core if not name.startswith("guest"))
        idle = sum(core.get(name, 0) for core in cores for name in ("idle", "iowait"))
        own = sum(psutil.Process().cpu_times()[:4])  # of this process and its finished children
        return counted, counted - idle - own, own


def background_cores(seconds: float) -> float:
    """The background load while this process sleeps; 0 where the system does not count it."""
    background = BackgroundLoad()
    time.sleep(seconds)
    return float(np.nan_to_num(background.read()["background_cores"]))


def is_contended(cores: float, seconds: float) -> bool:
    """Whether a run that timed for so many seconds lost more cores than the limit; not where they are NaN."""
    return bool(cores > MAX_BACKGROUND_CORES + TICKS_S / seconds)


def wait_until_idle() -> None:
    """Wait until other processes are idle, or for IDLE_TIMEOUT_S."""
    started = time.monotonic()
    while time.monotonic() - started < IDLE_TIMEOUT_S and background_cores(1) > MAX_BACKGROUND_CORES:
        pass


def probe(threads: int) -> dict[str, float]:
    """What the machine delivers to so many threads right now, by PROBES; empty where the program cannot be built."""
    program = _probe_program()
    readings = infer.call(program, threads).split() if program else []
    return {name: float(reading) for name, reading in zip(PROBES, readings) if reading != "0"}


@cache
def _probe_program() -> Path | None:
    try:
        return infer.build("probe")
    except InputError:
        return None


def clock() -> dict:
    """The clock of `time_images`: its name, its smallest step (ns) and the cost of reading it (ns, median)."""
    readings = np.array([time.perf_counter_ns() for _ in range(100_000)])
    steps = np.diff(readings)
    return {"name": time.get_clock_info("perf_counter").implementation, "step_ns": int(steps[steps > 0].min()),
            "cost_ns": float(np.median(steps))}

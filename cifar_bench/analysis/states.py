"""The machine's states in a timing record: which were seen, and how much of the spread they explain."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from cifar_bench.records import state


def reading(run: Mapping) -> dict[str, float]:
    """A run's probes, each the geometric mean of before and after; empty where there was no probe."""
    return {name: float(np.sqrt(np.prod(readings))) for name, readings in run.get("probes", {}).items()}


def changed(run: Mapping) -> bool:
    return run.get("state_changed", False)  # records made before there were probes do not say


def differ(run: Mapping, other: Mapping) -> bool:
    """Whether the machine was in different states during two runs."""
    return state.differ(reading(run), reading(other))


def grouped(runs: Iterable[Mapping]) -> list[list[Mapping]]:
    """The runs, a group for each state of the machine, the shortest round trip first.

    A gap between sorted readings of more than the ratio that one state allows separates states.
    """
    groups = [list(runs)]
    for name in state.PROBES:
        groups = [part for group in groups for part in _split(group, name)]
    return groups


def explained(runs: Sequence[Mapping]) -> float | None:
    """The share of the variance of an engine's medians that the machine's states explain (η²); None in a single state."""
    logs = [np.log([run["p50_ns"] for run in group]) for group in grouped(runs)]
    if len(logs) < 2:
        return None
    total, within = np.concatenate(logs), sum(((group - group.mean()) ** 2).sum() for group in logs)
    return float(1 - within / ((total - total.mean()) ** 2).sum())


def name(runs: Sequence[Mapping]) -> str:
    """A state by its median readings, as the probes of `runs` in it say."""
    readings = [reading(run) for run in runs]
    clock, rate, trip = (np.median([of[probe] for of in readings]) if probe in readings[0] else None for probe in state.PROBES)
    if clock is None:
        return "not probed"
    return (f"round trip {trip:,.0f} ns, " if trip else "") + f"{clock:.1f} GHz, {rate:.1f} multiply-adds per ns"


def _split(runs: Sequence[Mapping], name: str) -> list[list[Mapping]]:
    """Runs in groups of similar readings of a probe; those without a reading are one group."""
    probed = sorted((run for run in runs if name in reading(run)), key=lambda run: reading(run)[name])
    readings = np.array([reading(run)[name] for run in probed])
    gaps = np.flatnonzero(readings[1:] > state.MAX_RATIO * readings[:-1]) + 1
    groups = [probed[start:end] for start, end in pairwise([0, *gaps, len(probed)])]
    return [group for group in (*groups, [run for run in runs if name not in reading(run)]) if group]

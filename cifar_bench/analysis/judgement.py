"""A verdict with its reason, and how an interval becomes one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from cifar_bench.analysis import latency, statistics
from cifar_bench.analysis.evidence import Evidence
from cifar_bench.analysis.latency import MIN_RUNS

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE, NOT_RUN = "reproduced", "not reproduced", "inconclusive", "not run"
CONTENDED = "others used the machine in too many of the runs: measure again when it is idle"


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reason, our number in words, and the records it rests on."""

    verdict: str
    reason: str
    ours: str = "–"
    used: list[Evidence] = field(default_factory=list)


def against(threshold: float, interval: statistics.Interval, above: str, below: str) -> str:
    """The verdict `above` or `below` where the whole interval lies on that side of the threshold, else inconclusive."""
    low, high = interval
    return above if low > threshold else below if high < threshold else INCONCLUSIVE


def within(margin: float, interval: statistics.Interval) -> str:
    """Reproduced where the interval of a difference lies within ±`margin`, not reproduced where it lies outside."""
    low, high = interval
    if -margin <= low and high <= margin:
        return REPRODUCED
    return NOT_REPRODUCED if high < -margin or low > margin else INCONCLUSIVE


def uncontended(judgement: Judgement, runs: Iterable[dict]) -> Judgement:
    """The judgement, or where others contended any of the runs it rests on no more than "inconclusive"."""
    if latency.is_contended(runs):
        return replace(judgement, verdict=INCONCLUSIVE, reason=CONTENDED)
    return judgement


def not_run(reason: str, evidence: Evidence | None = None, ours: str = "–") -> Judgement:
    """The verdict "not run", and why."""
    return Judgement(NOT_RUN, reason, ours, [evidence] if evidence else [])


def too_few(found: Sequence, what: str) -> str:
    """Why there are too few seeds or runs for an interval, in words; nothing where there are enough."""
    return f"too short a profile: {len(found)} {what}, {MIN_RUNS} at least" if len(found) < MIN_RUNS else ""


def listed(accuracies: Sequence[float]) -> str:
    """Accuracies (%) in words, lowest first."""
    return ", ".join(f"{accuracy:.2f}%" for accuracy in sorted(accuracies))


def with_interval(value: float, interval: statistics.Interval, unit: str, digits: int = 2) -> str:
    """A number with its unit and its interval, in words."""
    return f"{value:,.{digits}f}{unit} ({interval[0]:,.{digits}f} to {interval[1]:,.{digits}f})"

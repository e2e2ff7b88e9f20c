"""A verdict with its reason, and how an interval becomes a verdict."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from cifar_bench.analysis import latency, statistics
from cifar_bench.analysis.evidence import Evidence

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE, NOT_RUN = "reproduced", "not reproduced", "inconclusive", "not run"


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reason, the number measured here as text, and the records it rests on."""

    verdict: str
    reason: str
    ours: str = "–"
    used: list[Evidence] = field(default_factory=list)


def threshold_verdict(threshold: float, interval: statistics.Interval, above: str, below: str) -> str:
    """The verdict `above` or `below` where the whole interval is on that side of the threshold, else inconclusive."""
    low, high = interval
    return above if low > threshold else below if high < threshold else INCONCLUSIVE


def equivalence_verdict(margin: float, interval: statistics.Interval) -> str:
    """Reproduced where the interval of a difference is within ±`margin`, not reproduced where it is outside."""
    low, high = interval
    if -margin <= low and high <= margin:
        return REPRODUCED
    return NOT_REPRODUCED if high < -margin or low > margin else INCONCLUSIVE


def downgrade_if_disturbed(judgement: Judgement, runs: Iterable[Sequence[dict]]) -> Judgement:
    """The judgement, or an inconclusive one where any of the runs that it rests on, each alone or in pairs, was disturbed."""
    reason = next(filter(None, (latency.disturbance(*together) for together in runs)), "")
    return replace(judgement, verdict=INCONCLUSIVE, reason=reason) if reason else judgement


def not_run(reason: str, evidence: Evidence | None = None, ours: str = "–") -> Judgement:
    return Judgement(NOT_RUN, reason, ours, [evidence] if evidence else [])


def insufficient_sample(sample: Sequence, unit: str) -> str:
    """Why a sample of seeds or runs is too small for an interval; "" where it is large enough."""
    return f"too short a profile: {len(sample)} {unit}, {latency.MIN_RUNS} needed" if len(sample) < latency.MIN_RUNS else ""


def format_accuracies(accuracies: Sequence[float]) -> str:
    """Accuracies (%) as text, lowest first."""
    return ", ".join(f"{accuracy:.2f}%" for accuracy in sorted(accuracies))


def format_interval(value: float, interval: statistics.Interval, unit: str, digits: int = 2) -> str:
    """A number with its unit and its interval, as text."""
    return f"{value:,.{digits}f}{unit} ({interval[0]:,.{digits}f} to {interval[1]:,.{digits}f})"

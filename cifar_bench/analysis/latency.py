"""What a latency record says: the engines compared.

The process is the unit: a number of an engine is the mean of its runs' numbers, with Student's interval over the runs.
Runs of the same round are neighbours in time; ratios pair them, so that what the round had in common cancels.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from cifar_bench.analysis import statistics
from cifar_bench.records import AA_TEST, REPEATED_IMAGE

BASE = "torchscript"  # the original's; the others' ratios are to it
MIN_RUNS = 3  # runs or seeds; with two, a 95% interval of their mean is so wide that it says nothing
# How far an engine's logits may be from PyTorch's in float32: rounding, not another network, nor a coarser precision (TF32 was
# off by 0.0016, float32 on every machine by less than 0.00001). They lie between -5 and 10.
LOGIT_ERROR = {"float32": 0.0005, "tf32": 0.1, "float16": 0.1, "bfloat16": 0.5}
VARIANTS = {AA_TEST: "in the A/A test", REPEATED_IMAGE: "with one image over and over"}


def name(row: Mapping) -> str:
    """What to call an engine's row."""
    return f"{row['engine']} ({VARIANTS[row['variant']]})" if row.get("variant") else row["engine"]


def as_named(record: Mapping) -> list[dict]:
    """The rows of a latency record that ran, and computed in the precision that they are said to."""
    return [row for row in record["measurements"]["engines"]
            if "runs" in row and row["max_logit_error"] <= LOGIT_ERROR[row["precision"]]]


def compared(record: Mapping) -> list[dict]:
    """The rows of a latency record that compare engines: those of `as_named`, without TorchScript's checks with itself."""
    return [row for row in as_named(record) if not row.get("variant")]


def by_round(row: Mapping) -> dict[int, dict]:
    """The runs of a row that count, by the round that they belong to: those that others did not disturb.

    Where these are fewer than MIN_RUNS, each round's last run counts: see `is_contended`.
    """
    uncontended = _last_by_round(row, lambda run: not run.get("contended"))
    return uncontended if len(uncontended) >= MIN_RUNS else _last_by_round(row)


def pairs(row: Mapping, base: Mapping) -> list[tuple[dict, dict]]:
    """The runs of two rows that count, paired by round; where fewer than MIN_RUNS rounds do for both, each round's last."""
    ours, theirs = by_round(row), by_round(base)
    if len(ours.keys() & theirs.keys()) < MIN_RUNS:
        ours, theirs = _last_by_round(row), _last_by_round(base)
    return [(ours[number], theirs[number]) for number in sorted(ours.keys() & theirs.keys())]


def _last_by_round(row: Mapping, counts: Callable[[Mapping], bool] = lambda run: True) -> dict[int, dict]:
    """The last run of each round of those that count, by the round; older records count no rounds."""
    return {run.get("round", number): run for number, run in enumerate(row["runs"]) if counts(run)}


def judged_runs(row: Mapping) -> list[dict]:
    """The runs of a row that count, in the order of their rounds."""
    return [run for _, run in sorted(by_round(row).items())]


def is_contended(runs: Iterable[Mapping]) -> bool:
    """Whether others contended any of these runs."""
    return any(run.get("contended") for run in runs)


def paired(row: Mapping, base: Mapping, name: str) -> tuple[float, statistics.Interval]:
    """The ratio of a row's `name` ("mean_ns", say) to another's, paired by round, with its interval."""
    ours, theirs = zip(*pairs(row, base))
    return statistics.ratio_interval([run[name] for run in ours], [run[name] for run in theirs])


def spread(row: Mapping, name: str) -> float:
    """How far the slowest and the fastest run of a row are apart in a quantile ("p50", say) or the mean, as a share of it."""
    values = [run[f"{name}_ns"] for run in judged_runs(row)]
    return float(np.ptp(values) / np.mean(values))


def quantile(row: Mapping, name: str) -> tuple[float, statistics.Interval]:
    """A quantile ("p50", say) or the mean of a row in µs, with its interval over the runs."""
    values = [run[f"{name}_ns"] / 1e3 for run in judged_runs(row)]
    low, high = statistics.mean_interval(values)
    return float(np.mean(values)), (max(0.0, low), high)  # runs far apart would put it below zero, where no time is


def ratio(row: Mapping, rows: list[Mapping]) -> tuple[float, statistics.Interval] | None:
    """The row's median latency over TorchScript's, with its interval; None where TorchScript did not run, or is the row."""
    base = next((other for other in rows if other["engine"] == BASE and not other.get("variant") and "runs" in other), None)
    return None if base is None or row is base else paired(row, base, "p50_ns")


def aa_difference(record: Mapping) -> float:
    """How far an engine may be from itself, as a share: the far end of the A/A test's interval; 0 where that was not tried."""
    rows = [row for row in record["measurements"]["engines"] if "runs" in row]
    same = next((row for row in rows if row.get("variant") == AA_TEST), None)
    if not (same and (found := ratio(same, rows))):
        return 0.0
    _, (low, high) = found
    return max(high - 1, 1 - low)


def loadgen_ratio(loadgen: Mapping) -> tuple[float, statistics.Interval]:
    """The median over the rounds of our p90 over LoadGen's, with its interval, from what `loadgen.cross_check` measured."""
    ratios = np.array(loadgen["ours_ns"]) / np.array(loadgen["loadgen_ns"])
    return float(np.median(ratios)), statistics.quantile_interval(ratios, 0.5, blocks=min(20, len(ratios)))


def loadgen_overhead(loadgen: Mapping) -> float | None:
    """What LoadGen's own calls add to its p90 (ns), the median over the rounds; None in records that do not tell."""
    if "within_loadgen_ns" not in loadgen:
        return None
    return float(np.median(np.array(loadgen["loadgen_ns"]) - np.array(loadgen["within_loadgen_ns"])))

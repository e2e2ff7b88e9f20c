"""What a latency record says: the engines compared.

The process is the unit: a number of an engine is the mean of its runs' numbers, with Student's interval over the runs.
Runs of the same round are neighbours in time; ratios pair them, so that what the round had in common cancels.
"""

from collections.abc import Mapping

import numpy as np

from cifar_lib.analysis import statistics
from cifar_lib.records import AA_TEST, ONE_IMAGE

BASE = "torchscript"  # the original's; the others' ratios are to it
VARIANTS = {AA_TEST: "as if it were another engine", ONE_IMAGE: "with one image over and over"}


def name(row: Mapping) -> str:
    """What to call an engine's row."""
    return f"{row['engine']} ({VARIANTS[row['variant']]})" if row.get("variant") else row["engine"]


def compared(record: Mapping) -> list[dict]:
    """The rows of a latency record that compare engines: those that ran, without the checks of TorchScript with itself."""
    return [row for row in record["measurements"]["engines"] if "runs" in row and not row.get("variant")]


def spread(row: Mapping, name: str) -> float:
    """How far the slowest and the fastest run of a row are apart in a quantile ("p50", say) or the mean, as a share of it."""
    values = [run[f"{name}_ns"] for run in row["runs"]]
    return float(np.ptp(values) / np.mean(values))


def quantile(row: Mapping, name: str) -> tuple[float, statistics.Interval]:
    """A quantile ("p50", say) or the mean of a row in µs, with its interval over the runs."""
    values = [run[f"{name}_ns"] / 1e3 for run in row["runs"]]
    low, high = statistics.mean_interval(values)
    return float(np.mean(values)), (max(0.0, low), high)  # runs far apart would put it below zero, where no time is


def ratio(row: Mapping, rows: list[Mapping]) -> tuple[float, statistics.Interval] | None:
    """The row's median latency over TorchScript's, with its interval; None where TorchScript did not run, or is the row."""
    base = next((other for other in rows if other["engine"] == BASE and not other.get("variant") and "runs" in other), None)
    if base is None or row is base:
        return None
    return statistics.ratio_interval([run["p50_ns"] for run in row["runs"]], [run["p50_ns"] for run in base["runs"]])


def loadgen_ratio(loadgen: Mapping) -> tuple[float, statistics.Interval]:
    """The median over the rounds of our p90 over LoadGen's, with its interval, from what `loadgen.cross_check` measured."""
    ratios = np.array(loadgen["ours_ns"]) / np.array(loadgen["loadgen_ns"])
    return float(np.median(ratios)), statistics.quantile_interval(ratios, 0.5, blocks=min(20, len(ratios)))


def loadgen_overhead(loadgen: Mapping) -> float | None:
    """What LoadGen's own calls add to its p90 (ns), the median over the rounds; None in records that do not tell."""
    if "within_loadgen_ns" not in loadgen:
        return None
    return float(np.median(np.array(loadgen["loadgen_ns"]) - np.array(loadgen["within_loadgen_ns"])))


def mean_standard_error_ns(run: Mapping) -> float:
    """The standard error of a run's mean, from its stretches; older records have it themselves."""
    return run["mean_standard_error_ns"] if "mean_standard_error_ns" in run else statistics.block_standard_error(
        run["block_means_ns"])

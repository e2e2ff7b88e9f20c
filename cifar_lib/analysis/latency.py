"""What a latency record says: the engines compared, and how steady the machine was.

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


def begins_slowly(run: Mapping) -> bool:
    """Whether the first stretch of a run is more than 5% slower than the rest; records before stretches were kept say no."""
    first, *rest = run.get("block_p50_ns", [1, 1])
    return first > 1.05 * float(np.median(rest))


def mean_standard_error_ns(run: Mapping) -> float:
    """The standard error of a run's mean, from its stretches; older records have it themselves."""
    return run["mean_standard_error_ns"] if "mean_standard_error_ns" in run else statistics.block_standard_error(
        run["block_means_ns"])


def stability_warnings(record: Mapping) -> list[str]:
    """Why the numbers might be shaky, a sentence each; none where nothing was seen."""
    rows = [row for row in record["measurements"]["engines"] if "runs" in row]
    runs = [(row, run) for row in rows for run in row["runs"]]
    cpu, warnings = record["environment"]["cpu"], []
    busy = record["measurements"].get("busy_share", 0)  # older records have none
    steal = max(run["steal_share"] for _, run in runs)
    if steal > 0.01:
        warnings.append(f"the host took up to {steal:.1%} of a run's time for others (steal)")
    if busy > 0.05:
        warnings.append(f"others used {busy:.0%} of the machine when it began")
    if cpu["governor"] not in (None, "performance"):
        warnings.append(f"the clock's governor is {cpu['governor']}, not performance")
    spreads = {name(row): spread(row, "p50") for row in rows}
    widest = max(spreads, key=spreads.get)
    if spreads[widest] > 0.05:
        warnings.append(f"medians of the runs of {widest} are {spreads[widest]:.0%} apart")
    means = np.array([[run["mean_ns"] for run in row["runs"]] for row in rows])  # engines × rounds
    first, second = np.array_split(means, 2, axis=1)
    drifts = second.mean(1) / first.mean(1) - 1 if second.size else np.zeros(1)
    if min(abs(drifts)) > 0.02 and len(set(np.sign(drifts))) == 1:
        warnings.append(f"from the first to the second half of the rounds every engine's mean changes ({min(drifts):+.0%} to "
                     f"{max(drifts):+.0%}): the machine does, and intervals over runs take that for chance")
    aa_test = next((row for row in rows if row.get("variant") == AA_TEST), None)
    if aa_test and (same := ratio(aa_test, rows)):
        _, (low, high) = same
        if max(high - 1, 1 - low) > 0.02:
            warnings.append(f"an engine compared with itself might differ by {max(high - 1, 1 - low):.1%}")
    unsettled = sum(begins_slowly(run) for _, run in runs)
    if unsettled > len(runs) / 10:
        warnings.append(f"in {unsettled} of {len(runs)} runs the first images after the warm-up are still more than 5% slower")
    disturbed = [run["involuntary_switches"] / row["images"] for row, run in runs]
    if np.median(disturbed) > 0.05:
        warnings.append(f"half of the runs lost the processor more than {np.median(disturbed):.2f} times an image")
    return warnings

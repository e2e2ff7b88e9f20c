"""What a latency record says: the engines compared, why there may be more than one mode, and how steady the machine was.

The process is the unit: a number of an engine is the mean of its runs' numbers, with Student's interval over the runs.
Runs of the same round are neighbours in time; ratios pair them, so that what the round had in common cancels.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from cifar_lib import stats
from cifar_lib.timer import AGAIN, ONE_IMAGE

BASE = "torchscript"  # the original's; the others' ratios are to it
VARIANTS = {AGAIN: "as if it were another engine", ONE_IMAGE: "with one image over and over"}


def name(row: Mapping) -> str:
    """What to call an engine's row."""
    return f"{row['engine']} ({VARIANTS[row['variant']]})" if row.get("variant") else row["engine"]


def compared(record: Mapping) -> list[dict]:
    """The rows of a latency record that compare engines: those that ran, without the checks of TorchScript with itself."""
    return [row for row in record["measurements"]["engines"] if "runs" in row and not row.get("variant")]


def spread(row: Mapping, which: str) -> float:
    """How far the slowest and the fastest run of a row are apart in a quantile ("p50", say) or the mean, as a share of it."""
    values = [run[f"{which}_ns"] for run in row["runs"]]
    return float(np.ptp(values) / np.mean(values))


def quantile(row: Mapping, which: str) -> tuple[float, stats.Interval]:
    """A quantile ("p50", say) or the mean of a row in µs, with its interval over the runs."""
    values = [run[f"{which}_ns"] / 1e3 for run in row["runs"]]
    low, high = stats.mean_interval(values)
    return float(np.mean(values)), (max(0.0, low), high)  # runs far apart would put it below zero, where no time is


def ratio(row: Mapping, rows: list[Mapping]) -> tuple[float, stats.Interval] | None:
    """The row's median latency over TorchScript's, with its interval; None where TorchScript did not run, or is the row."""
    base = next((one for one in rows if one["engine"] == BASE and not one.get("variant") and "runs" in one), None)
    if base is None or row is base:
        return None
    return stats.ratio_interval([run["p50_ns"] for run in row["runs"]], [run["p50_ns"] for run in base["runs"]])


def loadgen_ratio(told: Mapping) -> tuple[float, stats.Interval]:
    """The median over the rounds of our p90 over LoadGen's, with its interval, from what `timer.cross_check` found."""
    ratios = np.array(told["ours_ns"]) / np.array(told["loadgen_ns"])
    return float(np.median(ratios)), stats.quantile_interval(ratios, 0.5, blocks=min(20, len(ratios)))


def loadgens_own(told: Mapping) -> float | None:
    """What LoadGen's own calls add to its p90 (ns), the median over the rounds; None in records that do not tell."""
    if "within_loadgen_ns" not in told:
        return None
    return float(np.median(np.array(told["loadgen_ns"]) - np.array(told["within_loadgen_ns"])))


def modes(ns: np.ndarray, classes: np.ndarray, runs: Sequence[Mapping]) -> tuple[list[float], str]:
    """Where an engine's latencies crowd (µs), and a sentence on what goes with it; none where there is one mode.

    `ns` and `classes` are runs×images, `runs` what the record says of each run.
    """
    found = np.array(stats.modes(ns.ravel()))
    if len(found) < 2:
        return (found / 1e3).tolist(), ""
    nearest = np.abs(np.log(ns)[..., None] - np.log(found)).argmin(-1)
    run, image = np.indices(ns.shape)
    causes = {"the run": run, "the part of the run": image * 10 // ns.shape[1], "the class": classes}
    related = {cause: stats.association(nearest.ravel(), labels.ravel()) for cause, labels in causes.items()}
    closest = max(related, key=related.get)
    words = f"goes most with {closest}" if related[closest] >= 0.1 else f"goes with none of {', '.join(causes)}"
    words += f" (Cramér's V {related[closest]:.2f})"
    if closest == "the run" and len(runs) >= 5:  # of fewer, ranks say nothing
        told = {"clock": [sum(one["mhz"]) / len(one["mhz"]) if one["mhz"] else np.nan for one in runs],
                "steal": [one["steal_share"] for one in runs],
                "interruptions": [one["involuntary_switches"] for one in runs]}
        slow = (nearest == len(found) - 1).mean(1)
        follows = ", ".join(f"{name} {stats.rank_correlation(values, slow):+.2f}" for name, values in told.items()
                            if np.isfinite(values).all() and np.ptp(values) > 0)
        if follows:
            words += f"; the slowest mode's share of a run has these rank correlations with the run's: {follows}"
    return (found / 1e3).tolist(), f"which mode an image falls into {words}"


def doubts(record: Mapping) -> list[str]:
    """Why the numbers might be shaky, a sentence each; none where nothing was seen."""
    rows = [row for row in record["measurements"]["engines"] if "runs" in row]
    runs = [(row, run) for row in rows for run in row["runs"]]
    cpu, found = record["environment"]["cpu"], []
    busy = record["measurements"].get("busy_share", 0)  # older records have none
    steal = max(run["steal_share"] for _, run in runs)
    if steal > 0.01:
        found.append(f"the host took up to {steal:.1%} of a run's time for others (steal)")
    if busy > 0.05:
        found.append(f"others used {busy:.0%} of the machine when it began")
    if cpu["governor"] not in (None, "performance"):
        found.append(f"the clock's governor is {cpu['governor']}, not performance")
    spreads = {name(row): spread(row, "p50") for row in rows}
    widest = max(spreads, key=spreads.get)
    if spreads[widest] > 0.05:
        found.append(f"medians of the runs of {widest} are {spreads[widest]:.0%} apart")
    means = np.array([[run["mean_ns"] for run in row["runs"]] for row in rows])  # engines × rounds
    first, second = np.array_split(means, 2, axis=1)
    drifts = second.mean(1) / first.mean(1) - 1 if second.size else np.zeros(1)
    if min(abs(drifts)) > 0.02 and len(set(np.sign(drifts))) == 1:
        found.append(f"from the first to the second half of the rounds every engine's mean changes ({min(drifts):+.0%} to "
                     f"{max(drifts):+.0%}): the machine does, and intervals over runs take that for chance")
    again = next((row for row in rows if row.get("variant") == AGAIN), None)
    if again and (same := ratio(again, rows)):
        _, (low, high) = same
        if max(high - 1, 1 - low) > 0.02:
            found.append(f"an engine compared with itself might differ by {max(high - 1, 1 - low):.1%}")
    short = [row for row, run in runs if run["warmup_images"] > row["warmup"]]
    if short:
        found.append(f"in {len(short)} of {len(runs)} runs the latency had not settled after the warm-up")
    stepping = sum(bool(run["level_changes"]) for _, run in runs)
    if stepping > len(runs) / 4:
        found.append(f"in {stepping} of {len(runs)} runs the latency steps to another level")
    disturbed = [run["involuntary_switches"] / row["images"] for row, run in runs]
    if np.median(disturbed) > 0.05:
        found.append(f"half of the runs lost the processor more than {np.median(disturbed):.2f} times an image")
    return found

"""Was the machine steady while it was timed? Every reason to doubt a latency record, in words."""

from collections.abc import Mapping

import numpy as np

from cifar_lib.analysis import latency
from cifar_lib.records import AA_TEST


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
    spreads = {latency.name(row): latency.spread(row, "p50") for row in rows}
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
    if aa_test and (same := latency.ratio(aa_test, rows)):
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


def begins_slowly(run: Mapping) -> bool:
    """Whether the first stretch of a run is more than 5% slower than the rest; records before stretches were kept say no."""
    first, *rest = run.get("block_p50_ns", [1, 1])
    return first > 1.05 * float(np.median(rest))

"""Was the machine steady while it was timed? Reasons to doubt a latency record, in words.

The rules look at contended runs and at the A/A test by themselves.
"""

from collections.abc import Mapping

import numpy as np

from cifar_bench.analysis import latency


def stability_warnings(record: Mapping) -> list[str]:
    """Why the numbers might be shaky, a sentence each; none where nothing was seen."""
    rows = [row for row in record["measurements"]["engines"] if "runs" in row]
    runs = [(row, run) for row in rows for run in row["runs"]]
    cpu, warnings = record["environment"]["cpu"], []
    busy = record["measurements"].get("background_load", 0)  # older records have none
    if dropped := record["environment"].get("dropped_variables"):  # likewise
        named = ", ".join(f"{name}={value}" for name, value in dropped.items())
        warnings.append(f"set where the measurement was started, and dropped so that it tunes nothing: {named}")
    steal = max(run.get("steal_share", 0) for _, run in runs)  # now among what others used
    if steal > 0.01:
        warnings.append(f"the host took up to {steal:.1%} of a run's time for others (steal)")
    if busy > 0.05:
        warnings.append(f"others used {busy:.0%} of the machine when it began")
    if cpu["governor"] not in (None, "performance"):
        warnings.append(f"the clock's governor is {cpu['governor']}, not performance")
    contended = sum(run.get("contended", False) for _, run in runs)
    if contended:
        left = [latency.name(row) for row in rows if latency.is_contended(latency.judged_runs(row))]
        warnings.append(f"others contended {contended} of {len(runs)} runs, which were measured again" + (
            f"; of {', '.join(left)} too few uncontended ones could be had" if left else ""))
    spreads = {latency.name(row): latency.spread(row, "p50") for row in rows}
    widest = max(spreads, key=spreads.get)
    if spreads[widest] > 0.05:
        warnings.append(f"medians of the runs of {widest} are {spreads[widest]:.0%} apart")
    halves = [np.array_split([run["mean_ns"] for run in latency.judged_runs(row)], 2) for row in rows]
    drifts = np.array([second.mean() / first.mean() - 1 for first, second in halves if len(second)] or [0])
    if min(abs(drifts)) > 0.02 and len(set(np.sign(drifts))) == 1:
        warnings.append(f"from the first to the second half of the rounds every engine's mean changes ({min(drifts):+.0%} to "
                        f"{max(drifts):+.0%}): the machine changed, which the intervals over runs take for chance")
    if (difference := latency.aa_difference(record)) > 0.02:
        warnings.append(f"by the A/A test an engine may differ from itself by up to {difference:.1%}")
    unsettled = sum(begins_slowly(run) for _, run in runs)
    if unsettled > len(runs) / 10:
        warnings.append(f"in {unsettled} of {len(runs)} runs the first images after the warm-up are still more than 5% slower")
    switches = np.median([run["involuntary_switches"] / row["images"] for row, run in runs])
    if switches > 0.05:
        warnings.append(f"the median run has {switches:.2f} involuntary context switches an image")
    return warnings


def begins_slowly(run: Mapping) -> bool:
    """Whether the first stretch of a run is more than 5% slower than the rest; records before stretches were kept say no."""
    first, *rest = run.get("block_p50_ns", [1, 1])
    return first > 1.05 * float(np.median(rest))

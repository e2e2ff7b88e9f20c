"""Whether the machine was stable while it was timed: warnings about a latency record.

The rules look at contended runs and at A/A noise by themselves.
"""

from collections.abc import Mapping

import numpy as np

from cifar_bench.analysis import latency


def stability_warnings(record: Mapping) -> list[str]:
    """Why the latencies may be unreliable, a clause each."""
    rows = [row for row in record["measurements"]["engines"] if "runs" in row]
    runs = [(row, run) for row in rows for run in row["runs"]]
    environment, warnings = record["environment"], []
    if dropped := environment["dropped_variables"]:
        named = ", ".join(f"{name}={value}" for name, value in dropped.items())
        warnings.append(f"environment variables that tune libraries were set, and dropped for the measurement: {named}")
    if (load := record["measurements"]["background_load"] or 0) > 0.05:
        warnings.append(f"the background load was {load:.0%} before the measurement")
    if environment["cpu"]["governor"] not in (None, "performance"):
        warnings.append(f"the CPU frequency governor is {environment['cpu']['governor']}, not performance")
    if contended := sum(run["contended"] for _, run in runs):
        left = [latency.name(row) for row in rows if latency.is_contended(latency.judged_runs(row))]
        repeated = ", and repeated" if record["parameters"]["repeats"] else ""
        warnings.append(f"{contended} of {len(runs)} runs were contended{repeated}" + (
            f"; too few uncontended runs of {', '.join(left)} could be had" if left else ""))
    if failures := sum(len(row["failures"]) for row in rows):
        warnings.append(f"{failures} runs failed")
    spreads = {latency.name(row): latency.spread(row, "p50") for row in rows}
    widest = max(spreads, key=spreads.get)
    if spreads[widest] > 0.05:
        warnings.append(f"the spread of the runs' medians is {spreads[widest]:.0%} with {widest}")
    halves = [np.array_split([run["mean_ns"] for run in latency.judged_runs(row)], 2) for row in rows]
    drifts = np.array([second.mean() / first.mean() - 1 for first, second in halves])
    if min(abs(drifts)) > 0.02 and len(set(np.sign(drifts))) == 1:
        warnings.append(f"the mean of every engine changes from the first to the second half of the rounds ({min(drifts):+.0%} "
                        f"to {max(drifts):+.0%}): the machine changed, which intervals over runs treat as random variation")
    noise = latency.aa_noise(record)
    if noise is None or noise > 0.02:
        warnings.append("the A/A noise is unknown" if noise is None else f"the A/A noise is up to {noise:.1%}")
    slow_starts = sum(starts_slowly(run) for _, run in runs)
    if slow_starts > len(runs) / 10:
        warnings.append(f"in {slow_starts} of {len(runs)} runs the first images after the warm-up are more than 5% slower")
    return warnings


def starts_slowly(run: Mapping) -> bool:
    """Whether the first block of a run is more than 5% slower than the median block after it."""
    first, *later = run["block_p50_ns"]
    return first > 1.05 * float(np.median(later))

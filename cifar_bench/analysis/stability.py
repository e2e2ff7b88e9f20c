"""Whether the machine was stable while it was timed: warnings about the records of 3_latency and 5_faster.

The rules look at contended runs and at A/A noise by themselves.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cifar_bench.analysis import frontier, latency, states


def stability_warnings(record: Mapping, fast: Mapping | None = None) -> list[str]:
    """Why the latencies of a 3_latency record, and of a 5_faster record `fast`, may be unreliable, a clause each."""
    environment, warnings = record["environment"], []
    if dropped := environment["dropped_variables"]:
        named = ", ".join(f"{name}={value}" for name, value in dropped.items())
        warnings.append(f"environment variables that change the speed were set, and dropped for the measurement: {named}")
    if environment["cpu"]["governor"] not in (None, "performance"):
        warnings.append(f"the CPU frequency governor is {environment['cpu']['governor']}, not performance")
    warnings += _of_runs(record, record["measurements"]["engines"], latency.name)
    noise = latency.aa_noise(record)
    if noise is None or noise > 0.02:
        warnings.append("the A/A noise is unknown" if noise is None else f"the A/A noise is up to {noise:.1%}")
    if fast:
        warnings += [f"in 5_faster, {warning}" for warning in _of_runs(fast, fast["measurements"]["rows"], frontier.name)]
    return warnings


def _of_runs(record: Mapping, rows: Sequence[Mapping], name: Callable[[Mapping], str]) -> list[str]:
    """What the runs of a record's rows tell of the machine."""
    rows = [row for row in rows if "runs" in row]
    runs, warnings = [run for row in rows for run in row["runs"]], []
    repeated = ", and repeated" if record["parameters"]["repeats"] else ""
    if contended := sum(run["contended"] for run in runs):
        warnings.append(f"{contended} of {len(runs)} runs were contended{repeated}")
    if changed := sum(map(states.changed, runs)):
        warnings.append(f"the state of the machine changed during {changed} of {len(runs)} runs{repeated}")
    if left := [name(row) for row in rows if any(map(latency.disturbance, latency.judged_runs(row)))]:
        warnings.append(f"too few undisturbed runs of {'; '.join(left)} could be had")
    if failures := sum(len(row["failures"]) for row in rows):
        warnings.append(f"{failures} runs failed")
    spreads = {name(row): latency.spread(row, "p50") for row in rows}
    widest = max(spreads, key=spreads.get)
    if spreads[widest] > 0.05:
        warnings.append(f"the spread of the runs' medians is {spreads[widest]:.0%} with {widest}")
    halves = [np.array_split([run["mean_ns"] for run in latency.judged_runs(row)], 2) for row in rows]
    drifts = np.array([second.mean() / first.mean() - 1 for first, second in halves])
    if min(abs(drifts)) > 0.02 and len(set(np.sign(drifts))) == 1:
        warnings.append(f"the mean of every engine changes from the first to the second half of the rounds ({min(drifts):+.0%} "
                        f"to {max(drifts):+.0%}): the machine changed")
    slow_starts = sum(map(starts_slowly, runs))
    if slow_starts > len(runs) / 10:
        warnings.append(f"the first images after the warm-up are more than 5% slower in {slow_starts} of {len(runs)} runs")
    return warnings


def starts_slowly(run: Mapping) -> bool:
    """Whether the first block of a run is more than 5% slower than the median block after it."""
    first, *later = run["block_p50_ns"]
    return first > 1.05 * float(np.median(later))

"""What a latency record says: statistics of each engine over its runs, and ratios between engines.

The unit of analysis is the process, a run: an engine's latency is the median over its runs' medians, and the mean over its
runs' means only where the original claims a mean. Runs of one round follow each other in time; ratios are paired by round, and
within a state of the machine, which cancels what the runs of a round have in common.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cifar_bench.analysis import states, statistics
from cifar_bench.records import AA_TEST, REPEATED_IMAGE

BASE = "torchscript"  # the original's engine, the baseline of all ratios
MIN_RUNS = 3  # runs or seeds; the 95% interval of the mean of two is too wide to say anything
# The largest logit error against PyTorch in float32 that rounding explains. A larger error means another network or a coarser
# precision: TF32 was off by 0.0016, float32 on every machine by less than 0.00001. The logits lie between -5 and 10.
LOGIT_ERROR = {"float32": 0.0005, "tf32": 0.1, "float16": 0.1, "bfloat16": 0.5}
VARIANTS = {AA_TEST: "A/A test", REPEATED_IMAGE: "repeated-image check"}


def name(row: Mapping) -> str:
    """The display name of a row: its engine, and its variant."""
    return f"{row['engine']} ({VARIANTS[row['variant']]})" if row["variant"] else row["engine"]


def valid_rows(record: Mapping) -> list[dict]:
    """The rows that ran with a logit error that their precision explains."""
    return [row for row in record["measurements"]["engines"]
            if "runs" in row and row["max_logit_error"] <= LOGIT_ERROR[row["precision"]]]


def compared_engines(record: Mapping) -> list[dict]:
    """The valid rows without the A/A test and the repeated-image check."""
    return [row for row in valid_rows(record) if not row["variant"]]


def judged_runs(row: Mapping) -> list[dict]:
    """The runs that count, in order of their rounds: the undisturbed, or where fewer than MIN_RUNS are, each round's last."""
    return [run for _, run in sorted(_judged_by_round(row).items())]


def disturbance(*runs: Mapping) -> str:
    """Why runs that are judged together cannot decide a verdict: "" where nothing disturbed them."""
    if any(run["contended"] for run in runs):
        return "too many runs were contended: measure again on an idle machine"
    if any(states.changed(run) for run in runs) or any(states.differ(runs[0], run) for run in runs[1:]):
        return "the machine's state changed too often: measure again, or more rounds"
    return ""


def paired_runs(row: Mapping, base: Mapping) -> list[tuple[dict, dict]]:
    """The judged runs of two rows, paired by round, where the machine's state was the same.

    Where fewer than MIN_RUNS rounds have such pairs, each round's last runs in whatever state.
    """
    judged = _paired(_judged_by_round(row), _judged_by_round(base))
    pairs = [pair for pair in judged if not states.differ(*pair)]
    return pairs if len(pairs) >= MIN_RUNS else _paired(_last_by_round(row), _last_by_round(base))


def paired_ratio(row: Mapping, base: Mapping, key: str = "p50_ns") -> tuple[float, statistics.Interval]:
    """The ratio of a row's `key` ("mean_ns", say) to another row's, with its interval."""
    ours, theirs = zip(*paired_runs(row, base))
    return statistics.ratio_interval([run[key] for run in ours], [run[key] for run in theirs])


def fastest_ratio(rows: Sequence[Mapping], base: Mapping) -> tuple[float, statistics.Interval]:
    """The ratio of the fastest row's median latency to another row's, with its interval.

    No round judges its own choice, which would favor whichever row was lucky in it: each round's ratio is of the row that is
    the fastest in all other rounds. Where one row is the fastest by far, this is its `paired_ratio`.
    """
    ratios = [{ours["round"]: ours["p50_ns"] / theirs["p50_ns"] for ours, theirs in paired_runs(row, base)} for row in rows]
    chosen = []
    for number in sorted(set().union(*ratios)):
        others = {index: [of[other] for other in of if other != number] for index, of in enumerate(ratios) if number in of}
        fastest = min(others, key=lambda index: statistics.geometric_mean(others[index]))
        chosen.append(ratios[fastest][number])
    return statistics.ratio_interval(chosen, np.ones(len(chosen)))


def spread(row: Mapping, statistic: str) -> float:
    """The spread (max − min) of a quantile ("p50", say) or the "mean" over a row's runs, as a share of its mean."""
    values = [run[f"{statistic}_ns"] for run in judged_runs(row)]
    return float(np.ptp(values) / np.mean(values))


def quantile(row: Mapping, statistic: str = "p50") -> tuple[float, statistics.Interval]:
    """A quantile of a row's latency in µs: the median over its runs, and the lowest and the highest run."""
    values = [run[f"{statistic}_ns"] / 1e3 for run in judged_runs(row)]
    return float(np.median(values)), (min(values), max(values))


def mean(row: Mapping) -> tuple[float, statistics.Interval]:
    """A row's mean latency in µs, over its runs, with its interval."""
    values = [run["mean_ns"] / 1e3 for run in judged_runs(row)]
    low, high = statistics.rounds_interval(values)
    return float(np.mean(values)), (max(0.0, low), high)  # a large spread would put it below zero


def ratio(row: Mapping, rows: Sequence[Mapping]) -> tuple[float, statistics.Interval] | None:
    """A row's median latency over the baseline's, with its interval; None for the baseline, and where it did not run."""
    base = next((other for other in rows if other["engine"] == BASE and not other["variant"] and "runs" in other), None)
    return None if base is None or row is base else paired_ratio(row, base)


def aa_noise(record: Mapping, statistic: str = "p50") -> float | None:
    """The A/A noise of a quantile or the "mean", as a share: the end of the A/A test's interval that is farther from 1.

    None where the test did not run.
    """
    rows = {row["variant"]: row for row in record["measurements"]["engines"] if "runs" in row and row["engine"] == BASE}
    if not rows.keys() >= {"", AA_TEST}:
        return None
    _, (low, high) = paired_ratio(rows[AA_TEST], rows[""], f"{statistic}_ns")
    return max(high - 1, 1 - low)


def loadgen_ratio(loadgen: Mapping) -> tuple[float, statistics.Interval]:
    """The median over the rounds of our p90 over LoadGen's, with its interval, from the result of `loadgen.cross_check`."""
    ratios = np.array(loadgen["ours_ns"]) / np.array(loadgen["loadgen_ns"])
    return float(np.median(ratios)), statistics.quantile_interval(ratios, 0.5, blocks=min(20, len(ratios)))


def loadgen_overhead(loadgen: Mapping) -> float:
    """The median time (ns) that LoadGen's own calls add to its p90."""
    return float(np.median(np.array(loadgen["loadgen_ns"]) - np.array(loadgen["within_loadgen_ns"])))


def _judged_by_round(row: Mapping) -> dict[int, dict]:
    undisturbed = _last_by_round(row, lambda run: not disturbance(run))
    return undisturbed if len(undisturbed) >= MIN_RUNS else _last_by_round(row)


def _paired(ours: Mapping[int, dict], theirs: Mapping[int, dict]) -> list[tuple[dict, dict]]:
    """The runs of the rounds that both have."""
    return [(ours[number], theirs[number]) for number in sorted(ours.keys() & theirs.keys())]


def _last_by_round(row: Mapping, condition: Callable[[Mapping], bool] = lambda run: True) -> dict[int, dict]:
    """The last run of each round that meets the condition."""
    return {run["round"]: run for run in row["runs"] if condition(run)}

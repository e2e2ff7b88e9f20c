"""The statistics of the report: quantiles, and 95% intervals that name what varies."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
Interval = tuple[float, float]


def summary(ns: np.ndarray) -> dict[str, float]:
    """Mean, quantiles and maximum of a run's latencies, in the unit of `ns`."""
    p50, p90, p99 = np.quantile(ns, [0.5, 0.9, 0.99])
    return {"mean": float(ns.mean()), "p50": float(p50), "p90": float(p90), "p99": float(p99), "max": float(ns.max())}


def standard_error(ns: np.ndarray, blocks: int = 20) -> float:
    """Standard error of the mean of one run, from the means of `blocks` stretches of it.

    Neighbouring images are not independent, so the usual formula would be too small (batch means; Law, "Simulation
    Modeling and Analysis", chapter 9). The run must have at least `blocks` images.
    """
    means = [block.mean() for block in np.array_split(ns, blocks)]
    return float(np.std(means, ddof=1) / np.sqrt(blocks))


def range_noise(standard_errors: Sequence[float], blocks: int = 20) -> float:
    """How far apart the slowest and the fastest of several runs come to lie (95%) where only noise sets them apart.

    `standard_errors` are those of the runs' means, from `standard_error` with `blocks` stretches (Tukey's studentized
    range; two runs at least).
    """
    runs = len(standard_errors)
    pooled = np.sqrt(np.mean(np.square(standard_errors)))
    return float(pooled * stats.studentized_range.ppf(CONFIDENCE, runs, runs * (blocks - 1)))


def mean_interval(values: Sequence[float]) -> Interval:
    """Student's t interval of the mean of independent runs; at least two values."""
    mean, error = np.mean(values), stats.sem(values)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * error
    return float(mean - half), float(mean + half)


def ratio_interval(new: Sequence[float], base: Sequence[float]) -> tuple[float, Interval]:
    """Geometric mean of new/base and its interval; the two are paired by round, so what both share cancels."""
    logs = np.log(np.asarray(new) / np.asarray(base))
    low, high = mean_interval(logs)
    return float(np.exp(logs.mean())), (float(np.exp(low)), float(np.exp(high)))


def differences_half(table: np.ndarray) -> float:
    """Half the 95% interval of each row's mean less the first row's, for all rows at once.

    `table` has a row for each treatment and a column for each block (a seed, say; two at least), one measurement each.
    Noise is what the effects of rows and columns leave unexplained (two-way layout); Bonferroni's correction covers the
    number of rows compared.
    """
    rows, blocks = table.shape
    left = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    freedom = (rows - 1) * (blocks - 1)
    error = np.sqrt(np.square(left).sum() / freedom * 2 / blocks)
    return float(error * stats.t.ppf(1 - (1 - CONFIDENCE) / 2 / (rows - 1), freedom))


def share_interval(hits: int, total: int) -> Interval:
    """Wilson's interval of a share, in percent: what another test set of this size might have shown."""
    interval = stats.binomtest(hits, total).proportion_ci(CONFIDENCE, method="wilson")
    return 100 * interval.low, 100 * interval.high


def share_difference_interval(ours: float, theirs: float, total: int) -> Interval:
    """Interval of the difference of two accuracies in percent, each on `total` images, taken as independent (Wald)."""
    variance = sum(share / 100 * (1 - share / 100) / total for share in (ours, theirs))
    half = 100 * stats.norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(variance)
    return float(ours - theirs - half), float(ours - theirs + half)

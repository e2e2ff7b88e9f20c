"""The statistics of the report: quantiles, and 95% intervals that name what varies."""

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri, stdtrit  # quantiles of the normal and of Student's t; scipy.stats takes most of a second

CONFIDENCE = 0.95
Interval = tuple[float, float]


def standard_error(ns: np.ndarray, blocks: int = 20) -> float:
    """Standard error of the mean of one run of `blocks` images at least, from the means of `blocks` stretches of it."""
    return block_standard_error([block.mean() for block in np.array_split(ns, blocks)])


def block_standard_error(block_means: Sequence[float]) -> float:
    """Standard error of the mean of one run, from the means of equal stretches of it.

    Neighbouring images are not independent, so the usual formula would be too small (batch means; Law, "Simulation
    Modeling and Analysis", chapter 9).
    """
    return float(np.std(block_means, ddof=1) / np.sqrt(len(block_means)))


def range_noise(standard_errors: Sequence[float], blocks: int = 20) -> float:
    """How far apart the slowest and the fastest of several runs come to lie (95%) where only noise sets them apart.

    `standard_errors` are those of the runs' means, from `block_standard_error` with `blocks` stretches. A bound: Student's
    interval of the difference of each pair of runs, with Bonferroni's correction for the number of pairs.
    """
    runs = len(standard_errors)
    pooled = np.sqrt(np.mean(np.square(standard_errors)))
    pairs = runs * (runs - 1) / 2
    return float(pooled * np.sqrt(2) * stdtrit(runs * (blocks - 1), 1 - (1 - CONFIDENCE) / 2 / pairs))


def quantile_interval(ns: np.ndarray, quantile: float, blocks: int = 20) -> Interval:
    """Interval of a quantile of one run, in the unit of `ns`.

    The share of images below the quantile has a standard error, from `blocks` stretches of the run because neighbouring
    images are not independent; the interval lies between the quantiles that many shares away (Woodruff, 1952, with batch
    means). It wants ten images at least beyond the quantile.
    """
    below = ns <= np.quantile(ns, quantile)
    half = stdtrit(blocks - 1, (1 + CONFIDENCE) / 2) * standard_error(below, blocks)
    low, high = np.quantile(ns, [max(0.0, quantile - half), min(1.0, quantile + half)])
    return float(low), float(high)


def outliers(ns: np.ndarray) -> dict[str, int]:
    """How many images lie outside of Tukey's fences, 1.5 (mild) and 3 (severe) interquartile ranges from the quartiles."""
    first, third = np.quantile(ns, [0.25, 0.75])
    spread = third - first
    severe_low, severe_high = ns < first - 3 * spread, ns > third + 3 * spread
    return {
        "low_severe": int(severe_low.sum()),
        "low_mild": int((ns < first - 1.5 * spread).sum() - severe_low.sum()),
        "high_mild": int((ns > third + 1.5 * spread).sum() - severe_high.sum()),
        "high_severe": int(severe_high.sum()),
    }


def mean_interval(values: Sequence[float]) -> Interval:
    """Student's t interval of the mean of independent runs; at least two values."""
    mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
    half = stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * error
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
    return float(error * stdtrit(freedom, 1 - (1 - CONFIDENCE) / 2 / (rows - 1)))


def share_interval(hits: int, total: int) -> Interval:
    """Wilson's interval (1927) of a share, in percent: what another test set of this size might have shown."""
    share, z = hits / total, ndtri((1 + CONFIDENCE) / 2)
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return float(max(0.0, 100 * (centre - half))), float(min(100.0, 100 * (centre + half)))


def share_difference_interval(ours: float, theirs: float, total: int) -> Interval:
    """Interval of the difference of two accuracies in percent, each on `total` images, taken as independent (Wald)."""
    variance = sum(share / 100 * (1 - share / 100) / total for share in (ours, theirs))
    half = 100 * ndtri((1 + CONFIDENCE) / 2) * np.sqrt(variance)
    return float(ours - theirs - half), float(ours - theirs + half)

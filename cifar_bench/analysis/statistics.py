"""The statistics of the report: quantiles, and 95% intervals unless another confidence is named."""

from collections.abc import Sequence

import numpy as np
from scipy.special import chdtri, ndtri, stdtrit  # quantiles of chi-squared, normal and Student's t: scipy.stats takes a second

CONFIDENCE = 0.95
Interval = tuple[float, float]


def mean_interval(values: Sequence[float]) -> Interval:
    """Student's t interval of the mean of at least two independent values."""
    mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
    half = stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * error
    return float(mean - half), float(mean + half)


def rounds_interval(values: Sequence[float]) -> Interval:
    """Student's t interval of the mean of at least two values of consecutive rounds, widened by their autocorrelation.

    Rounds that resemble their neighbors tell less than so many independent ones: with the autocorrelation r of lag 1, the
    variance of the mean is (1 + r) / (1 − r) times as large (Law, "Simulation Modeling and Analysis", chapter 4). Few rounds
    underestimate r: ten with r = 0.6 contain the mean in 79% of cases, where the interval of independent ones does in 68%.
    """
    low, high = mean_interval(values)
    differences = np.asarray(values) - np.mean(values)
    if not differences.any():
        return low, high
    correlation = np.clip(differences[1:] @ differences[:-1] / (differences @ differences), 0, 0.9)
    half = (high - low) / 2 * np.sqrt((1 + correlation) / (1 - correlation))
    return float((low + high) / 2 - half), float((low + high) / 2 + half)


def quantile_interval(ns: np.ndarray, quantile: float, blocks: int = 20) -> Interval:
    """Interval of a quantile of one run, in the unit of `ns`; needs at least ten images beyond the quantile.

    The share of images below the quantile has a standard error, from the shares in `blocks` consecutive blocks because
    consecutive latencies are autocorrelated (batch means; Law, "Simulation Modeling and Analysis", chapter 9). The interval
    lies between the quantiles that many shares away (Woodruff, 1952).
    """
    below = ns <= np.quantile(ns, quantile)
    least, most = mean_interval([block.mean() for block in np.array_split(below, blocks)])
    half = (most - least) / 2
    low, high = np.quantile(ns, [max(0.0, quantile - half), min(1.0, quantile + half)])
    return float(low), float(high)


def ratio_interval(new: Sequence[float], base: Sequence[float]) -> tuple[float, Interval]:
    """Geometric mean of new/base, paired by round, and its interval; pairing cancels what both share."""
    logs = np.log(np.asarray(new) / np.asarray(base))
    low, high = rounds_interval(logs)
    return geometric_mean(np.exp(logs)), (float(np.exp(low)), float(np.exp(high)))


def geometric_mean(ratios: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(ratios))))


def accuracy_interval(accuracy: float, images: int) -> Interval:
    """Wilson's interval (1927) of an accuracy (%) on so many images: its sampling error."""
    share, z = round(accuracy * images / 100) / images, ndtri((1 + CONFIDENCE) / 2)
    center = (share + z**2 / (2 * images)) / (1 + z**2 / images)
    half = z / (1 + z**2 / images) * np.sqrt(share * (1 - share) / images + z**2 / (4 * images**2))
    return float(max(0.0, 100 * (center - half))), float(min(100.0, 100 * (center + half)))


def paired_difference_interval(difference: float, disagreement: float, total: int) -> Interval:
    """Interval of the difference in accuracy, in percentage points, of two classifiers on the same `total` images.

    `disagreement` is the share of images that exactly one of the two classifies correctly, at least the difference; the others
    add no variance (McNemar, 1947; Wald's interval).
    """
    share = abs(difference) / 100
    half = 100 * ndtri((1 + CONFIDENCE) / 2) * np.sqrt((max(disagreement, share) - share**2) / total)
    return float(difference - half), float(difference + half)


def difference_from_range(values: Sequence[float], lowest: float, highest: float) -> Interval:
    """The 90% interval of the mean of independent values minus that of five others, of which only the extremes are known.

    The midrange of five normal values has 0.261 times their variance; the square of their range divided by 2.477 estimates
    their variance with 3.83 degrees of freedom (Harter, "Order Statistics and their Use", 1970; Patnaik, 1950). Assumes that
    both samples have the same standard deviation.
    """
    freedom = len(values) - 1, 3.83
    variances = np.var(values, ddof=1), ((highest - lowest) / 2.477) ** 2
    error = np.sqrt(np.average(variances, weights=freedom) * (1 / len(values) + 0.261))
    half, difference = stdtrit(sum(freedom), 0.95) * error, np.mean(values) - (lowest + highest) / 2
    return float(difference - half), float(difference + half)


def expected_range(values: Sequence[float]) -> Interval:
    """The 90% interval of the expected range (max − min) of ten normal values, 3.078 standard deviations.

    From at least two values of the same distribution, by the chi-squared distribution of their variance.
    """
    freedom, ten = len(values) - 1, 3.078 * np.std(values, ddof=1)
    return tuple(float(ten * np.sqrt(freedom / chdtri(freedom, tail))) for tail in (0.05, 0.95))

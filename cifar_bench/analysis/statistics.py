"""The statistics of the report: quantiles, and 95% intervals that name what varies."""

from collections.abc import Sequence

import numpy as np
from scipy.special import chdtri, ndtri, stdtrit  # quantiles of chi-squared, normal and Student's t: scipy.stats takes a second

CONFIDENCE = 0.95
Interval = tuple[float, float]


def standard_error(ns: np.ndarray, blocks: int = 20) -> float:
    """Standard error of the mean of one run of `blocks` images at least, from the means of `blocks` stretches of it.

    Neighbouring images are not independent, so the usual formula would be too small (batch means; Law, "Simulation
    Modeling and Analysis", chapter 9).
    """
    return float(np.std([block.mean() for block in np.array_split(ns, blocks)], ddof=1) / np.sqrt(blocks))


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


def share_interval(hits: int, total: int) -> Interval:
    """Wilson's interval (1927) of a share, in percent: what another test set of this size might have shown."""
    share, z = hits / total, ndtri((1 + CONFIDENCE) / 2)
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return float(max(0.0, 100 * (centre - half))), float(min(100.0, 100 * (centre + half)))


def accuracy_interval(accuracy: float, images: int) -> Interval:
    """Interval of an accuracy (%) on so many images: `share_interval` of those that are right."""
    return share_interval(round(accuracy * images / 100), images)


def paired_difference_interval(difference: float, disagreement: float, total: int) -> Interval:
    """Interval of a difference in accuracy, in percentage points, of two classifiers on the same `total` images.

    `disagreement` is the share of images on which one of the two is right and the other wrong: only they vary (McNemar, 1947;
    Wald's interval).
    """
    half = 100 * ndtri((1 + CONFIDENCE) / 2) * np.sqrt((disagreement - (difference / 100) ** 2) / total)
    return float(difference - half), float(difference + half)


def difference_from_range(values: Sequence[float], least: float, most: float) -> Interval:
    """The 90% interval of the mean of independent values less that of five others, of which the extremes are known.

    The midrange of five normal values has 0.261 times their variance, and the square of their range divided by 2.477 is their
    variance on average, with the certainty of 3.83 degrees of freedom (Harter, "Order Statistics and their Use", 1970; Patnaik,
    1950). The two samples share a standard deviation.
    """
    freedom = len(values) - 1, 3.83
    variances = np.var(values, ddof=1), ((most - least) / 2.477) ** 2
    error = np.sqrt(np.average(variances, weights=freedom) * (1 / len(values) + 0.261))
    half, difference = stdtrit(sum(freedom), 0.95) * error, np.mean(values) - (least + most) / 2
    return float(difference - half), float(difference + half)


def expected_range(values: Sequence[float]) -> Interval:
    """How far the extremes of ten normal values are apart on average (3.078 standard deviations): its 90% interval.

    From values of the same kind, two at least, by the chi-squared distribution of their variance.
    """
    freedom, ten = len(values) - 1, 3.078 * np.std(values, ddof=1)
    return tuple(float(ten * np.sqrt(freedom / chdtri(freedom, tail))) for tail in (0.05, 0.95))

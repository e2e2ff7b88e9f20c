"""The statistics of the report: quantiles, and 95% intervals that name what varies."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy import ndimage, signal, stats
from scipy.special import softmax

CONFIDENCE = 0.95
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
Interval = tuple[float, float]


def summary(ns: np.ndarray) -> dict[str, float]:
    """Mean, quantiles and maximum of a run's latencies, in the unit of `ns`."""
    found = {name: float(value) for name, value in zip(QUANTILES, np.quantile(ns, list(QUANTILES.values())))}
    return {"mean": float(ns.mean()), **found, "max": float(ns.max())}


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


def quantile_interval(ns: np.ndarray, quantile: float, blocks: int = 20) -> Interval:
    """Interval of a quantile of one run, in the unit of `ns`.

    The share of images below the quantile has a standard error, from `blocks` stretches of the run because neighbouring
    images are not independent; the interval lies between the quantiles that many shares away (Woodruff, 1952, with batch
    means). It wants ten images at least beyond the quantile.
    """
    below = ns <= np.quantile(ns, quantile)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, blocks - 1) * standard_error(below, blocks)
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


def level_changes(ns: np.ndarray, block: int = 20) -> list[int]:
    """The images at which the latency steps to another level, to within `block` images.

    Changes of the mean of the logarithm are sought in the medians of blocks of images (optimal partitioning; Killick,
    Fearnhead and Eckley, 2012), which a few slow images do not move. The noise comes from neighbouring blocks. A step
    must be worth ten times the logarithm of the number of blocks, more than the three of the usual criterion, because
    neighbours are not independent.
    """
    blocks = len(ns) // block
    if blocks < 4:
        return []
    levels = np.log(np.median(ns[: blocks * block].reshape(blocks, block), axis=1))
    noise = np.median(np.abs(np.diff(levels))) / 0.6745 / np.sqrt(2)  # 0.6745: the normal distribution's 75% quantile
    if noise == 0:  # the clock's steps are larger than what changes
        return []
    import ruptures  # here, since every timed process imports this module and none of them needs it

    found = ruptures.KernelCPD(kernel="linear", min_size=2).fit_predict(levels / noise, pen=10 * np.log(blocks))
    return [block * int(change) for change in found[:-1]]


def warmup(ns: np.ndarray, least: float = 0.02) -> int:
    """How many images pass until the latency has settled: the first levels that lie above all that follows.

    `least` is the share by which a level must be above the median of the rest. Later steps are drift, not warm-up.
    """
    needed = 0
    for start, end in pairwise([0, *level_changes(ns)]):
        if np.median(ns[start:end]) <= (1 + least) * np.median(ns[end:]):
            break
        needed = end
    return needed


def modes(ns: np.ndarray) -> list[float]:
    """Where latencies crowd, in the unit of `ns`, fastest first: one number where there is a single mode.

    Peaks of the smoothed histogram of the logarithm (kernel density estimate, Silverman's bandwidth), of at least a
    tenth of the highest peak's height and with a valley before the next at least that deep.
    """
    logs = np.log(ns)
    low, high = np.quantile(logs, [0.005, 0.995])
    first, third = np.quantile(logs, [0.25, 0.75])
    width = 0.9 * min(logs.std(), (third - first) / 1.349) * len(logs) ** -0.2
    if width <= 0 or high <= low:
        return [float(np.median(ns))]
    step = width / 8
    bins = np.arange(low - 4 * width, high + 5 * width, step)
    counts, _ = np.histogram(logs, bins)
    density = ndimage.gaussian_filter1d(counts.astype(float), width / step, mode="constant")
    peaks, _ = signal.find_peaks(density, prominence=0.1 * density.max())
    return [float(np.exp((bins[peak] + bins[peak + 1]) / 2)) for peak in peaks]


def association(group: np.ndarray, other: np.ndarray) -> float:
    """Cramér's V of two labellings of the same items, 0 (unrelated) to 1, corrected for chance (Bergsma, 2013)."""
    table = np.array([[np.sum((group == one) & (other == two)) for two in np.unique(other)] for one in np.unique(group)])
    if min(table.shape) < 2:
        return 0.0
    total, (rows, columns) = table.sum(), table.shape
    phi = stats.chi2_contingency(table, correction=False).statistic / total - (rows - 1) * (columns - 1) / (total - 1)
    rows, columns = rows - (rows - 1) ** 2 / (total - 1), columns - (columns - 1) ** 2 / (total - 1)
    return float(np.sqrt(max(0.0, phi) / (min(rows, columns) - 1)))


def rank_correlation(values: Sequence[float], others: Sequence[float]) -> float:
    """Spearman's rank correlation, -1 to 1; 0 where one of the two does not vary."""
    if not np.ptp(values) or not np.ptp(others):
        return 0.0
    return float(stats.spearmanr(values, others).statistic)


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


def calibration_error(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error, 0 to 1: how far confidence and share of right answers are apart, image by image.

    `logits` are N×10; images are put into `bins` equal ranges of confidence (Guo and others, "On Calibration of Modern
    Neural Networks", 2017).
    """
    confidence, found = softmax(logits, axis=1).max(1), logits.argmax(1)
    groups = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(confidence[groups == group].sum() - (found == labels)[groups == group].sum()) for group in range(bins)]
    return float(sum(gaps) / len(labels))


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

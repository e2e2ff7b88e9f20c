"""The intervals agree with the textbooks' and have their nominal coverage."""

import numpy as np
import pytest
from scipy import signal, stats

from cifar_bench.analysis import statistics


def autocorrelated(random: np.random.Generator, shape: tuple[int, int], rho: float) -> np.ndarray:
    """Series (a row each) of variance 1 in which each value is `rho` times the one before plus noise: AR(1)."""
    noise = random.normal(size=shape)
    noise[:, 1:] *= np.sqrt(1 - rho**2)
    return signal.lfilter([1], [1, -rho], noise, axis=1)


def coverage(intervals: list[statistics.Interval] | np.ndarray, truth: float) -> float:
    """The share of intervals that hold the true value."""
    low, high = np.transpose(intervals)
    return float(np.mean((low <= truth) & (truth <= high)))


# ---- one run


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_the_interval_of_a_runs_quantile_covers_the_truth_95_times_in_100(rho: float, quantile: float) -> None:
    random, truth = np.random.default_rng(0), 2e6 * np.exp(0.03 * stats.norm.ppf(quantile))
    runs = 2e6 * np.exp(0.03 * autocorrelated(random, (400, 4000), rho))
    assert 0.92 <= coverage([statistics.quantile_interval(ns, quantile) for ns in runs], truth) <= 0.98


# ---- extremes of several runs


@pytest.mark.parametrize("count", [3, 5, 10])
def test_the_expected_range_of_ten_is_within_its_interval_90_times_in_100(count: int) -> None:
    random = np.random.default_rng(0)
    true = np.ptp(random.normal(size=(400_000, 10)), axis=1).mean()
    intervals = np.array([statistics.expected_range(values) for values in random.normal(7, 1, (4000, count))])
    below, above = (true < intervals[:, 0]).mean(), (true > intervals[:, 1]).mean()
    assert below == pytest.approx(0.05, abs=0.012) and above == pytest.approx(0.05, abs=0.012)


@pytest.mark.parametrize("count", [3, 5, 20])
def test_the_difference_from_five_values_of_known_range_is_within_its_interval_90_times_in_100(count: int) -> None:
    random = np.random.default_rng(0)
    theirs = random.normal(94.4, 0.2, (4000, 5))
    intervals = [statistics.difference_from_range(ours, five.min(), five.max())
                 for ours, five in zip(random.normal(94.7, 0.2, (4000, count)), theirs)]
    assert coverage(intervals, 0.3) == pytest.approx(0.9, abs=0.025)


# ---- means and ratios over runs


def test_mean_interval_is_students() -> None:
    values = [820.0, 824.0, 829.0, 831.0]  # mean 826, sum of squares 74
    assert statistics.mean_interval(values) == pytest.approx(stats.t.interval(0.95, 3, loc=826, scale=np.sqrt(74 / 3 / 4)))


@pytest.mark.parametrize(("r", "independent", "widened"), [(0, 0.95, 0.96), (0.6, 0.68, 0.79)])
def test_the_interval_of_rounds_widens_as_they_drift(r: float, independent: float, widened: float) -> None:
    rounds = autocorrelated(np.random.default_rng(0), (2000, 10), r)
    assert coverage([statistics.mean_interval(values) for values in rounds], 0) == pytest.approx(independent, abs=0.02)
    assert coverage([statistics.rounds_interval(values) for values in rounds], 0) == pytest.approx(widened, abs=0.02)


def runs_of_an_engine(random: np.random.Generator, times: float = 1.0, rounds: np.ndarray | None = None) -> np.ndarray:
    """Ten runs×400 images: each run varies by 1% of its own, and by what its round shares (3%)."""
    shared = random.normal(0, 0.03, 10) if rounds is None else rounds
    levels = np.exp(shared + random.normal(0, 0.01, 10))
    noise = np.exp(0.03 * autocorrelated(random, (10, 400), 0.5))
    return times * 2e6 * levels[:, None] * noise


@pytest.mark.parametrize("quantile", [0.5, 0.99])
def test_the_interval_of_an_engines_quantile_covers_the_truth_95_times_in_100(quantile: float) -> None:
    random = np.random.default_rng(0)
    quantiles = np.array([np.quantile(runs_of_an_engine(random), quantile, axis=1) for _ in range(600)])
    assert 0.93 <= coverage([statistics.mean_interval(of_runs) for of_runs in quantiles], quantiles.mean()) <= 0.97


def compared(random: np.random.Generator, times: float) -> statistics.Interval:
    """The interval of the ratio of two engines, measured in the same rounds, the second `times` as slow as the first."""
    rounds = random.normal(0, 0.03, 10)
    first, second = (np.median(runs_of_an_engine(random, factor, rounds), axis=1) for factor in (1.0, times))
    return statistics.ratio_interval(second, first)[1]


def test_two_identical_engines_differ_significantly_in_5_of_100_comparisons() -> None:
    random = np.random.default_rng(0)
    assert 0.935 <= coverage([compared(random, 1.0) for _ in range(1000)], 1) <= 0.97  # the noise of a thousand comparisons


def test_a_slowdown_of_2_percent_is_found_in_at_least_9_of_10_comparisons() -> None:
    random = np.random.default_rng(0)
    assert np.mean([compared(random, 1.02)[0] > 1 for _ in range(500)]) >= 0.9


def test_ratio_interval_pairs_rounds_and_agrees_with_its_inverse() -> None:
    rounds = np.array([1.0, 3.0, 0.5, 10.0])
    ratio, interval = statistics.ratio_interval(0.7 * rounds, rounds)
    assert (ratio, *interval) == pytest.approx((0.7, 0.7, 0.7))
    new, base = [4.0, 1.0], [1.0, 1.0]  # logs 2 ln 2 and 0: mean ln 2, standard error ln 2, one degree of freedom
    ratio, (low, high) = statistics.ratio_interval(new, base)
    assert (ratio, np.log2(low), np.log2(high)) == pytest.approx((2, 1 - 12.7062047, 1 + 12.7062047))
    assert statistics.ratio_interval(base, new) == (pytest.approx(1 / ratio), pytest.approx((1 / high, 1 / low)))


# ---- accuracy


@pytest.mark.parametrize(("hits", "total"), [(9453, 10_000), (5, 10), (0, 100), (100, 100)])
def test_accuracy_interval_is_wilsons(hits: int, total: int) -> None:
    low, high = stats.binomtest(hits, total).proportion_ci(0.95, method="wilson")
    assert statistics.accuracy_interval(100 * hits / total, total) == pytest.approx((100 * low, 100 * high), abs=1e-9)


def test_a_paired_difference_is_as_uncertain_as_the_images_on_which_the_two_disagree() -> None:
    random, images = np.random.default_rng(0), 10_000
    only_ours, only_theirs = random.multinomial(images, [0.03, 0.02, 0.95], 4000).T[:2] / images  # right, the other wrong
    intervals = [statistics.paired_difference_interval(100 * (ours - theirs), ours + theirs, images)
                 for ours, theirs in zip(only_ours, only_theirs)]
    assert coverage(intervals, 1) == pytest.approx(0.95, abs=0.015)

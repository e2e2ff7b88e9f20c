"""The intervals are those of the textbooks, and cover what they promise."""

import numpy as np
import pytest
from scipy import signal, stats

from cifar_bench.analysis import statistics

Z = 1.959963984540054  # the normal distribution's 97.5% quantile


def autocorrelated(random: np.random.Generator, shape: tuple[int, int], rho: float) -> np.ndarray:
    """Series (a row each) of variance 1 in which each value is `rho` times the one before plus noise: AR(1)."""
    noise = random.normal(size=shape)
    noise[:, 1:] *= np.sqrt(1 - rho**2)
    return signal.lfilter([1], [1, -rho], noise, axis=1)


def average_standard_error(series: np.ndarray) -> float:
    return float(np.sqrt(np.mean([statistics.standard_error(row) ** 2 for row in series])))


# ---- standard error of one run


def test_standard_error_of_independent_noise_is_the_usual_one() -> None:
    noise = np.random.default_rng(0).normal(1000, 30, (200, 2000))
    assert average_standard_error(noise) == pytest.approx(30 / np.sqrt(2000), rel=0.1)


def test_standard_error_of_an_autocorrelated_series_allows_for_it() -> None:
    rho, length = 0.9, 4000
    series = autocorrelated(np.random.default_rng(0), (200, length), rho)
    usual = 1 / np.sqrt(length)
    assert average_standard_error(series) > 3 * usual
    assert average_standard_error(series) == pytest.approx(usual * np.sqrt((1 + rho) / (1 - rho)), rel=0.1)


def test_standard_error_of_known_numbers() -> None:
    assert statistics.standard_error(np.array([0, 2, 2, 4]), blocks=2) == pytest.approx(1)  # block means 1 and 3


def test_standard_error_takes_a_length_that_blocks_do_not_divide() -> None:
    assert statistics.standard_error(np.arange(101), blocks=20) > 0
    assert statistics.standard_error(np.full(101, 7)) == 0


# ---- one run: quantiles, outliers


def latencies(random: np.random.Generator, images: int, rho: float = 0.5, spread: float = 0.03) -> np.ndarray:
    """Log-normal latencies of one run around 2 ms, autocorrelated."""
    return 2e6 * np.exp(spread * autocorrelated(random, (1, images), rho)[0])


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_the_interval_of_a_runs_quantile_covers_the_truth_95_times_in_100(rho: float, quantile: float) -> None:
    random, truth = np.random.default_rng(0), 2e6 * np.exp(0.03 * stats.norm.ppf(quantile))
    intervals = np.array([statistics.quantile_interval(latencies(random, 4000, rho), quantile) for _ in range(400)])
    covered = np.mean((intervals[:, 0] <= truth) & (truth <= intervals[:, 1]))
    assert 0.92 <= covered <= 0.98


def test_an_interval_that_took_neighbours_for_independent_would_miss_the_truth_more_often() -> None:
    random = np.random.default_rng(0)
    half = Z * np.sqrt(0.25 / 4000)
    intervals = np.array([np.quantile(latencies(random, 4000, 0.9), [0.5 - half, 0.5 + half]) for _ in range(200)])
    assert np.mean((intervals[:, 0] <= 2e6) & (intervals[:, 1] >= 2e6)) < 0.8


def test_outliers_are_counted_by_tukeys_fences() -> None:
    bulk = np.arange(1, 102)  # quartiles 26 and 76: fences at -49, 151 (mild) and -124, 226 (severe)
    odd = np.array([-200, -50, 152, 160, 227])
    counted = statistics.outliers(np.concatenate([np.repeat(bulk, 1000), odd]))
    assert counted == {"low_severe": 1, "low_mild": 1, "high_mild": 2, "high_severe": 1}


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
    intervals = np.array([statistics.difference_from_range(ours, five.min(), five.max())
                          for ours, five in zip(random.normal(94.7, 0.2, (4000, count)), theirs)])
    within = (intervals[:, 0] <= 0.3) & (intervals[:, 1] >= 0.3)
    assert within.mean() == pytest.approx(0.9, abs=0.025)


# ---- mean


def test_mean_interval_is_students() -> None:
    values = [820.0, 824.0, 829.0, 831.0]  # mean 826, sum of squares 74
    error = np.sqrt(74 / 3 / 4)
    assert statistics.mean_interval(values) == pytest.approx((826 - 3.182446 * error, 826 + 3.182446 * error))
    assert statistics.mean_interval(values) == pytest.approx(stats.t.interval(0.95, 3, loc=826, scale=error))


def test_mean_interval_covers_the_mean_95_times_in_100() -> None:
    draws = np.random.default_rng(0).normal(828, 2, (2000, 5))
    intervals = np.array([statistics.mean_interval(draw) for draw in draws])
    covered = np.mean((intervals[:, 0] < 828) & (intervals[:, 1] > 828))
    assert 0.93 < covered < 0.97


# ---- engines, by their runs


def runs_of_an_engine(random: np.random.Generator, times: float = 1.0, rounds: np.ndarray | None = None) -> np.ndarray:
    """Ten runs×400 images: a run's level has a spread of 1% of its own, beside what its round shares (3%)."""
    shared = random.normal(0, 0.03, 10) if rounds is None else rounds
    levels = np.exp(shared + random.normal(0, 0.01, 10))
    noise = np.exp(0.03 * autocorrelated(random, (10, 400), 0.5))
    return times * 2e6 * levels[:, None] * noise


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_the_interval_of_an_engines_quantile_covers_the_truth_95_times_in_100(quantile: float) -> None:
    random = np.random.default_rng(0)
    quantiles = np.array([np.quantile(runs_of_an_engine(random), quantile, axis=1) for _ in range(600)])
    intervals, truth = np.array([statistics.mean_interval(of_runs) for of_runs in quantiles]), quantiles.mean()
    covered = np.mean((intervals[:, 0] <= truth) & (truth <= intervals[:, 1]))
    assert 0.93 <= covered <= 0.97


def compared(random: np.random.Generator, times: float) -> statistics.Interval:
    """The interval of the ratio of two engines, measured in the same rounds, the second `times` as slow as the first."""
    rounds = random.normal(0, 0.03, 10)
    first, second = (np.median(runs_of_an_engine(random, factor, rounds), axis=1) for factor in (1.0, times))
    return statistics.ratio_interval(second, first)[1]


def test_two_identical_engines_are_called_different_in_no_more_than_5_of_100_comparisons() -> None:
    random = np.random.default_rng(0)
    intervals = np.array([compared(random, 1.0) for _ in range(1000)])
    different = np.mean((intervals[:, 0] > 1) | (intervals[:, 1] < 1))
    assert 0.03 <= different <= 0.065  # 5% and the noise of a thousand comparisons


def test_a_slowdown_of_2_percent_is_found_in_at_least_95_of_100_comparisons() -> None:
    random = np.random.default_rng(0)
    intervals = np.array([compared(random, 1.02) for _ in range(500)])
    assert np.mean(intervals[:, 0] > 1) >= 0.95


# ---- ratio


def test_ratio_of_a_series_to_itself_is_exactly_one() -> None:
    assert statistics.ratio_interval([820.0, 835.0, 828.0], [820.0, 835.0, 828.0]) == (1, (1, 1))


def test_what_both_share_in_a_round_cancels() -> None:
    rounds = np.array([1.0, 3.0, 0.5, 10.0])
    ratio, (low, high) = statistics.ratio_interval(0.7 * rounds, rounds)
    assert (low, ratio, high) == pytest.approx((0.7, 0.7, 0.7))


def test_ratio_interval_of_known_numbers() -> None:
    new, base = [4.0, 1.0], [1.0, 1.0]  # logs 2 ln 2 and 0: mean ln 2, standard error ln 2, one degree of freedom
    ratio, (low, high) = statistics.ratio_interval(new, base)
    assert ratio == pytest.approx(2)
    assert (np.log2(low), np.log2(high)) == pytest.approx((1 - 12.7062047, 1 + 12.7062047))


def test_ratio_and_its_inverse_agree() -> None:
    new, base = [800.0, 820.0, 790.0], [1000.0, 990.0, 1010.0]
    ratio, (low, high) = statistics.ratio_interval(new, base)
    assert statistics.ratio_interval(base, new) == (pytest.approx(1 / ratio), pytest.approx((1 / high, 1 / low)))


# ---- shares


@pytest.mark.parametrize(("hits", "total"), [(9453, 10_000), (5, 10), (0, 100), (100, 100)])
def test_share_interval_is_wilsons(hits: int, total: int) -> None:
    share = hits / total
    centre = (share + Z**2 / (2 * total)) / (1 + Z**2 / total)
    half = Z / (1 + Z**2 / total) * np.sqrt(share * (1 - share) / total + Z**2 / (4 * total**2))
    expected = 100 * (centre - half), 100 * (centre + half)
    assert statistics.share_interval(hits, total) == pytest.approx(expected, abs=1e-9)


def test_a_paired_difference_is_as_uncertain_as_the_images_on_which_the_two_disagree() -> None:
    random, images = np.random.default_rng(0), 10_000
    only_ours, only_theirs = random.multinomial(images, [0.03, 0.02, 0.95], 4000).T[:2] / images  # right, the other wrong
    intervals = np.array([statistics.paired_difference_interval(100 * (ours - theirs), ours + theirs, images)
                          for ours, theirs in zip(only_ours, only_theirs)])
    within = (intervals[:, 0] <= 1) & (intervals[:, 1] >= 1)
    assert within.mean() == pytest.approx(0.95, abs=0.015)


def test_differences_between_rows_that_differ_by_luck_alone_stay_within_their_interval() -> None:
    random = np.random.default_rng(0)
    luck = random.normal(0, 1, (2000, 5, 3)) + random.normal(0, 10, (2000, 1, 3))  # blocks differ much more than rows
    apart = np.abs(luck.mean(2)[:, 1:] - luck.mean(2)[:, :1]).max(1)
    inside = np.mean([most <= statistics.differences_half(table) for most, table in zip(apart, luck)])
    assert 0.94 < inside < 0.99  # Bonferroni's correction errs on the safe side

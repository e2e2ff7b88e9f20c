"""The intervals are those of the textbooks, and cover what they promise."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from cifar_lib import stats

Z = 1.959963984540054  # the normal distribution's 97.5% quantile


def autocorrelated(random: np.random.Generator, shape: tuple[int, int], rho: float) -> np.ndarray:
    """Series (a row each) of variance 1 in which each value is `rho` times the one before plus noise: AR(1)."""
    values = random.normal(size=shape)
    for step in range(1, shape[1]):
        values[:, step] = rho * values[:, step - 1] + np.sqrt(1 - rho**2) * values[:, step]
    return values


def average_standard_error(series: np.ndarray) -> float:
    return float(np.sqrt(np.mean([stats.standard_error(row) ** 2 for row in series])))


def test_summary_of_known_numbers() -> None:
    shuffled = np.random.default_rng(0).permutation(np.arange(1, 102))
    assert stats.summary(shuffled) == pytest.approx({"mean": 51, "p50": 51, "p90": 91, "p99": 100, "max": 101})


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
    assert stats.standard_error(np.array([0, 2, 2, 4]), blocks=2) == pytest.approx(1)  # block means 1 and 3


def test_standard_error_takes_a_length_that_blocks_do_not_divide() -> None:
    assert stats.standard_error(np.arange(101), blocks=20) > 0
    assert stats.standard_error(np.full(101, 7)) == 0


# ---- range of several runs


def test_range_noise_is_tukeys() -> None:
    assert stats.range_noise([1.0] * 10, blocks=4) == pytest.approx(4.8241, rel=1e-3)  # the table of q at 10 and 30
    assert stats.range_noise([2.0] * 10, blocks=4) == pytest.approx(2 * stats.range_noise([1.0] * 10, blocks=4))


@pytest.mark.parametrize("runs", [2, 10])
def test_ranges_of_equal_runs_stay_within_the_noise_95_times_in_100(runs: int) -> None:
    comparisons = np.random.default_rng(0).normal(828, 30, (1000, runs, 400))
    errors = [np.sqrt(np.mean([stats.standard_error(run) ** 2 for run in one])) for one in comparisons]
    noise = np.array(errors) * stats.range_noise([1.0] * runs)  # it is proportional to the errors, and slow to compute
    within = np.ptp(comparisons.mean(2), axis=1) < noise
    assert 0.93 < within.mean() < 0.97


# ---- mean


def test_mean_interval_is_students() -> None:
    values = [820.0, 824.0, 829.0, 831.0]  # mean 826, sum of squares 74
    error = np.sqrt(74 / 3 / 4)
    assert stats.mean_interval(values) == pytest.approx((826 - 3.182446 * error, 826 + 3.182446 * error))
    assert stats.mean_interval(values) == pytest.approx(scipy_stats.t.interval(0.95, 3, loc=826, scale=error))


def test_mean_interval_covers_the_mean_95_times_in_100() -> None:
    draws = np.random.default_rng(0).normal(828, 2, (2000, 5))
    intervals = np.array([stats.mean_interval(draw) for draw in draws])
    covered = np.mean((intervals[:, 0] < 828) & (intervals[:, 1] > 828))
    assert 0.93 < covered < 0.97


# ---- ratio


def test_ratio_of_a_series_to_itself_is_exactly_one() -> None:
    assert stats.ratio_interval([820.0, 835.0, 828.0], [820.0, 835.0, 828.0]) == (1, (1, 1))


def test_what_both_share_in_a_round_cancels() -> None:
    rounds = np.array([1.0, 3.0, 0.5, 10.0])
    ratio, (low, high) = stats.ratio_interval(0.7 * rounds, rounds)
    assert (low, ratio, high) == pytest.approx((0.7, 0.7, 0.7))


def test_ratio_interval_of_known_numbers() -> None:
    new, base = [4.0, 1.0], [1.0, 1.0]  # logs 2 ln 2 and 0: mean ln 2, standard error ln 2, one degree of freedom
    ratio, (low, high) = stats.ratio_interval(new, base)
    assert ratio == pytest.approx(2)
    assert (np.log2(low), np.log2(high)) == pytest.approx((1 - 12.7062047, 1 + 12.7062047))


def test_ratio_and_its_inverse_agree() -> None:
    new, base = [800.0, 820.0, 790.0], [1000.0, 990.0, 1010.0]
    ratio, (low, high) = stats.ratio_interval(new, base)
    assert stats.ratio_interval(base, new) == (pytest.approx(1 / ratio), pytest.approx((1 / high, 1 / low)))


# ---- shares


@pytest.mark.parametrize(("hits", "total"), [(9453, 10_000), (5, 10), (0, 100), (100, 100)])
def test_share_interval_is_wilsons(hits: int, total: int) -> None:
    share = hits / total
    centre = (share + Z**2 / (2 * total)) / (1 + Z**2 / total)
    half = Z / (1 + Z**2 / total) * np.sqrt(share * (1 - share) / total + Z**2 / (4 * total**2))
    expected = 100 * (centre - half), 100 * (centre + half)
    assert stats.share_interval(hits, total) == pytest.approx(expected, abs=1e-9)


def test_share_difference_interval_is_walds() -> None:
    half = 100 * Z * np.sqrt((0.9 * 0.1 + 0.8 * 0.2) / 10_000)
    assert stats.share_difference_interval(90.0, 80.0, 10_000) == pytest.approx((10 - half, 10 + half))


def test_differences_between_rows_that_differ_by_luck_alone_stay_within_their_interval() -> None:
    random = np.random.default_rng(0)
    luck = random.normal(0, 1, (2000, 5, 3)) + random.normal(0, 10, (2000, 1, 3))  # blocks differ much more than rows
    apart = np.abs(luck.mean(2)[:, 1:] - luck.mean(2)[:, :1]).max(1)
    inside = np.mean([most <= stats.differences_half(table) for most, table in zip(apart, luck)])
    assert 0.94 < inside < 0.99  # Bonferroni's correction errs on the safe side

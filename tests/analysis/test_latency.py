"""What is said of a latency record follows from its numbers."""

from collections.abc import Callable

import numpy as np
import pytest
from records_made import Made, row_named, timed

from cifar_bench.analysis import latency, stability
from cifar_bench.records import AA_TEST, REPEATED_IMAGE
from cifar_bench.report import latency as report

RUNS, IMAGES = 5, 400
Series = dict[str, np.ndarray]
Measure = Callable[..., tuple[dict, Series]]

BOTH = {("torchscript", ""): 2000.0, ("openvino", ""): 1200.0}
ALL = {**BOTH, ("torchscript", AA_TEST): 2000.0, ("torchscript", REPEATED_IMAGE): 1900.0}


@pytest.fixture
def measured(made: Made) -> Measure:
    """`measured(medians_us)` is the real record, and its series, with rows (engine, variant) of these medians.

    Latencies vary by 0.1% between runs and by 1% between images, unless `run_levels` are given, one for each run.
    """

    def measure(
        medians_us: dict[tuple[str, str], float], run_levels: np.ndarray | None = None, seed: int = 0
    ) -> tuple[dict, Series]:
        random, record, series = np.random.default_rng(seed), made.record("latency"), {}
        template, rows = row_named(record["measurements"]["engines"], engine="torchscript"), []
        for (engine, variant), median in medians_us.items():
            levels = np.exp(random.normal(0, 0.001, RUNS)) if run_levels is None else run_levels
            ns = (1e3 * median * levels[:, None] * np.exp(random.normal(0, 0.01, (RUNS, IMAGES)))).astype(np.int64)
            rows.append(timed(template, ns, engine=engine, variant=variant))
            series[rows[-1]["series"]] = ns
        record["environment"]["cpu"]["governor"] = "performance"
        record["environment"]["dropped_variables"] = {}
        record["measurements"]["engines"] = rows
        return record, series

    return measure


# ---- numbers


def test_a_real_record_is_read_and_shown(made: Made) -> None:
    record, series = made.record("latency"), made.series("latency")
    rows = latency.compared_engines(record)
    assert [row["engine"] for row in rows] == ["eager", "torchscript"] and len(latency.valid_rows(record)) == 4
    for row in rows:
        for run, ns in zip(row["runs"], series[row["series"]], strict=True):
            assert [run["p50_ns"], run["p90_ns"], run["p99_ns"]] == np.quantile(ns, [0.5, 0.9, 0.99]).tolist()
    loadgen = record["measurements"]["loadgen"]
    ratio, (low, high) = latency.loadgen_ratio(loadgen)
    assert low <= ratio <= high and latency.loadgen_overhead(loadgen) > 0
    assert len(report.table(record)) == 4 and report.sentence(record) and report.checks(record)
    assert report.states_sentence(record) and set(report.states_table(record)["engine"]) == {"eager", "torchscript"}
    for picture in (report.histogram(record, series), report.run_means(record)):
        assert "<svg" in picture.svg


def test_what_loadgens_own_calls_do_not_explain_is_said(made: Made) -> None:
    record = made.record("latency")
    rounds = {  # recorded on an H200, in µs
        "ours_ns": [549, 546, 548, 556, 563, 547, 548, 557, 555, 556],
        "within_loadgen_ns": [588, 586, 569, 565, 574, 581, 556, 565, 574, 585],
        "loadgen_ns": [604, 603, 584, 580, 592, 596, 571, 580, 590, 602]}
    for explained in (False, True):
        loadgen = {"engine": "torchscript", "images": 100, **{name: [1e3 * us for us in of] for name, of in rounds.items()}}
        record["measurements"]["loadgen"] = loadgen
        *_, sentence, _ = report.checks(record)
        assert ("per image; the rest, 20 µs in the median round, remains unexplained" in sentence) is not explained
        assert "LoadGen's own calls add 16 µs per image" in sentence
        rounds["ours_ns"] = rounds["within_loadgen_ns"]


def test_a_latency_is_never_below_zero() -> None:
    runs = [{"mean_ns": 1e6 * ms, "round": number, "contended": False} for number, ms in enumerate((1, 1, 10))]
    assert latency.mean({"runs": runs}) == (4000, (0, pytest.approx(16_908, abs=1)))  # Student: 4000 ± 12,908


def test_a_quantile_is_the_median_over_the_runs_with_the_lowest_and_the_highest(measured: Measure) -> None:
    record, series = measured(BOTH)
    of_runs = np.quantile(series["torchscript-float32"], 0.9, axis=1) / 1e3
    assert latency.quantile(record["measurements"]["engines"][0], "p90") == (np.median(of_runs), (of_runs.min(), of_runs.max()))


def test_the_ratio_is_to_torchscript_and_pairs_rounds(measured: Measure) -> None:
    record, _ = measured(BOTH, run_levels=np.array([1.0, 1.5, 0.8, 1.2, 2.0]))
    base, other = record["measurements"]["engines"]
    ratio, (low, high) = latency.ratio(other, [base, other])
    assert ratio == pytest.approx(0.6, abs=0.002)
    assert high - low < 0.01  # though the runs differ by a factor of up to 2.5
    assert latency.ratio(base, [base, other]) is None


def test_without_torchscript_there_is_no_ratio(measured: Measure) -> None:
    record, _ = measured({("eager", ""): 3000.0, ("openvino", ""): 1200.0})
    rows = record["measurements"]["engines"]
    assert latency.ratio(rows[1], rows) is None and latency.aa_noise(record) is None
    assert report.sentence(record) and len(report.table(record)) == 2


def runs(ms: list[float], contended: set[int]) -> dict:
    """A row with a run of each round."""
    return {"runs": [{"round": number, "mean_ns": 1e6 * value, "contended": number in contended}
                     for number, value in enumerate(ms)]}


def test_a_contended_run_counts_only_where_too_few_others_do() -> None:
    repeated = {"round": 0, "mean_ns": 9e6, "contended": True}
    enough, few = runs([1] * 4, set()), runs([1] * 4, {2, 3})
    for row in (enough, few):
        row["runs"].insert(0, repeated)
        assert [(run["round"], run["mean_ns"]) for run in latency.judged_runs(row)] == [(n, 1e6) for n in range(4)]
    assert latency.disturbance(*latency.judged_runs(enough)) == ""
    assert latency.disturbance(*latency.judged_runs(few)).startswith("too many runs were contended")


def test_ratios_pair_the_rounds_in_which_both_are_uncontended_where_there_are_enough() -> None:
    ours, theirs = runs([2, 99, 6, 8, 10], {1}), runs([1, 2, 3, 99, 5], {3})
    assert latency.paired_ratio(ours, theirs, "mean_ns") == (pytest.approx(2), (pytest.approx(2), pytest.approx(2)))
    pairs = latency.paired_runs(runs([2] * 5, {0, 1}), runs([1] * 5, {2, 3}))
    assert [(one["round"], other["round"]) for one, other in pairs] == [(n, n) for n in range(5)]
    assert all(latency.disturbance(*pair) for pair in pairs[:4]) and not latency.disturbance(*pairs[4])


def test_the_fastest_is_not_judged_by_the_rounds_that_chose_it() -> None:
    """Of twelve engines that are equally fast, whichever was lucky would be found 1.5% faster than it is."""
    def row(medians_us: np.ndarray) -> dict:
        return {"runs": [{"round": n, "p50_ns": 1e3 * us, "contended": False} for n, us in enumerate(medians_us)]}

    random, base = np.random.default_rng(0), row(np.full(5, 1000))
    ratios = [latency.fastest_ratio([row(100 * random.normal(1, 0.02, 5)) for _ in range(12)], base)[0] for _ in range(300)]
    assert np.mean(ratios) == pytest.approx(0.1, rel=0.003)
    clear = [row(np.array([100, 101, 99])), row(np.array([120, 121, 122]))]
    assert latency.fastest_ratio(clear, base) == latency.paired_ratio(clear[0], base)


def test_an_engine_that_computes_in_another_precision_is_not_compared(measured: Measure) -> None:
    record, _ = measured(ALL)
    row = next(row for row in record["measurements"]["engines"] if row["engine"] == "openvino")
    row["max_logit_error"] = 0.0016  # as TF32's
    assert row not in latency.compared_engines(record) and "openvino" not in set(report.table(record)["engine"])
    assert "0.0016" in report.reasons(record)[-1]


def test_figures_show_the_engines_without_their_variants_and_contended_runs(measured: Measure) -> None:
    record, series = measured(ALL)
    record["measurements"]["engines"][1]["runs"][0]["contended"] = True
    record["measurements"]["engines"].append({"engine": "compile", "variant": "", "reason": "it broke."})
    numbers = report.histogram(record, series).numbers.set_index("engine")
    assert list(numbers.index) == ["openvino", "torchscript"]
    assert numbers.loc["openvino", "pooled quantile 0.5 (µs)"] == np.median(series["openvino-float32"][1:]) / 1e3


# ---- warnings


def test_a_stable_machine_raises_no_warning(measured: Measure) -> None:
    record, _ = measured(ALL)
    assert stability.stability_warnings(record) == []


def test_the_state_of_the_machine_before_the_measurement_raises_warnings(measured: Measure) -> None:
    record, _ = measured(ALL)
    record["environment"]["dropped_variables"] = {"OMP_PROC_BIND": "true", "OMP_THREAD_LIMIT": "1"}
    record["environment"]["cpu"]["governor"] = "powersave"
    variables, governor = stability.stability_warnings(record)
    assert variables.endswith(": OMP_PROC_BIND=true, OMP_THREAD_LIMIT=1") and "powersave" in governor


def test_contended_runs_raise_a_warning_that_names_what_was_not_measured_otherwise(measured: Measure) -> None:
    record, _ = measured(ALL)
    for run in record["measurements"]["engines"][1]["runs"][:4]:
        run["contended"] = True
    contended, few = stability.stability_warnings(record)
    assert contended.startswith("4 of 20 runs were contended") and "openvino" in few


def test_the_runs_of_5_faster_raise_warnings_of_their_own(measured: Measure, made: Made) -> None:
    record, _ = measured(ALL)
    fast = made.record("faster")
    for run in (run for row in fast["measurements"]["rows"] for run in row.get("runs", [])):
        run["contended"] = True
    warnings = stability.stability_warnings(record, fast)
    assert "runs were contended" in warnings[0] and all(warning.startswith("in 5_faster, ") for warning in warnings)


@pytest.mark.parametrize(("slow", "warned"), [(2, False), (3, True)])
def test_more_than_a_tenth_of_runs_with_a_slow_start_raise_a_warning(measured: Measure, slow: int, warned: bool) -> None:
    record, series = measured(ALL)
    for row in record["measurements"]["engines"][:slow]:
        ns = series[row["series"]].copy()
        ns[1, : IMAGES // 20] = 1.06 * ns[1, : IMAGES // 20]  # the first block
        ns[2, IMAGES // 20 : IMAGES // 10] = 1.06 * ns[2, IMAGES // 20 : IMAGES // 10]  # a later block is no start
        row["runs"] = timed(row, ns)["runs"]
    warnings = stability.stability_warnings(record)
    assert len(warnings) == warned and all(f"in {slow} of 20 runs" in warning for warning in warnings)


def test_a_large_spread_raises_a_warning(measured: Measure) -> None:
    record, _ = measured(BOTH, run_levels=np.array([1, 1, 1, 1, 1.1]))
    assert any("the spread of the runs' medians is 10%" in warning for warning in stability.stability_warnings(record))


@pytest.mark.parametrize(("levels", "warned"), [([1, 1, 1, 0.9, 0.9], True), ([1, 1.1, 1, 1.1, 1], False)])
def test_a_machine_that_changes_from_round_to_round_raises_a_warning(
    measured: Measure, levels: list[float], warned: bool
) -> None:
    record, _ = measured(BOTH, run_levels=np.array(levels))
    assert any("(-10% to -10%)" in warning for warning in stability.stability_warnings(record)) == warned


def test_aa_noise_raises_a_warning(measured: Measure) -> None:
    record, _ = measured({**BOTH, ("torchscript", AA_TEST): 2050.0})
    warning, = stability.stability_warnings(record)
    assert f"A/A noise is up to {latency.aa_noise(record):.1%}" in warning and 0.02 < latency.aa_noise(record) < 0.03

"""What the page says of a latency record follows from its numbers."""

from collections.abc import Callable

import numpy as np
import pytest
from records_made import Made, row_named, timed

from cifar_bench.analysis import latency, stability, statistics
from cifar_bench.records import AA_TEST, REPEATED_IMAGE
from cifar_bench.report import latency as report
from cifar_bench.report import result, style

RUNS, IMAGES = 5, 400
Series = dict[str, np.ndarray]
Measure = Callable[..., tuple[dict, Series]]

BOTH = {("torchscript", ""): 2000.0, ("openvino", ""): 1200.0}
ALL = {**BOTH, ("torchscript", AA_TEST): 2000.0, ("torchscript", REPEATED_IMAGE): 1900.0}


@pytest.fixture
def measured(made: Made) -> Measure:
    """`measured(medians_us)` is the real record and its series as if these rows (engine, variant) had taken so long.

    Runs have a spread of 0.1%, images of 1%, unless levels are given, one for each run.
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
            series[rows[-1]["series"]], series[f"{rows[-1]['series']}-predicted"] = ns, np.zeros_like(ns)
        loadgen = {"ours_ns": [2e6] * 3, "loadgen_ns": [2e6, 2.02e6, 2.04e6], "within_loadgen_ns": [1.99e6, 2.01e6, 2.02e6]}
        record["environment"]["cpu"]["governor"] = "performance"
        record["environment"]["dropped_variables"] = {}
        assert set(loadgen) < set(record["measurements"]["loadgen"])
        record["measurements"]["loadgen"] |= loadgen
        record["measurements"] |= {"engines": rows, "background_load": 0.01,
                                   "clock": {"name": "a clock", "step_ns": 10, "cost_ns": 40.0}}
        return record, series

    return measure


def warnings_of(record: dict) -> list[str]:
    return stability.stability_warnings(record)


# ---- numbers


def test_a_real_record_is_compared_and_said_in_words(made: Made) -> None:
    record, series = made.record("latency"), made.series("latency")
    assert [row["engine"] for row in latency.compared(record)] == ["eager", "torchscript"]
    assert "3 runs" in report.sentence(record) and len(report.checks(record)) == 4
    for row in record["measurements"]["engines"]:
        ns = series[row["series"]]
        assert ns.shape == (3, 100) == (len(row["runs"]), row["images"])
        for run, times in zip(row["runs"], ns, strict=True):
            assert run["mean_ns"] == times.mean() and run["max_ns"] == times.max()
            assert [run["p50_ns"], run["p90_ns"], run["p99_ns"]] == np.quantile(times, [0.5, 0.9, 0.99]).tolist()


def test_a_time_is_never_said_to_be_below_zero() -> None:
    runs = [{"mean_ns": 1e6 * ms} for ms in (1, 1, 10)]
    assert latency.quantile({"runs": runs}, "mean") == (4000, (0, pytest.approx(16_908, abs=1)))  # Student: 4000 ± 12,908


def test_a_quantile_is_the_mean_of_the_runs(measured: Measure) -> None:
    record, series = measured(BOTH)
    value, (low, high) = latency.quantile(record["measurements"]["engines"][0], "p90")
    assert value == pytest.approx(np.quantile(series["torchscript-float32"], 0.9, axis=1).mean() / 1e3)
    assert low < value < high


def test_the_ratio_is_to_torchscript_and_pairs_rounds(measured: Measure) -> None:
    record, _ = measured(BOTH, run_levels=np.array([1.0, 1.5, 0.8, 1.2, 2.0]))
    base, other = record["measurements"]["engines"]
    ratio, (low, high) = latency.ratio(other, [base, other])
    assert ratio == pytest.approx(0.6, abs=0.002)
    assert high - low < 0.01  # though the runs are up to a factor of 2.5 apart
    assert latency.ratio(base, [base, other]) is None


def test_without_torchscript_there_is_no_ratio(measured: Measure) -> None:
    record, _ = measured({("eager", ""): 3000.0, ("openvino", ""): 1200.0})
    rows = record["measurements"]["engines"]
    assert latency.ratio(rows[1], rows) is None
    assert "times" not in report.sentence(record)
    assert set(report.table(record)["× torchscript"]) == {"–"}


CONTENDED = [{"round": 0, "mean_ns": 9e6, "contended": True},
             *({"round": number, "mean_ns": 1e6, "contended": False} for number in range(4))]


def test_a_disturbed_run_counts_only_where_too_few_others_could_be_had() -> None:
    assert [run["mean_ns"] for run in latency.judged_runs({"runs": CONTENDED})] == 4 * [1e6]
    assert not latency.is_contended(latency.judged_runs({"runs": CONTENDED}))
    few = {"runs": [CONTENDED[0], *({**run, "contended": run["round"] > 1} for run in CONTENDED[2:])]}
    assert [run["round"] for run in latency.judged_runs(few)] == [0, 1, 2, 3]
    assert latency.is_contended(latency.judged_runs(few))


def test_ratios_pair_the_rounds_of_which_both_have_an_undisturbed_run() -> None:
    ours = {"runs": [{"round": n, "mean_ns": 2e6 * (n + 1), "contended": n == 1} for n in range(5)]}
    theirs = {"runs": [{"round": n, "mean_ns": 1e6 * (n + 1), "contended": n == 3} for n in reversed(range(5))]}
    assert latency.paired(ours, theirs, "mean_ns") == (pytest.approx(2), (pytest.approx(2), pytest.approx(2)))


def test_where_too_few_rounds_are_undisturbed_for_both_each_rounds_last_run_is_paired() -> None:
    ours = {"runs": [{"round": n, "mean_ns": 2e6, "contended": n in (0, 1)} for n in range(5)]}
    theirs = {"runs": [{"round": n, "mean_ns": 1e6, "contended": n in (2, 3)} for n in range(5)]}
    pairs = latency.pairs(ours, theirs)
    assert [(one["round"], other["round"]) for one, other in pairs] == [(n, n) for n in range(5)]
    assert latency.is_contended(run for pair in pairs for run in pair)
    assert latency.paired(ours, theirs, "mean_ns") == (pytest.approx(2), (pytest.approx(2), pytest.approx(2)))


def test_what_computes_in_another_precision_than_its_rows_is_not_compared(measured: Measure) -> None:
    record, _ = measured(ALL)
    row = next(row for row in record["measurements"]["engines"] if row["engine"] == "openvino")
    row["max_logit_error"] = 0.0016  # as TF32's
    assert row not in latency.compared(record) and "openvino" not in set(report.table(record)["engine"])
    assert "openvino is not compared: its logits are off by 0.0016" in report.reasons(record)[-1]


def test_records_of_before_disturbances_were_measured_have_none() -> None:
    runs = [{"mean_ns": 1e6}, {"mean_ns": 2e6}, {"mean_ns": 3e6}]
    assert latency.judged_runs({"runs": runs}) == runs and not latency.is_contended(runs)


def test_the_answer_names_the_fastest_engine_and_its_ratio(measured: Measure) -> None:
    record, _ = measured({**ALL, ("openvino", AA_TEST): 100.0})
    sentence = report.sentence(record)
    assert sentence.startswith(f"One image takes {latency.quantile(record['measurements']['engines'][1], 'p50')[0]:,.0f} (")
    assert "with openvino, 0.60 (" in sentence and "5 runs" in sentence


def test_the_table_has_every_row_that_ran_the_fastest_first_and_the_others_have_reasons(measured: Measure) -> None:
    record, _ = measured(ALL)
    record["measurements"]["engines"].insert(0, {"engine": "compile", "reason": "no C++ compiler was found."})
    table = report.table(record)
    assert [name.split(" ")[0] for name in table["engine"]] == ["openvino", *["torchscript"] * 3]
    assert report.reasons(record) == ["compile: no C++ compiler was found."]
    assert table["× torchscript"].iloc[0].startswith("0.60 (")
    assert isinstance(table["threads"].iloc[0], int | np.integer)
    accuracy = table.set_index("engine")["accuracy (%)"]
    assert accuracy["torchscript"] == 100 and np.isnan(accuracy["torchscript (with one image over and over)"])


def test_every_run_has_a_line_with_what_its_series_shows(measured: Measure) -> None:
    record, series = measured(ALL)
    third = np.quantile(series["torchscript-float32"][0], 0.75)
    series["torchscript-float32"][0, :2] = 1.03 * third, 2 * third  # Tukey's fences are some 2% and 4% beyond it
    table = report.run_table(record, series)
    assert len(table) == RUNS * len(ALL)
    first, ns = table.iloc[0], series["torchscript-float32"][0]
    assert table["max (µs)"].iloc[1] == series["torchscript-float32"][1].max() / 1e3
    low, high = statistics.quantile_interval(ns, 0.5)
    assert first["p50 (µs)"] == style.with_interval(
        (record["measurements"]["engines"][0]["runs"][0]["p50_ns"] / 1e3, (low / 1e3, high / 1e3)))
    counted = statistics.outliers(ns)
    assert first["severe"] == counted["high_severe"] + counted["low_severe"] >= 1
    assert first["outliers, mild"] == counted["high_mild"] + counted["low_mild"] >= 1


# ---- warnings


def test_a_steady_machine_raises_no_warning(measured: Measure) -> None:
    record, _ = measured(ALL)
    assert warnings_of(record) == []


def test_time_that_the_host_took_raises_a_warning(measured: Measure) -> None:
    record, _ = measured(ALL)
    record["measurements"]["engines"][0]["runs"][0]["steal_share"] = 0.031
    (warning,) = warnings_of(record)
    assert "3.1%" in warning


@pytest.mark.parametrize(("slower", "begins"), [(1.04, False), (1.06, True)])
def test_a_run_begins_slowly_where_its_first_stretch_is_5_percent_slower_than_the_rest(slower: float, begins: bool) -> None:
    assert stability.begins_slowly({"block_p50_ns": [1e6 * slower, *[1e6] * 19]}) == begins
    assert not stability.begins_slowly({"block_p50_ns": [1e6, 1e6 * slower, *[1e6] * 18]})  # a later one is no beginning
    assert not stability.begins_slowly({"mean_ns": 1e6})  # as older records are


@pytest.mark.parametrize(("slow", "warned"), [(2, False), (3, True)])
def test_runs_that_begin_slowly_raise_a_warning_where_they_are_more_than_one_in_ten(
    measured: Measure, slow: int, warned: bool
) -> None:
    record, series = measured(ALL)
    for row in record["measurements"]["engines"][:slow]:
        ns = series[row["series"]].copy()
        ns[1, : IMAGES // 20] = 1.1 * ns[1, : IMAGES // 20]  # its first stretch
        row["runs"] = timed(row, ns)["runs"]
    words = f"in {slow} of 20 runs the first images after the warm-up are still more than 5% slower"
    assert warnings_of(record) == [words] * warned


def test_records_without_stretches_raise_no_warning_of_slow_beginnings(measured: Measure) -> None:
    record, _ = measured(ALL)
    for row in record["measurements"]["engines"]:
        for run in row["runs"]:
            run["block_p50_ns"][0] *= 2
    assert "in 20 of 20 runs" in warnings_of(record)[0]
    for row in record["measurements"]["engines"]:
        for run in row["runs"]:
            del run["block_p50_ns"]
    assert warnings_of(record) == []


def test_what_the_machine_shows_raises_a_warning(measured: Measure) -> None:
    record, _ = measured(ALL)
    record["environment"]["cpu"]["governor"], record["measurements"]["background_load"] = "powersave", 0.18
    busy, governor = warnings_of(record)
    assert "18%" in busy and "powersave" in governor


def test_variables_that_were_dropped_raise_a_warning_and_older_records_have_none(made: Made) -> None:
    record = made.record("latency")
    del record["environment"]["dropped_variables"]
    others = warnings_of(record)
    record["environment"]["dropped_variables"] = {"OMP_PROC_BIND": "true", "OMP_THREAD_LIMIT": "1"}
    warning, = (warning for warning in warnings_of(record) if warning not in others)
    assert warning.endswith(": OMP_PROC_BIND=true, OMP_THREAD_LIMIT=1")


def test_runs_that_are_apart_raise_a_warning(measured: Measure) -> None:
    record, _ = measured(BOTH, run_levels=np.array([1, 1, 1, 1, 1.1]))
    assert any("medians of the runs of" in warning and "10% apart" in warning for warning in warnings_of(record))


@pytest.mark.parametrize(("levels", "warned"), [([1, 1, 1, 0.9, 0.9], True), ([1, 1.1, 1, 1.1, 1], False)])
def test_a_machine_that_changes_from_round_to_round_raises_a_warning(
    measured: Measure, levels: list[float], warned: bool
) -> None:
    record, _ = measured(BOTH, run_levels=np.array(levels))
    assert any("every engine's mean changes (-10% to -10%)" in warning for warning in warnings_of(record)) == warned


def test_an_engine_that_seems_to_differ_from_itself_raises_a_warning(measured: Measure) -> None:
    record, _ = measured({**BOTH, ("torchscript", AA_TEST): 2050.0})
    assert any("by the A/A test an engine may differ from itself by up to 2." in warning for warning in warnings_of(record))


def test_interrupted_runs_raise_a_warning(measured: Measure) -> None:
    record, _ = measured(BOTH)
    for row in record["measurements"]["engines"]:
        for run in row["runs"]:
            run["involuntary_switches"] = IMAGES // 2
    assert any("involuntary context switches" in warning for warning in warnings_of(record))


def test_what_others_published_names_its_hardware_and_how_it_was_timed() -> None:
    table = result.published_table().set_index("hardware")
    assert table.loc["1 P100", "mean (µs)"] == 828
    assert (table["timing"].str.len() > 0).all()


# ---- sentences and figures


def test_the_checks_say_what_they_found(measured: Measure) -> None:
    record, _ = measured(ALL)
    sentences = report.checks(record)
    assert sentences[0].startswith("torchscript in the A/A test takes 1.0")
    assert sentences[1].startswith("torchscript with one image over and over takes 0.95")
    assert "ours is 0.990 (" in sentences[2] and "3 rounds" in sentences[2]
    assert "40 ns" in sentences[3] and "10 ns" in sentences[3]
    assert len(sentences) == 4


def test_what_loadgen_adds_of_its_own_is_said(measured: Measure) -> None:
    record, _ = measured(BOTH)
    said = next(sentence for sentence in report.checks(record) if "LoadGen" in sentence)
    assert "ours is 0.990 (" in said and said.endswith("LoadGen's own calls take 10 µs of an image's time.")
    del record["measurements"]["loadgen"]["within_loadgen_ns"]  # an older record
    assert "own calls" not in next(sentence for sentence in report.checks(record) if "LoadGen" in sentence)


def test_a_loadgen_that_did_not_run_is_said_to(measured: Measure) -> None:
    record, _ = measured(BOTH)
    record["measurements"]["loadgen"] = {"engine": "torchscript", "reason": "it is not installed."}
    assert "MLPerf's LoadGen did not run: it is not installed." in report.checks(record)


FIGURES = [report.histogram, report.ecdf, report.over_time, report.run_means]


@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
def test_figures_show_the_engines_and_not_the_variants(
    measured: Measure, draw: Callable[[dict, Series], style.Picture]
) -> None:
    record, series = measured(ALL)
    record["measurements"]["engines"].append({"engine": "compile", "reason": "it broke."})
    picture = draw(record, series)
    assert "openvino" in picture.alternative and "torchscript" in picture.alternative
    assert not any(word in picture.svg + picture.alternative for word in ("over and over", "A/A"))


def test_the_histogram_counts_what_is_beyond_its_axis(measured: Measure) -> None:
    record, series = measured(BOTH)
    series["openvino-float32"][0, 7] = 10**9
    assert "1 beyond" in report.histogram(record, series).svg


def test_raw_times_are_drawn_with_their_median() -> None:
    picture = report.raw_times(np.array([10.0, 30.0, 20.0]))
    assert picture.title == "Half of 3 images take less than 20 µs"
    assert picture.alternative == "3 latencies between 10 and 30 µs."

"""What the page says of a latency record follows from its numbers."""

from collections.abc import Callable

import numpy as np
import pytest

from cifar_lib import figures, latency, timer
from cifar_lib.timer import AGAIN, ONE_IMAGE, Job

RUNS, IMAGES = 5, 400
Series = dict[str, np.ndarray]


def measured(
    medians_us: dict[tuple[str, str], float], run_levels: np.ndarray | None = None, seed: int = 0, **changes: object
) -> tuple[dict, Series]:
    """A record and its series, by engine and variant; runs have a spread of 0.1%, images of 1%, unless levels are given.

    `changes` go into the record's first run of every engine.
    """
    random, rows, series = np.random.default_rng(seed), [], {}
    for (engine, variant), median in medians_us.items():
        job = Job(engine, "float32", "cpu", 0, IMAGES, 50, variant)
        levels = np.exp(random.normal(0, 0.001, RUNS)) if run_levels is None else run_levels
        ns = (1e3 * median * levels[:, None] * np.exp(random.normal(0, 0.01, (RUNS, IMAGES)))).astype(np.int64)
        results = [{"ns": one, "classes": np.zeros(IMAGES, np.uint8), "logits": np.zeros((200, 10)), "load_ns": 2_000_000_000,
                    "warmup_ns": np.full(50, int(1e3 * median)), "involuntary_switches": 1, "steal_share": 0.0, "mhz": [2000]}
                   for one in ns]
        row = timer._row(timer.Outcome(job, results), np.zeros(IMAGES, np.int64), np.zeros((200, 10)))
        row["runs"][0].update(changes)
        rows.append(row)
        series[job.series], series[f"{job.series}-classes"] = ns, np.zeros_like(ns)
    environment = {"cpu": {"governor": "performance"}, "hardware": "a processor"}
    loadgen = {"engine": "torchscript", "ours_ns": [2e6] * 3, "loadgen_ns": [2e6, 2.02e6, 2.04e6],
               "within_loadgen_ns": [1.99e6, 2.01e6, 2.02e6], "images": 100}
    clock = {"name": "a clock", "step_ns": 10, "cost_ns": 40.0}
    return {"environment": environment, "measurements": {
        "engines": rows, "loadgen": loadgen, "busy_share": 0.01, "clock": clock}}, series


BOTH = {("torchscript", ""): 2000.0, ("openvino", ""): 1200.0}
ALL = {**BOTH, ("torchscript", AGAIN): 2000.0, ("torchscript", ONE_IMAGE): 1900.0}


# ---- numbers


def test_a_time_is_never_said_to_be_below_zero() -> None:
    runs = [{"mean_ns": 1e6 * ms} for ms in (1, 1, 10)]
    assert latency.quantile({"runs": runs}, "mean") == (4000, (0, pytest.approx(16_908, abs=1)))  # Student: 4000 ± 12,908


def test_a_quantile_is_the_mean_of_the_runs() -> None:
    record, series = measured(BOTH)
    value, (low, high) = latency.quantile(record["measurements"]["engines"][0], "p90")
    assert value == pytest.approx(np.quantile(series["torchscript-float32"], 0.9, axis=1).mean() / 1e3)
    assert low < value < high


def test_the_ratio_is_to_torchscript_and_pairs_rounds() -> None:
    record, _ = measured(BOTH, run_levels=np.array([1.0, 1.5, 0.8, 1.2, 2.0]))
    base, other = record["measurements"]["engines"]
    ratio, (low, high) = latency.ratio(other, [base, other])
    assert ratio == pytest.approx(0.6, abs=0.002)
    assert high - low < 0.01  # though the runs are up to a factor of 2.5 apart
    assert latency.ratio(base, [base, other]) is None


def test_without_torchscript_there_is_no_ratio() -> None:
    record, _ = measured({("eager", ""): 3000.0, ("openvino", ""): 1200.0})
    rows = record["measurements"]["engines"]
    assert latency.ratio(rows[1], rows) is None
    assert "times" not in figures.latency_sentence(record)


def test_the_answer_names_the_fastest_engine_and_its_ratio() -> None:
    record, _ = measured({**ALL, ("openvino", AGAIN): 100.0})
    sentence = figures.latency_sentence(record)
    assert sentence.startswith(f"One image takes {latency.quantile(record['measurements']['engines'][1], 'p50')[0]:,.0f} (")
    assert "with openvino, 0.60 (" in sentence and "5 runs" in sentence


def test_the_table_has_every_row_the_fastest_first_and_reasons_last() -> None:
    record, _ = measured(ALL)
    record["measurements"]["engines"].insert(0, {"engine": "compile", "reason": "no C++ compiler was found."})
    table = figures.latency_table(record)
    assert [name.split(" ")[0] for name in table["engine"]] == ["openvino", *["torchscript"] * 3, "compile"]
    assert table["p50 (µs)"].iloc[-1] == "no C++ compiler was found."
    assert table["× torchscript"].iloc[0].startswith("0.60 (")
    assert isinstance(table["threads"].iloc[0], int | np.integer)
    accuracy = table.set_index("engine")["accuracy (%)"]
    assert accuracy["torchscript"] == 100 and np.isnan(accuracy["torchscript (with one image over and over)"])


def test_every_run_has_a_line() -> None:
    record, series = measured(ALL)
    table = figures.run_table(record)
    assert len(table) == RUNS * len(ALL)
    assert table["max (µs)"].iloc[0] == series["torchscript-float32"][0].max() / 1e3


# ---- doubts


def test_a_steady_machine_raises_no_doubts() -> None:
    record, _ = measured(ALL)
    assert latency.doubts(record) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steal_share": 0.031}, "3.1%"),
        ({"warmup_images": 51}, "1 of 20 runs the latency had not settled"),
    ],
)
def test_what_a_run_shows_raises_a_doubt(change: dict, words: str) -> None:
    record, _ = measured(ALL)
    record["measurements"]["engines"][0]["runs"][0].update(change)
    (doubt,) = latency.doubts(record)
    assert words in doubt


def test_what_the_machine_shows_raises_a_doubt() -> None:
    record, _ = measured(ALL)
    record["environment"]["cpu"]["governor"], record["measurements"]["busy_share"] = "powersave", 0.18
    busy, governor = latency.doubts(record)
    assert "18%" in busy and "powersave" in governor


def test_runs_that_are_apart_raise_a_doubt() -> None:
    record, _ = measured(BOTH, run_levels=np.array([1, 1, 1, 1, 1.1]))
    assert any("medians of the runs of" in doubt and "10% apart" in doubt for doubt in latency.doubts(record))


@pytest.mark.parametrize(("levels", "doubted"), [([1, 1, 1, 0.9, 0.9], True), ([1, 1.1, 1, 1.1, 1], False)])
def test_a_machine_that_changes_from_round_to_round_raises_a_doubt(levels: list[float], doubted: bool) -> None:
    record, _ = measured(BOTH, run_levels=np.array(levels))
    assert any("every engine's mean changes (-10% to -10%)" in doubt for doubt in latency.doubts(record)) == doubted


def test_an_engine_that_seems_to_differ_from_itself_raises_a_doubt() -> None:
    record, _ = measured({**BOTH, ("torchscript", AGAIN): 2050.0})
    assert any("compared with itself might differ by 2." in doubt for doubt in latency.doubts(record))


def test_levels_that_change_in_many_runs_raise_a_doubt() -> None:
    record, _ = measured(BOTH)
    for row in record["measurements"]["engines"]:
        for run in row["runs"][:2]:
            run["level_changes"] = [200]
    assert any("4 of 10 runs" in doubt for doubt in latency.doubts(record))


def test_interrupted_runs_raise_a_doubt() -> None:
    record, _ = measured(BOTH)
    for row in record["measurements"]["engines"]:
        for run in row["runs"]:
            run["involuntary_switches"] = IMAGES // 2
    assert any("lost the processor" in doubt for doubt in latency.doubts(record))


def test_what_others_published_names_its_hardware_and_how_it_was_timed() -> None:
    table = figures.published_table().set_index("hardware")
    assert table.loc["1 P100", "mean (µs)"] == 828
    assert (table["timing"].str.len() > 0).all()


# ---- modes and what goes with them


QUIET = [{"mhz": [2000], "steal_share": 0.0, "involuntary_switches": 0}] * 5


def test_one_mode_needs_no_explanation() -> None:
    ns = 2e6 * np.exp(np.random.default_rng(0).normal(0, 0.01, (RUNS, IMAGES)))
    places, words = latency.modes(ns, np.zeros_like(ns), QUIET)
    assert len(places) == 1 and words == ""


@pytest.mark.parametrize("cause", ["the run", "the part of the run", "the class"])
def test_what_the_modes_go_with_is_named(cause: str) -> None:
    random = np.random.default_rng(0)
    classes = random.integers(10, size=(RUNS, IMAGES))
    ns = 2e6 * np.exp(random.normal(0, 0.01, (RUNS, IMAGES)))
    runs, images = np.indices(ns.shape)
    slow = {"the run": runs == 1, "the part of the run": images >= 300, "the class": classes == 3}[cause]
    places, words = latency.modes(np.where(slow, 1.1 * ns, ns), classes, QUIET)
    assert places == pytest.approx([2000, 2200], rel=0.01)
    assert f"goes most with {cause}" in words


def test_modes_that_go_with_nothing_are_said_to() -> None:
    random = np.random.default_rng(0)
    ns = 2e6 * np.exp(random.normal(0, 0.01, (RUNS, IMAGES)))
    ns[random.random(ns.shape) < 0.3] *= 1.1
    _, words = latency.modes(ns, random.integers(10, size=ns.shape), QUIET)
    assert "goes with none of" in words


def test_where_modes_go_with_the_run_what_the_runs_differ_in_is_told() -> None:
    ns = 2e6 * np.exp(np.random.default_rng(0).normal(0, 0.01, (RUNS, IMAGES)))
    slow = np.arange(IMAGES) < np.array([0, 100, 200, 300, 400])[:, None]
    runs = [{"mhz": [3000 - 100 * number], "steal_share": 0.0, "involuntary_switches": number} for number in range(RUNS)]
    _, words = latency.modes(np.where(slow, 1.2 * ns, ns), np.zeros_like(ns), runs)
    assert words.endswith("clock -1.00, interruptions +1.00")


# ---- sentences and figures


def test_the_checks_say_what_they_found() -> None:
    record, series = measured(ALL)
    found = figures.checks(record, series)
    assert found[0].startswith("torchscript as if it were another engine takes 1.0")
    assert found[1].startswith("torchscript with one image over and over takes 0.95")
    assert "ours is 0.990 (" in found[2] and "3 rounds" in found[2]
    assert "40 ns" in found[3] and "10 ns" in found[3]
    assert len(found) == 4


def test_what_loadgen_adds_of_its_own_is_said() -> None:
    record, series = measured(BOTH)
    said = next(one for one in figures.checks(record, series) if "LoadGen" in one)
    assert "ours is 0.990 (" in said and said.endswith("LoadGen's own calls take 10 µs of an image's time.")
    del record["measurements"]["loadgen"]["within_loadgen_ns"]  # an older record
    assert "own calls" not in next(one for one in figures.checks(record, series) if "LoadGen" in one)


def test_a_loadgen_that_did_not_run_is_said_to() -> None:
    record, series = measured(BOTH)
    record["measurements"]["loadgen"] = {"engine": "torchscript", "reason": "it is not installed."}
    assert "MLPerf's LoadGen did not run: it is not installed." in figures.checks(record, series)


FIGURES = [figures.latency_histogram, figures.latency_ecdf, figures.latency_over_time, figures.run_means]


@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
def test_figures_show_the_engines_and_not_the_variants(draw: Callable[[dict, Series], figures.Picture]) -> None:
    record, series = measured(ALL)
    record["measurements"]["engines"].append({"engine": "compile", "reason": "it broke."})
    picture = draw(record, series)
    assert "openvino" in picture.alternative and "torchscript" in picture.alternative
    assert not any(word in picture.svg + picture.alternative for word in ("over and over", "another engine"))


def test_the_histogram_counts_what_is_beyond_its_axis() -> None:
    record, series = measured(BOTH)
    series["openvino-float32"][0, 7] = 10**9
    drawn = figures.latency_histogram(record, series).svg
    assert "1 beyond" in drawn

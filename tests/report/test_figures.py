"""The findings that figures and sentences state follow from the numbers."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from records_made import Made

from cifar_bench import records
from cifar_bench.report import export, style, training
from cifar_bench.report.style import label_ends, picture, plain_log_ticks
from cifar_lib import ROOT
from cifar_lib.data import CLASSES

Trained = Callable[..., dict]


@pytest.fixture
def trained(made: Made) -> Trained:
    """`trained(accuracy)` is the real record as if its accuracy had risen by a point an epoch; an epoch takes half an hour."""

    def record(accuracy: float = 94.0, seed: int = 0, epochs: int = 2, pflop: float = 0.5, **parameters: object) -> dict:
        real = made.record("train/seed0")
        measured = {"accuracy": accuracy, "test_images": 10_000, "train_images": 50_000, "pflop": pflop,
                    "images_per_second": 200.0}
        rows = [{**real["measurements"]["epochs"][0], "epoch": number, "loss": 1 / number,
                 "accuracy": accuracy - epochs + number, "train_seconds": 1800.0} for number in range(1, epochs + 1)]
        parameters = {"width": 40, "seed": seed, "epochs": epochs, **parameters}
        assert set(measured) < set(real["measurements"]) and set(parameters) < set(real["parameters"])
        real["measurements"] |= {**measured, "epochs": rows}
        real["parameters"] |= parameters
        real["environment"] |= {"hardware": "a processor"}
        real["data"] |= {"dataset": "CIFAR-10"}
        return real | {"made": "2026-01-02T03:04:05+00:00"}

    return record


# ---- what all share


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_labels_beside_the_ends_of_lines_keep_their_order_and_stay_apart(scale: str) -> None:
    figure, axis = plt.subplots()
    for end in (9.99, 1.0, 10.0, 9.98, 1.001):
        axis.plot([1, 2], [5, end], label=f"to {end}")
    axis.plot([1, 2], [2, 2])
    axis.set_yscale(scale)
    label_ends(axis)
    heights = {label.get_text(): label.xyann[1] for label in axis.texts}
    plt.close(figure)
    assert sorted(heights, key=heights.get) == ["to 1.0", "to 1.001", "to 9.98", "to 9.99", "to 10.0"]
    assert min(np.diff(sorted(heights.values()))) > 0.04
    assert heights["to 1.0"] < 0.2 and max(heights.values()) <= 1


def test_a_long_title_is_not_cut() -> None:
    figure, _ = plt.subplots()
    picture(figure, "long", "long " * 30, "", "")
    figure.draw_without_rendering()
    [title] = figure.texts
    assert 0.8 * figure.bbox.x1 < title.get_window_extent().x1 < figure.bbox.x1


def test_a_title_is_drawn_in_the_file_and_text_on_the_page() -> None:
    drawn = picture(plt.figure(), "one", "A finding", "", "")
    assert '<g id="title">' in drawn.svg and "<!-- A finding -->" in drawn.svg
    shown = drawn._repr_html_()
    assert re.search(r'<g id="\w+title" display="none">', shown) and "<strong>A finding</strong>" in shown


# ---- training


def test_curves_show_the_last_epoch_not_the_best(trained: Trained) -> None:
    record = trained(94.0)
    record["measurements"]["epochs"][0]["accuracy"] = 99.0
    assert training.curves([record]).title == "Right on 94.00% of the test images after epoch 2"


def test_a_real_training_is_drawn_and_said_in_words(made: Made) -> None:
    record = made.record("train/seed0")
    measured, matrix = record["measurements"], np.array(record["measurements"]["confusion"])
    row = training.table([record], ["measured in this run"]).iloc[0]
    assert row["accuracy (%)"].startswith(f"{measured['accuracy']:.2f} (") and row["scored on"] == "100 test images"
    assert matrix.sum() == 100 and matrix.trace() == measured["accuracy"]
    for drawn in (training.curves([record]), training.seeds([record]), training.confusion(matrix, CLASSES),
                  training.class_accuracy(matrix, CLASSES)):
        assert drawn.alternative


def test_curves_of_a_training_under_way_leave_room_for_the_epochs_to_come(trained: Trained) -> None:
    record = trained(80.0, epochs=10)
    del record["measurements"]["epochs"][3:], record["measurements"]["accuracy"]
    picture = training.curves([record])
    assert "73.00% of the test images after epoch 3" in picture.title and "<!-- 10 -->" in picture.svg
    assert "after epoch 3 of 10" in picture.alternative


def test_curves_say_what_was_scored(trained: Trained) -> None:
    record = trained()
    record["measurements"]["scored_on"] = "held-out training images"
    assert "held-out training images" in training.curves([record]).alternative


def test_the_table_of_trainings_gives_time_and_interval_and_names_what_was_left_out(trained: Trained) -> None:
    plain, other = trained(), trained(widths=[2, 4], teachers=["shipped/0"])
    without = trained(94.0, without=["muon", "dirac"])
    for record, bfloat16 in (plain, False), (without, False), (other, True):
        record["measurements"]["bfloat16"] = bfloat16
    row = training.table([without], ["measured in this run"]).iloc[0]
    assert row["minutes"] == 60
    assert row["accuracy (%)"] == "94.00 (93.52 to 94.45)"  # Wilson's
    assert row["recipe"] == "fast without muon, dirac"
    assert row["evidence"] == "measured in this run, 2026-01-02"
    assert list(training.table([plain, other], ["recorded earlier"] * 2)["recipe"]) == [
        "fast", "fast; widths 2, 4; taught by shipped/0; in bfloat16"]


def test_seeds_are_compared_with_what_one_model_can_tell(trained: Trained) -> None:
    picture = training.seeds([trained(94.5, seed=1), trained(94.2, seed=0)])
    assert "2 seeds end 0.30 points apart; each is known to ±0.46" in picture.title
    assert picture.alternative.endswith("0 94.20% and 1 94.50%")
    assert "One seed ends at 94.20%" in training.seeds([trained(94.2)]).title


@pytest.mark.parametrize(
    ("part", "other"),
    [("data", {"dataset": "synthetic"}), ("measurements", {"test_images": 2000}), ("measurements", {"scored_on": "held-out"})],
)
def test_only_what_was_scored_on_the_test_images_is_set_against_the_originals_runs(
    trained: Trained, part: str, other: dict
) -> None:
    assert "<!-- the original's five runs -->" in training.seeds([trained()]).svg
    record = trained()
    record[part] |= other
    assert "the original's five runs" not in training.seeds([record]).svg


MATRIX = np.array([[8, 2, 0], [0, 10, 0], [3, 0, 2]])


def test_confusion_names_the_most_frequent_mistake() -> None:
    assert "Ship is taken for cat most often: 3 of 5" in training.confusion(MATRIX, ["cat", "dog", "ship"]).title


def test_confusion_without_mistakes_says_so() -> None:
    assert "No image is taken for one of another class" in training.confusion(10 * np.eye(3, dtype=int), ["a", "b", "c"]).title


def test_class_accuracy_names_the_hardest_class_and_leaves_out_those_without_images() -> None:
    picture = training.class_accuracy(MATRIX, ["cat", "dog", "ship"])
    assert "Ship has the lowest accuracy here, 40.0%" in picture.title
    assert picture.alternative == "Accuracy: ship 40.0%, cat 80.0% and dog 100.0%"
    empty = MATRIX * [[1], [1], [0]]
    assert training.class_accuracy(empty, ["cat", "dog", "ship"]).alternative == "Accuracy: cat 80.0% and dog 100.0%"


def test_mistakes_are_the_surest_first_and_only_mistakes() -> None:
    images, labels = np.zeros((4, 3, 32, 32), np.uint8), np.array([0, 1, 2, 3])
    logits = np.zeros((4, 10))
    logits[0, 0] = 9.0  # right, and surest of all
    logits[1, 5], logits[2, 6], logits[3, 7] = 1.0, 5.0, 3.0
    picture = training.mistakes(images, labels, logits, CLASSES, count=2)
    assert "3 of 4 are wrong" in picture.title
    assert picture.alternative == "Photos taken for another class: bird for frog, cat for horse."


def test_a_network_without_mistakes_has_none_to_show() -> None:
    images, labels = np.zeros((2, 3, 32, 32), np.uint8), np.array([0, 1])
    assert "0 of 2 are wrong" in training.mistakes(images, labels, np.eye(10)[:2], CLASSES).title


# ---- photos and rates


def test_photos_have_a_row_for_each_kind_and_a_name_over_each_column() -> None:
    photos = np.zeros((2, 3, 32, 32), np.uint8)
    drawn = training.photos({"as they are": photos, "augmented": photos}, ["cat", "dog"])
    assert drawn.alternative == "2 rows of 2 photos: cat, dog; rows are as they are, augmented."
    assert "<!-- cat -->" in drawn.svg and "<!-- dog -->" in drawn.svg


def test_the_schedule_says_where_the_rate_is_highest_and_how_it_ends() -> None:
    drawn = training.schedule([0.5, 1.0, 0.5, 0.1], epochs=2)
    assert drawn.title == "The learning rate is highest after 1.0 epochs and ends at 10.0% of that"
    assert drawn.numbers["share of the highest"].tolist() == [1.0, 0.1]


# ---- sentences


@pytest.mark.parametrize(
    ("error", "words"), [(0.0, "logits are identical."), (2.34e-7, "logits differ by at most 2e-07 of the largest (b).")]
)
def test_export_says_how_far_logits_differ(error: float, words: str) -> None:
    formats = {"a": {"relative_error": error / 2, "changed_predictions": 0, "images": 10_000},
               "b": {"relative_error": error, "changed_predictions": 1, "images": 1_000}}
    sentence = export.sentence({"formats": formats})
    assert sentence == f"Changed predictions: 0 of 10,000 in a and 1 of 1,000 in b; {words}"


def test_the_export_of_a_real_record_has_a_row_for_each_file(made: Made) -> None:
    measured = made.record("export")["measurements"]
    assert list(export.table(measured)["file"]) == ["model.pt", "model.pt2", "model.onnx"]
    assert export.sentence(measured).startswith("Changed predictions: 0 of 100 in model.pt, 0 of 100 in model.pt2 and 0 of 100")


HOURS = re.compile(r"full, ([\d.]+) PFLOP\), would take about ([\d.]+) hours")


def test_the_originals_protocol_is_timed_by_the_largest_training_on_the_same_hardware(trained: Trained) -> None:
    elsewhere = trained(pflop=5.0)
    elsewhere["environment"]["hardware"] = "a GPU"
    narrow = trained(pflop=3.0, widths=[2, 4, 8, 16])
    trainings = [trained(pflop=0.001), trained(pflop=1.0), trained(pflop=2.0, width=20), narrow, elsewhere]  # an hour each
    pflop, hours = map(float, HOURS.search(training.protocol_sentence(trainings, "a processor")).groups())
    assert pflop == hours == 5 * 150 / 2  # five trainings of 150 epochs in place of two epochs of a PFLOP
    assert training.protocol_sentence(trainings, "another") == ""


def test_the_originals_protocol_takes_as_many_operations_as_the_shipped_training_shows() -> None:
    shipped = records.read(ROOT / "results/shipped/train/seed0")
    pflop, _ = HOURS.search(training.protocol_sentence([shipped], shipped["environment"]["hardware"])).groups()
    assert float(pflop) == pytest.approx(5 * 6.7, abs=0.3)  # the original's training is 6.7 PFLOP


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(134, 5400, [200, 500, 1000, 2000, 5000]), (1400, 9000, [1500, 2000, 3000, 5000, 7000]),
     (0.2, 3.2, [0.2, 0.5, 1, 2]), (4310, 6900, [5000, 6000])],
)
def test_a_narrow_logarithmic_axis_has_more_ticks(low: float, high: float, ticks: list[float]) -> None:
    _, axis = plt.subplots()
    plain_log_ticks(axis, low, high)
    assert axis.xaxis.get_major_locator()() == pytest.approx(ticks)
    assert axis.xaxis.get_major_formatter()(1500) == "1,500" and axis.xaxis.get_major_formatter()(1.5) == "1.5"
    plt.close()


def test_axes_tell_where_they_lie_and_what_they_span() -> None:
    drawn, axis = plt.subplots(figsize=(8, 4), constrained_layout=True)
    axis.set(xscale="log", xlim=(10, 1000), xlabel="time (µs, logarithmic)", ylim=(-1, 3), ylabel="images (logarithmic)")
    point = [100.0, 2.0]
    place = picture(drawn, "figure", "A title", "", "", readable=[axis]).readable[0]
    across, up = drawn.transFigure.inverted().transform(axis.transData.transform(point))
    assert place["left"] + 0.5 * (place["right"] - place["left"]) == pytest.approx(across)  # half of two decades
    assert place["bottom"] - 0.75 * (place["bottom"] - place["top"]) == pytest.approx(1 - up)
    assert place["x"] == {"label": "time (µs)", "low": 10, "high": 1000, "logarithmic": True}
    assert place["y"] == {"label": "images", "low": -1, "high": 3, "logarithmic": False}


def test_a_figures_ids_are_few_and_do_not_depend_on_the_last_bits_of_positions() -> None:
    drawn = ('<use href="#m0123456789"/><g id="axes_1" clip-path="url(#pfedcba9876)"/><path id="m0123456789"/>'
             '<clipPath id="pfedcba9876"/><g id="title"/>')
    other = drawn.replace("fedcba9876", "0000000001").replace("0123456789", "00000000ab")
    assert style._renumbered(drawn) == style._renumbered(other) == (
        '<use href="#i0"/><g clip-path="url(#i1)"/><path id="i0"/><clipPath id="i1"/><g id="title"/>')


def test_a_figures_paths_are_short_and_the_same() -> None:
    drawn = ('<g transform="scale(0.123456)">\n   <path d="M 0 529.2004 \nL 57.598 12.00049 \nQ 1 2 3 4 \nz\n" style="a"/>\n'
             '   <use xlink:href="#i1" transform="translate(1882.27 0)"/>\n  </g>')
    assert style._short(drawn) == (
        '<g transform="scale(0.123456)">\n<path d="M0 529.2L57.6 12Q1 2 3 4z\n" style="a"/>\n'
        '<use xlink:href="#i1" x="1882"/>\n</g>')


def test_a_figure_is_without_groups_and_styles_that_change_nothing() -> None:
    drawn = '<g>\n<g clip-path="url(#i0)">\n<g>\n<path/>\n</g>\n</g>\n<g id="title">\n<g/>\n</g>\n</g>\n'
    assert style._without_repetition(drawn) == '<g clip-path="url(#i0)">\n<path/>\n</g>\n<g id="title">\n<g/>\n</g>\n'
    tick, use = '<path id="i1" d="M0 0" style="a"/>', '<use xlink:href="#i1" x="1" style="{}"/>'
    assert style._without_repetition(tick + use.format("a") + use.format("b")) == (
        tick + '<use xlink:href="#i1" x="1"/>' + use.format("b"))


# ---- a user's own options

DRAWN = """
import matplotlib.pyplot as plt
from cifar_bench.report import style
with plt.rc_context(style.STYLE):
    figure, axis = plt.subplots()
    axis.plot([1, 2, 3])
    print(style.picture(figure, "a_name", "A title", "", "").svg)
"""


def test_nothing_of_a_users_settings_of_matplotlib_is_seen_in_a_figure(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nxtick.labelsize: 25\naxes.facecolor: red\nlines.linewidth: 9\n")
    drawn = [subprocess.run([sys.executable, "-c", DRAWN], capture_output=True, encoding="utf-8", check=True,
                            env={**os.environ, "PYTHONPATH": str(ROOT), **options}).stdout
             for options in ({}, {"MATPLOTLIBRC": str(tmp_path), "MPLBACKEND": "TkAgg"})]
    assert drawn[0] == drawn[1] and "<svg" in drawn[0]

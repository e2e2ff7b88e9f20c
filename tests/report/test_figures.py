"""The findings that figures and sentences state follow from the numbers."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text
from records_made import Made

from cifar_bench.analysis.evidence import THIS_RUN, Evidence
from cifar_bench.report import export, training
from cifar_bench.report.style import STYLE, engine_color, label_ends, picture, set_range
from cifar_bench.report.words import speedup, times_faster
from cifar_lib import ROOT
from cifar_lib.data import CLASSES

Trained = Callable[..., dict]


@pytest.fixture
def trained(made: Made) -> Trained:
    """`trained(accuracy)` is the real record as if its accuracy had risen by a point an epoch, in half an hour each."""

    def record(accuracy: float = 94.0, seed: int = 0, epochs: int = 2, **parameters: object) -> dict:
        real = made.record("train/seed0")
        rows = [{**real["measurements"]["epochs"][0], "epoch": number, "accuracy": accuracy - epochs + number,
                 "train_seconds": 1800.0} for number in range(1, epochs + 1)]
        parameters = {"seed": seed, "epochs": epochs, **parameters}
        assert set(parameters) < set(real["parameters"])
        real["measurements"] |= {"accuracy": accuracy, "test_images": 10_000, "epochs": rows}
        real["parameters"] |= parameters
        real["data"]["dataset"] = "CIFAR-10"
        return real

    return record


# ---- what all share


def test_a_long_title_is_not_cut() -> None:
    figure, _ = plt.subplots()
    picture(figure, "long", "long " * 30, "")
    figure.draw_without_rendering()
    [title] = figure.texts
    extent = title.get_window_extent()
    assert 0.8 * figure.bbox.x1 < extent.x1 < figure.bbox.x1 and extent.y1 < figure.bbox.y1
    assert figure.get_figheight() > 4.8 + 3 * 11 / 72  # its lines take no room from what is drawn


def test_a_title_is_drawn_in_the_file_and_is_text_on_the_page() -> None:
    with plt.rc_context(STYLE):
        drawn = picture(plt.figure(figsize=(5, 3)), "one", "A finding", "")
    assert '<g id="title">' in drawn.svg and ">A finding</text>" in drawn.svg and 'viewBox="0 0 360 ' in drawn.svg
    shown = drawn._repr_html_()
    assert '<g display="none">' in shown and "<strong>A finding</strong>" in shown
    assert f'viewBox="0 {drawn.band:g} 360 216"' in shown  # 5 by 3 inches, without the title


@pytest.mark.parametrize(("low", "high"), [(134, 5400), (1400, 9000), (0.2, 3.2), (4310, 6900), (94, 95)])
def test_an_axis_is_logarithmic_from_a_factor_of_ten_on_and_has_ticks_that_differ_as_written(low: float, high: float) -> None:
    _, axis = plt.subplots()
    assert set_range(axis.xaxis, low, high) == (", logarithmic" if high / low >= 10 else "")
    assert axis.get_xlim() == (low, high) and (axis.get_xscale() == "log") == (high / low >= 10)
    shown = [tick for tick in axis.xaxis.get_major_locator()() if low <= tick <= high]
    written = [axis.xaxis.get_major_formatter()(tick) for tick in shown]
    assert len(shown) > 1 and [float(text.replace(",", "")) for text in written] == pytest.approx(shown)
    plt.close()


def test_labels_of_lines_that_end_together_do_not_overlap() -> None:
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots()
        axis.plot([[1, 1, 1, 0], [3, 3, 3, 0]])
        label_ends(axis, [(1, y, f"line {number}", "black") for number, y in enumerate((3, 3, 3, 0))])
        figure.draw_without_rendering()
        extents = sorted((Text.get_window_extent(label) for label in axis.texts), key=lambda extent: extent.y0)
    assert all(upper.y0 >= lower.y1 for lower, upper in pairwise(extents))
    assert all(extent.x0 > axis.bbox.x1 and extent.x1 < figure.bbox.x1 for extent in extents)


def test_the_engines_of_a_runtime_share_a_color() -> None:
    runtimes = [("eager", "torchscript-cpp", "aotinductor"), ("openvino", "openvino-cpp"), ("onednn-cpp",), ("onnxruntime",)]
    colors = [{engine_color(engine) for engine in engines} for engines in runtimes]
    assert all(len(of) == 1 for of in colors) and len(set.union(*colors)) == len(runtimes)


def test_a_ratio_of_latencies_is_a_speedup() -> None:
    assert (times_faster(0.25), times_faster(1.5)) == ("4.00× faster", "1.50× slower")
    assert speedup(0.5, (0.4, 0.8)).replace("\N{NO-BREAK SPACE}", " ") == "2.00 (1.25 to 2.50)"


DRAWN = """
import matplotlib.pyplot as plt
from cifar_bench.report import style
with plt.rc_context(style.STYLE):
    figure, axis = plt.subplots()
    axis.plot([1, 2, 3])
    print(style.picture(figure, "a_name", "A title", "").svg)
"""


def test_a_figure_is_the_same_whatever_a_users_options_of_matplotlib(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nxtick.labelsize: 25\naxes.facecolor: red\nlines.linewidth: 9\n")
    drawn = [subprocess.run([sys.executable, "-c", DRAWN], capture_output=True, encoding="utf-8", check=True,
                            env={**os.environ, "PYTHONPATH": str(ROOT), **options}).stdout
             for options in ({}, {"MATPLOTLIBRC": str(tmp_path), "MPLBACKEND": "TkAgg"})]
    assert drawn[0] == drawn[1] and "<svg" in drawn[0]


# ---- training runs


def test_curves_show_the_last_epoch_not_the_best(trained: Trained) -> None:
    record = trained(94.0)
    record["measurements"]["epochs"][0]["accuracy"] = 99.0
    assert "94.00% on the test images after epoch 2" in training.curves([record]).title


def test_curves_of_a_training_run_under_way_leave_room_for_the_epochs_to_come(trained: Trained) -> None:
    record = trained(80.0, epochs=10)
    del record["measurements"]["epochs"][3:], record["measurements"]["accuracy"]
    picture = training.curves([record])
    assert "73.00%" in picture.title and "epoch 3 of 10" in picture.title and ">10</text>" in picture.svg


def test_the_table_gives_time_and_interval_and_says_how_a_network_was_trained(trained: Trained) -> None:
    plain, without = trained(), trained(without=["muon", "dirac"])
    distilled = trained(widths=[2, 4, 8, 16], teachers=["shipped/0"])
    distilled["measurements"]["bfloat16"] = True
    table = training.table([Evidence("", THIS_RUN, record) for record in (plain, without, distilled)])
    assert table["minutes"][0] == 60 and table["evidence"][0].startswith(THIS_RUN)
    assert table["accuracy (%)"][0] == "94.00 (93.52 to 94.45)"  # Wilson's
    assert list(table["recipe"]) == ["fast", "fast without muon, dirac",
                                     "fast; widths 2, 4, 8, 16; distilled from shipped/0; in bfloat16"]


def test_the_spread_of_the_seeds_stands_beside_the_sampling_error_of_one(trained: Trained) -> None:
    drawn = training.seeds([trained(94.5, seed=1), trained(94.2, seed=0)])
    assert "spread of 0.30 points" in drawn.title and "about ±0.46" in drawn.title
    assert list(drawn.numbers["seed"]) == ["seed 0", "seed 1"] and drawn.numbers["accuracy (%)"][0].startswith("94.20 (")
    assert "94.20%" in training.seeds([trained(94.2)]).title


def test_the_number_of_threads_does_not_tell_seeds_apart(trained: Trained, tmp_path: Path) -> None:
    for record in (first := trained(seed=0), trained(seed=1, threads=4), trained(seed=2, batch_size=9)):
        folder = tmp_path / "seed{seed}".format(**record["parameters"])
        folder.mkdir()
        del record["digest"]
        (folder / "record.json").write_text(json.dumps(record | {"step": f"train/{folder.name}"}))
    assert [record["parameters"]["seed"] for record in training.siblings(tmp_path, first)] == [0, 1]


@pytest.mark.parametrize(
    ("part", "other"),
    [("data", {"dataset": "synthetic"}), ("measurements", {"test_images": 2000}), ("measurements", {"scored_on": "held-out"})],
)
def test_only_accuracies_on_the_test_images_are_compared_with_the_originals(trained: Trained, part: str, other: dict) -> None:
    assert "the original's five runs" in training.seeds([trained()]).svg
    record = trained()
    record[part] |= other
    assert "the original's five runs" not in training.seeds([record]).svg


# ---- mistakes


def test_mistakes_are_only_mistakes_the_most_confident_first() -> None:
    images, labels = np.zeros((4, 3, 32, 32), np.uint8), np.array([0, 1, 2, 3])
    logits = np.zeros((4, 10))
    logits[0, 0] = 9.0  # correct, and the most confident of all
    logits[1, 5], logits[2, 6], logits[3, 7] = 1.0, 5.0, 3.0
    drawn = training.mistakes(images, labels, logits, CLASSES, count=2)
    assert "3 of 4" in drawn.title
    assert list(drawn.numbers["true class"]) == ["bird", "cat"] and list(drawn.numbers["predicted class"]) == ["frog", "horse"]
    assert "0 of 2" in training.mistakes(images[:2], labels[:2], np.eye(10)[:2], CLASSES).title


def test_example_images_have_a_row_for_each_kind_and_a_name_over_each_column() -> None:
    images = np.zeros((2, 3, 32, 32), np.uint8)
    drawn = training.example_images({"original": images, "augmented": images}, ["cat", "dog"])
    assert drawn.caption == "From top to bottom: original, augmented."
    assert ">cat</text>" in drawn.svg and ">dog</text>" in drawn.svg


# ---- export


@pytest.mark.parametrize(("error", "words"), [(0.0, "are identical."), (2.34e-7, "at most 2.34e-07 of the largest logit (b).")])
def test_export_says_how_far_logits_differ(error: float, words: str) -> None:
    formats = {"a": {"relative_error": error / 2, "changed_predictions": 0, "images": 10_000},
               "b": {"relative_error": error, "changed_predictions": 1, "images": 1_000}}
    sentence = export.sentence({"formats": formats})
    assert sentence.startswith("Changed predictions: 0 of 10,000 in a and 1 of 1,000 in b") and sentence.endswith(words)

"""The findings that figures and sentences state follow from the numbers."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from cifar_lib import figures
from cifar_lib.data import CLASSES
from cifar_lib.figures.style import label_ends, picture, plain_log_ticks


def training(accuracy: float = 94.0, seed: int = 0, epochs: int = 2, pflop: float = 0.5, **parameters: object) -> dict:
    """A record of a training whose accuracy rises by a point an epoch to `accuracy`; an epoch takes half an hour."""
    rows = [{"epoch": number, "loss": 1 / number, "accuracy": accuracy - epochs + number, "train_seconds": 1800.0}
            for number in range(1, epochs + 1)]
    return {
        "made": "2026-01-02T03:04:05+00:00", "environment": {"hardware": "a processor"}, "data": {"dataset": "CIFAR-10"},
        "parameters": {"recipe": "fast", "seed": seed, "epochs": epochs} | parameters,
        "measurements": {"accuracy": accuracy, "test_images": 10_000, "train_images": 50_000, "pflop": pflop,
                         "images_per_second": 200.0, "epochs": rows},
    }


def ablation(accuracies: dict[str, tuple[float, ...]]) -> dict:
    """A record of an ablation: the accuracies of seeds 0, 1, … without each part; "" is the whole recipe."""
    rows = [
        {"recipe": "seed" if part == "original" else "fast", "without": [part] if part not in ("", "original") else [],
         "seed": seed, "accuracy": accuracy, "images_per_second": 150.0 if part == "averaging" else 200.0}
        for part, values in accuracies.items() for seed, accuracy in enumerate(values)
    ]
    return {"parameters": {"seeds": 2, "epochs": 2, "train_images": 2000, "width": 20, "held_out": 1000},
            "measurements": {"trainings": rows}}


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
    assert '<g id="one-title" display="none">' in shown and "<strong>A finding</strong>" in shown


# ---- training


def test_curves_show_the_last_epoch_not_the_best() -> None:
    record = training(94.0)
    record["measurements"]["epochs"][0]["accuracy"] = 99.0
    assert figures.training_curves([record]).title == "Right on 94.00% of the test images after epoch 2"


def test_curves_of_a_training_under_way_leave_room_for_the_epochs_to_come() -> None:
    record = training(80.0, epochs=10)
    del record["measurements"]["epochs"][3:], record["measurements"]["accuracy"]
    picture = figures.training_curves([record])
    assert "73.00% of the test images after epoch 3" in picture.title and "<!-- 10 -->" in picture.svg
    assert "after epoch 3 of 10" in picture.alternative


def test_curves_say_what_was_scored() -> None:
    record = training()
    record["measurements"]["scored_on"] = "held-out training images"
    assert "held-out training images" in figures.training_curves([record]).alternative


def test_the_table_of_trainings_gives_time_and_interval_and_names_what_was_left_out() -> None:
    row = figures.training_table([training(94.0, without=["muon", "dirac"])], ["measured in this run"]).iloc[0]
    assert row["minutes"] == 60
    assert row["accuracy (%)"] == "94.00 (93.52 to 94.45)"  # Wilson's
    assert row["recipe"] == "fast without muon, dirac"
    assert row["evidence"] == "measured in this run, 2026-01-02"
    assert figures.training_table([training()], ["recorded earlier"]).iloc[0]["recipe"] == "fast"


def test_seeds_are_compared_with_what_one_model_can_tell() -> None:
    picture = figures.seeds([training(94.5, seed=1), training(94.2, seed=0)])
    assert "2 seeds end 0.30 points apart; each is known to ±0.46" in picture.title
    assert picture.alternative.endswith("0 94.20% and 1 94.50%")
    assert "One seed ends at 94.20%" in figures.seeds([training(94.2)]).title


@pytest.mark.parametrize(
    ("part", "other"),
    [("data", {"dataset": "stand-in"}), ("measurements", {"test_images": 2000}), ("measurements", {"scored_on": "held-out"})],
)
def test_only_what_was_scored_on_the_test_images_is_set_against_the_originals_runs(part: str, other: dict) -> None:
    assert "<!-- the original's five runs -->" in figures.seeds([training()]).svg
    record = training()
    record[part] |= other
    assert "the original's five runs" not in figures.seeds([record]).svg


MATRIX = np.array([[8, 2, 0], [0, 10, 0], [3, 0, 2]])


def test_confusion_names_the_most_frequent_mistake() -> None:
    assert "Ship is taken for cat most often: 3 of 5" in figures.confusion(MATRIX, ["cat", "dog", "ship"]).title


def test_confusion_without_mistakes_says_so() -> None:
    assert "No image is taken for one of another class" in figures.confusion(10 * np.eye(3, dtype=int), ["a", "b", "c"]).title


def test_class_accuracy_names_the_hardest_class_and_leaves_out_those_without_images() -> None:
    picture = figures.class_accuracy(MATRIX, ["cat", "dog", "ship"])
    assert "Ship has the lowest accuracy here, 40.0%" in picture.title
    assert picture.alternative == "Accuracy: ship 40.0%, cat 80.0% and dog 100.0%"
    empty = MATRIX * [[1], [1], [0]]
    assert figures.class_accuracy(empty, ["cat", "dog", "ship"]).alternative == "Accuracy: cat 80.0% and dog 100.0%"


def test_mistakes_are_the_surest_first_and_only_mistakes() -> None:
    images, labels = torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, 1, 2, 3])
    logits = torch.zeros(4, 10)
    logits[0, 0] = 9.0  # right, and surest of all
    logits[1, 5], logits[2, 6], logits[3, 7] = 1.0, 5.0, 3.0
    picture = figures.mistakes(images, labels, logits, CLASSES, count=2)
    assert "3 of 4 are wrong" in picture.title
    assert picture.alternative == "Photos taken for another class: bird for frog, cat for horse."


def test_a_network_without_mistakes_has_none_to_show() -> None:
    images, labels = torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, 1])
    assert "0 of 2 are wrong" in figures.mistakes(images, labels, torch.eye(10)[:2], CLASSES).title


# ---- what each part brings

ABLATION = {"": (80.0, 82.0), "dirac": (79.5, 82.5), "muon": (70.0, 73.0), "averaging": (80.5, 82.0),
            "original": (60.0, 60.0)}


def test_changes_are_taken_within_a_seed_and_the_most_missed_part_comes_first() -> None:
    table = figures.ablation_table(ablation(ABLATION)).set_index("trained with")
    assert list(table.index) == ["the fast recipe", "the original's recipe", "without muon", "without dirac",
                                 "without averaging"]
    assert list(table.loc["without muon"]) == ["71.50", 200, "-9.50", "-10.00", "-9.00"]
    assert list(table.loc["without dirac"]) == ["81.00", 200, "+0.00", "-0.50", "+0.50"]
    assert list(table.loc["without averaging"]) == ["81.25", 150, "+0.25", "+0.50", "+0.00"]


def test_the_picture_of_an_ablation_names_the_most_missed_part_and_how_it_was_measured() -> None:
    picture = figures.ablation(ablation(ABLATION))
    assert "Trained without muon, accuracy changes by -9.5 points" in picture.title
    assert "2 trainings each, of 2 epochs on 2,000 images" in picture.caption


def test_the_picture_of_an_ablation_names_no_part_where_luck_explains_the_differences() -> None:
    noisy = ABLATION | {"muon": (79.0, 83.0)}
    assert "No part stands out" in figures.ablation(ablation(noisy)).title
    single = {part: values[:1] for part, values in ABLATION.items()}
    assert "One seed does not tell" in figures.ablation(ablation(single)).title


# ---- sentences


@pytest.mark.parametrize(
    ("error", "words"), [(0.0, "logits are identical."), (2.34e-7, "logits differ by at most 2e-07 of the largest (b).")]
)
def test_export_says_how_far_logits_differ(error: float, words: str) -> None:
    formats = {"a": {"relative_error": error / 2, "changed_predictions": 0, "images": 10_000},
               "b": {"relative_error": error, "changed_predictions": 1, "images": 1_000}}
    sentence = figures.export_sentence({"formats": formats})
    assert sentence == f"Changed predictions: 0 of 10,000 in a and 1 of 1,000 in b; {words}"


def test_the_originals_protocol_is_timed_by_the_largest_training_on_the_same_hardware() -> None:
    elsewhere = training(pflop=5.0)
    elsewhere["environment"]["hardware"] = "a GPU"
    trainings = [training(pflop=0.001), training(pflop=1.0), elsewhere]  # an hour for a PFLOP
    found = re.search(r"\((.*) trainings|full, ([\d.]+) PFLOP\), takes about ([\d.]+) hours", figures.protocol_sentence(
        trainings, "a processor"))
    assert float(found[2]) == float(found[3]) == pytest.approx(5 * 6.7, abs=0.3)  # the original's training is 6.7 PFLOP
    assert figures.protocol_sentence(trainings, "another") == ""


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
    told = picture(drawn, "figure", "A title", "", "", readable=[axis]).readable[0]
    across, up = drawn.transFigure.inverted().transform(axis.transData.transform(point))
    assert told["left"] + 0.5 * (told["right"] - told["left"]) == pytest.approx(across)  # half of two decades
    assert told["bottom"] - 0.75 * (told["bottom"] - told["top"]) == pytest.approx(1 - up)
    assert told["x"] == {"label": "time (µs)", "low": 10, "high": 1000, "logarithmic": True}
    assert told["y"] == {"label": "images", "low": -1, "high": 3, "logarithmic": False}

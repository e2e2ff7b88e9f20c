"""What the page says of half precision follows from the record's numbers."""

import numpy as np
import pytest

from cifar_lib import figures, precision
from cifar_lib.data import CLASSES

SIZES = [1, 2, 4, 8]


def row(engine: str, kind: str, mean_us: float, support: str = "native", **changes: object) -> dict:
    means = 1e3 * mean_us * np.array([0.999, 1.0, 1.001])
    told = {"test_accuracy": 94.0, "changed_predictions": 3, "changed_to_right": 1, "changed_to_wrong": 2,
            "largest_logit_change": 0.1, "mean_logit_change": 0.01, "calibration_error": 0.05, "threads": 2}
    return {"engine": engine, "precision": kind, "support": support,
            "runs": [{"mean_ns": mean, "p50_ns": mean} for mean in means], **told, **changes}


def in_batches(engine: str, kind: str, each_us: list[float]) -> dict:
    ns = 1e3 * np.array(each_us) * SIZES
    runs = [(share * ns).tolist() for share in (0.99, 1, 1.01)]
    return {"engine": engine, "precision": kind, "batches": SIZES, "batch_ns": runs}


def record(half_us: float, half_each_us: list[float]) -> dict:
    rows = [row("torchscript", "float32", 1000), row("torchscript", "float16", half_us),
            row("onnxruntime", "float32", 800), row("onnxruntime", "int8", 300),
            {"engine": "openvino", "precision": "float16", "reason": "it does not.", "support": "emulated"}]
    precision.compare(rows)
    batches = [in_batches("torchscript", "float32", [1000, 800, 500, 480]), in_batches("torchscript", "float16", half_each_us)]
    points = [{"layer": "one", "batch": batch, "flop": batch * 1e8, "bytes": 4 * (1000 + batch * 50), "weights": 1000,
               "seconds": [1e-3 * batch] * 5} for batch in (1, 8)]
    roofs = {"precision": "float32", "number_bytes": 4, "flop_per_s": 4e11, "points": points,
             "copies": [{"bytes": 16384, "bytes_per_s": 5e10}, {"bytes": 2**28, "bytes_per_s": 1e10}]}
    return {"environment": {"hardware": "a processor"}, "measurements": {
        "test_images": 1000, "precisions": rows, "batches": batches, "rooflines": [roofs]}}


SLOWER, LATER = record(2000, [2000, 1500, 1000, 900]), record(1100, [1100, 700, 300, 200])
FASTER = record(500, [500, 400, 300, 200])


def test_ratios_are_to_the_same_engines_float32() -> None:
    ratios = {precision.name(one): one["ratio"] for one in precision.ran(SLOWER) if "ratio" in one}
    assert ratios == pytest.approx({"torchscript, float16": 2, "onnxruntime, int8": 0.375}, rel=1e-3)


@pytest.mark.parametrize(("measured", "batch"), [(SLOWER, None), (LATER, 2), (FASTER, 1)])
def test_the_break_even_is_where_it_is_faster_from_there_on(measured: dict, batch: int | None) -> None:
    assert precision.break_even(measured, "torchscript", "float16") == batch


def test_a_precision_that_is_faster_in_small_batches_only_never_breaks_even() -> None:
    early = record(500, [500, 400, 300, 600])
    assert precision.break_even(early, "torchscript", "float16") is None


def test_a_precision_that_was_not_measured_in_batches_never_breaks_even() -> None:
    assert precision.break_even(SLOWER, "openvino", "float16") is None


def test_a_machine_is_busy_where_more_at_once_hardly_helps() -> None:
    assert precision.busy_from(in_batches("torchscript", "float32", [1000, 800, 500, 480])) == 4


def test_the_share_of_the_ceiling_is_operations_over_time_over_rate() -> None:
    assert precision.share_of_ceiling(SLOWER, "torchscript", "float32", 1) == pytest.approx(1e8 / 1e-3 / 4e11)
    assert precision.share_of_ceiling(SLOWER, "torchscript", "float16", 1) is None  # no ceiling was measured


def test_the_gpus_share_is_its_own_time_over_the_images() -> None:
    profiled = record(2000, [2000, 1500, 1000, 900])
    profiled["measurements"]["precisions"][0]["gpu_ns"] = 250e3
    assert precision.gpu_share(profiled, "torchscript", "float32") == pytest.approx(0.25)
    assert precision.gpu_share(profiled, "torchscript", "float16") is None
    assert "The GPU computes or copies for 25% of an image's time" in figures.precision_sentence(profiled)
    assert "GPU" not in figures.precision_sentence(SLOWER)


def test_the_networks_points_move_its_weights_once_a_batch() -> None:
    points = precision.network_points(SLOWER, SLOWER["measurements"]["rooflines"][0])
    assert [(engine, batch) for engine, batch, _, _ in points] == [("torchscript", size) for size in SIZES]
    assert points[0][2:] == pytest.approx((1e8 / (4 * 1050), 1e8 / 1e-3))
    assert points[3][2:] == pytest.approx((8e8 / (4 * 1400), 1e8 / 480e-6))


def test_the_network_in_eight_bits_moves_a_quarter_of_the_bytes() -> None:
    measured = record(2000, [2000, 1500, 1000, 900])
    measured["measurements"]["batches"].append(in_batches("onnxruntime", "int8", [100, 100, 100, 100]))
    roofs = measured["measurements"]["rooflines"]
    roofs.append({"precision": "int8", "number_bytes": 1, "flop_per_s": 1e12, "points": [], "copies": roofs[0]["copies"]})
    points = precision.network_points(measured, roofs[1])
    assert points[0] == ("onnxruntime", 1, pytest.approx(1e8 / 1050), pytest.approx(1e8 / 100e-6))
    assert "in int8 the roof is 1,000 billion" in figures.roofline(measured).alternative


def test_what_is_faster_than_the_roof_is_named() -> None:
    (roofs,) = SLOWER["measurements"]["rooflines"]
    assert precision.beyond_the_roof(roofs) == []
    too_fast = {**roofs["points"][0], "seconds": [1e-4] * 5}
    assert precision.beyond_the_roof({**roofs, "points": [too_fast]}) == [("one", 1, pytest.approx(2.5))]
    noisy = {**too_fast, "seconds": [1e-4, 1e-3, 1e-4, 1e-3, 1e-4]}
    assert precision.beyond_the_roof({**roofs, "points": [noisy]}) == []


def test_a_row_without_its_engines_float32_is_scored_and_not_compared() -> None:
    found = precision.predictions(5 * np.eye(10)[[0, 1]], None, labels=np.array([0, 2]))
    assert set(found) == {"test_accuracy", "calibration_error"} and found["test_accuracy"] == 50
    alone = record(2000, [2000, 1500, 1000, 900])
    rows = [{key: value for key, value in row("openvino", "float16", 500).items() if "change" not in key},
            {"engine": "openvino", "precision": "float32", "reason": "it does not."}]
    precision.compare(rows)
    alone["measurements"].update(precisions=rows, batches=[])
    assert figures.precision_table(alone)["× float32"].tolist() == [None]
    assert figures.precision_sentence(alone) == "Half precision was not measured."
    for figure in (figures.half_precision, figures.accuracy_and_latency, figures.roofline):
        assert figure(alone).alternative


def test_changed_predictions_are_counted_by_what_they_change() -> None:
    exact, other = 5 * np.eye(10)[[0, 1, 2, 3]], 5 * np.eye(10)[[0, 5, 6, 7]]
    found = precision.predictions(other, exact, labels=np.array([0, 1, 6, 9]))
    assert found["test_accuracy"] == 50
    assert (found["changed_predictions"], found["changed_to_right"], found["changed_to_wrong"]) == (3, 1, 1)
    assert found["largest_logit_change"] == 5 and found["mean_logit_change"] == pytest.approx(5 * 6 / 40)


# ---- what the page says


@pytest.mark.parametrize(
    ("measured", "words"),
    [(SLOWER, ("No: ", "float16 takes at best 2.00", "25% of the best rate", "float16 does not pay for good up to batch 8")),
     (LATER, ("No: ", "1.10", "float16 pays from batch 2 on")),
     (FASTER, ("Yes: ", "float16 takes 0.50", "from batch 1 on"))],
)
def test_the_answer_follows_from_the_numbers(measured: dict, words: tuple[str, ...]) -> None:
    sentence = figures.precision_sentence(measured)
    assert [word for word in words if word not in sentence] == [], sentence


def test_the_table_has_a_row_for_what_ran_and_a_sentence_for_what_did_not() -> None:
    table = figures.precision_table(SLOWER)
    assert len(table) == 4
    assert figures.precision_reasons(SLOWER) == ["openvino, float16: it does not."]


@pytest.mark.parametrize(
    ("figure", "words"),
    [(figures.half_precision, "onnxruntime, int8 300 µs"),
     (figures.accuracy_and_latency, "onnxruntime, int8 300 µs and 94.00%"),
     (figures.batches, "torchscript, float32 takes 1,000 µs for one image and 480 µs an image at best"),
     (figures.roofline, "roof is 400 billion operations a second. One image at a time, torchscript reaches 25%")],
)
def test_a_figure_says_its_numbers(figure: object, words: str) -> None:
    picture = figure(SLOWER)
    assert picture.svg.startswith("<svg") or "<svg" in picture.svg
    assert words in picture.alternative


def test_changed_predictions_are_shown_with_what_they_were_and_are() -> None:
    labels, photos = np.array([0, 1, 2, 3]), np.zeros((1, 3, 32, 32), np.uint8)
    exact, other = np.eye(10)[[0, 1, 2, 3]], np.eye(10)[[0, 1, 5, 3]]
    changed = precision.changed("eager", {"float32": exact, "float16": other, "int8": exact}, labels)
    assert changed == {"engine": "eager", "predictions": 8, "changed": 1, "shown": [
        {"image": 2, "precision": "float16", "before": 2, "after": 5, "label": 2}]}
    assert figures.changed_predictions(changed, photos, CLASSES).alternative == (
        "1 of 8 predictions change with the precision of eager: bird to dog with float16.")


def test_nothing_is_shown_where_nothing_changes() -> None:
    assert precision.changed("eager", {"float32": np.eye(10), "float16": 2 * np.eye(10)}, np.arange(10)) is None
    assert precision.changed("eager", {"float32": np.eye(10)}, np.arange(10)) is None
    assert precision.changed("eager", {"int8": np.eye(10), "float16": np.eye(10)}, np.arange(10)) is None


def test_of_many_changed_predictions_some_of_all_are_shown() -> None:
    exact = np.tile(np.eye(10)[0], (95, 1))
    shown = precision.changed("eager", {"float32": exact, "int8": exact[:, ::-1]}, np.zeros(95, int))["shown"]
    assert [one["image"] for one in shown] == list(range(0, 95, 10))

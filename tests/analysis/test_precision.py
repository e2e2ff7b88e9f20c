"""What the page says of half precision follows from the record's numbers."""

from collections.abc import Callable

import numpy as np
import pytest
from records_made import Made, row_named

from cifar_bench.analysis import precision, statistics
from cifar_bench.report import precision as report
from cifar_bench.report import style
from cifar_bench.timing import numerics
from cifar_lib.data import CLASSES

SIZES = [1, 2, 4, 8]
SLOWER, LATER = (2000, [2000, 1500, 1000, 900]), (1100, [1100, 700, 300, 200])  # float16 one at a time, and in batches (µs)
FASTER = (500, [500, 400, 300, 200])
Record = Callable[..., dict]


def row(template: dict, engine: str, kind: str, mean_us: float, support: str = "native", **changes: object) -> dict:
    """The template's row as if it were this engine in this precision, with three runs 0.1% apart."""
    predicted = {"test_accuracy": 94.0, "changed_predictions": 3, "changed_to_correct": 1, "changed_to_incorrect": 2,
                 "max_logit_change": 0.1, "mean_logit_change": 0.01, "calibration_error": 0.05, "threads": 2}
    assert set(predicted) < set(template) and len(template["runs"]) == 3
    runs = [{**run, "mean_ns": 1e3 * mean_us * share, "p50_ns": 1e3 * mean_us * share}
            for run, share in zip(template["runs"], (0.999, 1.0, 1.001))]
    return {**template, "engine": engine, "precision": kind, "support": support, "runs": runs, **predicted, **changes}


def batch_row(template: dict, engine: str, kind: str, each_us: list[float]) -> dict:
    """The template's row of batches as if an image had taken so long in each of SIZES."""
    ns = 1e3 * np.array(each_us) * SIZES
    return {**template, "engine": engine, "precision": kind, "batch_sizes": SIZES,
            "batch_ns": [(share * ns).tolist() for share in (0.99, 1, 1.01)], "batch_threads": [[2] * len(SIZES)] * 3,
            "round": [0, 1, 2], "contended": [False] * 3}


def roof_of(template: dict, **changes: object) -> dict:
    """The template's roofline with a rate and two copies of known speed, and one layer."""
    points = [{**template["points"][0], "layer": "linear", "batch": batch, "flop": batch * 1e8,
               "bytes": 4 * (1000 + batch * 50), "weights": 1000, "seconds": [1e-3 * batch] * 5} for batch in (1, 8)]
    assert set(points[0]) == set(template["points"][0])
    copies = [{"bytes": 16384, "bytes_per_s": 5e10}, {"bytes": 2**28, "bytes_per_s": 1e10}]
    assert set(copies[0]) == set(template["copies"][0])
    return {**template, "peak_flop_per_s": 4e11, "points": points, "copies": copies, **changes}


@pytest.fixture
def half(made: Made) -> Record:
    """`half(half_us, half_each_us)` is the real record with known times: of TorchScript in float16 these, of a photo and in
    batches."""

    def record(half_us: float, half_each_us: list[float]) -> dict:
        real = made.record("half_precision")
        measured = real["measurements"]
        template = row_named(measured["precisions"], engine="torchscript", precision="float32")
        batch_template = row_named(measured["batches"], engine="torchscript", precision="float32")
        (roof,) = (roof for roof in measured["rooflines"] if roof["precision"] == "float32")
        failed = next(row for row in measured["precisions"] if "reason" in row) | {
            "engine": "openvino", "precision": "float16", "reason": "it does not.", "support": "emulated"}
        measured |= {
            "test_images": 1000,
            "precisions": [row(template, "torchscript", "float32", 1000), row(template, "torchscript", "float16", half_us),
                           row(template, "onnxruntime", "float32", 800), row(template, "onnxruntime", "int8", 300), failed],
            "batches": [batch_row(batch_template, "torchscript", "float32", [1000, 800, 500, 480]),
                        batch_row(batch_template, "torchscript", "float16", half_each_us)],
            "rooflines": [roof_of(roof)],
        }
        return real

    return record


# ---- numbers


def test_a_real_record_is_compared_and_said_in_words(made: Made) -> None:
    record = made.record("half_precision")
    ran = precision.ran(record)
    assert [precision.name(row) for row in ran] == ["torchscript, float32", "torchscript, float16", "onnxruntime, float32",
                                                    "onnxruntime, int8"]
    assert [precision.name(row) for row in ran if "ratio" in row] == ["torchscript, float16", "onnxruntime, int8"]
    assert not any("ratio" in row for row in record["measurements"]["precisions"])  # computed, so not recorded
    assert len(precision.in_batches(record)) == 4 and len(report.reasons(record)) == 2
    assert precision.share_of_ceiling(record, "torchscript", "float32", 1) > 0
    assert report.sentence(record).startswith(("Yes: ", "No: ", "Undecided: ")) and len(report.table(record)) == 4
    for draw in (report.half_precision, report.accuracy_and_latency, report.batches, report.roofline):
        assert draw(record).alternative


def test_a_ratio_has_the_interval_over_the_paired_runs(half: Record) -> None:
    record = half(*SLOWER)
    means = {"float32": [1e6, 1.1e6, 0.9e6], "float16": [2e6, 2e6, 2e6]}
    for changed in record["measurements"]["precisions"][:2]:
        for run, mean in zip(changed["runs"], means[changed["precision"]]):
            run["mean_ns"] = mean
    compared = precision.ran(record)[1]
    assert (compared["ratio"], compared["ratio_interval"]) == statistics.ratio_interval(means["float16"], means["float32"])


def test_ratios_are_to_the_same_engines_float32(half: Record) -> None:
    ratios = {precision.name(row): row["ratio"] for row in precision.ran(half(*SLOWER)) if "ratio" in row}
    assert ratios == pytest.approx({"torchscript, float16": 2, "onnxruntime, int8": 0.375}, rel=1e-3)


@pytest.mark.parametrize(("times", "batch"), [(SLOWER, None), (LATER, 2), (FASTER, 1)])
def test_the_break_even_is_where_it_is_faster_from_there_on(half: Record, times: tuple, batch: int | None) -> None:
    assert precision.break_even(half(*times), "torchscript", "float16") == batch


def test_a_precision_that_is_faster_in_small_batches_only_never_breaks_even(half: Record) -> None:
    assert precision.break_even(half(500, [500, 400, 300, 600]), "torchscript", "float16") is None


def test_a_precision_that_was_not_measured_in_batches_never_breaks_even(half: Record) -> None:
    assert precision.break_even(half(*SLOWER), "openvino", "float16") is None


def test_a_machine_is_busy_where_more_at_once_hardly_helps(half: Record) -> None:
    assert precision.busy_from(precision.in_batches(half(*SLOWER))[0]) == 4


def test_the_share_of_the_ceiling_is_operations_over_time_over_rate(half: Record) -> None:
    record = half(*SLOWER)
    assert precision.share_of_ceiling(record, "torchscript", "float32", 1) == pytest.approx(1e8 / 1e-3 / 4e11)
    assert precision.share_of_ceiling(record, "torchscript", "float16", 1) is None  # no ceiling was measured


def test_the_gpus_share_is_its_own_time_over_the_images(half: Record) -> None:
    record = half(*SLOWER)
    assert "GPU" not in report.sentence(record)
    record["measurements"]["precisions"][0]["gpu_ns"] = 250e3
    assert precision.gpu_share(record, "torchscript", "float32") == pytest.approx(0.25)
    assert precision.gpu_share(record, "torchscript", "float16") is None
    assert "The GPU computes or copies for 25% of an image's time" in report.sentence(record)


@pytest.mark.parametrize("still", [False, True])
def test_of_batches_that_others_disturbed_the_last_run_of_a_round_counts(still: bool, half: Record) -> None:
    record = half(*SLOWER)
    row = record["measurements"]["batches"][0]
    uncontended = precision.in_batches(record)[0]["batch_ns"]
    row.update(batch_ns=[[9e9] * len(SIZES), uncontended[2], *uncontended[:2]], round=[2, 2, 0, 1],
               contended=[True, still, False, False])
    judged = precision.in_batches(record)[0]
    assert judged["batch_ns"] == uncontended and judged["contended"] is still
    assert ("Others contended what was measured of torchscript, float32." in report.batches(record).caption) is still


def test_the_networks_points_move_its_weights_once_a_batch(half: Record) -> None:
    record = half(*SLOWER)
    points = precision.network_points(record, record["measurements"]["rooflines"][0])
    assert [(engine, batch) for engine, batch, _, _ in points] == [("torchscript", size) for size in SIZES]
    assert points[0][2:] == pytest.approx((1e8 / (4 * 1050), 1e8 / 1e-3))
    assert points[3][2:] == pytest.approx((8e8 / (4 * 1400), 1e8 / 480e-6))


def test_the_network_in_eight_bits_moves_a_quarter_of_the_bytes(half: Record) -> None:
    record = half(*SLOWER)
    measured = record["measurements"]
    measured["batches"].append(batch_row(measured["batches"][0], "onnxruntime", "int8", [100, 100, 100, 100]))
    measured["rooflines"].append(
        roof_of(measured["rooflines"][0], precision="int8", element_bytes=1, peak_flop_per_s=1e12, points=[]))
    points = precision.network_points(record, measured["rooflines"][1])
    assert points[0] == ("onnxruntime", 1, pytest.approx(1e8 / 1050), pytest.approx(1e8 / 100e-6))
    assert "in int8 the roof is 1,000 billion" in report.roofline(record).alternative


def test_what_is_faster_than_the_roof_is_named(half: Record) -> None:
    (roofs,) = half(*SLOWER)["measurements"]["rooflines"]
    assert precision.beyond_the_roof(roofs) == []
    too_fast = {**roofs["points"][0], "seconds": [1e-4] * 5}
    assert precision.beyond_the_roof({**roofs, "points": [too_fast]}) == [("linear", 1, pytest.approx(2.5))]
    noisy = {**too_fast, "seconds": [1e-4, 1e-3, 1e-4, 1e-3, 1e-4]}
    assert precision.beyond_the_roof({**roofs, "points": [noisy]}) == []


def test_a_row_without_its_engines_float32_is_not_compared(half: Record) -> None:
    record = half(*SLOWER)
    template, failed = record["measurements"]["precisions"][0], record["measurements"]["precisions"][-1]
    rows = [{key: value for key, value in row(template, "openvino", "float16", 500).items() if "change" not in key},
            {**failed, "precision": "float32"}]
    record["measurements"] |= {"precisions": rows, "batches": []}
    assert report.table(record)["× float32"].tolist() == [None]
    assert report.sentence(record) == "Half precision was not measured."
    for draw in (report.half_precision, report.accuracy_and_latency, report.roofline):
        assert draw(record).alternative


# ---- what the page says


@pytest.mark.parametrize(
    ("times", "words"),
    [(SLOWER, ("No: ", "float16 takes at best 2.00", "25% of the best rate", "float16 is not clearly faster up to batch 8")),
     (LATER, ("No: ", "1.10", "float16 is faster from batch 2 on")),
     (FASTER, ("Yes: ", "float16 takes 0.50", "from batch 1 on"))],
)
def test_the_answer_follows_from_the_numbers(half: Record, times: tuple, words: tuple[str, ...]) -> None:
    sentence = report.sentence(half(*times))
    assert [word for word in words if word not in sentence] == [], sentence


def test_an_interval_on_both_sides_of_one_is_no_answer(half: Record) -> None:
    record = half(*SLOWER)
    for run, share in zip(record["measurements"]["precisions"][1]["runs"], (0.3, 0.5, 0.9)):
        run["mean_ns"] *= share
    assert report.sentence(record).startswith("Undecided: one image at a time, float16 takes at best ")


def test_the_table_has_a_row_for_what_ran_and_a_sentence_for_what_did_not(half: Record) -> None:
    record = half(*SLOWER)
    assert len(report.table(record)) == 4
    assert report.reasons(record) == ["openvino, float16: it does not."]


@pytest.mark.parametrize(
    ("draw", "words"),
    [(report.half_precision, "onnxruntime, int8 300 µs"),
     (report.accuracy_and_latency, "onnxruntime, int8 300 µs and 94.00%"),
     (report.batches, "torchscript, float32 takes 1,000 µs for one image and 480 µs an image at best"),
     (report.roofline, "roof is 400 billion operations a second. One image at a time, torchscript reaches 25%")],
)
def test_a_figure_says_its_numbers(half: Record, draw: Callable[[dict], style.Picture], words: str) -> None:
    picture = draw(half(*SLOWER))
    assert "<svg" in picture.svg
    assert words in picture.alternative


def test_changed_predictions_are_shown_with_what_they_were_and_are() -> None:
    labels, photos = np.array([0, 1, 2, 3]), np.zeros((1, 3, 32, 32), np.uint8)
    logits = {"float32": np.eye(10)[[0, 1, 2, 3]], "float16": np.eye(10)[[0, 1, 5, 3]]}
    changed = numerics.changed("eager", {**logits, "int8": logits["float32"]}, labels)
    assert report.changed_predictions(changed, photos, CLASSES).alternative == (
        "1 of 8 predictions change with the precision of eager: bird to dog with float16.")

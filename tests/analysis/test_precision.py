"""What is said of half precision follows from the record's numbers."""

from collections.abc import Callable

import numpy as np
import pytest
from records_made import Made, row_named

from cifar_bench.analysis import precision, statistics
from cifar_bench.report import precision as report

SIZES = [1, 2, 4, 8]
# float16's latency one image at a time, and per image in batches (µs)
SLOWER, LATER, FASTER = (2000, [2000, 1500, 1000, 900]), (1100, [1100, 700, 300, 200]), (500, [500, 400, 300, 200])
Record = Callable[..., dict]


def row(template: dict, engine: str, kind: str, mean_us: float) -> dict:
    """The template's row with another engine and precision, and three runs whose means differ by 0.1%."""
    assert len(template["runs"]) == 3
    runs = [{**run, "mean_ns": 1e3 * mean_us * share, "p50_ns": 1e3 * mean_us * share}
            for run, share in zip(template["runs"], (0.999, 1.0, 1.001))]
    return {**template, "engine": engine, "precision": kind, "runs": runs, "test_accuracy": 94.0}


def batch_row(template: dict, engine: str, kind: str, each_us: list[float]) -> dict:
    """The template's row of batches with these latencies per image, one for each of SIZES."""
    ns = 1e3 * np.array(each_us) * SIZES
    return {**template, "engine": engine, "precision": kind, "batch_sizes": SIZES,
            "batch_ns": [(share * ns).tolist() for share in (0.99, 1, 1.01)], "batch_threads": [[2] * len(SIZES)] * 3,
            "round": [0, 1, 2], "contended": [False] * 3}


@pytest.fixture
def half(made: Made) -> Record:
    """`half(half_us, half_each_us)` is the real record with these latencies of TorchScript in float16, and other known ones."""

    def record(half_us: float, half_each_us: list[float]) -> dict:
        real = made.record("half_precision")
        measured = real["measurements"]
        template = row_named(measured["precisions"], engine="torchscript", precision="float32")
        batch_template = row_named(measured["batches"], engine="torchscript", precision="float32")
        rates = row_named(measured["peaks"], precision="float32")
        failed = next(row for row in measured["precisions"] if "reason" in row) | {
            "engine": "openvino", "precision": "float16", "reason": "it does not."}
        measured |= {
            "test_images": 1000,
            "precisions": [row(template, "torchscript", "float32", 1000), row(template, "torchscript", "float16", half_us),
                           row(template, "onnxruntime", "float32", 800), row(template, "onnxruntime", "int8", 300), failed],
            "batches": [batch_row(batch_template, "torchscript", "float32", [1000, 800, 500, 480]),
                        batch_row(batch_template, "torchscript", "float16", half_each_us)],
            "peaks": [{**rates, "precision": kind, "peak_flop_per_s": peak}
                          for kind, peak in (("float32", 4e11), ("float16", 3.8e11), ("int8", 4e12))],
            "flop_without_padding": 1e8,
        }
        return real

    return record


def test_a_real_record_is_read_and_shown(made: Made) -> None:
    record = made.record("half_precision")
    ran = precision.ran(record)
    assert [precision.name(row) for row in ran if "ratio" in row] == ["torchscript, float16", "onnxruntime, int8"]
    assert len(ran) == len(precision.batch_rows(record)) == len(report.table(record)) == 4 and len(report.reasons(record)) == 2
    assert precision.share_of_peak(record, "torchscript", "float32", 1) > 0
    for draw in (report.speedups, report.batches):
        assert "<svg" in draw(record).svg


def test_ratios_are_to_the_same_engines_float32_and_pair_the_runs(half: Record) -> None:
    record = half(*SLOWER)
    means = {"float32": [1e6, 1.1e6, 0.9e6], "float16": [2e6, 2e6, 2e6]}
    for changed in record["measurements"]["precisions"][:2]:
        for run, mean in zip(changed["runs"], means[changed["precision"]]):
            run["p50_ns"] = mean
    _, compared, _, other = precision.ran(record)
    assert (compared["ratio"], compared["ratio_interval"]) == statistics.ratio_interval(means["float16"], means["float32"])
    assert other["ratio"] == pytest.approx(0.375, rel=1e-3)
    assert (compared["peak_ratio"], other["peak_ratio"]) == pytest.approx((0.95, 10))
    assert "relative to float32: float16 0.95×." in report.sentence(record)


def test_a_row_without_its_engines_float32_is_not_compared(half: Record) -> None:
    record = half(*SLOWER)
    _, float16, *_, failed = record["measurements"]["precisions"]
    record["measurements"] |= {"precisions": [float16, failed | {"precision": "float32"}], "batches": []}
    assert "ratio" not in precision.ran(record)[0] and report.sentence(record) and len(report.table(record)) == 1
    assert "<svg" in report.speedups(record).svg


@pytest.mark.parametrize(("kinds", "title", "sentence"), [
    (["float32"], "No precision was compared with float32, one image at a time",
     "No 16-bit format was compared with float32."),
    (["float32", "int8"], "Against float32, one image at a time: int8 2.67× faster (onnxruntime)",
     "No 16-bit format was compared with float32. With onnxruntime, int8 is 2.67× faster than float32, at an accuracy of "
     "94.00% instead of 94.00%."),
])
def test_what_was_not_compared_is_not_the_fastest(half: Record, kinds: list[str], title: str, sentence: str) -> None:
    record = half(*SLOWER)
    rows = record["measurements"]["precisions"]
    record["measurements"]["precisions"] = [row for row in rows if row["precision"] in kinds]
    assert report.speedups(record).title == title
    assert report.sentence(record) == sentence


@pytest.mark.parametrize(("times", "engine", "batch"), [
    (SLOWER, "torchscript", None), (LATER, "torchscript", 2), (FASTER, "torchscript", 1),
    ((500, [500, 400, 300, 600]), "torchscript", None),  # faster at small batch sizes only
    (FASTER, "openvino", None),  # not measured
])
def test_the_break_even_is_the_batch_size_from_which_on_it_is_faster(
    half: Record, times: tuple, engine: str, batch: int | None
) -> None:
    assert precision.break_even(half(*times), engine, "float16") == batch


def test_batches_are_paired_by_round_where_a_run_failed(half: Record) -> None:
    record = half(*LATER)
    base, row = record["measurements"]["batches"]
    for each in (base, row):  # a slow round, in which the base's run failed
        each["round"], each["contended"] = [0, 1, 2, 3], 4 * [False]
        each["batch_ns"].insert(0, (10 * np.array(each["batch_ns"][0])).tolist())
    for name in ("round", "contended", "batch_ns"):
        del base[name][0]
    assert precision.break_even(record, "torchscript", "float16") == 2


def test_the_share_of_peak_is_flop_per_second_over_peak_flop_per_second(half: Record) -> None:
    record = half(*SLOWER)
    assert precision.share_of_peak(record, "torchscript", "float32", 1) == pytest.approx(1e8 / 1e-3 / 4e11)
    assert precision.share_of_peak(record, "torchscript", "float16", 1) == pytest.approx(1e8 / 2e-3 / 3.8e11)
    assert precision.share_of_peak(record, "openvino", "float32", 1) is None  # its batches were not measured


def test_the_gpus_busy_share_is_its_time_over_the_latency(half: Record) -> None:
    record = half(*SLOWER)
    record["measurements"]["precisions"][0] |= {"gpu_ns": 250e3, "threads": 0}
    assert precision.gpu_busy_share(record, "torchscript", "float32") == pytest.approx(0.25)
    assert precision.gpu_busy_share(record, "torchscript", "float16") is None
    assert "In float32, the GPU computes or copies during 25% of the latency" in report.sentence(record)
    assert report.table(record)["threads"][0] == "–"


@pytest.mark.parametrize("still", [False, True])
def test_the_last_run_of_each_round_of_batches_counts(still: bool, half: Record) -> None:
    record = half(*SLOWER)
    row = record["measurements"]["batches"][0]
    uncontended = precision.batch_rows(record)[0]["batch_ns"]
    row.update(batch_ns=[[9e9] * len(SIZES), uncontended[2], *uncontended[:2]], round=[2, 2, 0, 1],
               contended=[True, still, False, False])
    judged = precision.batch_rows(record)[0]
    assert judged["batch_ns"] == uncontended and judged["contended"] is still


@pytest.mark.parametrize(("times", "shares", "answer"), [
    (SLOWER, (1, 1, 1), "No: "), (FASTER, (1, 1, 1), "Yes: "), (SLOWER, (0.3, 0.5, 0.9), "Undecided: ")])
def test_the_answer_follows_from_the_interval(half: Record, times: tuple, shares: tuple[float, ...], answer: str) -> None:
    record = half(*times)
    for run, share in zip(record["measurements"]["precisions"][1]["runs"], shares):
        run["p50_ns"] *= share
    assert report.sentence(record).startswith(answer) and ("at best" in report.sentence(record)) == (answer == "No: ")

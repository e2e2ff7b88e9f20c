"""The Pareto frontier, its fastest accurate row and the compute bound follow from the numbers on record."""

import pytest
from records_made import Made

from cifar_bench import records
from cifar_bench.analysis import frontier

ORIGINAL, NARROW = ({"flop": 300e6, "flop_without_padding": 260e6, "parameters": 2_570_280, "accuracy": 94.6},
                    {"flop": 100e6, "flop_without_padding": 90e6, "parameters": 800_000, "accuracy": 94.2})


def row(us: float, accuracy: float, network: str = "", engine: str = "openvino", precision: str = "int8") -> dict:
    """A row of three rounds, each a tenth slower than the one before."""
    runs = [{"round": number, "p50_ns": 1e3 * us * 1.1**number, "contended": False} for number in range(3)]
    return {"network": network, "engine": engine, "precision": precision, "test_accuracy": accuracy, "runs": runs}


@pytest.fixture
def record(made: Made) -> dict:
    """The real record with other rows: the baseline, two of the original network, two of a narrow one, and one that failed."""
    real = made.record("faster")
    described = real["measurements"]["networks"][frontier.ORIGINAL]
    real["measurements"] |= {
        "networks": {"": described | ORIGINAL, "narrow": described | NARROW}, "test_images": 10_000,
        "peaks": [{"precision": name, "peak_flop_per_s": rate} for name, rate in (("float32", 1e12), ("int8", 3e12))],
        "rows": [row(2000, 94.6, engine="torchscript", precision="float32"), row(1000, 94.6, precision="float32"),
                 row(300, 94.5), row(150, 94.1, "narrow"), row(250, 93.9, "narrow", "onnxruntime"),
                 {"network": "narrow", "engine": "openvino", "precision": "float16", "reason": "not here."}]}
    return real


def test_rows_that_ran_are_sorted_by_latency_and_have_their_ratio_within_rounds(record: dict) -> None:
    rows = frontier.ran(record)
    assert [frontier.name(row) for row in rows] == [
        "narrow, openvino, int8", "narrow, onnxruntime, int8", "original, openvino, int8", "original, openvino, float32",
        "original, torchscript, float32"]
    assert rows[0]["ratio"] == pytest.approx(0.075)
    assert rows[0]["ratio_interval"] == pytest.approx((0.075, 0.075))  # a slow round is slow for both
    assert rows[0]["us"] == pytest.approx(150 * 1.1)
    assert (rows[0]["parameters"], rows[2]["parameters"]) == (800_000, 2_570_280)


def test_without_the_baseline_there_are_no_ratios(record: dict) -> None:
    del record["measurements"]["rows"][0]
    assert frontier.base(record["measurements"]["rows"]) is None
    assert not any("ratio" in row for row in frontier.ran(record))


def test_the_pareto_frontier_is_what_no_faster_row_beats_in_accuracy(record: dict) -> None:
    kept = frontier.pareto_frontier(frontier.ran(record))
    assert [(round(row["us"]), row["test_accuracy"]) for row in kept] == [(165, 94.1), (330, 94.5), (1100, 94.6)]


@pytest.mark.parametrize(("accuracy", "name"), [
    (93.0, "narrow, openvino, int8"), (94.1, "narrow, openvino, int8"), (94.2, "original, openvino, int8"), (95.0, None)])
def test_the_fastest_is_the_fastest_of_the_accurate_ones(record: dict, accuracy: float, name: str | None) -> None:
    fastest = frontier.fastest_at(frontier.ran(record), accuracy)
    assert (fastest and frontier.name(fastest)) == name


def test_the_compute_bound_is_the_arithmetic_at_the_highest_peak(record: dict) -> None:
    assert frontier.compute_bound(record) == [(1e6 * 90e6 / 3e12, 94.2), (1e6 * 260e6 / 3e12, 94.6)]
    del record["measurements"]["networks"]["narrow"]["flop_without_padding"]
    assert len(frontier.compute_bound(record)) == 1
    record["measurements"]["peaks"] = record["measurements"]["rooflines"] = []
    assert frontier.compute_bound(record) == []


@pytest.mark.parametrize("run", ["xeon", "epyc"])
def test_the_reference_runs_compute_the_original_network_without_the_zero_padding(run: str) -> None:
    by_hand = 2 * 320 * 10 + sum(  # along each side a 3×3 filter meets 3·side − 2 numbers that are not padding
        2 * inputs * outputs * (3 * side - 2) ** 2 for side, inputs, outputs in [
            (32, 3, 40), (32, 40, 80), (16, 80, 80), (16, 80, 80), (16, 80, 160), (8, 160, 320), (4, 320, 320), (4, 320, 320)])
    record = records.read(records.step_folder(run, "faster"))
    peak = max(row["peak_flop_per_s"] for row in record["measurements"]["rooflines"])
    assert frontier.compute_bound(record)[-1][0] == pytest.approx(1e6 * by_hand / peak)

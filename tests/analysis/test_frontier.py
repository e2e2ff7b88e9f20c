"""The Pareto frontier, its fastest accurate row and the time breakdown follow from the numbers on record."""

import json
from pathlib import Path

import pytest
from records_made import Made, row_named

from cifar_bench import records
from cifar_bench.analysis import evidence, frontier
from cifar_lib import InputError

ORIGINAL, NARROW = {"flop": 300e6, "parameters": 2_570_280}, {"flop": 100e6, "parameters": 800_000}


def row(us: float, accuracy: float, network: str = "", engine: str = "openvino", precision: str = "int8") -> dict:
    """A row of three rounds, each a tenth slower than the one before."""
    runs = [{"round": number, "p50_ns": 1e3 * us * 1.1**number, "contended": False} for number in range(3)]
    return {"network": network, "engine": engine, "precision": precision, "test_accuracy": accuracy, "runs": runs}


@pytest.fixture
def record(made: Made) -> dict:
    """The real record with other rows: the baseline, two of the original network, two of a narrow one, and one that failed."""
    real = made.record("faster")
    described = real["measurements"]["networks"][frontier.ORIGINAL]
    rates = {**row_named(real["measurements"]["rooflines"], precision="int8"), "peak_flop_per_s": 3e12, "element_bytes": 1,
             "copies": [{"bytes": 1, "bytes_per_s": 8e10}, {"bytes": 2, "bytes_per_s": 1e10}]}
    real["measurements"] |= {
        "networks": {"": described | ORIGINAL, "narrow": described | NARROW}, "test_images": 10_000, "rooflines": [rates],
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
    assert rows[0]["us"] == pytest.approx(150 * (1 + 1.1 + 1.21) / 3)
    assert (rows[0]["flop"], rows[2]["flop"]) == (100e6, 300e6)


def test_without_the_baseline_there_are_no_ratios(record: dict) -> None:
    del record["measurements"]["rows"][0]
    assert frontier.base(record["measurements"]["rows"]) is None
    assert not any("ratio" in row for row in frontier.ran(record))


def test_the_pareto_frontier_is_what_no_faster_row_beats_in_accuracy(record: dict) -> None:
    kept = frontier.pareto_frontier(frontier.ran(record))
    assert [(round(row["us"]), row["test_accuracy"]) for row in kept] == [(166, 94.1), (331, 94.5), (1103, 94.6)]


@pytest.mark.parametrize(("accuracy", "name"), [
    (93.0, "narrow, openvino, int8"), (94.1, "narrow, openvino, int8"), (94.2, "original, openvino, int8"), (95.0, None)])
def test_the_fastest_is_the_fastest_of_the_accurate_ones(record: dict, accuracy: float, name: str | None) -> None:
    fastest = frontier.fastest_at(frontier.ran(record), accuracy)
    assert (fastest and frontier.name(fastest)) == name


def test_the_time_breakdown_is_arithmetic_memory_and_overhead(record: dict) -> None:
    fastest, *_, slowest = frontier.ran(record)
    assert frontier.time_breakdown(fastest, record) == pytest.approx(
        {"arithmetic": 100e6 / 3e12 * 1e6, "memory": 10, "overhead": fastest["us"] - 100e6 / 3e12 * 1e6 - 10})
    assert frontier.time_breakdown(slowest, record) is None  # float32's peak was not measured


def test_a_network_is_described_by_its_export_and_its_replicates(
    made: Made, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "ROOT", home)
    training, exported = made.record("train/seed0"), made.record("export")
    sha256 = exported["measurements"]["weights_sha256"]
    whole = {"train_images": 50_000, "test_images": 10_000}

    def write(step: str, record: dict, measurements: dict, **parameters: object) -> None:
        path = records.step_folder("narrow", step) / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(record | {"step": step, "measurements": record["measurements"] | measurements,
                                             "parameters": record["parameters"] | parameters}))

    write("export", exported, {"accuracy": 94.3})
    write("train/seed0", training, {**whole, "accuracy": 94.3, "weights_sha256": sha256}, seed=0)
    write("train/seed1", training, {**whole, "accuracy": 94.1, "weights_sha256": "another"}, seed=1)
    write("train/seed2", training, {**whole, "accuracy": 90.0, "weights_sha256": "another"}, seed=2, widths=[1, 2, 3, 4])
    write("train/seed3", training, {**whole, "accuracy": 91.0, "weights_sha256": "another"}, seed=3, teachers=["shipped/0"])
    write("train/seed4", training, {"train_images": 10, "accuracy": 80.0, "weights_sha256": "another"}, seed=4)
    described = frontier.describe(records.step_folder("narrow", "export"))
    assert described["seed_accuracies"] == [94.3, 94.1] and described["accuracy"] == 94.3
    assert described["records"] == [f"narrow/train/seed{seed}/record.json" for seed in (0, 1)]
    assert described["parameters"] == exported["measurements"]["parameters"]


def test_a_network_without_a_record_of_its_export_is_refused(home: Path) -> None:
    with pytest.raises(InputError, match="there is no record at"):
        frontier.describe(home / "results" / "nowhere" / "export")

"""What a precision does to the predictions is counted as it is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny_network
from records_made import Made

from cifar_bench.engines import base, export
from cifar_bench.timing import numerics
from cifar_lib.data import Split

# ---- calibration


def test_an_honest_network_is_calibrated_and_a_boastful_one_is_not() -> None:
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.ones(10), 100_000)
    labels = (random.random((len(shares), 1)) > shares.cumsum(1)).sum(1)
    assert numerics.calibration_error(np.log(shares), labels) < 0.01
    assert numerics.calibration_error(5 * np.log(shares), labels) > 0.2


def test_the_calibration_error_of_known_numbers() -> None:
    logits = np.log(np.array([[0.8] + [0.2 / 9] * 9] * 10))
    assert numerics.calibration_error(logits, np.array([0] * 6 + [1] * 4)) == pytest.approx(0.2)


# ---- changed predictions


def test_predictions_without_reference_logits_are_scored_and_not_compared() -> None:
    measured = numerics.predictions(5 * np.eye(10)[[0, 1]], None, labels=np.array([0, 2]))
    assert set(measured) == {"test_accuracy", "calibration_error"} and measured["test_accuracy"] == 50


def test_changed_predictions_are_counted_by_what_they_change() -> None:
    reference_logits, logits = 5 * np.eye(10)[[0, 1, 2, 3]], 5 * np.eye(10)[[0, 5, 6, 7]]
    measured = numerics.predictions(logits, reference_logits, labels=np.array([0, 1, 6, 9]))
    assert measured["test_accuracy"] == 50
    assert (measured["changed_predictions"], measured["changed_to_correct"], measured["changed_to_incorrect"]) == (3, 1, 1)
    assert measured["max_logit_change"] == 5 and measured["mean_logit_change"] == pytest.approx(5 * 6 / 40)


def test_changed_predictions_are_shown_with_what_they_were_and_are() -> None:
    labels = np.array([0, 1, 2, 3])
    same, other = np.eye(10)[[0, 1, 2, 3]], np.eye(10)[[0, 1, 5, 3]]
    assert numerics.changed("eager", {"float32": same, "float16": other, "int8": same}, labels) == {
        "engine": "eager", "predictions": 8, "changed": 1, "shown": [
            {"image": 2, "precision": "float16", "before": 2, "after": 5, "label": 2}]}


def test_nothing_is_shown_where_nothing_changes() -> None:
    assert numerics.changed("eager", {"float32": np.eye(10), "float16": 2 * np.eye(10)}, np.arange(10)) is None
    assert numerics.changed("eager", {"float32": np.eye(10)}, np.arange(10)) is None
    assert numerics.changed("eager", {"int8": np.eye(10), "float16": np.eye(10)}, np.arange(10)) is None


def test_of_many_changed_predictions_some_of_all_are_shown() -> None:
    logits = np.tile(np.eye(10)[0], (95, 1))
    shown = numerics.changed("eager", {"float32": logits, "int8": logits[:, ::-1]}, np.zeros(95, int))["shown"]
    assert [photo["image"] for photo in shown] == list(range(0, 95, 10))


# ---- the rows of a measurement

CPU = {"gpu": None, "cpu": {"features": ["avx512_bf16"]}}


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a small network's program; what engines make of it is put in a folder of the test's own."""
    monkeypatch.setattr(base, "ROOT", tmp_path)
    export.torchscript(tiny_network(), tmp_path / "model.pt")
    return tmp_path


def split(count: int) -> Split:
    """Noise, labelled by chance."""
    generator = torch.Generator().manual_seed(0)
    return Split(torch.randint(256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8),
                 torch.randint(10, (count,), generator=generator), {"dataset": "synthetic"})


def row(engine: str, precision: str, **others: object) -> dict:
    chosen = {"device": "cpu", "threads": 1, "options": ""}
    return {"engine": engine, "precision": precision, **chosen, **(others or {"runs": [{}]})}


def test_every_row_that_ran_is_scored_and_compared_with_its_own_engines_float32(exported: Path) -> None:
    rows = [row("eager", "float32"), row("eager", "bfloat16"), row("torchscript", "float16"),
            row("onnxruntime", "float16", reason="it does not.")]
    test = split(300)
    changed, photos = numerics.compare_predictions(rows, exported, test, CPU)
    reference, rounded, alone, failed = rows
    assert reference["changed_predictions"] == 0 == reference["max_logit_change"]
    assert rounded["changed_predictions"] > 0 < rounded["max_logit_change"]  # of 300 some are near a tie
    assert "changed_predictions" not in alone and "test_accuracy" in alone
    assert "test_accuracy" not in failed
    assert [row["support"] for row in rows] == ["native", "native", "emulated", "emulated"]
    assert not any("gpu_ns" in row for row in rows)
    assert (changed["engine"], changed["predictions"], changed["changed"]) == ("eager", 300, rounded["changed_predictions"])
    assert np.array_equal(photos, test.images[[photo["image"] for photo in changed["shown"]]].numpy())


def test_where_no_prediction_changes_there_are_no_photos(exported: Path) -> None:
    rows = [row("eager", "float32")]
    changed, photos = numerics.compare_predictions(rows, exported, split(10), CPU)
    assert changed is None and photos.shape == (0, 3, 32, 32)


def test_a_real_record_says_what_each_precision_changes(made: Made) -> None:
    measured, photos = made.record("half_precision")["measurements"], made.series("half_precision")["changed-images"]
    for row in measured["precisions"]:
        assert ("changed_predictions" in row) == ("runs" in row) and "support" in row
    assert len(photos) == len(measured["changed"]["shown"] if measured["changed"] else [])

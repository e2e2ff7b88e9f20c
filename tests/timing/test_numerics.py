"""The changes that a precision makes to the predictions are counted right."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny_network
from records_made import Made

from cifar_bench.engines import base, export
from cifar_bench.timing import numerics
from cifar_lib.data import Split


def test_predictions_without_reference_logits_are_only_scored() -> None:
    assert numerics.predictions(5 * np.eye(10)[[0, 1]], None, labels=np.array([0, 2])) == {"test_accuracy": 50}


def test_changed_predictions_are_counted_by_their_effect() -> None:
    reference_logits, logits = 5 * np.eye(10)[[0, 1, 2, 3]], 5 * np.eye(10)[[0, 5, 6, 7]]
    assert numerics.predictions(logits, reference_logits, labels=np.array([0, 1, 6, 9])) == {
        "test_accuracy": 50, "changed_predictions": 3, "changed_to_correct": 1, "changed_to_incorrect": 1,
        "max_logit_change": 5, "mean_logit_change": pytest.approx(5 * 6 / 40)}


def row(engine: str, precision: str, **others: object) -> dict:
    chosen = {"device": "cpu", "threads": 1, "options": ""}
    return {"engine": engine, "precision": precision, **chosen, **(others or {"runs": [{}]})}


def test_every_row_that_ran_is_scored_and_compared_with_float32_in_the_same_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "ROOT", tmp_path)
    export.torchscript(tiny_network(), tmp_path / "model.pt")
    rows = [row("eager", "float32"), row("eager", "bfloat16"), row("torchscript", "float16"),
            row("onnxruntime", "float16", reason="it does not.")]
    noise = torch.randint(256, (300, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    numerics.compare_predictions(rows, tmp_path, Split(noise, torch.arange(300) % 10, {}))
    reference, rounded, alone, failed = rows
    assert reference["changed_predictions"] == 0 == reference["max_logit_change"]
    assert rounded["changed_predictions"] > 0 < rounded["max_logit_change"]  # of 300 images some are near a tie
    assert "changed_predictions" not in alone and "test_accuracy" in alone
    assert "test_accuracy" not in failed
    assert not any("gpu_ns" in row for row in rows)


def test_a_real_record_has_the_changes_of_each_precision(made: Made) -> None:
    for row in made.record("half_precision")["measurements"]["precisions"]:
        assert ("changed_predictions" in row) == ("runs" in row)

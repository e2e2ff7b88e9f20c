"""How a precision changes the predictions: the logits, and for some images the predicted class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cifar_bench.engines import ENGINES, predict
from cifar_bench.timing.machine import measurement_lock
from cifar_bench.timing.networks import setup_of
from cifar_bench.timing.peak import gpu_ns
from cifar_lib.data import Split, normalize

BASE = "float32"  # the precision that others are compared with, in the same engine


@measurement_lock()  # scoring keeps all cores busy
def compare_predictions(rows: Sequence[dict], exported: Path, test: Split) -> None:
    """Add to each row that ran how its precision changes the predictions on `test`, and on a GPU `gpu_ns`."""
    logits, ran = {}, [row for row in rows if "runs" in row]
    for row in tqdm(ran, desc="accuracy", unit="precision"):
        setup = setup_of(row, exported)
        logits[row["engine"], row["precision"]] = predict(row["engine"], setup, test.images)
        if row["device"] == "cuda":
            ENGINES[row["engine"]].compile(setup)
            engine = ENGINES[row["engine"]](setup)
            row["gpu_ns"] = gpu_ns(engine.classify, normalize(test.images[:1]))
    for row in ran:
        reference_logits = logits.get((row["engine"], BASE))
        row.update(predictions(logits[row["engine"], row["precision"]], reference_logits, test.labels.numpy()))


@measurement_lock()
def add_accuracy(rows: Sequence[dict], exported: Path, test: Split) -> None:
    """Add `test_accuracy` (%), the accuracy on `test` of the file that was timed, to each row that ran.

    Adds `changed_predictions`, too, by comparison with the original network in float32 (None where no engine ran it), and
    `quantizer`, the engine whose int8 quantization it is.
    """
    scored: dict[tuple[str, str, str], np.ndarray] = {}

    def score(row: dict) -> np.ndarray:
        twin = ENGINES[row["engine"]].tuned_as or row["engine"]  # a C++ engine runs its Python twin's file
        file = row.get("network", ""), twin, row["precision"]
        if file not in scored:
            scored[file] = predict(row["engine"], setup_of(row, exported), test.images)
        return scored[file]

    ran = [row for row in rows if "runs" in row]
    base = next((row for row in ran if not row.get("network") and row["precision"] == BASE), None)
    for row in tqdm(ran, desc="accuracy", unit="file"):
        row["quantizer"] = ENGINES[row["engine"]].quantizer if row["precision"] == "int8" else None
        found = predictions(score(row), score(base) if base else None, test.labels.numpy())
        row.update({name: found.get(name) for name in ("test_accuracy", "changed_predictions")})


def predictions(logits: np.ndarray, reference_logits: np.ndarray | None, labels: np.ndarray) -> dict:
    """The accuracy (%) of logits (N×10), and how they differ from the same engine's in float32, if given."""
    predicted = logits.argmax(1)
    accuracy = {"test_accuracy": 100 * float(np.mean(predicted == labels))}
    if reference_logits is None:
        return accuracy
    reference = reference_logits.argmax(1)
    changed, change = predicted != reference, np.abs(logits - reference_logits)
    return {
        **accuracy,
        "changed_predictions": int(changed.sum()),
        "changed_to_correct": int((changed & (predicted == labels)).sum()),
        "changed_to_incorrect": int((changed & (reference == labels)).sum()),
        "max_logit_change": float(change.max()),
        "mean_logit_change": float(change.mean()),
    }

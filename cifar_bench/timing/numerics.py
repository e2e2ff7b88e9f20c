"""What a precision does to the predictions: other logits, and now and then another class."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.special import softmax
from tqdm import tqdm

from cifar_bench.engines import ENGINES, predict
from cifar_bench.engines.base import native_support
from cifar_bench.timing.networks import setup_of
from cifar_bench.timing.roofline import gpu_ns
from cifar_lib.data import Split, normalise

BASE = "float32"  # what the other precisions are compared with, in the same engine


def compare_predictions(
    rows: Sequence[dict], exported: Path, test: Split, environment: Mapping
) -> tuple[dict | None, np.ndarray]:
    """Add to each row of a latency measurement what its precision does to the predictions on `test`.

    Every row gets its `support` on the hardware of the record's `environment`; those that ran get what `predictions` says and,
    on a GPU, `gpu_ns`. Returns what `changed` says of the first engine that ran, and the photos it shows (uint8 N×3×32×32).
    """
    labels, logits = test.labels.numpy(), {}
    measured = [row for row in rows if "runs" in row]
    for row in tqdm(measured, desc="accuracy", unit="precision"):
        setup = setup_of(row, exported)
        logits[row["engine"], row["precision"]] = predict(row["engine"], setup, test.images)
        if row["device"] == "cuda":
            ENGINES[row["engine"]].compile(setup)
            engine = ENGINES[row["engine"]](setup)
            row["gpu_ns"] = gpu_ns(engine.classify, normalise(test.images[:1]))
    for row in measured:
        reference_logits = logits.get((row["engine"], BASE))
        row.update(predictions(logits[row["engine"], row["precision"]], reference_logits, labels))
    for row in rows:
        row["support"] = native_support(row["precision"], environment)
    first = measured[0]["engine"]
    by_precision = {precision: values for (engine, precision), values in logits.items() if engine == first}
    differences = changed(first, by_precision, labels)
    shown = differences["shown"] if differences else []
    return differences, test.images[[image["image"] for image in shown]].numpy()


def add_accuracy(rows: Sequence[dict], exported: Path, test: Split) -> None:
    """Add to each row of networks that ran `test_accuracy`, the percentage of `test` that its file is right on."""
    for row in tqdm([row for row in rows if "runs" in row], desc="accuracy", unit="file"):
        predicted = predict(row["engine"], setup_of(row, exported), test.images).argmax(1)
        row["test_accuracy"] = 100 * float(np.mean(predicted == test.labels.numpy()))


def predictions(logits: np.ndarray, reference_logits: np.ndarray | None, labels: np.ndarray) -> dict:
    """How true logits (N×10) are, and how they differ from the same engine's in float32, where those are at hand."""
    predicted = logits.argmax(1)
    truth = {"test_accuracy": 100 * float(np.mean(predicted == labels)),
             "calibration_error": calibration_error(logits, labels)}
    if reference_logits is None:
        return truth
    before = reference_logits.argmax(1)
    changed, change = predicted != before, np.abs(logits - reference_logits)
    return {
        **truth,
        "changed_predictions": int(changed.sum()),
        "changed_to_correct": int((changed & (predicted == labels)).sum()),
        "changed_to_incorrect": int((changed & (before == labels)).sum()),
        "max_logit_change": float(change.max()),
        "mean_logit_change": float(change.mean()),
    }


def changed(engine: str, logits: Mapping[str, np.ndarray], labels: np.ndarray, count: int = 10) -> dict | None:
    """Which images get another class than in float32: how many `predictions` were made, how many `changed`, a few `shown`.

    `logits` are the engine's, N×10 by precision; None where they are not in float32 and another precision, or none
    changes. Each image shown has its number, its class in float32 (`before`), in `precision` (`after`) and in truth (`label`).
    """
    if BASE not in logits or len(logits) < 2:
        return None
    before = logits[BASE].argmax(1)
    others = {precision: values.argmax(1) for precision, values in logits.items() if precision != BASE}
    changes = [{"image": int(image), "precision": precision, "before": int(before[image]), "after": int(after[image]),
              "label": int(labels[image])} for precision, after in others.items() for image in np.flatnonzero(after != before)]
    if not changes:
        return None
    return {"engine": engine, "predictions": len(others) * len(labels), "changed": len(changes),
            "shown": changes[:: -(-len(changes) // count)]}


def calibration_error(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error, 0 to 1: how far confidence and share of right answers are apart, image by image.

    `logits` are N×10; images are put into `bins` equal ranges of confidence (Guo and others, "On Calibration of Modern
    Neural Networks", 2017).
    """
    confidence, predicted = softmax(logits, axis=1).max(1), logits.argmax(1)
    groups = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(confidence[groups == group].sum() - (predicted == labels)[groups == group].sum()) for group in range(bins)]
    return float(sum(gaps) / len(labels))

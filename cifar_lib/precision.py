"""What a half-precision record says: does a precision pay one image at a time, from which batch on, and why."""

from collections.abc import Mapping, Sequence

import numpy as np

from cifar_lib import roofline, stats

BASE = "float32"  # what the other precisions are compared with, in the same engine
BUSY = 1.1  # a machine is busy where an image takes no more than so many times its least time


def ran(record: Mapping) -> list[dict]:
    """The rows (engine and precision) that were measured."""
    return [row for row in record["measurements"]["precisions"] if "runs" in row]


def in_batches(record: Mapping) -> list[dict]:
    """The rows (engine and precision) whose batches were measured."""
    return [row for row in record["measurements"]["batches"] if "batch_ns" in row]


def name(row: Mapping) -> str:
    return f"{row['engine']}, {row['precision']}"


def compare(rows: Sequence[dict]) -> None:
    """Give every row its `ratio` of mean latency to the same engine's float32, and the `ratio_interval` over the runs."""
    means = {(row["engine"], row["precision"]): [run["mean_ns"] for run in row["runs"]] for row in rows if "runs" in row}
    for row in rows:
        ours, exact = (means.get((row["engine"], precision)) for precision in (row["precision"], BASE))
        if row["precision"] != BASE and ours and exact:
            row["ratio"], row["ratio_interval"] = stats.ratio_interval(ours, exact)


def predictions(logits: np.ndarray, exact: np.ndarray | None, labels: np.ndarray) -> dict:
    """How true logits (N×10) are, and how they differ from the same engine's in float32, where those are at hand."""
    found = logits.argmax(1)
    truth = {"test_accuracy": 100 * float(np.mean(found == labels)),
             "calibration_error": stats.calibration_error(logits, labels)}
    if exact is None:
        return truth
    before = exact.argmax(1)
    changed, change = found != before, np.abs(logits - exact)
    return {
        **truth,
        "changed_predictions": int(changed.sum()),
        "changed_to_right": int((changed & (found == labels)).sum()),
        "changed_to_wrong": int((changed & (before == labels)).sum()),
        "largest_logit_change": float(change.max()),
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
    found = [{"image": int(image), "precision": precision, "before": int(before[image]), "after": int(after[image]),
              "label": int(labels[image])} for precision, after in others.items() for image in np.flatnonzero(after != before)]
    if not found:
        return None
    return {"engine": engine, "predictions": len(others) * len(labels), "changed": len(found),
            "shown": found[:: -(-len(found) // count)]}


def break_even(record: Mapping, engine: str, precision: str) -> int | None:
    """The batch size from which on `precision` is faster than float32, beyond doubt at each; None where there is none."""
    row, base = (_batches_of(record, engine, one) for one in (precision, BASE))
    if not row or not base:
        return None
    pays = [stats.ratio_interval(ours, theirs)[1][1] < 1
            for ours, theirs in zip(np.transpose(row["batch_ns"]), np.transpose(base["batch_ns"]))]
    late = [batch for number, batch in enumerate(row["batches"]) if all(pays[number:])]
    return late[0] if late else None


def busy_from(row: Mapping) -> int:
    """The smallest batch size at which an image takes hardly more than its least time, of a row of batches."""
    each = np.mean(row["batch_ns"], axis=0) / row["batches"]
    return int(np.array(row["batches"])[each <= BUSY * each.min()][0])


def share_of_ceiling(record: Mapping, engine: str, precision: str, batch: int) -> float | None:
    """The network's rate at a batch size, as a share of the machine's measured rate of arithmetic in that precision."""
    ceiling = next((one["flop_per_s"] for one in record["measurements"]["rooflines"] if one["precision"] == precision), None)
    row = _batches_of(record, engine, precision)
    if not ceiling or not row or batch not in row["batches"]:
        return None
    seconds = np.mean(row["batch_ns"], axis=0)[row["batches"].index(batch)] / 1e9
    return batch * _an_image(record)[0] / seconds / ceiling


def gpu_share(record: Mapping, engine: str, precision: str) -> float | None:
    """The share of an image's time in which the GPU computes or copies; None where it was not profiled."""
    row = next((row for row in ran(record) if (row["engine"], row["precision"]) == (engine, precision)), {})
    return row["gpu_ns"] / np.mean([run["mean_ns"] for run in row["runs"]]) if "gpu_ns" in row else None


def network_points(record: Mapping, measured: Mapping) -> list[tuple[str, int, float, float]]:
    """The whole network on a precision's roofline: engine, batch size, operations a byte, operations a second.

    Its bytes are those that the layers must move at the least, one after the other.
    """
    flop, weights, activations = _an_image(record)
    found, size = [], measured["number_bytes"]
    for row in in_batches(record):
        if row["precision"] == measured["precision"]:
            for batch, ns in zip(row["batches"], np.mean(row["batch_ns"], axis=0)):
                intensity = batch * flop / (size * (weights + batch * activations))
                found.append((row["engine"], batch, intensity, batch * flop / ns * 1e9))
    return found


def _an_image(record: Mapping) -> tuple[float, int, float]:
    """What the layers must do at the least for an image: operations, and how many weights and other numbers to move."""
    layered = next(one for one in record["measurements"]["rooflines"] if one["points"])  # of int8 no layers are measured
    images = layered["points"][0]["batch"]
    points = [point for point in layered["points"] if point["batch"] == images]
    weights = sum(point["weights"] for point in points)
    activations = sum(point["bytes"] / layered["number_bytes"] - point["weights"] for point in points) / images
    return sum(point["flop"] for point in points) / images, weights, activations


def beyond_the_roof(measured: Mapping) -> list[tuple[str, int, float]]:
    """The layers (name, batch size, times the roof) that were faster than the roof allows, beyond the noise of their times."""
    found = []
    for point in measured["points"]:
        _, longest = stats.mean_interval(point["seconds"])
        share = point["flop"] / longest / roofline.roof(measured, point["flop"] / point["bytes"])
        if share > 1:
            found.append((point["layer"], point["batch"], float(share)))
    return found


def _batches_of(record: Mapping, engine: str, precision: str) -> dict | None:
    return next((row for row in in_batches(record) if (row["engine"], row["precision"]) == (engine, precision)), None)

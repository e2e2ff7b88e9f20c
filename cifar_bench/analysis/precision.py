"""What a half-precision record says: does a precision pay one image at a time, from which batch on, and why."""

from collections.abc import Mapping

import numpy as np

from cifar_bench.analysis import latency, statistics

BASE = "float32"  # what the other precisions are compared with, in the same engine
BUSY = 1.1  # a machine is busy where an image takes no more than so many times its least time


def ran(record: Mapping) -> list[dict]:
    """The rows (engine and precision) that were measured, with their `ratio` and `ratio_interval`.

    That is the mean latency over the same engine's in float32, with its interval over the runs; rows in float32 have none.
    """
    rows = [dict(row) for row in record["measurements"]["precisions"] if "runs" in row]
    for row in rows:
        base = base_of(row, record)
        if base and row["precision"] != BASE:
            row["ratio"], row["ratio_interval"] = latency.paired(row, base, "mean_ns")
    return rows


def base_of(row: Mapping, record: Mapping) -> dict | None:
    """The row of the same engine in float32; None where it did not run."""
    return next((other for other in record["measurements"]["precisions"]
                 if "runs" in other and (other["engine"], other["precision"]) == (row["engine"], BASE)), None)


def in_batches(record: Mapping) -> list[dict]:
    """The rows (engine and precision) whose batches were measured, each with the last run of every round in `batch_ns`.

    Earlier runs of a round were contended by others, and `contended` says whether any of the last ones still was.
    """
    rows = []
    for row in record["measurements"]["batches"]:
        if "batch_ns" in row:
            numbers = row.get("round", range(len(row["batch_ns"])))  # older records count no rounds
            last = [run for _, run in sorted({number: run for run, number in enumerate(numbers)}.items())]
            rows.append({**row, "batch_ns": [row["batch_ns"][run] for run in last],
                         "contended": "contended" in row and any(row["contended"][run] for run in last)})
    return rows


def name(row: Mapping) -> str:
    return f"{row['engine']}, {row['precision']}"


def break_even(record: Mapping, engine: str, precision: str) -> int | None:
    """The batch size from which on `precision` is faster than float32, beyond doubt at each; None where there is none."""
    row, base = (_batches_of(record, engine, name) for name in (precision, BASE))
    if not row or not base:
        return None
    pays = [statistics.ratio_interval(ours, theirs)[1][1] < 1
            for ours, theirs in zip(np.transpose(row["batch_ns"]), np.transpose(base["batch_ns"]))]
    late = [batch for number, batch in enumerate(row["batch_sizes"]) if all(pays[number:])]
    return late[0] if late else None


def busy_from(row: Mapping) -> int:
    """The smallest batch size at which an image takes hardly more than its least time, of a row of batches."""
    each = np.mean(row["batch_ns"], axis=0) / row["batch_sizes"]
    return int(np.array(row["batch_sizes"])[each <= BUSY * each.min()][0])


def share_of_ceiling(record: Mapping, engine: str, precision: str, batch: int) -> float | None:
    """The network's rate at a batch size, as a share of the machine's measured rate of arithmetic in that precision."""
    rooflines = record["measurements"]["rooflines"]
    ceiling = next((roofline["peak_flop_per_s"] for roofline in rooflines if roofline["precision"] == precision), None)
    row = _batches_of(record, engine, precision)
    if not ceiling or not row or batch not in row["batch_sizes"]:
        return None
    seconds = np.mean(row["batch_ns"], axis=0)[row["batch_sizes"].index(batch)] / 1e9
    return batch * _an_image(record)[0] / seconds / ceiling


def gpu_share(record: Mapping, engine: str, precision: str) -> float | None:
    """The share of an image's time in which the GPU computes or copies; None where it was not profiled."""
    row = next((row for row in ran(record) if (row["engine"], row["precision"]) == (engine, precision)), {})
    return row["gpu_ns"] / np.mean([run["mean_ns"] for run in latency.judged_runs(row)]) if "gpu_ns" in row else None


def network_points(record: Mapping, measured: Mapping) -> list[tuple[str, int, float, float]]:
    """The whole network on a precision's roofline: engine, batch size, operations a byte, operations a second.

    Its bytes are those that the layers must move at the least, one after the other.
    """
    flop, weights, activations = _an_image(record)
    points, size = [], measured["element_bytes"]
    for row in in_batches(record):
        if row["precision"] == measured["precision"]:
            for batch, ns in zip(row["batch_sizes"], np.mean(row["batch_ns"], axis=0)):
                intensity = batch * flop / (size * (weights + batch * activations))
                points.append((row["engine"], batch, intensity, batch * flop / ns * 1e9))
    return points


def _an_image(record: Mapping) -> tuple[float, int, float]:
    """What the layers must do at the least for an image: operations, and how many weights and other numbers to move."""
    rooflines = record["measurements"]["rooflines"]
    layered = next(roofline for roofline in rooflines if roofline["points"])  # of int8 no layers are measured
    images = layered["points"][0]["batch"]
    points = [point for point in layered["points"] if point["batch"] == images]
    weights = sum(point["weights"] for point in points)
    activations = sum(point["bytes"] / layered["element_bytes"] - point["weights"] for point in points) / images
    return sum(point["flop"] for point in points) / images, weights, activations


def beyond_the_roof(measured: Mapping) -> list[tuple[str, int, float]]:
    """The layers (name, batch size, times the roof) that were faster than the roof allows, beyond the noise of their times."""
    beyond = []
    for point in measured["points"]:
        _, longest = statistics.mean_interval(point["seconds"])
        share = point["flop"] / longest / roof(measured, point["flop"] / point["bytes"])
        if share > 1:
            beyond.append((point["layer"], point["batch"], float(share)))
    return beyond


def _batches_of(record: Mapping, engine: str, precision: str) -> dict | None:
    return next((row for row in in_batches(record) if (row["engine"], row["precision"]) == (engine, precision)), None)


def roof(measured: dict, intensity: np.ndarray | float, cached: bool = True) -> np.ndarray | float:
    """The most operations a second at so many operations a byte, with bytes in the fastest cache or in main memory."""
    rates = [copy["bytes_per_s"] for copy in measured["copies"]]
    return np.minimum(measured["peak_flop_per_s"], intensity * (max(rates) if cached else rates[-1]))

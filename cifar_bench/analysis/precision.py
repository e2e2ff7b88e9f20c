"""What a half-precision record says: whether a precision is faster one image at a time, from which batch size on, and why."""

from collections.abc import Mapping

import numpy as np

from cifar_bench.analysis import latency, statistics

BASE = "float32"  # the baseline of the other precisions, in the same engine
HIGHER_PEAK = 1.1  # times float32's peak FLOP/s: what is measured above that is more than noise


def ran(record: Mapping) -> list[dict]:
    """The rows (engine and precision) that ran.

    Adds to each row in another precision than float32 the `ratio` of its median latency to the same engine's in float32, with
    its `ratio_interval` over the runs, and the `peak_ratio` of the peak FLOP/s of the two precisions.
    """
    rows = [dict(row) for row in record["measurements"]["precisions"] if "runs" in row]
    for row in rows:
        base = base_of(row, record)
        if base and row["precision"] != BASE:
            row["ratio"], row["ratio_interval"] = latency.paired_ratio(row, base)
            row["peak_ratio"] = _peak_flop_per_s(record, row["precision"]) / _peak_flop_per_s(record, BASE)
    return rows


def base_of(row: Mapping, record: Mapping) -> dict | None:
    """The row of the same engine in float32; None where it did not run."""
    return next((other for other in record["measurements"]["precisions"]
                 if "runs" in other and (other["engine"], other["precision"]) == (row["engine"], BASE)), None)


def batch_rows(record: Mapping) -> list[dict]:
    """The rows (engine and precision) whose batches were measured, with the last run of each `round` in `batch_ns`.

    Earlier runs of a round were contended; `contended` says whether any of the last ones was.
    """
    rows = []
    for row in record["measurements"]["batches"]:
        if "batch_ns" in row:
            last = dict(sorted({number: run for run, number in enumerate(row["round"])}.items()))
            rows.append({**row, "round": list(last), "batch_ns": [row["batch_ns"][run] for run in last.values()],
                         "contended": any(row["contended"][run] for run in last.values())})
    return rows


def name(row: Mapping) -> str:
    return f"{row['engine']}, {row['precision']}"


def break_even(record: Mapping, engine: str, precision: str) -> int | None:
    """The smallest batch size from which on `precision` is significantly faster than float32; None where there is none.

    Paired by round.
    """
    row, base = (_batch_row(record, engine, name) for name in (precision, BASE))
    if not row or not base:
        return None
    ours, theirs = (dict(zip(each["round"], each["batch_ns"])) for each in (row, base))
    pairs = [(ours[number], theirs[number]) for number in ours if number in theirs]
    faster = [statistics.ratio_interval(*by_size)[1][1] < 1 for by_size in np.transpose(pairs, (2, 1, 0))]
    return next((batch for number, batch in enumerate(row["batch_sizes"]) if all(faster[number:])), None)


def share_of_peak(record: Mapping, engine: str, precision: str, batch: int) -> float | None:
    """The network's FLOP/s at a batch size, as a share of the peak FLOP/s in that precision; None where it was not measured."""
    row = _batch_row(record, engine, precision)
    if not row or batch not in row["batch_sizes"]:
        return None
    seconds = np.median(row["batch_ns"], axis=0)[row["batch_sizes"].index(batch)] / 1e9
    return batch * work_per_image(record)[0] / seconds / _peak_flop_per_s(record, precision)


def gpu_busy_share(record: Mapping, engine: str, precision: str) -> float | None:
    """The share of the median latency in which the GPU computes or copies; None where it was not profiled."""
    row = next((row for row in ran(record) if (row["engine"], row["precision"]) == (engine, precision)), {})
    return row["gpu_ns"] / 1e3 / latency.quantile(row)[0] if "gpu_ns" in row else None


def network_points(record: Mapping, roofline: Mapping) -> list[tuple[str, int, float, float]]:
    """The whole network's points on a roofline: engine, batch size, FLOP/byte, FLOP/s.

    The bytes are the least that the layers, run one after the other, have to move.
    """
    flop, weights, activations = work_per_image(record)
    points, size = [], roofline["element_bytes"]
    for row in batch_rows(record):
        if row["precision"] == roofline["precision"]:
            for batch, ns in zip(row["batch_sizes"], np.median(row["batch_ns"], axis=0)):
                intensity = batch * flop / (size * (weights + batch * activations))
                points.append((row["engine"], batch, intensity, batch * flop / ns * 1e9))
    return points


def layers_above_roofline(roofline: Mapping) -> list[tuple[str, int, float]]:
    """The layers (name, batch size, multiple of the roofline) whose FLOP/s exceed the roofline by more than their noise."""
    above = []
    for point in roofline["points"]:
        _, longest = statistics.mean_interval(point["seconds"])
        share = point["flop"] / longest / attainable_flop_per_s(roofline, point["flop"] / point["bytes"])
        if share > 1:
            above.append((point["layer"], point["batch"], float(share)))
    return above


def attainable_flop_per_s(roofline: Mapping, intensity: np.ndarray | float, cached: bool = True) -> np.ndarray | float:
    """The roofline's bound at an arithmetic intensity (FLOP/byte), with data in the fastest cache or in main memory."""
    rates = [copy["bytes_per_s"] for copy in roofline["copies"]]
    return np.minimum(roofline["peak_flop_per_s"], intensity * (max(rates) if cached else rates[-1]))


def _peak_flop_per_s(record: Mapping, precision: str) -> float:
    return next(roofline["peak_flop_per_s"] for roofline in record["measurements"]["rooflines"]
                if roofline["precision"] == precision)


def _batch_row(record: Mapping, engine: str, precision: str) -> dict | None:
    return next((row for row in batch_rows(record) if (row["engine"], row["precision"]) == (engine, precision)), None)


def work_per_image(record: Mapping) -> tuple[float, int, float]:
    """What all layers need at the least: FLOP per image, weights to read, and activations to move per image.

    The FLOP are those of `timing.roofline.Layer`, without products with the zero padding.
    """
    rooflines = record["measurements"]["rooflines"]
    layered = next(roofline for roofline in rooflines if roofline["points"])  # layers are not measured in int8
    batch = layered["points"][0]["batch"]
    points = [point for point in layered["points"] if point["batch"] == batch]
    weights = sum(point["weights"] for point in points)
    activations = sum(point["bytes"] / layered["element_bytes"] - point["weights"] for point in points) / batch
    return sum(point["flop"] for point in points) / batch, weights, activations

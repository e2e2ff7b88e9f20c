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
    rows, peak = [dict(row) for row in record["measurements"]["precisions"] if "runs" in row], peaks(record)
    for row in rows:
        base = base_of(row, record)
        if base and row["precision"] != BASE:
            row["ratio"], row["ratio_interval"] = latency.paired_ratio(row, base)
            row["peak_ratio"] = peak[row["precision"]] / peak[BASE]
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


def batch_ratios(record: Mapping, engine: str, precision: str) -> dict[int, statistics.Interval]:
    """By batch size, the interval of the ratio of `precision`'s time to float32's, paired by round; empty without float32."""
    row, base = (_batch_row(record, engine, name) for name in (precision, BASE))
    if not row or not base:
        return {}
    ours, theirs = (dict(zip(each["round"], each["batch_ns"])) for each in (row, base))
    pairs = [(ours[number], theirs[number]) for number in ours if number in theirs]
    intervals = [statistics.ratio_interval(*by_size)[1] for by_size in np.transpose(pairs, (2, 1, 0))]
    return dict(zip(row["batch_sizes"], intervals))


def break_even(record: Mapping, engine: str, precision: str) -> int | None:
    """The smallest batch size from which on `precision` is significantly faster than float32; None where there is none."""
    faster = {batch: high < 1 for batch, (_, high) in batch_ratios(record, engine, precision).items()}
    return next((batch for batch in faster if all(faster[larger] for larger in faster if larger >= batch)), None)


def share_of_peak(record: Mapping, engine: str, precision: str, batch: int) -> float | None:
    """The network's FLOP/s at a batch size, as a share of the peak FLOP/s in that precision; None where it was not measured."""
    row = _batch_row(record, engine, precision)
    if not row or batch not in row["batch_sizes"]:
        return None
    seconds = np.median(row["batch_ns"], axis=0)[row["batch_sizes"].index(batch)] / 1e9
    return batch * flop_per_image(record) / seconds / peaks(record)[precision]


def flop_per_image(record: Mapping) -> float:
    """The original network's FLOP per image, without products with the zero padding."""
    measured = record["measurements"]
    if "flop_without_padding" in measured:
        return measured["flop_without_padding"]
    points = next(roofline["points"] for roofline in measured["rooflines"] if roofline["points"])  # older records: by layer
    return sum(point["flop"] for point in points if point["batch"] == points[0]["batch"]) / points[0]["batch"]


def peaks(record: Mapping) -> dict[str, float]:
    """The peak FLOP/s by precision."""
    measured = record["measurements"]
    return {row["precision"]: row["peak_flop_per_s"] for row in measured.get("peaks") or measured["rooflines"]}  # older records


def gpu_busy_share(record: Mapping, engine: str, precision: str) -> float | None:
    """The share of the median latency in which the GPU computes or copies; None where it was not profiled."""
    row = next((row for row in ran(record) if (row["engine"], row["precision"]) == (engine, precision)), {})
    return row["gpu_ns"] / 1e3 / latency.quantile(row)[0] if "gpu_ns" in row else None


def _batch_row(record: Mapping, engine: str, precision: str) -> dict | None:
    return next((row for row in batch_rows(record) if (row["engine"], row["precision"]) == (engine, precision)), None)

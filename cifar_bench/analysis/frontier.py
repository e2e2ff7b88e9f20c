"""The Pareto frontier of a `5_faster` record: the rows that no other row beats in both accuracy and latency.

A row is a network, an engine and a precision. Its accuracy is that of the timed file on the record's test images, its latency
the median. The baseline is TorchScript with the original network in float32; ratios to it are paired by round.
"""

from collections.abc import Mapping, Sequence

from cifar_bench.analysis import latency, precision, statistics
from cifar_bench.analysis.latency import BASE

ORIGINAL = ""  # the name of the run's own network, which has the original's architecture


def name(row: Mapping) -> str:
    return ", ".join([row["network"] or "original", row["engine"], row["precision"]])


def short_name(row: Mapping) -> str:
    """`name` without the network where that is the original."""
    return ", ".join(filter(None, [row["network"], row["engine"], row["precision"]]))


def base(rows: Sequence[Mapping]) -> Mapping | None:
    """The row of the baseline; None where it did not run."""
    return next((row for row in rows if "runs" in row and
                 (row["network"], row["engine"], row["precision"]) == (ORIGINAL, BASE, "float32")), None)


def other_baselines(rows: Sequence[Mapping]) -> list[Mapping]:
    """Of `ran`'s rows of the original network in float32, TorchScript from C++ and the fastest."""
    float32 = [row for row in rows if (row["network"], row["precision"]) == (ORIGINAL, "float32") and row["engine"] != BASE]
    return [row for row in float32 if row["engine"] == f"{BASE}-cpp" or row == float32[0]]


def ran(record: Mapping) -> list[dict]:
    """The rows that ran, fastest first.

    Adds to each its median `us`, its network's `parameters`, and, where the baseline ran, the `ratio` of its median latency to
    the baseline's, with its `ratio_interval`.
    """
    reference, rows = base(record["measurements"]["rows"]), []
    for row in record["measurements"]["rows"]:
        if "runs" in row:
            added = {"us": latency.quantile(row)[0],
                     "parameters": record["measurements"]["networks"][row["network"]]["parameters"]}
            if reference:
                added["ratio"], added["ratio_interval"] = latency.paired_ratio(row, reference)
            rows.append({**row, **added})
    return sorted(rows, key=lambda row: row["us"])


def pareto_frontier(rows: Sequence[Mapping]) -> list[Mapping]:
    """Of `ran`'s rows those that are more accurate than every faster row, fastest first."""
    kept: list[Mapping] = []
    for row in rows:
        if not kept or row["test_accuracy"] > kept[-1]["test_accuracy"]:
            kept.append(row)
    return kept


def fastest_at(rows: Sequence[Mapping], accuracy: float) -> Mapping | None:
    """The fastest of `ran`'s rows with at least this accuracy (%); None where there is none."""
    return next((row for row in rows if row["test_accuracy"] >= accuracy), None)


def accuracy_interval(row: Mapping, record: Mapping) -> statistics.Interval:
    """The 95% interval (%) of a row's accuracy, from the sampling error of the record's test images."""
    return statistics.accuracy_interval(row["test_accuracy"], record["measurements"]["test_images"])


def compute_bound(record: Mapping) -> list[tuple[float, float]]:
    """For each network, the latency (µs) of its arithmetic alone, at the highest peak FLOP/s measured, and its accuracy (%).

    The fastest comes first. The FLOP leave out products with the zero padding; a network without FLOP on record is left out.
    """
    points, peak = [], max(precision.peaks(record).values(), default=None)
    for name, network in record["measurements"]["networks"].items():
        flop = network.get("flop_without_padding")
        if not flop and name == ORIGINAL:  # older records have them in their layers only, which are the original's
            flop = precision.flop_per_image(record)
        if flop and peak:
            points.append((1e6 * flop / peak, network["accuracy"]))
    return sorted(points)

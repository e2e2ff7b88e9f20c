"""The Pareto frontier of a `5_faster` record: the rows that no other row beats in both accuracy and latency.

A row is a network, an engine and a precision. Its accuracy is that of the timed file on the record's test images, its latency
the median. The baseline is TorchScript with the original network in float32; ratios to it are paired by round.
"""

from collections.abc import Mapping, Sequence

from cifar_bench.analysis import latency, statistics
from cifar_bench.analysis.latency import BASE
from cifar_bench.analysis.precision import flop_per_image

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


def roofline_us(network: str, precision: str, record: Mapping) -> float | None:
    """The latency (µs) of a network at the machine's roofline; None where the peak or the network's FLOP are not on record.

    There the arithmetic runs at the measured peak FLOP/s while the weights are read once at the fastest copy's rate: the longer
    of the two counts, not their sum, since they can overlap. Like the peak, the FLOP leave out products with the zero padding.
    """
    measured = record["measurements"]
    roofline = next((each for each in measured["rooflines"] if each["precision"] == precision), None)
    described = measured["networks"][network]
    flop = described.get("flop_without_padding")
    if not flop and network == ORIGINAL:  # older records have them in their layers only, which are the original's
        flop = flop_per_image(record)
    if not flop or not roofline:
        return None
    weight_bytes = described["parameters"] * roofline["element_bytes"]
    fastest_copy = max(copy["bytes_per_s"] for copy in roofline["copies"])
    return 1e6 * max(flop / roofline["peak_flop_per_s"], weight_bytes / fastest_copy)


def roofline(record: Mapping) -> list[tuple[float, float]]:
    """For each network, its `roofline_us` in the fastest precision, and its accuracy (%); fastest first."""
    points, measured = [], record["measurements"]
    for name, network in measured["networks"].items():
        bounds = [us for each in measured["rooflines"] if (us := roofline_us(name, each["precision"], record))]
        if bounds:
            points.append((min(bounds), network["accuracy"]))
    return sorted(points)


def time_breakdown(row: Mapping, record: Mapping) -> dict[str, float] | None:
    """A row's median latency (µs) as `roofline_us` and the `overhead`; None where that is None.

    Overhead is the rest: per-layer dispatch, moving activations, and work too small to fill the arithmetic units. It is 0 where
    the engine is as fast as the roofline or faster, which happens where the peak was measured too low or the engine needs fewer
    products.
    """
    least = roofline_us(row["network"], row["precision"], record)
    return least and {"roofline": min(least, row["us"]), "overhead": max(0.0, row["us"] - least)}

"""The Pareto frontier of a `5_faster` record: the rows that no other row beats in both accuracy and latency.

A row is a network, an engine and a precision. Its accuracy is that of the timed file on the record's test images, its latency
the median. The baseline is TorchScript with the original network in float32; ratios to it are paired by round.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cifar_bench import records
from cifar_bench.analysis import latency, statistics
from cifar_bench.analysis.admissible import replicates
from cifar_bench.analysis.evidence import gather
from cifar_bench.analysis.latency import BASE

ORIGINAL = ""  # the name of the run's own network, which has the original's architecture


def name(row: Mapping) -> str:
    return ", ".join([row["network"] or "original", row["engine"], row["precision"]])


def short_name(row: Mapping) -> str:
    """`name` without the network where that is the original."""
    return ", ".join(filter(None, [row["network"], row["engine"], row["precision"]]))


def describe(exported: Path) -> dict:
    """What a run's records say of the network that it exported to this folder, `results/<run>/export`.

    Returns its `parameters`, the `flop` of an image, its `accuracy` (%), and of its replicates the `teachers`, the accuracies
    (`seed_accuracies`, %) and the paths of the `records`. Raises InputError where there is no record of the export.
    """
    measured = records.read(exported)["measurements"]
    by_step = gather(exported.parent.name)
    seeds = replicates(by_step["export"][0], by_step)
    return {"parameters": measured["parameters"], "flop": measured["forward_flop"], "accuracy": measured["accuracy"],
            "teachers": seeds[0].record["parameters"]["teachers"] if seeds else [],
            "seed_accuracies": [seed.measured["accuracy"] for seed in seeds], "records": [seed.path for seed in seeds]}


def base(rows: Sequence[Mapping]) -> Mapping | None:
    """The row of the baseline; None where it did not run."""
    return next((row for row in rows if "runs" in row and
                 (row["network"], row["engine"], row["precision"]) == (ORIGINAL, BASE, "float32")), None)


def ran(record: Mapping) -> list[dict]:
    """The rows that ran, fastest first.

    Adds to each its median `us`, its network's `flop`, `parameters` and `seed_accuracies`, and, where the baseline ran, the
    `ratio` of its median latency to the baseline's, with its `ratio_interval`.
    """
    reference, rows = base(record["measurements"]["rows"]), []
    for row in record["measurements"]["rows"]:
        if "runs" in row:
            network = record["measurements"]["networks"][row["network"]]
            added = {"us": latency.quantile(row, "p50")[0],
                     **{name: network[name] for name in ("flop", "parameters", "seed_accuracies")}}
            if reference:
                added["ratio"], added["ratio_interval"] = latency.paired_ratio(row, reference, "p50_ns")
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


def time_breakdown(row: Mapping, record: Mapping) -> dict[str, float] | None:
    """A row's median latency (µs) as `arithmetic` and `memory` time at the machine's measured peak rates, and `overhead`.

    Memory time is reading the weights once at the fastest copy's rate. Overhead is the rest: per-layer dispatch, moving
    activations, and work too small to fill the arithmetic units. None where the precision's peak rate was not measured.
    """
    for roofline in record["measurements"]["rooflines"]:
        if roofline["precision"] == row["precision"]:
            arithmetic = 1e6 * row["flop"] / roofline["peak_flop_per_s"]
            weight_bytes = row["parameters"] * roofline["element_bytes"]
            memory = 1e6 * weight_bytes / max(copy["bytes_per_s"] for copy in roofline["copies"])
            return {"arithmetic": arithmetic, "memory": memory, "overhead": row["us"] - arithmetic - memory}
    return None

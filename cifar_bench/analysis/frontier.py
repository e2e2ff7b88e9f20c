"""What a record of 5_faster says: which networks, engines and precisions no other beats in both accuracy and latency.

Accuracy is that of the very file that is timed, on the record's test images; latency is the median, and its ratio to the
base's, TorchScript with the original network in float32, is paired by round.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cifar_bench import records
from cifar_bench.analysis import latency, statistics
from cifar_bench.analysis.admissible import runs_like
from cifar_bench.analysis.evidence import gather
from cifar_bench.analysis.latency import BASE

ORIGINAL = ""  # the network of the run itself, which is the original's


def name(row: Mapping) -> str:
    return ", ".join([row["network"] or "original", row["engine"], row["precision"]])


def short_name(row: Mapping) -> str:
    """`name` without the network where that is the original's."""
    return ", ".join(filter(None, [row["network"], row["engine"], row["precision"]]))


def describe(exported: Path) -> dict:
    """What the records of a run say of the network that it exported to this folder, `results/<run>/export`.

    Its `parameters`, the `flop` of an image, its `accuracy` (%), the `teachers` of its training, and of the trainings made as
    that one the accuracies (`seed_accuracies`) and the `records`. Raises InputError where there is no record of the export.
    """
    measured = records.read(exported)["measurements"]
    by_step = gather(exported.parent.name)
    seeds = runs_like(by_step["export"][0], by_step)
    return {"parameters": measured["parameters"], "flop": measured["forward_flop"], "accuracy": measured["accuracy"],
            "teachers": seeds[0].record["parameters"].get("teachers") or [] if seeds else [],
            "seed_accuracies": [seed.measured["accuracy"] for seed in seeds], "records": [seed.path for seed in seeds]}


def base(rows: Sequence[Mapping]) -> Mapping | None:
    """Of rows, the one that the others' ratios are to; None where it did not run."""
    return next((row for row in rows if "runs" in row and
                 (row["network"], row["engine"], row["precision"]) == (ORIGINAL, BASE, "float32")), None)


def ran(record: Mapping) -> list[dict]:
    """The rows that ran, fastest first.

    Each has its `us` (median), its network's `flop`, `parameters` and `seed_accuracies`, and `ratio` and `ratio_interval` where
    the base ran.
    """
    reference, rows = base(record["measurements"]["rows"]), []
    for row in record["measurements"]["rows"]:
        if "runs" in row:
            network = record["measurements"]["networks"][row["network"]]
            added = {"us": latency.quantile(row, "p50")[0],
                     **{name: network[name] for name in ("flop", "parameters", "seed_accuracies")}}
            if reference:
                added["ratio"], added["ratio_interval"] = latency.paired(row, reference, "p50_ns")
            rows.append({**row, **added})
    return sorted(rows, key=lambda row: row["us"])


def frontier(rows: Sequence[Mapping]) -> list[Mapping]:
    """Of `ran`'s rows those than which no faster one is as accurate, fastest first."""
    kept: list[Mapping] = []
    for row in rows:
        if not kept or row["test_accuracy"] > kept[-1]["test_accuracy"]:
            kept.append(row)
    return kept


def fastest_at(rows: Sequence[Mapping], accuracy: float) -> Mapping | None:
    """The fastest of `ran`'s rows that is right on at least `accuracy` percent; None where none is."""
    return next((row for row in rows if row["test_accuracy"] >= accuracy), None)


def accuracy_interval(row: Mapping, record: Mapping) -> statistics.Interval:
    """The 95% interval (%) of a row's accuracy, over photos such as the record's."""
    return statistics.accuracy_interval(row["test_accuracy"], record["measurements"]["test_images"])


def time_breakdown(row: Mapping, record: Mapping) -> dict[str, float] | None:
    """What a row's median time (µs) is made of: `arithmetic` and `memory` at the machine's measured rates, and the `rest`.

    Memory is reading the weights once, at the best rate that copying reached. The rest is what layers cost to begin and end,
    numbers moved between them, and work too small to keep the units busy. None where the rates were not measured.
    """
    for measured in record["measurements"]["rooflines"]:
        if measured["precision"] == row["precision"]:
            arithmetic = 1e6 * row["flop"] / measured["peak_flop_per_s"]
            weights = row["parameters"] * measured["element_bytes"]
            memory = 1e6 * weights / max(copy["bytes_per_s"] for copy in measured["copies"])
            return {"arithmetic": arithmetic, "memory": memory, "rest": row["us"] - arithmetic - memory}
    return None

"""What 5_faster found: accuracy against latency, and the fastest at an accuracy."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from cifar_bench.analysis import frontier, latency
from cifar_bench.analysis.admissible import replicates
from cifar_bench.analysis.evidence import ByStep
from cifar_bench.report.style import GRAY, HIGHLIGHT, MARKS, MASK, STYLE, TEXT, Picture, engine_color, picture, set_range
from cifar_bench.report.words import listed, not_run, speedup, times_faster, with_interval

VERSUS = "than TorchScript with the original network"


def sentence(record: Mapping, accuracy: float) -> str:
    """What is the fastest at an accuracy of at least `accuracy` percent, and how many times faster it is than the base."""
    rows, images = frontier.ran(record), record["measurements"]["test_images"]
    winner, best = frontier.fastest_at(rows, accuracy), max(rows, key=lambda row: row["test_accuracy"])
    if not winner:
        return (f"Nothing reaches an accuracy of {accuracy:g}% on {images:,} test images: the most accurate is "
                f"{frontier.name(best)}, with {best['test_accuracy']:.2f}%.")
    words = (f"The fastest with an accuracy of at least {accuracy:g}% is the {_network(winner)} in {winner['precision']} with "
             f"{winner['engine']}: median latency {winner['us']:,.0f} µs, accuracy {winner['test_accuracy']:.2f}% on "
             f"{images:,} test images.")
    if "ratio" in winner:
        compared = [f"{times_faster(winner['ratio'])} {VERSUS} ({frontier.base(rows)['us']:,.0f} µs)"]
        compared += [f"{times_faster(latency.paired_ratio(winner, row)[0])} than the original network in float32 "
                     f"with {row['engine']} ({row['us']:,.0f} µs)" for row in frontier.other_baselines(rows) if row != winner]
        words += f" In the same rounds, it is {listed(compared)}."
    return words


def recommendation(record: Mapping, accuracy: float) -> list[str]:
    """What to use on this machine at an accuracy of at least `accuracy` percent, and what it costs, a sentence each."""
    rows = [row for row in frontier.ran(record) if row["test_accuracy"] >= accuracy]
    if not rows:
        return []
    best, images, (low, high) = rows[0], record["measurements"]["test_images"], frontier.accuracy_interval(rows[0], record)
    words = [f"Use {_described(best)} of {images:,} test images (95% interval {low:.2f} to {high:.2f}"
             + (f": on other images it may be below {accuracy:g}%)." if low < accuracy else ").")]
    if (changed := best.get("changed_predictions")) is not None:  # older records do not say
        words.append(f"It changes {changed:,} of {images:,} predictions of the original network in float32.")
    for kind, others in (("called from Python", [row for row in rows if not row["engine"].endswith("-cpp")]),
                         ("in float32", [row for row in rows if row["precision"] == "float32"])):
        if others and best not in others:
            words.append(f"The fastest {kind}, timed beside it: {_described(others[0])}.")
    return words


def networks(record: Mapping, by_step: ByStep) -> pd.DataFrame:
    """A row for each network, with its replicates among the training runs."""
    rows = []
    for name, network in record["measurements"]["networks"].items():
        seeds = replicates(name, record, by_step)
        mean = np.mean([seed.measured["accuracy"] for seed in seeds]) if seeds else None
        rows.append({
            "network": name or "original", "MFLOP": network["flop"] / 1e6, "accuracy (%)": network["accuracy"],
            "seeds": len(seeds), "mean of the seeds (%)": mean, "parameters": network["parameters"],
            "distilled from": ", ".join(seeds[0].record["parameters"]["teachers"]) if seeds else "",
        })
    return pd.DataFrame(rows)


def _network(row: Mapping) -> str:
    return f"network {row['network']}" if row["network"] else "original network"


def _described(row: Mapping) -> str:
    return (f"{row['engine']} in {row['precision']} with the {_network(row)}: median latency {row['us']:,.0f} µs, p99 "
            f"{latency.quantile(row, 'p99')[0]:,.0f} µs, accuracy {row['test_accuracy']:.2f}%")


def table(record: Mapping) -> pd.DataFrame:
    """A row for each network, engine and precision that ran, the fastest first."""
    rows = frontier.ran(record)
    optimal = [frontier.name(row) for row in frontier.pareto_frontier(rows)]
    return pd.DataFrame({
        "network, engine, precision": frontier.name(row), "median (µs)": with_interval(latency.quantile(row)),
        "p99 (µs)": f"{latency.quantile(row, 'p99')[0]:,.0f}",
        "speedup over torchscript": speedup(row["ratio"], row["ratio_interval"]) if "ratio" in row else None,
        "accuracy (%)": row["test_accuracy"],
        "accuracy (95% interval)": with_interval((row["test_accuracy"], frontier.accuracy_interval(row, record)), 2),
        "Pareto-optimal": "yes" if frontier.name(row) in optimal else "", "file (MB)": row["file_bytes"] / 1e6,
        "threads": row["threads"] or "–",
    } for row in rows)


def reasons(record: Mapping) -> list[str]:
    """What did not run here, and why, a sentence each."""
    return not_run(record["measurements"]["rows"], frontier.name)


def accuracy_against_latency(record: Mapping, accuracy: float) -> Picture:
    """A point for each network, engine and precision, those on the Pareto frontier named; a line at `accuracy` percent."""
    rows = frontier.ran(record)
    optimal, winner = frontier.pareto_frontier(rows), frontier.fastest_at(rows, accuracy)
    title = f"Nothing reaches an accuracy of {accuracy:g}%"
    if winner:
        title = f"{accuracy:g}% accuracy at a median latency of {winner['us']:,.0f} µs" + (
            f", {times_faster(winner['ratio'])} {VERSUS}" if "ratio" in winner else "")
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots()
        for row in rows:
            best = any(row is other for other in optimal)
            color = HIGHLIGHT if row is winner else engine_color(row["engine"]) if best else GRAY
            low, high = frontier.accuracy_interval(row, record)
            axis.errorbar([row["us"]], [row["test_accuracy"]], fmt=MARKS[row["precision"]], elinewidth=0.5, zorder=2 + best,
                          yerr=[[row["test_accuracy"] - low], [high - row["test_accuracy"]]], color=color)
        bound = frontier.compute_bound(record)
        ends = [*(row["us"] for row in rows), *(us for us, _ in bound)]
        scale = set_range(axis.xaxis, 0.8 * min(ends), 1.3 * max(ends))
        axis.set(xlabel=f"median latency (µs{scale})", ylabel="accuracy (%)")
        axis.axhline(accuracy, color=TEXT, linewidth=1, linestyle=":")
        axis.text(1, accuracy, f"{accuracy:g}%", transform=axis.get_yaxis_transform(), ha="right", va="bottom", color=TEXT)
        if bound:
            axis.plot(*zip(*bound), "|--", color=TEXT, linewidth=1, markersize=12)
            axis.annotate("compute-bound", bound[0], (4, 4), textcoords="offset points", color=TEXT)
        for number, row in enumerate(reversed(optimal)):  # above the axes, the fastest on top
            right = axis.transLimits.transform(axis.transScale.transform((row["us"], accuracy)))[0] > 0.6
            axis.annotate(frontier.short_name(row), (row["us"], row["test_accuracy"]), (row["us"], 1.04 + 0.075 * number),
                          textcoords=axis.get_xaxis_transform(), ha="right" if right else "left", va="bottom", bbox=MASK,
                          color=HIGHLIGHT if row is winner else engine_color(row["engine"]),
                          arrowprops={"arrowstyle": "-", "color": GRAY, "linewidth": 0.7, "relpos": (int(right), 0)})
        figure.legend(handles=[Line2D([], [], color=GRAY, marker=MARKS[name], linestyle="", label=name)
                               for name in MARKS if name in {row["precision"] for row in rows}],
                      loc="outside lower center", ncols=3, columnspacing=1, handletextpad=0)
        return picture(figure, "faster", title, "Named: the Pareto frontier. Bars: 95% intervals (sampling error). "
                       "Compute-bound: only the arithmetic, at the highest peak FLOP/s measured here.", table(record))

"""What 5_faster found: accuracy against latency, the fastest at an accuracy, and the time breakdown of its latency."""

from collections.abc import Mapping
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import StrMethodFormatter

from cifar_bench.analysis import frontier, latency
from cifar_bench.analysis.admissible import replicates
from cifar_bench.analysis.evidence import ByStep
from cifar_bench.report.style import ENGINES, MARKS, STYLE, Picture, engine_color, picture, plain_log_ticks
from cifar_bench.report.words import listed, not_run, speedup, times_faster, with_interval

VERSUS = "than TorchScript with the original network"


def sentence(record: Mapping, accuracy: float) -> str:
    """What is the fastest at an accuracy of at least `accuracy` percent, and how many times faster it is than the base."""
    rows, images = frontier.ran(record), record["measurements"]["test_images"]
    winner, best = frontier.fastest_at(rows, accuracy), max(rows, key=lambda row: row["test_accuracy"])
    if not winner:
        return (f"Nothing reaches an accuracy of {accuracy:g}% on {images:,} test images: the most accurate is "
                f"{frontier.name(best)}, with {best['test_accuracy']:.2f}%.")
    network = f"network {winner['network']}" if winner["network"] else "original network"
    words = (f"The fastest with an accuracy of at least {accuracy:g}% is the {network} in {winner['precision']} with "
             f"{winner['engine']}: median latency {winner['us']:,.0f} µs, accuracy {winner['test_accuracy']:.2f}% on "
             f"{images:,} test images.")
    if "ratio" in winner:
        compared = [f"{times_faster(winner['ratio'])} {VERSUS} ({frontier.base(rows)['us']:,.0f} µs)"]
        compared += [f"{times_faster(latency.paired_ratio(winner, row)[0])} than the original network in float32 "
                     f"with {row['engine']} ({row['us']:,.0f} µs)" for row in frontier.other_baselines(rows) if row != winner]
        words += f" In the same rounds, it is {listed(compared)}."
    return words


def networks(record: Mapping, by_step: ByStep) -> pd.DataFrame:
    """A row for each network, with its replicates among the training runs."""
    rows = []
    for name, network in record["measurements"]["networks"].items():
        seeds = replicates(name, record, by_step)
        rows.append({
            "network": name or "original", "MFLOP": network["flop"] / 1e6, "parameters": network["parameters"],
            "accuracy of the export (%)": network["accuracy"], "seeds": len(seeds),
            "mean of the seeds (%)": np.mean([seed.measured["accuracy"] for seed in seeds]) if seeds else None,
            "distilled from": ", ".join(seeds[0].record["parameters"]["teachers"]) if seeds else "",
        })
    return pd.DataFrame(rows)


def table(record: Mapping) -> pd.DataFrame:
    """A row for each network, engine and precision that ran, the fastest first."""
    rows = frontier.ran(record)
    optimal = [frontier.name(row) for row in frontier.pareto_frontier(rows)]
    return pd.DataFrame({
        "network": row["network"] or "original", "engine": row["engine"], "precision": row["precision"],
        "p50 (µs)": with_interval(latency.quantile(row, "p50")),
        "speedup over torchscript": speedup(row["ratio"], row["ratio_interval"]) if "ratio" in row else None,
        "accuracy (%)": with_interval((row["test_accuracy"], frontier.accuracy_interval(row, record)), 2),
        "Pareto-optimal": "yes" if frontier.name(row) in optimal else "", "file (MB)": row["file_bytes"] / 1e6,
        "threads": row["threads"] or "–",
    } for row in rows)


def reasons(record: Mapping) -> list[str]:
    """What did not run here, and why, a sentence each."""
    return not_run(record["measurements"]["rows"], frontier.name)


def accuracy_against_latency(record: Mapping, accuracy: float) -> Picture:
    """A point for each network, engine and precision; lines along the Pareto frontier and at `accuracy` percent."""
    rows = frontier.ran(record)
    optimal, winner = frontier.pareto_frontier(rows), frontier.fastest_at(rows, accuracy)
    title = f"Nothing reaches an accuracy of {accuracy:g}%"
    if winner:
        title = f"{accuracy:g}% accuracy at a median latency of {winner['us']:,.0f} µs" + (
            f", {times_faster(winner['ratio'])} {VERSUS}" if "ratio" in winner else "")
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 4.6))
        axis.step([row["us"] for row in optimal], [row["test_accuracy"] for row in optimal], where="post", color="0.4",
                  linewidth=1.5)
        axis.axhline(accuracy, color="0.4", linewidth=1, linestyle=":")
        bound = frontier.roofline(record)
        if bound:
            axis.plot(*zip(*bound), color="0.6", linewidth=1, linestyle="--", marker=".")
            axis.annotate("roofline", bound[-1], (0, 6), textcoords="offset points", fontsize=8, color="0.4", ha="center")
        for row in rows:
            low, high = frontier.accuracy_interval(row, record)
            axis.errorbar([row["us"]], [row["test_accuracy"]], fmt=MARKS[row["precision"]], capsize=2, elinewidth=0.7,
                          yerr=[[row["test_accuracy"] - low], [high - row["test_accuracy"]]], color=engine_color(row["engine"]),
                          markerfacecolor="white" if row["network"] == frontier.ORIGINAL else None)
        named = [row for row in optimal if row["network"] != frontier.ORIGINAL or row == winner]  # the legend shows the others
        for row, height in zip(named, cycle([-11, -24])):  # alternate, or neighbours overlap
            axis.annotate(frontier.short_name(row), (row["us"], row["test_accuracy"]), (5, height), textcoords="offset points",
                          fontsize=8, bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5})
        figure.legend(handles=[
            *(Line2D([], [], color=engine_color(name), linewidth=3, label=name)
              for name in ENGINES if name in {row["engine"] for row in rows}),
            *(Line2D([], [], color="0.3", marker=MARKS[name], linestyle="", markerfacecolor="white", label=name)
              for name in MARKS if name in {row["precision"] for row in rows})],
            loc="outside right center", frameon=False, fontsize=9)
        ends = [*(row["us"] for row in rows), *(us for us, _ in bound)]
        axis.set(xscale="log", xlabel="median latency (µs, logarithmic)", ylabel="accuracy (%)",
                 xlim=(0.8 * min(ends), 1.6 * max(ends)))
        plain_log_ticks(axis.xaxis)
        return picture(figure, "faster", title, "One marker per precision, one color per engine; hollow: the original network. "
                       "Gray line: the Pareto frontier. Bars: 95% intervals (sampling error). Roofline: arithmetic at the peak "
                       "rate measured here.", table(record))


def time_breakdown(record: Mapping, accuracy: float) -> Picture | None:
    """The time breakdown of the winner's and the base's median latency; None where peak rates or rows are missing."""
    rows = frontier.ran(record)
    shown = [row for row in (frontier.fastest_at(rows, accuracy), frontier.base(rows)) if row]
    parts = {frontier.name(row): frontier.time_breakdown(row, record) for row in shown}
    if not parts or not all(parts.values()):
        return None
    numbers = pd.DataFrame(parts).T
    first, at_peak = numbers.iloc[0], [name for name, part in parts.items() if not part["overhead"]]
    title = f"{first['overhead'] / first.sum():.0%} of the latency is overhead ({first.name})"
    if first.name in at_peak:
        title = f"No overhead: {first.name} is as fast as the roofline or faster"
    caption = ("Roofline: arithmetic at the peak FLOP/s measured on this machine (without products with the zero padding), or "
               "reading the weights, whichever takes longer. Overhead: per-layer dispatch, moving activations, and work too "
               "small to fill the arithmetic units.")
    if at_peak:
        caption += (f" At the roofline or above: {listed(at_peak)}. The peak was measured too low, or the engine needs fewer "
                    "products.")
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, axis = plt.subplots(figsize=(8, 1.2 + 0.45 * len(parts)))
        numbers.iloc[::-1].plot.barh(stacked=True, color=["C0", "0.8"], ax=axis, legend=False, width=0.6)
        axis.set(xlabel="median latency (µs)", ylabel="")
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        return picture(
            figure, "faster_time_breakdown", title, caption,
            numbers.add_suffix(" (µs)").reset_index(names="network, engine, precision"))

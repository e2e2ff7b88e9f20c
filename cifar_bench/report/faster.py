"""What 5_faster says: the frontier of accuracy and latency, its winner, and what the winner's time is made of."""

from collections.abc import Mapping
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from cifar_bench.analysis import frontier, latency
from cifar_bench.report.style import (
    ENGINES,
    MARKS,
    STYLE,
    Picture,
    engine_color,
    listed,
    not_run,
    picture,
    plain_log_ticks,
    with_interval,
)


def sentence(record: Mapping, accuracy: float) -> str:
    """The fastest way to be right on `accuracy` percent, how many times faster it is than the base, and what that rests on."""
    rows = frontier.ran(record)
    winner, best = frontier.fastest_at(rows, accuracy), max(rows, key=lambda row: row["test_accuracy"])
    images = record["measurements"]["test_images"]
    if not winner:
        return (f"Nothing that was tried is right on {accuracy:g}% of {images:,} test images: the most accurate is "
                f"{frontier.name(best)}, {best['test_accuracy']:.2f}%.")
    network = f"network {winner['network']}" if winner["network"] else "original network"
    words = (f"The fastest way to be right on at least {accuracy:g}% of {images:,} test images is the {network} in "
             f"{winner['precision']}, by {winner['engine']}: half of the images take less than {winner['us']:,.0f} µs, and "
             f"{winner['test_accuracy']:.2f}% are right.")
    if "ratio" in winner:
        ratio = with_interval((winner["ratio"], winner["ratio_interval"]), 3)
        words += (f" That is {ratio} times what TorchScript takes for the original network in the same rounds, "
                  f"{frontier.base(rows)['us']:,.0f} µs.")
    return words


def networks(described: Mapping[str, Mapping]) -> pd.DataFrame:
    """A row for each network, by name, of what `frontier.describe` says."""
    return pd.DataFrame({
        "network": name or "original", "MFLOP": network["flop"] / 1e6, "parameters": network["parameters"],
        "exported file right on (%)": network["accuracy"], "seeds": len(network["seed_accuracies"]),
        "their mean (%)": np.mean(network["seed_accuracies"]) if network["seed_accuracies"] else None,
        "taught by": ", ".join(network["teachers"]),
    } for name, network in described.items())


def table(record: Mapping) -> pd.DataFrame:
    """A row for each network, engine and precision that ran, fastest first."""
    rows = frontier.ran(record)
    kept = [frontier.name(row) for row in frontier.frontier(rows)]
    return pd.DataFrame({
        "network": row["network"] or "original", "engine": row["engine"], "precision": row["precision"],
        "p50 (µs)": with_interval(latency.quantile(row, "p50")), "× torchscript":
            with_interval((row["ratio"], row["ratio_interval"]), 3) if "ratio" in row else None,
        "accuracy (%)": with_interval((row["test_accuracy"], frontier.accuracy_interval(row, record)), 2),
        "on the frontier": "yes" if frontier.name(row) in kept else "", "file (MB)": row["file_bytes"] / 1e6,
        "threads": row["threads"],
    } for row in rows)


def reasons(record: Mapping) -> list[str]:
    """What could not run here, and why, a sentence each."""
    return not_run(record["measurements"]["rows"], frontier.name)


def accuracy_against_latency(record: Mapping, accuracy: float) -> Picture:
    """A point for each network, engine and precision; a line along the frontier; another at `accuracy` percent."""
    rows = frontier.ran(record)
    kept, winner = frontier.frontier(rows), frontier.fastest_at(rows, accuracy)
    title = f"{accuracy:g}% is reached by nothing that was tried"
    if winner:
        title = f"{accuracy:g}% takes {winner['us']:,.0f} µs" + (
            f", {winner['ratio']:.3f} of TorchScript's time for the original network" if "ratio" in winner else "")
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 4.6))
        axis.step([row["us"] for row in kept], [row["test_accuracy"] for row in kept], where="post", color="0.4", linewidth=1.5)
        axis.axhline(accuracy, color="0.4", linewidth=1, linestyle=":")
        for row in rows:
            low, high = frontier.accuracy_interval(row, record)
            middle, kind = row["test_accuracy"], row["network"] == frontier.ORIGINAL
            axis.errorbar([row["us"]], [middle], yerr=[[middle - low], [high - middle]], fmt=MARKS[row["precision"]], capsize=2,
                          color=engine_color(row["engine"]), markerfacecolor="white" if kind else None, elinewidth=0.7)
        named = [row for row in kept if row["network"] != frontier.ORIGINAL or row == winner]  # the rest the legend tells
        for row, height in zip(named, cycle([-11, -24])):  # in turns, or neighbours cover each other
            axis.annotate(frontier.short_name(row), (row["us"], row["test_accuracy"]), (5, height), textcoords="offset points",
                          fontsize=8, bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5})
        used = {kind: [name for name in names if name in {row[kind] for row in rows}]
                for kind, names in (("engine", ENGINES), ("precision", MARKS))}
        figure.legend(handles=[
            *(Line2D([], [], color=engine_color(engine), linewidth=3, label=engine) for engine in used["engine"]),
            *(Line2D([], [], color="0.3", marker=MARKS[precision], linestyle="", markerfacecolor="white", label=precision)
              for precision in used["precision"])], loc="outside right center", frameon=False, fontsize=9)
        ends = [row["us"] for row in rows]
        axis.set(xscale="log", xlabel="median latency of one image (µs, logarithmic)", ylabel="accuracy (%)",
                 xlim=(0.8 * min(ends), 1.6 * max(ends)))
        plain_log_ticks(axis, *axis.get_xlim())
        return picture(
            figure, "faster", title,
            "A mark for each precision, a color for each engine" + (
                "; hollow: the original network, filled: smaller ones" if any(row["network"] for row in rows) else "")
            + ". Along the gray line nothing faster is as accurate; bars are 95% intervals (binomial).",
            "Median latency and accuracy: " + listed(
                f"{frontier.name(row)} {row['us']:,.0f} µs and {row['test_accuracy']:.2f}%" for row in rows) + ".",
            table(record), [axis])


def time_breakdown(record: Mapping, accuracy: float) -> Picture | None:
    """What the times of the base and of the winner are made of; None where rates or rows are missing."""
    rows = frontier.ran(record)
    shown = [row for row in (frontier.fastest_at(rows, accuracy), frontier.base(rows)) if row]
    parts = {frontier.name(row): frontier.time_breakdown(row, record) for row in shown}
    if not parts or not all(parts.values()):
        return None
    first = next(iter(parts))
    share = parts[first]["rest"] / sum(parts[first].values())
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, axis = plt.subplots(figsize=(8, 1.2 + 0.45 * len(parts)))
        for number, breakdown in enumerate(parts.values()):
            left = 0.0
            for color, (part, us) in zip(("C0", "C1", "0.8"), breakdown.items()):
                axis.barh([number], [us], left=left, color=color, label=part if number == 0 else None, height=0.6)
                left += us
        axis.set(yticks=range(len(parts)), yticklabels=list(parts), xlabel="median latency of one image (µs)")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axis.invert_yaxis()
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        return picture(
            figure, "faster_time_breakdown", f"{share:.0%} of the time of {first} is neither arithmetic nor reading weights",
            "Arithmetic and reading the weights at the best rates measured on this machine; the rest is layers begun and "
            "ended, numbers moved between them, and work too small for the units.",
            "; ".join(f"{name}: " + listed(f"{part} {us:,.0f} µs" for part, us in breakdown.items())
                      for name, breakdown in parts.items()) + ".",
            pd.DataFrame({"what": name, **{f"{part} (µs)": us for part, us in breakdown.items()}}
                         for name, breakdown in parts.items()))

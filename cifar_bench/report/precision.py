"""Figures, tables and sentences of half precision: its speedup, its accuracy, from which batch size on it pays, and why."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import StrMethodFormatter

from cifar_bench.analysis import latency, precision, statistics
from cifar_bench.report.style import LINES, MARKS, STYLE, Picture, engine_color, picture, plain_log_ticks
from cifar_bench.report.words import listed, not_run, speedup, times_faster, with_interval

HALF = ("float16", "bfloat16")


def sentence(record: Mapping) -> str:
    """Whether half precision is faster one image at a time here, by how much, why, and from which batch size on; and int8."""
    compared = [row for row in precision.ran(record) if "ratio" in row]
    rows = [row for row in compared if row["precision"] in HALF]
    words = _half_precision(rows, record) if rows else ["No 16-bit format was compared with float32."]
    words += [f"With {row['engine']}, {row['precision']} is {times_faster(row['ratio'])} than float32, at an accuracy of "
              f"{row['test_accuracy']:.2f}% instead of {precision.base_of(row, record)['test_accuracy']:.2f}%."
              for row in compared if row["precision"] not in HALF]
    return " ".join(words)


def _half_precision(rows: Sequence[Mapping], record: Mapping) -> list[str]:
    """What is said of the rows of `precision.ran` in 16 bits, a sentence each."""
    faster = [row for row in rows if row["ratio_interval"][1] < 1]
    best = min(faster or rows, key=lambda row: row["ratio"])
    answer = "Yes" if faster else "Undecided" if best["ratio_interval"][0] < 1 else "No"
    words = [f"{answer}: one image at a time, {best['precision']} is {'at best ' if answer == 'No' else ''}"
             f"{times_faster(best['ratio'])} than float32 with {best['engine']} (median latency)."]
    words += [f"With {row['engine']}, {row['precision']} is {times_faster(row['ratio'])}." for row in rows if row is not best]
    words += [f"The peak FLOP/s measured here in {kind} are {ratio:.2g} times float32's."
              for kind, ratio in {row["precision"]: row["peak_ratio"] for row in rows}.items()]
    if share := precision.share_of_peak(record, best["engine"], precision.BASE, 1):
        words.append(f"In float32, {best['engine']} reaches {share:.0%} of the peak FLOP/s measured here.")
    if share := precision.gpu_busy_share(record, best["engine"], precision.BASE):
        words.append(f"In float32, the GPU computes or copies during {share:.0%} of the latency; the rest is launch and wait "
                     "overhead.")
    for row in precision.batch_rows(record):
        if row["engine"] == best["engine"] and row["precision"] in HALF:
            batch = precision.break_even(record, row["engine"], row["precision"])
            words.append(f"In batches, {row['precision']} with {row['engine']} is " + (
                f"faster from batch size {batch:,} on." if batch else
                f"not significantly faster up to batch size {row['batch_sizes'][-1]:,}."))
    return words


def table(record: Mapping) -> pd.DataFrame:
    """A row for each engine and precision: latency (µs), speedup, accuracy (%), changed predictions and logits."""
    table = pd.DataFrame({
        "engine": row["engine"], "precision": row["precision"], "peak FLOP/s over float32": row.get("peak_ratio"),
        "p50 (µs)": with_interval(latency.quantile(row)),
        "speedup over float32": speedup(row["ratio"], row["ratio_interval"]) if "ratio" in row else None,
        "accuracy (%)": row["test_accuracy"], "changed predictions": row.get("changed_predictions"),
        "to correct": row.get("changed_to_correct"), "to incorrect": row.get("changed_to_incorrect"),
        "max logit change": row.get("max_logit_change"), "mean logit change": row.get("mean_logit_change"),
        "threads": row["threads"] or "–",
    } for row in precision.ran(record))
    return table.astype(dict.fromkeys(["changed predictions", "to correct", "to incorrect"], "Int64"))  # or floats by None


def reasons(record: Mapping) -> list[str]:
    """What did not run here, and why, a sentence each."""
    return not_run(record["measurements"]["precisions"], precision.name)


def accuracy_and_latency(record: Mapping) -> Picture:
    """Accuracy against median latency, a point with bars for each engine and precision."""
    rows, images = precision.ran(record), record["measurements"]["test_images"]
    times = [latency.quantile(row) for row in rows]
    fastest = min(rows, key=lambda row: latency.quantile(row)[0])
    title = f"{precision.name(fastest)} has the lowest median latency, at {fastest['test_accuracy']:.2f}% accuracy"
    if {row["precision"] for row in rows} == {fastest["precision"]}:
        title = f"Only {fastest['precision']} was measured: median latency {min(times)[0]:,.0f} µs with {fastest['engine']}"
    accuracies = [(row["test_accuracy"], statistics.accuracy_interval(row["test_accuracy"], images)) for row in rows]
    edges = 0.45 * min(time for time, _ in times), 2.2 * max(time for time, _ in times)
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots()
        for row, (time, (shortest, longest)), (accuracy, (low, high)) in zip(rows, times, accuracies):
            axis.errorbar([time], [accuracy], fmt=MARKS[row["precision"]], color=engine_color(row["engine"]), capsize=3,
                          xerr=[[time - max(shortest, edges[0] / 2)], [longest - time]],  # a logarithmic axis has no zero
                          yerr=[[max(0, accuracy - low)], [max(0, high - accuracy)]], label=precision.name(row))
        axis.set(xscale="log", xlabel="median latency (µs, logarithmic)", ylabel="accuracy (%)", xlim=edges)
        plain_log_ticks(axis.xaxis)
        figure.legend(loc="outside right center", frameon=False)
        return picture(figure, "accuracy_and_latency", title,
                       f"Bars: lowest and highest run; 95% interval of the accuracy (sampling error of {images:,} images).",
                       pd.DataFrame(
                           {"engine": row["engine"], "precision": row["precision"], "p50 (µs)": with_interval(time),
                            "accuracy (%)": with_interval(accuracy, 2)}
                           for row, time, accuracy in zip(rows, times, accuracies)))


def batches(record: Mapping) -> Picture:
    """Median latency per image against the batch size, a line for each engine and precision."""
    rows = precision.batch_rows(record)
    each = {precision.name(row): np.median(row["batch_ns"], axis=0) / row["batch_sizes"] / 1e3 for row in rows}
    best = min(each, key=lambda name: each[name].min())
    contended = [precision.name(row) for row in rows if row["contended"]]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots()
        for row in rows:
            axis.plot(row["batch_sizes"], each[precision.name(row)], marker=".", linestyle=LINES[row["precision"]],
                      color=engine_color(row["engine"]), label=precision.name(row))
        axis.set(yscale="log", xlabel="batch size (logarithmic)", ylabel="time per image (µs, logarithmic)")
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        plain_log_ticks(axis.yaxis)
        figure.legend(loc="outside right center", frameon=False)
        return picture(figure, "batches", f"In batches the time per image falls to {each[best].min():,.0f} µs, with {best}",
                       "From images in host memory to predicted classes in host memory, median over the runs. Timed "
                       "separately: batch size 1 may differ from the p50 above."
                       + (f" Contended: {listed(contended)}." if contended else ""),
                       pd.DataFrame({"batch size": rows[0]["batch_sizes"],
                                     **{f"{name} (µs per image)": times for name, times in each.items()}}))


def roofline(record: Mapping) -> Picture:
    """Each layer, and the network at each batch size, under the roofline of its precision."""
    rooflines = record["measurements"]["rooflines"]
    shares = {row["engine"]: precision.share_of_peak(record, row["engine"], precision.BASE, 1)
              for row in precision.batch_rows(record) if row["precision"] == precision.BASE}
    best = max(shares, key=shares.get, default=None)
    above = [f"{layer} ({roofline['precision']}, batch size {batch:,}) by {share - 1:.0%}"
             for roofline in rooflines for layer, batch, share in precision.layers_above_roofline(roofline)]
    numbers = pd.DataFrame(
        {"precision": roofline["precision"], "layer": point["layer"], "batch size": point["batch"],
         "FLOP/byte": point["flop"] / point["bytes"], "GFLOP/s": point["flop"] / np.mean(point["seconds"]) / 1e9,
         "roofline (GFLOP/s)": precision.attainable_flop_per_s(roofline, point["flop"] / point["bytes"]) / 1e9}
        for roofline in rooflines for point in roofline["points"])
    intensity = np.geomspace(numbers["FLOP/byte"].min() / 2, 2 * numbers["FLOP/byte"].max(), 200)
    lines = -(-len(rooflines) // 2)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(lines, 2, sharex=True, sharey=True, squeeze=False, figsize=(8, 0.9 + 2.8 * lines))
        for axis in axes.flat[len(rooflines):]:
            axis.axis("off")
        for axis, roofline in zip(axes.flat, rooflines):
            for cached, style in ((True, "-"), (False, ":")):
                bound = precision.attainable_flop_per_s(roofline, intensity, cached) / 1e9
                axis.plot(intensity, bound, style, color="black", linewidth=1)
            layers = numbers[numbers["precision"] == roofline["precision"]].groupby("batch size")
            for (batch, points), marker in zip(layers, "o+"):
                axis.plot(points["FLOP/byte"], points["GFLOP/s"], marker, color="0.5", markersize=5,
                          label=f"layers, batch size {batch}")
            network = pd.DataFrame(precision.network_points(record, roofline), columns=["engine", "batch", "x", "y"])
            for engine, points in network.groupby("engine", sort=False):
                axis.plot(points["x"], points["y"] / 1e9, ".-", color=engine_color(engine), linewidth=1,
                          label=f"network, {engine}")
            axis.set(xscale="log", yscale="log",
                     title=f"{roofline['precision']}, peak {roofline['peak_flop_per_s'] / 1e9:,.0f} GFLOP/s")
        for axis in axes[-1]:
            axis.set_xlabel("arithmetic intensity (FLOP/byte)")
        figure.supylabel("GFLOP/s", fontsize=11)
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
        return picture(
            figure, "roofline", f"One image at a time, {best} reaches {shares[best]:.0%} of the peak FLOP/s in {precision.BASE}"
            if best else f"No engine was measured in {precision.BASE}",
            "Line: roofline measured here, data in a cache; dotted: in main memory. Axes are logarithmic. The network's batch "
            f"sizes grow from left to right. Above the roofline by more than noise: {listed(above) if above else 'no layer'}.",
            numbers)

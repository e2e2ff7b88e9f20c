"""Figures and tables of half precision: what it brings, what it costs, from which batch on it pays, and why."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, NullFormatter

from cifar_bench.analysis import latency, precision, statistics
from cifar_bench.report.style import (
    LINES,
    MARKS,
    STYLE,
    Picture,
    engine_color,
    label_ends,
    listed,
    not_run,
    picture,
    plain_log_ticks,
    with_interval,
)


def sentence(record: dict) -> str:
    """Does half precision help one image at a time here, by how much, why, and from which batch on? From the numbers."""
    rows = [row for row in precision.ran(record) if "ratio" in row and row["precision"] in ("float16", "bfloat16")]
    helps = [row for row in rows if row["ratio_interval"][1] < 1]
    if not rows:
        return "Half precision was not measured."
    best = min(helps or rows, key=lambda row: row["ratio"])
    times = f"{with_interval((best['ratio'], best['ratio_interval']), 2)} times float32's latency ({best['support']} here)"
    answer = "Yes" if helps else "Undecided" if best["ratio_interval"][0] < 1 else "No"
    words = (f"{answer}: one image at a time, {best['precision']} takes "
             f"{'' if helps else 'at best '}{times} with {best['engine']}.")
    others = [f"{with_interval((row['ratio'], row['ratio_interval']), 2)} times with {precision.name(row)} ({row['support']})"
              for row in rows if row is not best]
    if others:
        words += f" Else it is {listed(others)}."
    if share := precision.share_of_ceiling(record, best["engine"], precision.BASE, 1):
        words += f" In float32 the network then computes at {share:.0%} of the best rate of arithmetic measured here."
    if share := precision.gpu_share(record, best["engine"], precision.BASE):
        words += f" The GPU computes or copies for {share:.0%} of an image's time; the rest is launching and waiting."
    for row in precision.in_batches(record):
        if row["engine"] == best["engine"] and row["precision"] in ("float16", "bfloat16"):
            batch = precision.break_even(record, row["engine"], row["precision"])
            words += (f" With {row['engine']}, {row['precision']} is faster from batch {batch:,} on." if batch else
                      f" With {row['engine']}, {row['precision']} is not clearly faster up to batch {row['batches'][-1]:,}.")
    for row in precision.ran(record):
        if row["precision"] in ("tf32", "int8") and "ratio" in row:
            times = with_interval((row["ratio"], row["ratio_interval"]), 2)
            base = precision.base_of(row, record)["test_accuracy"]
            words += (f" {row['precision']} takes {times} times float32's latency with {row['engine']}, and is right on "
                      f"{row['test_accuracy']:.2f}% instead of {base:.2f}%.")
    return words


def table(record: dict) -> pd.DataFrame:
    """A row for each engine and precision: latency (µs), ratio, accuracy (%), changed predictions, errors, calibration."""
    table = pd.DataFrame({
        "engine": row["engine"], "precision": row["precision"], "on this machine": row["support"],
        "mean (µs)": latency.quantile(row, "mean")[0], "p50 (µs)": latency.quantile(row, "p50")[0],
        "× float32": _times_base(row),
        "accuracy (%)": row["test_accuracy"], "changed predictions": row.get("changed_predictions"),
        "to right": row.get("changed_to_correct"), "to wrong": row.get("changed_to_incorrect"),
        "logits change by at most": row.get("max_logit_change"), "on average": row.get("mean_logit_change"),
        "expected calibration error (0 to 1)": row["calibration_error"], "threads": row["threads"],
    } for row in precision.ran(record))
    return table.astype(dict.fromkeys(["changed predictions", "to right", "to wrong"], "Int64"))  # whole also where some lack


def _times_base(row: dict) -> str | None:
    if row["precision"] == precision.BASE:
        return "1"
    return with_interval((row["ratio"], row["ratio_interval"]), 2) if "ratio" in row else None


def reasons(record: dict) -> list[str]:
    """What could not run here, and why, a sentence each."""
    return not_run(record["measurements"]["precisions"], precision.name)


def accuracy_and_latency(record: dict) -> Picture:
    """Accuracy against latency, a point with intervals for each engine and precision."""
    rows, total = precision.ran(record), record["measurements"]["test_images"]
    times = {precision.name(row): latency.quantile(row, "mean") for row in rows}
    fastest = min(rows, key=lambda row: times[precision.name(row)][0])
    edges = 0.45 * min(time for time, _ in times.values()), 2.2 * max(time for time, _ in times.values())
    descriptions, numbers = [], []
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots()
        for row in rows:
            time, (low, high) = times[precision.name(row)]
            least, most = statistics.accuracy_interval(row["test_accuracy"], total)
            axis.errorbar([time], [row["test_accuracy"]], fmt=MARKS[row["precision"]], color=engine_color(row["engine"]),
                          capsize=3,
                          xerr=[[time - max(low, edges[0] / 2)], [high - time]],  # below the edge, where the scale has no zero
                          yerr=[[max(0, row["test_accuracy"] - least)], [max(0, most - row["test_accuracy"])]],
                          label=precision.name(row))
            descriptions.append(f"{precision.name(row)} {time:,.0f} µs and {row['test_accuracy']:.2f}%")
            numbers.append({"engine": row["engine"], "precision": row["precision"],
                            "mean (µs)": with_interval((time, (low, high))),
                            "accuracy (%)": with_interval((row["test_accuracy"], (least, most)), 2)})
        axis.set(xscale="log", xlabel="mean latency of one image (µs, logarithmic)", ylabel="accuracy (%)")
        axis.set_xlim(edges)
        plain_log_ticks(axis, *edges)
        figure.legend(loc="outside right center", frameon=False)
        title = f"{precision.name(fastest)} is the fastest, and right on {fastest['test_accuracy']:.1f}%"
        return picture(figure, "accuracy_and_latency", title,
                       f"95% intervals: over the runs, and binomial over {total:,} images. "
                       "A mark for each precision.",
                       "Mean latency and accuracy: " + listed(descriptions) + ".", pd.DataFrame(numbers), [axis])


def batches(record: dict) -> Picture:
    """Time per image against the batch size, a line for each engine and precision."""
    rows = precision.in_batches(record)
    each = {precision.name(row): np.mean(row["batch_ns"], axis=0) / row["batch_sizes"] / 1e3 for row in rows}
    best = min(each, key=lambda name: each[name].min())
    busy = {precision.name(row): precision.busy_from(row) for row in rows}
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots()
        for row in rows:
            axis.plot(row["batch_sizes"], each[precision.name(row)], marker=".", linestyle=LINES[row["precision"]],
                      color=engine_color(row["engine"]), label=precision.name(row))
        axis.set(xscale="log", yscale="log", xlabel="images at once (logarithmic)", ylabel="time per image (µs, logarithmic)")
        largest = max(max(row["batch_sizes"]) for row in rows)
        axis.set_xticks([batch for batch in rows[0]["batch_sizes"] if largest < 100 or batch in (1, 4, 16, 64, 256, 1024, 4096)])
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        plain_log_ticks(axis, min(times.min() for times in each.values()), max(times.max() for times in each.values()), "y")
        label_ends(axis)
        title = f"In batches an image takes {each[best].min():,.0f} µs at the least, with {best}"
        descriptions = [f"{name} takes {times[0]:,.0f} µs for one image and {times.min():,.0f} µs an image at best, and hardly "
                        f"more from batch {busy[name]:,} on" for name, times in each.items()]
        contended = [precision.name(row) for row in rows if row["contended"]]
        caption = "From host memory to class numbers in host memory, means over the runs." + (
            f" Others contended what was measured of {listed(contended)}." if contended else "")
        return picture(figure, "batches", title, caption,
                       listed(descriptions) + ".",
                       pd.DataFrame({"images at once": rows[0]["batch_sizes"],
                                     **{f"{name} (µs an image)": times for name, times in each.items()}}), [axis])


def roofline(record: dict) -> Picture:
    """Each layer, and the network at each batch size, under the roof that arithmetic and memory allow in its precision."""
    rooflines = record["measurements"]["rooflines"]
    shares = {row["engine"]: precision.share_of_ceiling(record, row["engine"], precision.BASE, 1)
              for row in precision.in_batches(record) if row["precision"] == precision.BASE}
    best = max(shares, key=shares.get, default=None)
    title = (f"One image at a time, {best} reaches {shares[best]:.0%} of the best rate in {precision.BASE}" if best
             else f"No engine was measured in {precision.BASE}")
    beyond = [f"{layer} ({roofline['precision']}, batch {batch:,}) by {share - 1:.0%}"
              for roofline in rooflines for layer, batch, share in precision.beyond_the_roof(roofline)]
    descriptions, lines = [], -(-len(rooflines) // 2)
    reached = [point["flop"] / point["bytes"] for roofline in rooflines for point in roofline["points"]]
    intensity = np.geomspace(min(reached) / 2, 2 * max(reached), 200)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(lines, 2, sharex=True, sharey=True, squeeze=False, figsize=(8, 0.9 + 2.8 * lines))
        for axis in axes.flat[len(rooflines):]:
            axis.axis("off")
        for axis, roofline in zip(axes.flat, rooflines):
            axis.plot(intensity, precision.roof(roofline, intensity) / 1e9, color="black", linewidth=1.2)
            axis.plot(intensity, precision.roof(roofline, intensity, cached=False) / 1e9, ":", color="black", linewidth=1)
            for number, batch in enumerate(dict.fromkeys(point["batch"] for point in roofline["points"])):
                points = [point for point in roofline["points"] if point["batch"] == batch]
                axis.plot([point["flop"] / point["bytes"] for point in points],
                          [point["flop"] / np.mean(point["seconds"]) / 1e9 for point in points], "o+"[number % 2], color="0.5",
                          markersize=4 + 2 * (number % 2), label=f"layers, batch {batch}")
            network = precision.network_points(record, roofline)
            for name in dict.fromkeys(row[0] for row in network):
                line = [row[2:] for row in network if row[0] == name]
                axis.plot([row[0] for row in line], [row[1] / 1e9 for row in line], ".-", color=engine_color(name),
                          linewidth=1, label=f"network, {name}")
            axis.set(xscale="log", yscale="log", title=roofline["precision"])
            rate = f"{roofline['peak_flop_per_s'] / 1e9:,.0f} billion operations a second"
            descriptions.append(f"in {roofline['precision']} the roof is {rate}")
        for axis in axes[-1]:
            axis.set_xlabel("arithmetic intensity (operations a byte)")
        figure.supylabel("10⁹ operations a second", fontsize=11)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
        return picture(figure, "roofline", title,
                       "Line: what products and copies within a cache reach here; dotted: copies in main "
                       "memory. Both axes are logarithmic; the network at each batch size, from the left. "
                       f"{listed(beyond) if beyond else 'No layer'} exceeds the roof by more than the noise of its times.",
                       f"Roofline: {listed(descriptions)}. {title}.", pd.DataFrame(
                           {"precision": roofline["precision"], "layer": point["layer"], "images at once": point["batch"],
                            "operations a byte": point["flop"] / point["bytes"],
                            "10⁹ operations/s": point["flop"] / np.mean(point["seconds"]) / 1e9,
                            "roof (10⁹/s)": precision.roof(roofline, point["flop"] / point["bytes"]) / 1e9}
                           for roofline in rooflines for point in roofline["points"]))


def changed_predictions(changed: Mapping, photos: np.ndarray, names: Sequence[str]) -> Picture:
    """The images that `numerics.changed` shows (uint8 N×3×32×32), with their classes in both precisions and the truth."""
    lines = max(1, -(-len(photos) // 5))
    kinds = [(names[image["before"]], names[image["after"]], image["precision"], names[image["label"]])
             for image in changed["shown"]]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(lines, 5, figsize=(8, 2.3 * lines + 0.4), squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for axis, photo, (before, after, kind, label) in zip(axes.flat, photos, kinds):
            axis.imshow(photo.transpose(1, 2, 0))
            axis.set_title(f"{before} → {after}\n{kind}\nis {label}", fontsize=8, loc="center")
        finding = (f"{changed['changed']:,} of {changed['predictions']:,} predictions change with the precision of "
                   f"{changed['engine']}")
        shown = ", ".join(f"{before} to {after} with {kind}" for before, after, kind, _ in kinds)
        return picture(figure, "changed_predictions", finding, "Some of them: the class in float32 → the other, and the truth.",
                       f"{finding}: {shown}.",
                       pd.DataFrame({"test image": image["image"], "precision": kind, "class in float32": before,
                                     "other class": after, "true class": label}
                                    for image, (before, after, kind, label) in zip(changed["shown"], kinds)))


def half_precision(record: dict) -> Picture:
    """Mean latency of every run with every engine and precision."""
    rows = precision.ran(record)
    means = {precision.name(row): [run["mean_ns"] / 1e3 for run in latency.judged_runs(row)] for row in rows}
    faster = [row for row in rows if row.get("ratio_interval", [1, 1])[1] < 1]
    if faster:
        best = min(faster, key=lambda row: row["ratio"])
        title = f"One image at a time, {precision.name(best)} takes {best['ratio']:.2f} × float32's time"
    elif all(row["ratio_interval"][0] > 1 for row in rows if "ratio_interval" in row):
        title = "One image at a time, float32 is the fastest"
    else:
        title = "One image at a time, no precision is clearly faster than float32"
    numbers = listed(f"{name} {np.mean(values):,.0f} µs" for name, values in means.items())
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 1.2 + 0.5 * len(means)))
        for number, (row, values) in enumerate(zip(rows, means.values())):
            axis.plot(values, [number] * len(values), "o", color=engine_color(row["engine"]), alpha=0.7)
            axis.annotate(f"{np.mean(values):,.0f} µs", (min(values), number), (0, 9), textcoords="offset points")
        axis.set(yticks=range(len(means)), yticklabels=list(means), ylim=(len(means) - 0.4, -0.6), xlabel="mean latency (µs)")
        axis.set_xlim(0, 1.08 * max(max(values) for values in means.values()))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        return picture(figure, "half_precision", title, "Mean latency of each run, a dot each, with their mean above.",
                       f"Mean latency: {numbers}.", pd.DataFrame(
                           {"engine and precision": name, "mean (µs)": np.mean(values),
                            **{f"run {number} (µs)": value for number, value in enumerate(values, start=1)}}
                           for name, values in means.items()))

"""Figures, tables and sentences of half precision: its speedup, its accuracy, from which batch size on it pays, and why."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import StrMethodFormatter

from cifar_bench.analysis import latency, precision
from cifar_bench.report.style import GRAY, HIGHLIGHT, MASK, STYLE, TEXT, Picture, label_ends, picture, set_range
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
    peaks = {row["precision"]: row["peak_ratio"] for row in rows}
    words.append("Peak FLOP/s measured here, relative to float32: "
                 f"{listed(f'{kind} {ratio:.2g}×' for kind, ratio in peaks.items())}.")
    if share := precision.share_of_peak(record, best["engine"], precision.BASE, 1):
        words.append(f"In float32, {best['engine']} reaches {share:.0%} of the peak FLOP/s measured here (products with the "
                     "zero padding not counted).")
    if share := precision.gpu_busy_share(record, best["engine"], precision.BASE):
        words.append(f"In float32, the GPU computes or copies during {share:.0%} of the latency; the rest is launch and wait "
                     "overhead.")
    return words


def break_evens(record: Mapping) -> list[str]:
    """From which batch size on half precision is faster than float32, a sentence for each engine and 16-bit format."""
    words = []
    for row in precision.batch_rows(record):
        if row["precision"] in HALF:
            kind = row["engine"], row["precision"]
            batch, ratios = precision.break_even(record, *kind), precision.batch_ratios(record, *kind)
            every = f"at every batch size from {row['batch_sizes'][0]:,} to {row['batch_sizes'][-1]:,}"
            answer = f"not significantly faster than float32 up to batch size {row['batch_sizes'][-1]:,}"
            if batch == row["batch_sizes"][0]:
                answer = f"faster than float32 {every}"
            elif batch:
                answer = f"faster than float32 from batch size {batch:,} on"
            elif ratios and all(low > 1 for low, _ in ratios.values()):
                answer = f"slower than float32 {every}"
            words.append(f"{row['precision']} with {row['engine']} is {answer}.")
    return words


def table(record: Mapping) -> pd.DataFrame:
    """A row for each engine and precision: latency (µs), speedup, accuracy (%), changed predictions and logits."""
    table = pd.DataFrame({
        "engine, precision": precision.name(row), "median (µs)": with_interval(latency.quantile(row)),
        "p99 (µs)": f"{latency.quantile(row, 'p99')[0]:,.0f}",
        "speedup over float32": speedup(row["ratio"], row["ratio_interval"]) if "ratio" in row else None,
        "accuracy (%)": row["test_accuracy"], "changed predictions": row.get("changed_predictions"),
        "to correct": row.get("changed_to_correct"), "to incorrect": row.get("changed_to_incorrect"),
        "peak FLOP/s over float32": row.get("peak_ratio"), "max logit change": row.get("max_logit_change"),
        "mean logit change": row.get("mean_logit_change"),
        "threads": row["threads"] or "–",
    } for row in precision.ran(record))
    return table.astype(dict.fromkeys(["changed predictions", "to correct", "to incorrect"], "Int64"))  # or floats by None


def reasons(record: Mapping) -> list[str]:
    """What did not run here, and why, a sentence each."""
    return not_run(record["measurements"]["precisions"], precision.name)


def speedups(record: Mapping) -> Picture:
    """The speedup of each engine in each other precision over float32."""
    rows = sorted((row for row in precision.ran(record) if "ratio" in row), key=lambda row: row["ratio"])
    faster = [row for row in rows if row["ratio_interval"][1] < 1]
    shown = [*faster[:1], *[row for row in faster if row["precision"] in HALF][:1]]
    title = f"No precision {'is significantly faster than' if rows else 'was compared with'} float32, one image at a time"
    if shown:
        found = dict.fromkeys(f"{row['precision']} {times_faster(row['ratio'])} ({row['engine']})" for row in shown)
        title = f"Against float32, one image at a time: {', '.join(found)}"
    ends = [1 / end for row in rows for end in row["ratio_interval"]]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(5.2, 0.7 + 0.26 * len(rows)))
        for number, row in enumerate(rows):
            low, high = (1 / end for end in reversed(row["ratio_interval"]))
            color = HIGHLIGHT if row in shown[:1] else GRAY
            axis.plot([low, high], [number, number], color=color)
            axis.plot([1 / row["ratio"]], [number], "o", color=color)
            axis.annotate(f"{1 / row['ratio']:.2f}×", (high, number), (6, 0), textcoords="offset points", va="center",
                          color=color if color == HIGHLIGHT else TEXT, bbox=MASK)
        axis.axvline(1, color=TEXT, linewidth=1)
        scale = set_range(axis.xaxis, 0.9 * min([1, *ends]), 1.2 * max([1, *ends]))
        axis.set(yticks=range(len(rows)), yticklabels=map(precision.name, rows), ylim=(max(len(rows), 1) - 0.5, -0.5),
                 xlabel=f"speedup over the same engine in float32 (×{scale})")
        return picture(figure, "half_precision", title, "Median latency of float32 over that of the other precision. Lines: "
                       "95% intervals over the rounds. Right of 1: faster than float32.",
                       pd.DataFrame({"engine, precision": precision.name(row),
                                     "speedup over float32": speedup(row["ratio"], row["ratio_interval"])} for row in rows))


def batches(record: Mapping) -> Picture:
    """Median latency per image against the batch size, a line for each engine and precision."""
    rows = precision.batch_rows(record)
    each = {precision.name(row): np.median(row["batch_ns"], axis=0) / row["batch_sizes"] / 1e3 for row in rows}
    best = min(each, key=lambda name: each[name].min())
    contended = [precision.name(row) for row in rows if row["contended"]]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(5.2, 3.6))
        ends = []
        for row in rows:
            name = precision.name(row)
            color = HIGHLIGHT if name == best else TEXT if row["precision"] in HALF else GRAY
            axis.plot(row["batch_sizes"], each[name], marker=".", color=color)
            ends.append((row["batch_sizes"][-1], each[name][-1], name, color if color == HIGHLIGHT else TEXT))
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        times = np.concatenate(list(each.values()))
        scale = set_range(axis.yaxis, 0.8 * times.min(), 1.2 * times.max())
        label_ends(axis, ends)
        axis.set(xlabel="batch size (logarithmic)", ylabel=f"time per image (µs{scale})")
        return picture(figure, "batches", f"In batches the time per image falls to {each[best].min():,.0f} µs, with {best}",
                       "From images in host memory to predicted classes in host memory, median over the runs; dark gray: 16 "
                       "bits. Timed separately: batch size 1 may differ from the median above."
                       + (f" Contended: {listed(contended)}." if contended else ""),
                       pd.DataFrame({"batch size": rows[0]["batch_sizes"],
                                     **{f"{name} (µs per image)": times for name, times in each.items()}}))

"""Figures and tables of latencies."""

from collections.abc import Iterable, Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter

from cifar_bench.analysis import latency, statistics
from cifar_bench.records import REPEATED_IMAGE
from cifar_bench.report.style import STYLE, Picture, engine_color, listed, not_run, picture, plain_log_ticks, with_interval


def table(record: dict) -> pd.DataFrame:
    """A row for each engine that ran: quantiles (µs), ratio of medians, accuracy (%), logit error, load time (s), size (MB).

    Quantiles are means over the runs; the median and the ratio have their 95% interval over the runs.
    """
    rows, table = latency.as_named(record), []
    for row in sorted(rows, key=lambda row: latency.quantile(row, "p50")[0]):
        ratio = latency.ratio(row, rows)
        is_base = row["engine"] == latency.BASE and not row.get("variant")
        table.append({
            "engine": latency.name(row), "p50 (µs)": with_interval(latency.quantile(row, "p50")),
            **{f"{name} (µs)": f"{latency.quantile(row, name)[0]:,.0f}" for name in ("p90", "p99", "p99.9")},
            f"× {latency.BASE}": with_interval(ratio, 2) if ratio else "1" if is_base else "–",
            "accuracy (%)": row["accuracy"] if row.get("variant") != REPEATED_IMAGE else np.nan,  # of one image it says nothing
            "largest logit error": row["max_logit_error"],
            "load (s)": np.median([run["load_ns"] for run in row["runs"]]) / 1e9, "file (MB)": row["file_bytes"] / 1e6,
            "precision": row["precision"], "version": row["version"], "threads": row["threads"] or "–",
            "options": row["options"],
        })
    return pd.DataFrame(table)


def reasons(record: dict) -> list[str]:
    """What could not run here, or not in its precision, and why, a sentence each."""
    rows = record["measurements"]["engines"]
    coarse = [row for row in rows if "runs" in row and row not in latency.as_named(record)]
    return not_run(rows, latency.name) + [
        f"{latency.name(row)} is not compared: its logits are off by {row['max_logit_error']:.2g}, more than rounding in "
        f"{row['precision']} explains. It took {latency.quantile(row, 'mean')[0]:,.0f} µs in what it computed in; on an NVIDIA "
        "GPU a traced program allows TF32 by itself." for row in coarse]


def run_table(record: dict, series: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """A row for each engine and run: mean, quantiles and maximum (µs), and what is remarkable about the run."""
    rows = []
    for engine in record["measurements"]["engines"]:
        for number, run in enumerate(engine.get("runs", []), start=1):
            ns = series[engine["series"]][number - 1]
            low, high = statistics.quantile_interval(ns, 0.5)
            outliers = statistics.outliers(ns)
            rows.append({
                "engine": latency.name(engine), "run": number, "contended": "yes" if run.get("contended") else "",
                "mean (µs)": run["mean_ns"] / 1e3,
                "p50 (µs)": with_interval((run["p50_ns"] / 1e3, (low / 1e3, high / 1e3))),
                **{f"{name} (µs)": run[f"{name}_ns"] / 1e3 for name in ("p90", "p99", "p99.9", "max")},
                "first image (ms)": run["first_image_ns"] / 1e6, "outliers, mild": outliers["low_mild"] + outliers["high_mild"],
                "severe": outliers["low_severe"] + outliers["high_severe"],
                "context switches": run["involuntary_switches"],
                "others (%)": 100 * share if (share := run.get("background_load")) is not None else np.nan,  # not in older records
            })
    return pd.DataFrame(rows)


def sentence(record: dict) -> str:
    """Which engine is the fastest, and by how much: one sentence from the record."""
    rows = latency.compared(record)
    fastest = min(rows, key=lambda row: latency.quantile(row, "p50")[0])
    words = f"One image takes {with_interval(latency.quantile(fastest, 'p50'))} µs with {latency.name(fastest)}"
    if ratio := latency.ratio(fastest, rows):
        words += f", {with_interval(ratio, 2)} times what it takes with {latency.BASE}"
    runs = f"{len(latency.judged_runs(fastest))} runs of {fastest['images']:,} images"
    contended = sum(run.get("contended", False) for row in rows for run in row["runs"])
    return (f"{words} (medians). In the table each run's quantile is averaged over {runs}; the median and the ratio have their "
            "95% intervals. The figures pool the images of these runs. Other programs contended "
            f"{contended or 'none'} of the runs.")


def checks(record: dict) -> list[str]:
    """What the measurement's checks of itself found, a sentence each."""
    measured, sentences = record["measurements"], []
    rows = [row for row in measured["engines"] if "runs" in row]
    for row in rows:
        if row.get("variant") and (ratio := latency.ratio(row, rows)):
            times = with_interval(ratio, 3)
            sentences.append(f"{latency.BASE} {latency.VARIANTS[row['variant']]} takes {times} times {latency.BASE}'s latency.")
    loadgen = measured["loadgen"]
    if "reason" in loadgen:
        sentences.append(f"MLPerf's LoadGen did not run: {loadgen['reason']}")
    else:
        ours, theirs = (np.median(loadgen[name]) / 1e3 for name in ("ours_ns", "loadgen_ns"))
        times = with_interval(latency.loadgen_ratio(loadgen), 3)
        own = latency.loadgen_overhead(loadgen)
        sentences.append(f"With {loadgen['engine']}, MLPerf's LoadGen sees a p90 of {theirs:,.0f} µs, our timer "
                         f"{ours:,.0f} µs; ours is {times} times LoadGen's, the median of {len(loadgen['ours_ns'])} rounds of "
                         f"{loadgen['images']} images each, in turns."
                         + (f" LoadGen's own calls take {own / 1e3:,.0f} µs of an image's time." if own else ""))
    clock = measured["clock"]
    sentences.append(f"Reading the clock ({clock['name']}) costs {clock['cost_ns']:,.0f} ns; its smallest step is "
                     f"{clock['step_ns']:,} ns.")
    return sentences


def raw_times(times_us: np.ndarray) -> Picture:
    """The latency (µs) of one image after another, a dot each."""
    median = float(np.median(times_us))
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 2.8))
        axis.plot(times_us, ".", markersize=4)
        axis.axhline(median, color="black", linewidth=1)
        axis.set(xlabel="number of the image", ylabel="latency (µs)")
        return picture(figure, "raw_times", f"Half of {len(times_us)} images take less than {median:,.0f} µs",
                       "Latency of every image, in the order measured; the line is the median.",
                       f"{len(times_us)} latencies between {times_us.min():,.0f} and {times_us.max():,.0f} µs.")


def histogram(record: dict, series: Mapping[str, np.ndarray]) -> Picture:
    """A histogram for each engine, all runs together, one above the other on one logarithmic axis, the fastest on top."""
    series = _uncontended(record, series)
    engines, medians = _by_median(record, series)
    fastest, times = next(iter(engines)), {name: series[name].ravel() / 1e3 for name in engines}
    low, high = min(time.min() for time in times.values()), 1.05 * max(np.quantile(time, 0.998) for time in times.values())
    title = f"Half of the images take less than {medians[fastest]:,.0f} µs with {engines[fastest]}"
    with plt.rc_context({**STYLE, "axes.spines.left": False}):
        figure, axes = plt.subplots(len(engines), 1, sharex=True, squeeze=False, figsize=(8, 1.3 + 0.55 * len(engines)))
        for axis, (name, engine) in zip(axes[:, 0], engines.items()):
            axis.stairs(*np.histogram(times[name], np.geomspace(low, high, 200)), fill=True, color=engine_color(engine))
            beyond = int((times[name] > high).sum())
            axis.text(1.01, 0.3, f"p50 {medians[name]:,.0f} µs" + (f"\n{beyond:,} beyond" if beyond else ""), fontsize=9,
                      transform=axis.transAxes)
            axis.set(xscale="log", xlim=(low, high), yticks=[])
            axis.set_ylabel(engine, rotation=0, ha="right", va="center")
        plain_log_ticks(axes[-1][0], low, high)
        axes[-1][0].set_xlabel("latency of one image (µs, logarithmic)")
        return picture(figure, "latency_histogram", title,
                       "Every image of every run; each engine's histogram has its own height. "
                       "Beyond: images too slow for the axis.",
                       "Histograms of latency; median " + listed(f"{engines[n]} {m:,.0f} µs" for n, m in medians.items()),
                       _quantiles(times, engines))


def ecdf(record: dict, series: Mapping[str, np.ndarray]) -> Picture:
    """The share of images that take longer than a time, a line for each engine, both axes logarithmic: the tail at length."""
    series = _uncontended(record, series)
    engines, _ = _by_median(record, series)
    p99 = {name: float(np.quantile(series[name], 0.99)) / 1e3 for name in engines}
    slowest = max(p99, key=p99.get)
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots()
        for name, engine in engines.items():
            ordered = np.sort(series[name], axis=None) / 1e3
            beyond = 100 * (1 - np.arange(len(ordered)) / len(ordered))
            shown = np.unique(np.geomspace(1, len(ordered), 400, dtype=int))  # closest together where few are left
            axis.plot(ordered[-shown], beyond[-shown], "--" if engine.endswith("cudagraph") else "-",
                      color=engine_color(engine), linewidth=1.4, label=engine)
        axis.set(xscale="log", yscale="log", xlabel="latency of one image (µs, logarithmic)",
                 ylabel="images that take longer (%)")
        plain_log_ticks(axis, *_range_us(series, engines))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        figure.legend(loc="outside right center", frameon=False)
        title = f"One image in a hundred takes longer than {p99[slowest]:,.0f} µs with {engines[slowest]}"
        return picture(figure, "latency_ecdf", title,
                       "Share of images slower than a time (one minus the ECDF), all runs together.",
                       "99% quantile: " + listed(f"{engines[name]} {value:,.0f} µs" for name, value in p99.items()),
                       _quantiles({name: series[name].ravel() / 1e3 for name in engines}, engines), [axis])


def over_time(record: dict, series: Mapping[str, np.ndarray]) -> Picture:
    """Latency against the number of the image, a panel for each engine, all runs on top of each other."""
    uncontended = _uncontended(record, series)
    engines, _ = _by_median(record, uncontended)
    halves = {name: np.median(ns[:, ns.shape[1] // 2 :]) / np.median(ns[:, : ns.shape[1] // 2]) - 1
              for name, ns in uncontended.items()}
    most = max(halves, key=lambda name: abs(halves[name]))
    lines = -(-len(engines) // 2)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(lines, 2, squeeze=False, sharex=True, sharey=True, figsize=(8, 0.8 + 1.7 * lines))
        for axis in axes.flat[len(engines):]:
            axis.axis("off")
        for axis, (name, engine) in zip(axes.flat, engines.items()):
            for times, color in ((series[name], "0.8"), (uncontended[name], engine_color(engine))):  # on top: those that count
                for ns in times:
                    axis.plot(ns / 1e3, ",", color=color, rasterized=True)
            axis.set(yscale="log")
            axis.set_title(engine)
            plain_log_ticks(axis, *_range_us(series, engines), "y")
        figure.supxlabel("number of the image", fontsize=11)
        figure.supylabel("latency (µs, logarithmic)", fontsize=11)
        title = f"Within its runs, from first to second half, {engines[most]}'s median changes by {halves[most]:+.1%}"
        return picture(figure, "latency_over_time", title,
                       "Latency of every image in the order measured, all runs together; in gray runs that others contended.",
                       "Change of the median from the first to the second half of the runs: "
                       + listed(f"{engines[name]} {value:+.1%}" for name, value in halves.items()),
                       pd.DataFrame({"engine": engines[name], "change of the median (%)": 100 * value}
                                    for name, value in halves.items()))


def run_means(record: dict, series: Mapping[str, np.ndarray]) -> Picture:
    """The mean of every run against its engine's mean (%), beside a band as wide as the original's ten runs were apart."""
    engines, _ = _by_median(record, _uncontended(record, series))
    rows = {row["series"]: row for row in latency.compared(record)}
    means = {name: np.array([run["mean_ns"] / 1e3 for run in latency.judged_runs(rows[name])]) for name in engines}
    apart = {name: float(np.ptp(values)) for name, values in means.items()}
    shares = {name: latency.spread(rows[name], "mean") for name in engines}
    closest, widest = min(shares, key=shares.get), 120 * max(*shares.values(), 0.002)  # %, of the axis to either side
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 1.4 + 0.4 * len(engines)))
        axis.axvspan(-0.12, 0.12, color="0.85", linewidth=0)
        for number, (name, values) in enumerate(means.items()):
            axis.plot(100 * (values / values.mean() - 1), [number] * len(values), "o", color=engine_color(engines[name]),
                      alpha=0.7)
            contended = np.array([run["mean_ns"] / 1e3 for run in rows[name]["runs"] if run.get("contended")])
            apart_from_mean = np.clip(100 * (contended / values.mean() - 1), -widest, widest)
            axis.plot(apart_from_mean, [number] * len(contended), "x", color="0.6")
        axis.set(yticks=range(len(engines)), yticklabels=engines.values(), ylim=(len(engines) - 0.5, -0.5),
                 xlabel="mean of a run against the engine's mean (%)")
        title = f"At best, with {engines[closest]}, runs are {shares[closest]:.1%} apart"
        return picture(figure, "run_means", title,
                       "Mean of each run; contended ones, which do not count, are gray crosses, at the edge where beyond. The "
                       "band is 0.24% wide, as wide as the original's spread.",
                       "Difference between the slowest and the fastest run: "
                       + listed(f"{engines[name]} {apart[name]:,.0f} µs ({shares[name]:.1%})" for name in engines),
                       pd.DataFrame({"engine": engines[name], "apart (µs)": apart[name], "apart (%)": 100 * shares[name],
                                     **{f"run {number} (µs)": value for number, value in enumerate(means[name], start=1)}}
                                    for name in engines))


def _by_median(record: dict, series: Mapping[str, np.ndarray]) -> tuple[dict[str, str], dict[str, float]]:
    """Series name to display name, and to median (µs), of each engine that ran, the fastest first."""
    names = {row["series"]: latency.name(row) for row in latency.compared(record)}
    medians = {name: float(np.median(series[name])) / 1e3 for name in names}
    order = sorted(names, key=medians.get)
    return {name: names[name] for name in order}, {name: medians[name] for name in order}


def _uncontended(record: dict, series: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The series of the engines compared, without the runs that others contended and that do not count."""
    judged = {row["series"]: [id(run) for run in latency.judged_runs(row)] for row in latency.compared(record)}
    return {row["series"]: series[row["series"]][[id(run) in judged[row["series"]] for run in row["runs"]]]
            for row in latency.compared(record)}


def _quantiles(times: Mapping[str, np.ndarray], names: Mapping[str, str]) -> pd.DataFrame:
    """How the latencies (µs) of each series are spread, by `names`."""
    shares = {"fastest (µs)": 0, "p25 (µs)": 0.25, "p50 (µs)": 0.5, "p75 (µs)": 0.75, "p90 (µs)": 0.9, "p99 (µs)": 0.99,
              "p99.9 (µs)": 0.999, "slowest (µs)": 1}
    rows = []
    for name, values in times.items():
        quantiles = np.quantile(values, list(shares.values()))
        rows.append({"engine": names[name], "images": len(values), **dict(zip(shares, quantiles))})
    return pd.DataFrame(rows)


def _range_us(series: Mapping[str, np.ndarray], names: Iterable[str]) -> tuple[float, float]:
    times = np.concatenate([series[name].ravel() for name in names]) / 1e3
    return float(times.min()), float(times.max())

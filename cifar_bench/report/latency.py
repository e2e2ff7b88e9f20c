"""Figures, tables and sentences of latencies."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import StrMethodFormatter

from cifar_bench.analysis import latency
from cifar_bench.records import REPEATED_IMAGE
from cifar_bench.report.style import STYLE, Picture, engine_color, picture, plain_log_ticks
from cifar_bench.report.words import not_run, speedup, times_faster, with_interval


def table(record: Mapping) -> pd.DataFrame:
    """A row for each engine: quantiles (µs), speedup of the median, accuracy (%), logit error, load time (s), size (MB).

    Quantiles are means over the runs; the median and the speedup have their 95% interval over the runs.
    """
    rows, table = latency.valid_rows(record), []
    for row in sorted(rows, key=lambda row: latency.quantile(row, "p50")[0]):
        ratio = latency.ratio(row, rows)
        table.append({
            "engine": latency.name(row), "p50 (µs)": with_interval(latency.quantile(row, "p50")),
            **{f"{name} (µs)": f"{latency.quantile(row, name)[0]:,.0f}" for name in ("p90", "p99", "p99.9")},
            f"speedup over {latency.BASE}": speedup(*ratio) if ratio else "–",
            "accuracy (%)": row["accuracy"] if row["variant"] != REPEATED_IMAGE else np.nan,  # of one image it says nothing
            "max logit error": row["max_logit_error"],
            "load (s)": np.median([run["load_ns"] for run in row["runs"]]) / 1e9, "file (MB)": row["file_bytes"] / 1e6,
            "precision": row["precision"], "version": row["version"], "threads": row["threads"] or "–",
            "options": row["options"],
        })
    return pd.DataFrame(table)


def reasons(record: Mapping) -> list[str]:
    """What did not run here, or not in its precision, and why, a sentence each."""
    rows, valid = record["measurements"]["engines"], latency.valid_rows(record)
    return not_run(rows, latency.name) + [
        f"{latency.name(row)} is not compared: its logits are off by {row['max_logit_error']:.2g}, more than rounding in "
        f"{row['precision']} explains (on an NVIDIA GPU a traced program enables TF32 by itself). Its mean latency is "
        f"{latency.quantile(row, 'mean')[0]:,.0f} µs." for row in rows if "runs" in row and row not in valid]


def run_table(record: Mapping) -> pd.DataFrame:
    """A row for each engine and run: mean, quantiles and maximum (µs), and what else was measured during the run."""
    return pd.DataFrame({
        "engine": latency.name(row), "run": number, "contended": "yes" if run["contended"] else "",
        **{f"{name} (µs)": run[f"{name}_ns"] / 1e3 for name in ("mean", "p50", "p90", "p99", "p99.9", "max")},
        "first image (ms)": run["first_image_ns"] / 1e6, "context switches": run["involuntary_switches"],
        "background load (%)": np.nan if run["background_load"] is None else 100 * run["background_load"],
    } for row in record["measurements"]["engines"] for number, run in enumerate(row.get("runs", []), start=1))


def sentence(record: Mapping) -> str:
    """Which engine is the fastest, and by how much."""
    rows = latency.compared_engines(record)
    runs = [run for row in rows for run in row["runs"]]
    fastest = min(rows, key=lambda row: latency.quantile(row, "p50")[0])
    median, ratio = latency.quantile(fastest, "p50")[0], latency.ratio(fastest, rows)
    faster = f", {times_faster(ratio[0])} than {latency.BASE}" if ratio else ""
    return (f"{latency.name(fastest)} is the fastest: median latency {median:,.0f} µs{faster}. The table's quantiles are "
            f"means over {len(latency.judged_runs(fastest))} runs of {fastest['images']:,} images; figures pool the runs. "
            f"{sum(run['contended'] for run in runs) or 'None'} of the {len(runs)} runs were contended.")


def checks(record: Mapping) -> list[str]:
    """What the measurement's checks of itself found, a sentence each."""
    measured, sentences = record["measurements"], []
    rows = [row for row in measured["engines"] if "runs" in row]
    for row in rows:
        if row["variant"] and (ratio := latency.ratio(row, rows)):
            sentences.append(f"In the {latency.VARIANTS[row['variant']]}, {latency.BASE}'s median latency is "
                             f"{with_interval(ratio, 3)} times that of its ordinary runs.")
    loadgen, clock = measured["loadgen"], measured["clock"]
    if "reason" in loadgen:
        sentences.append(f"MLPerf's LoadGen did not run: {loadgen['reason']}")
    else:
        ours, theirs = (np.median(loadgen[name]) / 1e3 for name in ("ours_ns", "loadgen_ns"))
        sentences.append(
            f"MLPerf's LoadGen measures a p90 of {theirs:,.0f} µs for {loadgen['engine']}, our timer {ours:,.0f} µs; ours is "
            f"{with_interval(latency.loadgen_ratio(loadgen), 3)} times LoadGen's, the median of {len(loadgen['ours_ns'])} "
            f"interleaved rounds of {loadgen['images']} images each. LoadGen's own calls add "
            f"{latency.loadgen_overhead(loadgen) / 1e3:,.0f} µs per image.")
    return [*sentences, f"Reading the clock ({clock['name']}) costs {clock['cost_ns']:,.0f} ns; its smallest step is "
                        f"{clock['step_ns']:,} ns."]


def histogram(record: Mapping, series: Mapping[str, np.ndarray]) -> Picture:
    """A histogram for each engine, all runs pooled, one above the other on one logarithmic axis, the fastest on top."""
    times = _pooled(record, series)
    medians = {engine: np.median(values) for engine, values in times.items()}
    fastest = next(iter(times))
    low, high = min(map(np.min, times.values())), 1.05 * max(np.quantile(values, 0.998) for values in times.values())
    with plt.rc_context({**STYLE, "axes.spines.left": False}):
        figure, axes = plt.subplots(len(times), 1, sharex=True, squeeze=False, figsize=(8, 1.3 + 0.55 * len(times)))
        for axis, (engine, values) in zip(axes[:, 0], times.items()):
            axis.stairs(*np.histogram(values, np.geomspace(low, high, 200)), fill=True, color=engine_color(engine))
            beyond = int((values > high).sum())
            axis.text(1.01, 0.3, f"p50 {medians[engine]:,.0f} µs" + (f"\n{beyond:,} beyond" if beyond else ""), fontsize=9,
                      transform=axis.transAxes)
            axis.set(xscale="log", xlim=(low, high), yticks=[])
            axis.set_ylabel(engine, rotation=0, ha="right", va="center")
        plain_log_ticks(axes[-1][0].xaxis)
        axes[-1][0].set_xlabel("per-image latency (µs, logarithmic)")
        return picture(figure, "latency_histogram", f"{fastest} has the lowest median latency, {medians[fastest]:,.0f} µs",
                       "All images of all runs; each engine's histogram has its own height. Beyond: images slower than the "
                       "axis shows.", _quantiles(times))


def ecdf(record: Mapping, series: Mapping[str, np.ndarray]) -> Picture:
    """The share of images slower than a latency, a line for each engine, both axes logarithmic."""
    times = _pooled(record, series)
    p99 = {engine: np.quantile(values, 0.99) for engine, values in times.items()}
    slowest = max(p99, key=p99.get)
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots()
        for engine, values in times.items():
            ordered = np.sort(values)
            slower = 100 * (1 - np.arange(len(ordered)) / len(ordered))
            shown = np.unique(np.geomspace(1, len(ordered), 400, dtype=int))  # most points in the tail, where images are few
            axis.plot(ordered[-shown], slower[-shown], "--" if engine.endswith("cudagraph") else "-",
                      color=engine_color(engine), linewidth=1.4, label=engine)
        axis.set(xscale="log", yscale="log", xlabel="per-image latency (µs, logarithmic)", ylabel="slower images (%)")
        plain_log_ticks(axis.xaxis)
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        figure.legend(loc="outside right center", frameon=False)
        return picture(figure, "latency_ecdf", f"{slowest} has the highest p99 latency, {p99[slowest]:,.0f} µs",
                       "Share of the images slower than a latency (1 − ECDF), all runs pooled.", _quantiles(times))


def run_means(record: Mapping, series: Mapping[str, np.ndarray]) -> Picture:
    """The mean of every run relative to its engine's mean (%), with a band as wide as the spread of the original's ten runs."""
    rows = {latency.name(row): row for row in latency.compared_engines(record)}
    rows = {engine: rows[engine] for engine in _pooled(record, series)}
    means = {engine: _means(latency.judged_runs(row)) for engine, row in rows.items()}
    spreads = {engine: 100 * latency.spread(row, "mean") for engine, row in rows.items()}
    best, edge = min(spreads, key=spreads.get), 1.2 * max(*spreads.values(), 0.2)  # %, to either side
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 1.4 + 0.4 * len(rows)))
        axis.axvspan(-0.12, 0.12, color="0.85", linewidth=0)
        for number, (engine, values) in enumerate(means.items()):
            axis.plot(100 * (values / values.mean() - 1), [number] * len(values), "o", color=engine_color(engine), alpha=0.7)
            contended = _means([run for run in rows[engine]["runs"] if run["contended"]])
            axis.plot(np.clip(100 * (contended / values.mean() - 1), -edge, edge), [number] * len(contended), "x", color="0.6")
        axis.set(yticks=range(len(rows)), yticklabels=list(rows), ylim=(len(rows) - 0.5, -0.5),
                 xlabel="mean of a run relative to the engine's mean (%)")
        return picture(figure, "run_means", f"The runs of {best} have the smallest spread, {spreads[best]:.1f}% of their mean",
                       "Dots: means of the runs that count. Gray crosses: contended runs, at the edge where beyond the axis. "
                       "Band: 0.24% wide, the spread of the original's ten runs.",
                       pd.DataFrame({"engine": engine, "spread (µs)": np.ptp(values), "spread (%)": spreads[engine],
                                     **{f"run {number} (µs)": value for number, value in enumerate(values, start=1)}}
                                    for engine, values in means.items()))


def _means(runs: list[dict]) -> np.ndarray:
    """The mean of each run (µs)."""
    return np.array([run["mean_ns"] / 1e3 for run in runs])


def _pooled(record: Mapping, series: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The latencies (µs) of the images of the runs that count, by engine, the lowest median first."""
    pooled = {}
    for row in latency.compared_engines(record):
        judged = [id(run) for run in latency.judged_runs(row)]
        kept = [number for number, run in enumerate(row["runs"]) if id(run) in judged]
        pooled[latency.name(row)] = series[row["series"]][kept].ravel() / 1e3
    return dict(sorted(pooled.items(), key=lambda item: np.median(item[1])))


def _quantiles(times: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Quantiles of the latencies (µs) of each engine, 0 the lowest and 1 the highest."""
    series = pd.DataFrame({engine: pd.Series(values) for engine, values in times.items()})
    quantiles = series.quantile([0, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1]).T
    return quantiles.add_prefix("quantile ").add_suffix(" (µs)").reset_index(names="engine")

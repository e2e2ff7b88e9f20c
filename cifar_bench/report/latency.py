"""Figures, tables and sentences of latencies."""

from collections.abc import Mapping, Sequence
from itertools import chain

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from cifar_bench.analysis import latency, states
from cifar_bench.records import REPEATED_IMAGE
from cifar_bench.report.style import GRAY, HIGHLIGHT, STYLE, TEXT, Picture, picture, set_range
from cifar_bench.report.words import listed, not_run, speedup, times_faster, with_interval

DISTURBED = {(False, False): "", (True, False): "contended", (False, True): "state changed", (True, True): "contended"}
PROBES = {"clock_ghz": "clock (GHz)", "multiply_adds_per_ns": "multiply-adds per ns", "round_trip_ns": "round trip (ns)"}
STATE_LINES = ("-", ":", "--", "-.")


def table(record: Mapping) -> pd.DataFrame:
    """A row for each engine: quantiles (µs), speedup of the median, accuracy (%), logit error, load time (s), size (MB).

    Quantiles are medians over the runs; the first has its lowest and highest run, the speedup its 95% interval over the rounds.
    """
    rows, table = latency.valid_rows(record), []
    for row in sorted(rows, key=lambda row: latency.quantile(row)[0]):
        ratio = latency.ratio(row, rows)
        table.append({
            "engine": latency.name(row), "median (µs)": with_interval(latency.quantile(row)),
            "p99 (µs)": f"{latency.quantile(row, 'p99')[0]:,.0f}",
            f"speedup over {latency.BASE}": speedup(*ratio) if ratio else "–",
            # of one image it says nothing
            "accuracy (%)": row["accuracy"] if row["variant"] != REPEATED_IMAGE else np.nan,
            **{f"{name} (µs)": f"{latency.quantile(row, name)[0]:,.0f}" for name in ("p90", "p99.9")},
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
        f"{latency.mean(row)[0]:,.0f} µs." for row in rows if "runs" in row and row not in valid]


def machine(record: Mapping) -> str:
    """The hardware of a record with all that is known of it: cores, virtual machine or not, measured clock, memory, threads."""
    environment = record["environment"]
    cpu, words = environment["cpu"], [environment["hardware"]]
    rows = [row for row in record["measurements"].get("engines", []) if "runs" in row]
    clocks = [ghz for row in rows for run in row["runs"] if (ghz := states.reading(run).get("clock_ghz"))]
    if cpu.get("physical_cores") and cpu["physical_cores"] < cpu["logical_cores"]:
        words.append(f"{cpu['logical_cores']} hyperthreads on {cpu['physical_cores']} physical cores")
    if cpu.get("virtual_machine") is not None:
        words.append("virtual machine" if cpu["virtual_machine"] else "no virtual machine")
    words.append(f"{np.median(clocks):.1f} GHz measured" if clocks else "clock not measured")
    if memory := cpu.get("memory_bytes"):
        words.append(f"{memory / 2**30:.0f} GiB of memory")
    return ", ".join(words)


def run_table(record: Mapping) -> pd.DataFrame:
    """A row for each engine and run: mean, quantiles and maximum (µs), and what else was measured during the run."""
    return pd.DataFrame({
        "engine": latency.name(row), "run": number, "disturbed": DISTURBED[run["contended"], states.changed(run)],
        **{f"{name} (µs)": run[f"{name}_ns"] / 1e3 for name in ("mean", "p50", "p90", "p99", "p99.9", "max")},
        "first image (ms)": run["first_image_ns"] / 1e6, "background load (cores)": run.get("background_cores"),
        **{name: states.reading(run).get(probe) for probe, name in PROBES.items()},
    } for row in record["measurements"]["engines"] for number, run in enumerate(row.get("runs", []), start=1))


def sentence(record: Mapping) -> str:
    """Which engine is the fastest, and by how much."""
    rows = latency.compared_engines(record)
    runs = [run for row in record["measurements"]["engines"] for run in row.get("runs", [])]  # as the warnings count them
    fastest = min(rows, key=lambda row: latency.quantile(row)[0])
    median, ratio = latency.quantile(fastest)[0], latency.ratio(fastest, rows)
    faster = f", {times_faster(ratio[0])} than {latency.BASE}" if ratio else ""
    return (f"{latency.name(fastest)} is the fastest: median latency {median:,.0f} µs{faster}. Quantiles are "
            f"medians over {len(latency.judged_runs(fastest))} runs of {fastest['images']:,} images, each after a warm-up of "
            f"{record['parameters']['warmup']:,}. "
            f"{sum(run['contended'] for run in runs) or 'None'} of the {len(runs)} runs, checks included, were contended by "
            "other programs.")


def states_sentence(record: Mapping) -> str:
    """Which states of the machine the probes saw, and how much of the engines' variance they explain."""
    rows = latency.compared_engines(record)
    judged = [run for row in rows for run in latency.judged_runs(row)]
    if not any(states.reading(run) for run in judged):
        return "The state of the machine was not probed."
    seen = listed(f"{states.name(group)} ({len(group)} runs)" for group in states.grouped(judged))
    changed = sum(states.changed(run) for row in record["measurements"]["engines"] for run in row.get("runs", []))
    words = f"Probes between the runs saw {seen}. In {changed or 'none'} of the runs, checks included, the state changed."
    explained = {latency.name(row): states.explained(latency.judged_runs(row)) for row in rows}
    explained = {engine: share for engine, share in explained.items() if share is not None}
    if explained:
        of = listed(f"{share:.0%} with {engine}" for engine, share in sorted(explained.items(), key=lambda item: -item[1]))
        words += f" Of the variance of an engine's medians, states explain {of}."
    return words


def states_table(record: Mapping) -> pd.DataFrame:
    """A row for all judged runs of each engine, and for each of several states of the machine with at least three of them."""
    rows = []
    for row in latency.compared_engines(record):
        runs = latency.judged_runs(row)
        groups = states.grouped(runs) if states.explained(runs) is not None else []  # one state is all there is
        named = [(states.name(group), group) for group in groups if len(group) >= latency.MIN_RUNS]
        for name, group in [("all", runs), *named]:
            medians = [run["p50_ns"] / 1e3 for run in group]
            rows.append({"engine": latency.name(row), "state": name, "runs": len(group), "p50 (µs)": np.median(medians),
                         "spread (%)": 100 * float(np.ptp(medians) / np.mean(medians))})
    return pd.DataFrame(rows)


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
        rest = np.median(np.subtract(loadgen["within_loadgen_ns"], loadgen["ours_ns"])) / 1e3
        ratio = latency.loadgen_ratio(loadgen)
        sentences.append(
            f"MLPerf's LoadGen measures a p90 of {theirs:,.0f} µs for {loadgen['engine']}, our timer {ours:,.0f} µs; ours is "
            f"{with_interval(ratio, 3)} times LoadGen's, the median of {len(loadgen['ours_ns'])} interleaved rounds of "
            f"{loadgen['images']} images each. LoadGen's own calls add "
            f"{latency.loadgen_overhead(loadgen) / 1e3:,.0f} µs per image"
            + (f"; the rest, {rest:,.0f} µs in the median round, remains unexplained: the same call takes longer inside "
               "LoadGen's loop." if ratio[1][1] < 1 and rest > 0 else "."))
    return [*sentences, f"Reading the clock ({clock['name']}) costs {clock['cost_ns']:,.0f} ns; its smallest step is "
                        f"{clock['step_ns']:,} ns."]


def histogram(record: Mapping, series: Mapping[str, np.ndarray]) -> Picture:
    """A histogram for each engine, all runs pooled, one above the other on one axis, the fastest on top.

    Lines outline the states of the machine, where an engine ran in several: each has a hump of its own.
    """
    by_run = _by_run(record, series)
    times, medians = _pooled(by_run), {latency.name(row): latency.quantile(row)[0] for row in latency.compared_engines(record)}
    fastest = next(iter(times))
    groups = {engine: states.grouped(run for run, _ in runs) for engine, runs in by_run.items()}
    several = {engine: of for engine, of in groups.items() if len(of) > 1}
    seen = states.grouped(chain.from_iterable(chain.from_iterable(several.values()))) if several else []
    low, high = min(map(np.min, times.values())), 1.05 * max(np.quantile(values, 0.99) for values in times.values())
    bins = (np.geomspace if high >= 10 * low else np.linspace)(low, high, 120)
    with plt.rc_context({**STYLE, "axes.spines.left": False}):
        figure, axes = plt.subplots(len(times), 1, sharex=True, squeeze=False,
                                    figsize=(5.2, 0.6 + 0.45 * len(times) + 0.2 * len(seen)))
        for axis, (engine, values) in zip(axes[:, 0], times.items()):
            color = HIGHLIGHT if engine == fastest else GRAY
            axis.stairs(*np.histogram(values, bins), fill=True, color=color)
            for line, group in zip(STATE_LINES, several.get(engine, [])):
                us = [us for run, us in by_run[engine] if any(run is other for other in group)]
                axis.stairs(*np.histogram(us, bins), color="black", linestyle=line, linewidth=0.8)
            beyond = int((values > high).sum())
            label = f"{engine}: median {medians[engine]:,.0f} µs" + (f"; {beyond:,} off the axis" if beyond else "")
            axis.set_title(label, pad=2, color=color if engine == fastest else TEXT)
            axis.set(yticks=[])
            scale = set_range(axis.xaxis, low, high)
        axes[-1][0].set_xlabel(f"per-image latency (µs{scale})")
        if several:
            figure.legend(handles=[Line2D([], [], color="black", linestyle=line, linewidth=0.8, label=states.name(group))
                                   for line, group in zip(STATE_LINES, seen)], loc="outside lower left")
        return picture(figure, "latency_histogram", f"{fastest} has the lowest median latency, {medians[fastest]:,.0f} µs",
                       "All images of all runs; each engine's histogram has its own height. Beside the name: the median over "
                       "the runs' medians, and how many images are slower than the axis shows."
                       + bool(several) * " Lines: the machine's states, which make several humps.", _quantiles(times))


def run_means(record: Mapping) -> Picture:
    """The mean of every run relative to its engine's mean (%), with a band as wide as the spread of the original's ten runs."""
    rows = sorted(latency.compared_engines(record), key=lambda row: latency.quantile(row)[0])
    rows = {latency.name(row): row for row in rows}
    means = {engine: _means(latency.judged_runs(row)) for engine, row in rows.items()}
    spreads = {engine: 100 * latency.spread(row, "mean") for engine, row in rows.items()}
    best, edge = min(spreads, key=spreads.get), 1.2 * max(*spreads.values(), 0.2)  # %, to either side
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(5.2, 0.8 + 0.24 * len(rows)))
        axis.axvspan(-0.12, 0.12, color="0.85", linewidth=0)
        axis.text(0, -0.75, "the original's ten runs: 0.24%", ha="center", color=TEXT)
        axis.text(1, -0.75, "spread", transform=axis.get_yaxis_transform(), ha="right", color=TEXT)
        for number, (engine, values) in enumerate(means.items()):
            color = HIGHLIGHT if engine == best else GRAY
            axis.plot(100 * (values / values.mean() - 1), [number] * len(values), "o", color=color, alpha=0.7)
            contended = _means([run for run in rows[engine]["runs"] if run["contended"]])
            axis.plot(np.clip(100 * (contended / values.mean() - 1), -edge, edge), [number] * len(contended), "x", color=GRAY)
            axis.text(1, number, f"{spreads[engine]:.1f}%", transform=axis.get_yaxis_transform(), ha="right", va="center",
                      color=color if engine == best else TEXT)
        axis.set(yticks=range(len(rows)), yticklabels=list(rows), ylim=(len(rows) - 0.5, -1.4),
                 xlabel="mean of a run relative to the engine's mean (%)")
        axis.set_xlim(right=1.3 * axis.get_xlim()[1])  # room for the spread
        return picture(figure, "run_means", f"The runs of {best} have the smallest spread, {spreads[best]:.1f}% of their mean",
                       "Dots: means of the runs that count. Crosses: contended runs, at the edge where beyond the axis. "
                       "Spread: max − min, relative to the mean; the band is as wide as that of the original's ten runs.",
                       pd.DataFrame({"engine": engine, "spread (µs)": np.ptp(values), "spread (%)": spreads[engine],
                                     **{f"run {number} (µs)": value for number, value in enumerate(values, start=1)}}
                                    for engine, values in means.items()))


def _means(runs: list[dict]) -> np.ndarray:
    """The mean of each run (µs)."""
    return np.array([run["mean_ns"] / 1e3 for run in runs])


def _by_run(record: Mapping, series: Mapping[str, np.ndarray]) -> dict[str, list[tuple[dict, np.ndarray]]]:
    """By engine, the runs that count, each with its images' latencies (µs), the lowest median first."""
    by_run = {}
    for row in sorted(latency.compared_engines(record), key=lambda row: latency.quantile(row)[0]):
        judged = [id(run) for run in latency.judged_runs(row)]
        by_run[latency.name(row)] = [(run, ns / 1e3) for run, ns in zip(row["runs"], series[row["series"]], strict=True)
                                     if id(run) in judged]
    return by_run


def _pooled(by_run: Mapping[str, Sequence[tuple[dict, np.ndarray]]]) -> dict[str, np.ndarray]:
    """The latencies (µs) of all images, by engine."""
    return {engine: np.concatenate([us for _, us in runs]) for engine, runs in by_run.items()}


def _quantiles(times: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Quantiles of the latencies (µs) of each engine, all runs pooled, 0 the lowest and 1 the highest."""
    series = pd.DataFrame({engine: pd.Series(values) for engine, values in times.items()})
    quantiles = series.quantile([0, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1]).T
    return quantiles.add_prefix("pooled quantile ").add_suffix(" (µs)").reset_index(names="engine")

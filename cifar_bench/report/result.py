"""The one picture that tells the result, and machines side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml
from matplotlib.axes import Axes

from cifar_bench.analysis import frontier, latency, precision, statistics
from cifar_bench.analysis.evidence import THIS_RUN, Evidence
from cifar_bench.report.style import STYLE, Picture, listed, picture, plain_log_ticks, with_interval
from cifar_bench.report.training import accuracy_interval, on_the_test_images
from cifar_lib import ROOT

THEIRS = {"color": "C1", "fmt": "D"}
OURS = {"color": "C0", "fmt": "o"}
EARLIER = {**OURS, "markerfacecolor": "white"}
MACHINES = ["C0", "C2", "C3", "C5", "C6", "C7"]  # the palette without what stands for others' numbers


@dataclass(frozen=True)
class Row:
    """A number in the picture, with its interval where it has one; a range alone has no value."""

    name: str
    value: float | None
    interval: statistics.Interval | None = None
    style: Mapping = field(default_factory=dict)

    @property
    def text(self) -> str:
        ends = self.interval or (self.value, self.value)
        digits = 0 if ends[1] > 100 else 2  # times; accuracies and ratios are smaller
        if self.value is None:
            return f"{ends[0]:,.{digits}f} to {ends[1]:,.{digits}f}"
        return with_interval((self.value, ends), digits) if self.interval else f"{self.value:,.{digits}f}"


@dataclass(frozen=True)
class Panel:
    """Numbers of one kind, one above the other."""

    what: str
    rows: Sequence[Row]
    logarithmic: bool = True
    line: float | None = None  # where nothing would have changed


def overview(
    claims: Sequence[Mapping], trainings: Sequence[Evidence], timed: Mapping | None, half: Mapping | None, fast: Mapping | None,
    elsewhere: Sequence[Mapping] = (),
) -> Picture | None:
    """The original's numbers and ours: accuracy after full trainings, latency, its spread, half precision, the fastest ways.

    `timed`, `half` and `fast` are records of 3_latency, 4_half_precision and 5_faster, `elsewhere` those of 3_latency on other
    hardware. What is not there is left out, and so is `fast` where its accuracy is not that of all test images; None where
    nothing is there.
    """
    original = {claim["id"]: claim for claim in claims}
    accuracy, panels = original["tenth-of-the-time"]["accuracy"], []
    networks = frontier.ran(fast) if fast and on_the_test_images(fast) else []
    if trainings:
        panels.append(_accuracies(original["accuracy-five-runs"]["range"], trainings))
    if timed:
        panels.append(Panel("mean latency of one image (µs)", [
            Row("original, P100", original["latency-p100"]["limit_us"], style=THEIRS), *_latencies(timed),
            *(row for record in elsewhere for row in _judged_and_fastest(original["newer-gpu"], record))]))
        panels += _spread(original["run-spread"], timed)
    if half and (rows := [row for row in precision.ran(half) if "ratio" in row]):
        panels.append(Panel("latency as a multiple of float32's", [
            Row(precision.name(row), row["ratio"], tuple(row["ratio_interval"]), OURS) for row in rows], line=1))
    panels += _fastest(accuracy, networks)
    if not panels:
        return None
    title = "What the original said, and what was found here"
    if timed:
        fastest, theirs = min(_latencies(timed), key=lambda row: row.value), original["latency-p100"]["limit_us"]
        times = fastest.value / theirs
        title = (f"In float32 one image takes {fastest.text.split(' ')[0]} µs here with {fastest.name}, "
                 f"{times:,.{1 if times < 10 else 0}f} times the P100's {theirs} µs")
        if winner := frontier.fastest_at(networks, accuracy):
            title += f"; the fastest at {accuracy:g}% takes {winner['us']:,.0f} µs ({frontier.short_name(winner)})"
    with plt.rc_context(STYLE):
        lines = [len(panel.rows) for panel in panels]
        figure, axes = plt.subplots(len(panels), 1, squeeze=False, figsize=(8, sum(lines) * 0.3 + 0.85 * len(panels)),
                                    height_ratios=lines)
        for axis, panel in zip(axes[:, 0], panels):
            _draw(axis, panel)
        numbers = pd.DataFrame({"what": panel.what, "of": row.name, "number": row.text}
                               for panel in panels for row in panel.rows)
        return picture(
            figure, "result", title,
            "Orange: the original, on a P100 in 2018; its bar is the range of five runs. Blue: this run, "
            "with 95% intervals; hollow: recorded earlier, elsewhere perhaps. Axes of times are logarithmic. The "
            "ends of sections 1, 3, 4 and 5 name the records.",
            "; ".join(f"{row.what}, {row.of}: {row.number}" for row in numbers.itertuples()) + ".", numbers)


def machines(timed: Mapping[str, Mapping]) -> Picture:
    """Mean latency of every engine in the 3_latency records of several runs (by name), beside what others published."""
    ours = [Row(f"{row.name} ({run})", row.value, row.interval, {**OURS, "color": MACHINES[number % len(MACHINES)]})
            for number, (run, record) in enumerate(timed.items()) for row in _latencies(record)]
    published = [Row(f"{entry['who'].split(':')[0]} ({entry['hardware']}, {str(entry['date'])[:4]})", entry["mean_us"],
                     style=THEIRS) for entry in _published("latencies")]
    rows = sorted([*ours, *published], key=lambda row: row.value)
    fastest = min(ours, key=lambda row: row.value)
    where = listed(f"{run} is {record['environment']['hardware']}" for run, record in timed.items())
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 1.2 + 0.28 * len(rows)))
        _draw(axis, Panel("mean latency of one image (µs), logarithmic", rows))
        return picture(
            figure, "machines", f"In float32 the fastest of this project is {fastest.name}: {fastest.value:,.0f} µs",
            f"Circles: measured by this project, with 95% intervals, a color for each run; {where}. "
            "Diamonds: published, on other hardware, each timed in its own way. The records: "
            + listed(f"results/{run}/latency/record.json" for run in timed) + ".",
            "Mean latency of one image (µs): " + "; ".join(f"{row.name} {row.text}" for row in rows) + ".",
            pd.DataFrame({"what": row.name, "mean (µs)": row.text,
                          "source": "published" if row in published else "measured by this project"} for row in rows))


def machines_table(timed: Mapping[str, Mapping], half: Mapping[str, Mapping]) -> pd.DataFrame:
    """A row for each run and engine: mean latency (µs), how far its runs are apart, and its best ratio to float32."""
    rows = []
    for run, record in timed.items():
        others = [row for row in precision.ran(half[run]) if "ratio" in row] if run in half else []
        for row in latency.compared(record):
            runs = len(latency.judged_runs(row))
            same_engine = [other for other in others if other["engine"] == row["engine"]]
            best = min(same_engine, key=lambda other: other["ratio"], default=None)
            ratio = f"{best['precision']} {with_interval((best['ratio'], best['ratio_interval']), 2)}" if best else None
            rows.append({
                "run": run, "engine": row["engine"],
                "mean (µs)": with_interval(latency.quantile(row, "mean")), "p99 (µs)": latency.quantile(row, "p99")[0],
                "runs × images": f"{runs} × {row['images']:,}", "runs apart (%)": 100 * latency.spread(row, "mean"),
                "best other precision, × float32": ratio,
            })
    return pd.DataFrame(rows)


def claims_table(claims: Sequence[Mapping], verdicts: Mapping[str, Sequence[Mapping]]) -> pd.DataFrame:
    """A row for each claim about time: what every run found by its own measurements, from its verdicts."""
    rows = []
    for number, claim in enumerate(claims):
        if claim["step"] in ("latency", "half_precision", "faster"):
            judged = {run: of_run[number] for run, of_run in verdicts.items()}
            own = {run: all(item["when"] == THIS_RUN for item in verdict["evidence"]) for run, verdict in judged.items()}
            found = {run: f"{verdict['verdict']}: {verdict['ours']}".removesuffix(": –") if own[run] else "–"
                     for run, verdict in judged.items()}
            rows.append({"claim": claim["short"], **found})
    return pd.DataFrame(rows)


def published_table() -> pd.DataFrame:
    """A row for each latency that others published (published.yaml): on what, how much (mean, µs), how it was timed."""
    return pd.DataFrame({"published": row["who"], "hardware": row["hardware"], "date": str(row["date"]),
                         "mean (µs)": row["mean_us"], "accuracy (%)": row["accuracy"], "timing": row["timing"]}
                        for row in _published("latencies"))


def training_cost(trainings: Sequence[Evidence]) -> Picture:
    """The mean accuracy over seeds against what one training costs (PFLOP), for each way in which it was trained in full.

    Beside them stand the trainings that others published.
    """
    alike: dict[tuple[str, int], list[Evidence]] = {}
    for training in trainings:
        alike.setdefault((training.record["parameters"]["recipe"], len(training.measured["epochs"])), []).append(training)
    rows = []
    for (recipe, epochs), seeds in alike.items():
        accuracies = [seed.measured["accuracy"] for seed in seeds]
        seconds = [epochs * np.median([row["train_seconds"] for row in seed.measured["epochs"]]) for seed in seeds]
        hardware = listed(sorted({seed.record["environment"]["hardware"] for seed in seeds}))
        rows.append({"training": f"{recipe} recipe, {epochs} epochs", "PFLOP": seeds[0].measured["pflop"],
                     "accuracy (%)": np.mean(accuracies), "seeds": str(len(seeds)), "lowest": min(accuracies),
                     "highest": max(accuracies), "views": "1", "minutes, without scoring": np.mean(seconds) / 60,
                     "hardware": hardware})
    theirs = [{"training": entry["who"], "PFLOP": entry["pflop"], "accuracy (%)": entry["accuracy"], "seeds": "published",
               "lowest": None, "highest": None, "views": str(entry["views"]), "minutes, without scoring": entry["seconds"] / 60,
               "hardware": entry["hardware"]} for entry in _published("trainings")]
    cheapest = min(rows, key=lambda row: row["PFLOP"])
    title = f"{cheapest['accuracy (%)']:.2f}% costs {cheapest['PFLOP']:.1f} PFLOP by the {cheapest['training'].split(',')[0]}"
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 3.6))
        for row in rows:
            middle = row["accuracy (%)"]
            axis.errorbar([row["PFLOP"]], [middle], yerr=[[middle - row["lowest"]], [row["highest"] - middle]], capsize=3,
                          **OURS)
        axis.plot([row["PFLOP"] for row in theirs], [row["accuracy (%)"] for row in theirs], THEIRS["fmt"],
                  color=THEIRS["color"])
        for row in [*rows, *theirs]:
            axis.annotate(row["training"], (row["PFLOP"], row["accuracy (%)"]), (6, 6 if row in rows else -13),
                          textcoords="offset points", fontsize=9)
        ends = [row["PFLOP"] for row in [*rows, *theirs]]
        axis.set(xscale="log", xlabel="PFLOP of one training (logarithmic)", ylabel="accuracy (%)",
                 xlim=(min(ends) / 1.5, max(ends) * 4))
        axis.margins(y=0.15)
        plain_log_ticks(axis, *axis.get_xlim())
        return picture(
            figure, "training_cost", title,
            "Circles: this project's trainings in full, means over seeds; bars from the lowest to the highest seed. Diamonds: "
            "published, on networks of their own; Jordan's look at six views of each image.",
            "Accuracy and PFLOP: " + "; ".join(f"{row['training']} {row['accuracy (%)']:.2f}%, {row['PFLOP']:.2g} PFLOP"
                                               for row in [*rows, *theirs]) + ".",
            pd.DataFrame([*rows, *theirs]).drop(columns=["lowest", "highest"]), [axis])


def _published(kind: str) -> list[dict]:
    return yaml.safe_load((ROOT / "published.yaml").read_text(encoding="utf-8"))[kind]


def _accuracies(theirs: Sequence[float], trainings: Sequence[Evidence]) -> Panel:
    rows = [Row("original, five runs", None, tuple(theirs), {**THEIRS, "fmt": "none", "ecolor": THEIRS["color"]})]
    for training in trainings:
        chosen, own = training.record["parameters"], training.when == THIS_RUN
        rows.append(Row(f"seed {chosen['seed']}, {chosen['recipe']} recipe", training.measured["accuracy"],
                        accuracy_interval(training.measured), OURS if own else EARLIER))
    return Panel("accuracy (%)", rows, logarithmic=False)


def _latencies(record: Mapping) -> list[Row]:
    """The mean latency (µs) of each engine, the fastest first."""
    rows = [Row(latency.name(row), *latency.quantile(row, "mean"), OURS) for row in latency.compared(record)]
    return sorted(rows, key=lambda row: row.value)


def _judged_and_fastest(claim: Mapping, record: Mapping) -> list[Row]:
    """The mean latency (µs) of the engine that the claim is judged by, and of the fastest, on the hardware of the record."""
    latencies, judged = _latencies(record), _judged(claim, record)
    names = {latencies[0].name, *([latency.name(judged)] if judged else [])}
    hardware = record["environment"]["hardware"]
    return [replace(row, name=f"{row.name}, {hardware}", style=EARLIER) for row in latencies if row.name in names]


def _judged(claim: Mapping, record: Mapping) -> dict | None:
    """The row of the engine that the claim is judged by; None where none of them ran."""
    ran = {row["engine"]: row for row in latency.compared(record)}
    return next((ran[engine] for engine in claim["engines"] if engine in ran), None)


def _spread(claim: Mapping, record: Mapping) -> list[Panel]:
    """How far apart the runs of the engine are that the claim is judged by; no panel where none of them ran."""
    judged = _judged(claim, record)
    if not judged:
        return []
    ours = f"{latency.name(judged)}, {len(latency.judged_runs(judged))} runs"
    return [Panel("slowest and fastest run apart (% of the mean)", [
        Row("original, ten runs", 100 * claim["share"], style=THEIRS),
        Row(ours, 100 * latency.spread(judged, "mean"), style=OURS)])]


def _fastest(accuracy: float, rows: Sequence[Mapping]) -> list[Panel]:
    """Median latency of which of `frontier.ran`'s rows are on the frontier and right on `accuracy` percent, and of TorchScript.

    No panel without both.
    """
    right, base = [row for row in frontier.frontier(rows) if row["test_accuracy"] >= accuracy], frontier.base(rows)
    if not (right and base):
        return []
    return [Panel(f"median latency of one image (µs): right on at least {accuracy:g}%, and TorchScript", [
        Row(f"{frontier.short_name(row)} ({row['test_accuracy']:.2f}%)", *latency.quantile(row, "p50"), OURS)
        for row in (*right, *([] if base in right else [base]))])]


def _draw(axis: Axes, panel: Panel) -> None:
    for number, row in enumerate(panel.rows):
        low, high = row.interval or (row.value, row.value)
        middle = (low + high) / 2 if row.value is None else row.value
        low = max(low, middle / 10) if panel.logarithmic else low  # the scale has no zero
        axis.errorbar([middle], [number], xerr=[[middle - low], [high - middle]], capsize=3, **row.style)
        axis.text(1.02, number, row.text, transform=axis.get_yaxis_transform(), va="center", fontsize=9)
    axis.set(yticks=range(len(panel.rows)), yticklabels=[row.name for row in panel.rows], ylim=(len(panel.rows) - 0.5, -0.5))
    axis.set_title(panel.what)
    axis.tick_params(labelsize=9)
    if panel.line:
        axis.axvline(panel.line, color="0.4", linewidth=1)
    if panel.logarithmic:
        axis.set_xscale("log")
        plain_log_ticks(axis, *axis.get_xlim())

"""The overview of the result, and the comparison with other runs and with what others published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import matplotlib.pyplot as plt
import pandas as pd
import yaml
from matplotlib.axes import Axes

from cifar_bench.analysis import frontier, latency, precision, statistics
from cifar_bench.analysis.evidence import RECORDED_EARLIER, THIS_RUN, Evidence
from cifar_bench.report.style import STYLE, Picture, picture, plain_log_ticks
from cifar_bench.report.training import accuracy_interval, on_the_test_images
from cifar_bench.report.words import with_interval
from cifar_lib import ROOT

THEIRS = {"color": "C1", "fmt": "D"}
OURS = {"color": "C0", "fmt": "o"}
EARLIER = {**OURS, "markerfacecolor": "white"}


@dataclass(frozen=True)
class Row:
    """A number in the overview, with its interval where it has one; a range alone has no value."""

    name: str
    value: float | None
    interval: statistics.Interval | None = None
    style: Mapping = field(default_factory=dict)

    @property
    def text(self) -> str:
        ends = self.interval or (self.value, self.value)
        digits = 0 if ends[1] > 100 else 2  # latencies; accuracies and ratios are smaller
        if self.value is None:
            return f"{ends[0]:,.{digits}f} to {ends[1]:,.{digits}f}"
        return with_interval((self.value, ends), digits) if self.interval else f"{self.value:,.{digits}f}"


def overview(
    claims: Sequence[Mapping], training_runs: Sequence[Evidence], timed: Mapping | None, half: Mapping | None,
    fast: Mapping | None, gpus: Sequence[Mapping] = (),
) -> Picture | None:
    """The original's numbers and ours: accuracy, latency, its spread, half precision, and the fastest at the same accuracy.

    `training_runs` are full-length; `timed`, `half` and `fast` are records of 3_latency, 4_half_precision and 5_faster, `gpus`
    those of 3_latency on GPUs. Missing records are left out, and so is `fast` where its accuracy is not that of all test
    images. None where nothing is left.
    """
    original = {claim["id"]: claim for claim in claims}
    accuracy, theirs = original["ten-times-faster"]["accuracy"], original["latency-p100"]["limit_us"]
    panels: dict[str, list[Row]] = {}  # by what the numbers are
    networks = frontier.ran(fast) if fast and on_the_test_images(fast) else []
    if training_runs:
        bar = {**THEIRS, "fmt": "none", "ecolor": THEIRS["color"]}
        panels["accuracy (%)"] = [
            Row("original, five runs", None, tuple(original["accuracy-five-runs"]["range"]), bar),
            *(Row(f"seed {run.record['parameters']['seed']}, {run.record['parameters']['recipe']} recipe",
                  run.measured["accuracy"], accuracy_interval(run.measured), OURS if run.when == THIS_RUN else EARLIER)
              for run in training_runs)]
    if timed:
        there = {record["environment"]["hardware"]: _judged(original["newer-gpu"], record) for record in gpus}
        panels["mean latency (µs)"] = [
            Row("original, P100", theirs, style=THEIRS), *_latencies(timed),
            *(Row(f"{row['engine']}, {name}", *latency.mean(row), EARLIER) for name, row in there.items() if row)]
        if judged := _judged(original["run-spread"], timed):
            panels["spread of the runs' means (max − min, %)"] = [
                Row("original, ten runs", 100 * original["run-spread"]["share"], style=THEIRS),
                Row(f"{latency.name(judged)}, {len(latency.judged_runs(judged))} runs", 100 * latency.spread(judged, "mean"),
                    style=OURS)]
    if half and (rows := [row for row in precision.ran(half) if "ratio" in row]):
        panels["median latency relative to float32"] = [
            Row(precision.name(row), row["ratio"], tuple(row["ratio_interval"]), OURS) for row in rows]
    winner, base = frontier.fastest_at(networks, accuracy), frontier.base(networks)
    if winner and base:
        best = [row for row in frontier.pareto_frontier(networks) if row["test_accuracy"] >= accuracy]
        panels[f"median latency (µs): fastest at {accuracy:g}% accuracy or more, and TorchScript"] = [
            Row(f"{frontier.short_name(row)} ({row['test_accuracy']:.2f}%)", *latency.quantile(row), OURS)
            for row in (*best, *([] if base in best else [base]))]
    if not panels:
        return None
    title = "The original's numbers and those measured here"
    if timed:
        fastest = min(_latencies(timed), key=lambda row: row.value)
        title = f"Mean latency in float32: {fastest.value:,.0f} µs ({fastest.name}); the original on a P100: {theirs} µs"
        if winner:
            title += f". Fastest at {accuracy:g}%: median {winner['us']:,.0f} µs ({frontier.short_name(winner)})"
    with plt.rc_context(STYLE):
        lines = [len(rows) for rows in panels.values()]
        figure, axes = plt.subplots(len(panels), 1, squeeze=False, figsize=(8, sum(lines) * 0.3 + 0.85 * len(panels)),
                                    height_ratios=lines)
        for axis, quantity in zip(axes[:, 0], panels):
            _draw(axis, quantity, panels[quantity])
        return picture(
            figure, "result", title,
            "Orange: the original, on a P100 in 2018; its bar is the range of five training runs. Blue: this run, with 95% "
            "intervals (median latencies in µs: the lowest and the highest run); hollow: recorded earlier, possibly on other "
            "hardware. Axes are logarithmic.",
            pd.DataFrame({"quantity": quantity, "of": row.name, "number": row.text}
                         for quantity, rows in panels.items() for row in rows))


def engines_by_run(timed: Mapping[str, Mapping]) -> pd.DataFrame:
    """A row for each run and engine: p50 and p99 latency (µs), and the spread of the runs' medians."""
    return pd.DataFrame({
        "run": run, "hardware": record["environment"]["hardware"], "engine": row["engine"],
        "p50 (µs)": with_interval(latency.quantile(row)), "p99 (µs)": latency.quantile(row, "p99")[0],
        "runs × images": f"{len(latency.judged_runs(row))} × {row['images']:,}",
        "spread (%)": 100 * latency.spread(row, "p50"),
    } for run, record in timed.items() for row in latency.compared_engines(record))


def claims_by_run(claims: Sequence[Mapping], verdicts: Mapping[str, Sequence[Mapping]]) -> pd.DataFrame:
    """A row for each claim about latency: the verdict of every run on its own measurements."""
    def found(verdict: Mapping) -> str:
        own = {item["when"] for item in verdict["evidence"]} != {RECORDED_EARLIER}
        return f"{verdict['verdict']}: {verdict['ours']}".removesuffix(": –") if own else "–"

    return pd.DataFrame({"claim": claim["short"], **{run: found(of_run[number]) for run, of_run in verdicts.items()}}
                        for number, claim in enumerate(claims) if claim["step"] in ("latency", "half_precision", "faster"))


def published_latencies() -> pd.DataFrame:
    """A row for each latency in published.yaml: its hardware, the mean (µs), and how it was timed."""
    latencies = yaml.safe_load((ROOT / "published.yaml").read_text(encoding="utf-8"))["latencies"]
    names = {"who": "published", "mean_us": "mean (µs)", "accuracy": "accuracy (%)"}
    return pd.DataFrame(latencies).rename(columns=names).astype({"date": str})


def _latencies(record: Mapping) -> list[Row]:
    """The mean latency (µs) of each engine, the fastest first."""
    rows = [Row(latency.name(row), *latency.mean(row), OURS) for row in latency.compared_engines(record)]
    return sorted(rows, key=lambda row: row.value)


def _judged(claim: Mapping, record: Mapping) -> dict | None:
    """The row of the engine that decides the claim; None where none of its engines ran."""
    ran = {row["engine"]: row for row in latency.compared_engines(record)}
    return next((ran[engine] for engine in claim["engines"] if engine in ran), None)


def _draw(axis: Axes, quantity: str, rows: Sequence[Row]) -> None:
    for number, row in enumerate(rows):
        low, high = row.interval or (row.value, row.value)
        middle = (low + high) / 2 if row.value is None else row.value
        low = max(low, middle / 10)  # a logarithmic axis has no zero
        axis.errorbar([middle], [number], xerr=[[middle - low], [high - middle]], capsize=3, **row.style)
        axis.text(1.02, number, row.text, transform=axis.get_yaxis_transform(), va="center", fontsize=9)
    axis.set(yticks=range(len(rows)), yticklabels=[row.name for row in rows], ylim=(len(rows) - 0.5, -0.5), title=quantity,
             xscale="log")
    axis.tick_params(labelsize=9)
    plain_log_ticks(axis.xaxis)

"""The one picture that tells the result: what the original said and what was found here, side by side."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml
from matplotlib.axes import Axes

from cifar_lib import ROOT, latency, precision, stats
from cifar_lib.figures.style import STYLE, Picture, listed, picture, plain_log_ticks, with_interval
from cifar_lib.figures.training import ORIGINAL_RUNS

ORIGINAL_US, ORIGINAL_APART = 828, 0.24  # µs an image, and how far ten runs were apart (%), from its README
THEIRS, OURS = {"color": "C1", "fmt": "D"}, {"color": "C0", "fmt": "o"}
LATENCY = "mean latency of one image (µs)"


def result(trainings: Sequence[Mapping], timed: Mapping | None, half: Mapping | None) -> Picture:
    """Accuracy after full trainings, latency, how far runs are apart, and half precision: the original's and ours.

    `trainings`, `timed` and `half` are records of 1_train, 3_latency and 4_half_precision; what is not there is left out.
    """
    panels = [*([_accuracy(trainings)] if trainings else []), *([_latency(timed), _apart(timed)] if timed else []),
              *([_half(half)] if half and any("ratio" in row for row in precision.ran(half)) else [])]
    told = [(panel["what"], name, value, interval) for panel in panels for name, value, interval in panel["rows"]]
    with plt.rc_context(STYLE):
        lines = [len(panel["rows"]) for panel in panels]
        figure, axes = plt.subplots(len(panels), 1, squeeze=False, figsize=(8, sum(lines) * 0.3 + 0.85 * len(panels)),
                                    height_ratios=lines)
        for axis, panel in zip(axes[:, 0], panels):
            _draw(axis, panel)
        figure.suptitle(_title(told), x=0.01, ha="left", fontsize=12, fontweight="bold")
        return picture(
            figure, "result", "Orange: the original, on a P100 in 2018. Blue: here, with 95% intervals.",
            "; ".join(f"{what}, {name}: {_told(value, interval)}" for what, name, value, interval in told) + ".",
            pd.DataFrame({"what": what, "of": name, "number": _told(value, interval)} for what, name, value, interval in told))


def _title(told: Sequence[tuple]) -> str:
    times = {name: value for what, name, value, _ in told if what == LATENCY and value != ORIGINAL_US}
    if times:
        fastest = min(times, key=times.get)
        return (f"One image takes {times[fastest]:,.0f} µs here with {fastest}, {times[fastest] / ORIGINAL_US:.2g} times "
                f"the P100's {ORIGINAL_US} µs")
    return "What the original said, and what was found here"


def _accuracy(trainings: Sequence[Mapping]) -> dict:
    rows = [("original, five runs", float(np.mean(ORIGINAL_RUNS)), ORIGINAL_RUNS)]
    for record in trainings:
        found, images = record["measurements"]["accuracy"], record["measurements"]["test_images"]
        name = f"seed {record['parameters']['seed']}, {record['parameters']['epochs']} epochs"
        rows.append((name, found, stats.share_interval(round(found * images / 100), images)))
    return {"what": "accuracy (%)", "rows": rows}


def _latency(record: Mapping) -> dict:
    rows = [row for row in record["measurements"]["engines"] if "runs" in row and not row.get("variant")]
    found = [(latency.name(row), *latency.quantile(row, "mean")) for row in rows]
    return {"what": LATENCY, "log": True,
            "rows": [("original, P100", ORIGINAL_US, None), *sorted(found, key=lambda row: row[1])]}


def _apart(record: Mapping) -> dict:
    found = []
    for row in record["measurements"]["engines"]:
        if "runs" in row and not row.get("variant"):
            means = [run["mean_ns"] for run in row["runs"]]
            found.append((latency.name(row), 100 * float(np.ptp(means) / np.mean(means)), None))
    name, share, _ = min(found, key=lambda row: row[1])
    runs = len(next(row["runs"] for row in record["measurements"]["engines"] if "runs" in row))
    return {"what": "slowest and fastest run apart (% of the mean)", "log": True,
            "rows": [("original, ten runs", ORIGINAL_APART, None), (f"{name}, {runs} runs", share, None)]}


def _half(record: Mapping) -> dict:
    rows = [row for row in precision.ran(record) if "ratio" in row]
    return {"what": "latency as a multiple of float32's", "log": True, "one": True,
            "rows": [(precision.name(row), row["ratio"], tuple(row["ratio_interval"])) for row in rows]}


def _draw(axis: Axes, panel: Mapping, styles: Mapping[str, Mapping] | None = None) -> None:
    rows = panel["rows"]
    for number, (name, value, interval) in enumerate(rows):
        style = styles[name] if styles else THEIRS if name.startswith("original") else OURS
        low, high = interval or (value, value)
        axis.text(1.02, number, _told(value, interval), transform=axis.get_yaxis_transform(), va="center", fontsize=9)
        axis.errorbar([value], [number], xerr=[[value - max(low, value / 10)], [high - value]], capsize=3, **style)
    ends = [end for _, value, interval in rows for end in (value, *(interval or ()))]
    axis.set(yticks=range(len(rows)), yticklabels=[name for name, *_ in rows], ylim=(len(rows) - 0.5, -0.5))
    axis.set_title(panel["what"], fontsize=10, fontweight="normal")
    axis.tick_params(labelsize=9)
    if panel.get("one"):
        axis.axvline(1, color="0.4", linewidth=1)
    if panel.get("log"):
        axis.set_xscale("log")
        plain_log_ticks(axis, 0.8 * max(min(ends), 0.01), 1.25 * max(ends))


def _told(value: float, interval: stats.Interval | None) -> str:
    digits = 0 if value >= 200 else 2
    return with_interval((value, interval), digits) if interval else f"{value:,.{digits}f}"


def machines(timed: Mapping[str, Mapping]) -> Picture:
    """Mean latency of every engine in the 3_latency records of several runs (by name), beside what others published."""
    rows, colors = [], {}
    for number, (run, record) in enumerate(timed.items()):
        for name, value, interval in _latency(record)["rows"][1:]:
            rows.append((f"{name} ({run})", value, interval))
            colors[rows[-1][0]] = f"C{(0, 2, 3, 5, 6, 7)[number % 6]}"
    published = [(f"{one['who'].split(':')[0]} ({one['hardware']}, {str(one['date'])[:4]})", one["mean_us"], None)
                 for one in yaml.safe_load((ROOT / "published.yaml").read_text())]
    rows = sorted([*rows, *published], key=lambda row: row[1])
    ours = [row for row in rows if row[0] in colors]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 1.2 + 0.28 * len(rows)))
        _draw(axis, {"what": f"{LATENCY}, logarithmic", "log": True, "rows": rows},
              {name: {"color": colors[name], "fmt": "o"} if name in colors else THEIRS for name, *_ in rows})
        figure.suptitle(f"The fastest measured by this project is {ours[0][0]}: {ours[0][1]:,.0f} µs", x=0.01, ha="left",
                        fontsize=12, fontweight="bold")
        where = listed(f"{run} is {record['environment']['hardware']}" for run, record in timed.items())
        return picture(
            figure, "machines", f"Circles: measured by this project, with 95% intervals, a colour for each run; {where}. "
            "Diamonds: published, on other hardware, each timed in its own way.",
            f"{LATENCY}: " + "; ".join(f"{name} {_told(value, interval)}" for name, value, interval in rows) + ".",
            pd.DataFrame({"what": name, "mean (µs)": _told(value, interval),
                          "source": "measured by this project" if name in colors else "published"}
                         for name, value, interval in rows))


def machines_table(timed: Mapping[str, Mapping], half: Mapping[str, Mapping]) -> pd.DataFrame:
    """A row for each engine and machine: mean latency (µs), how far its runs are apart, and its best ratio to float32."""
    rows = []
    for run, record in timed.items():
        ratios = {}
        for row in precision.ran(half[run]) if run in half else []:
            if "ratio" in row:
                ratios.setdefault(row["engine"], []).append((row["ratio"], row["precision"], row["ratio_interval"]))
        for row in record["measurements"]["engines"]:
            if "runs" not in row or row.get("variant"):
                continue
            means = [one["mean_ns"] for one in row["runs"]]
            apart = float(np.ptp(means) / np.mean(means))
            best = min(ratios.get(row["engine"], []), default=None)
            rows.append({
                "machine": record["environment"]["hardware"], "run": run, "engine": row["engine"],
                "mean (µs)": with_interval(latency.quantile(row, "mean")), "p99 (µs)": latency.quantile(row, "p99")[0],
                "runs × images": f"{len(means)} × {row['images']:,}", "runs apart (%)": 100 * apart,
                "best other precision, × float32": f"{best[1]} {with_interval((best[0], best[2]), 2)}" if best else None,
            })
    return pd.DataFrame(rows)

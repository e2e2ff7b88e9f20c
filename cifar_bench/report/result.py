"""The headline of the result, and the comparison with other runs and with what others published."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
import yaml

from cifar_bench.analysis import frontier, latency
from cifar_bench.analysis.evidence import RECORDED_EARLIER
from cifar_bench.analysis.judgement import NOT_RUN
from cifar_bench.report.style import GRAY, HIGHLIGHT, STYLE, TEXT, Picture, bars, picture
from cifar_bench.report.training import on_the_test_images
from cifar_bench.report.words import speedup, times_faster, with_interval
from cifar_lib import ROOT


def main_results(
    claims: Sequence[Mapping], verdicts: Sequence[Mapping], timed: Mapping | None, fast: Mapping | None
) -> list[tuple[str, str, str]]:
    """The accuracy, the original format's latency and the fastest at the same accuracy: label, value with interval, detail.

    `timed` and `fast` are records of 3_latency and 5_faster.
    """
    original = {claim["id"]: claim for claim in claims}
    accuracy = next(verdict for verdict in verdicts if verdict["id"] == "accuracy-above-94")
    where = sorted({item["hardware"] for item in accuracy["evidence"]})
    results = [("Accuracy", accuracy["ours"].replace("–", "not measured"),
                ", ".join([accuracy["reason"].partition(",")[0], *where[:1]]))]
    ran = {row["engine"]: row for row in latency.compared_engines(timed)} if timed else {}
    if judged := next((ran[engine] for engine in original["run-spread"]["engines"] if engine in ran), None):
        median, (low, high) = latency.quantile(judged)
        results.append(("Median latency, original format", f"{median:,.0f} µs ({low:,.0f} to {high:,.0f})",
                        f"{judged['engine']}; on a P100 in 2018: mean {original['latency-p100']['limit_us']} µs"))
    target = original["ten-times-faster"]["accuracy"]
    rows = frontier.ran(fast) if fast else []
    winner, base = frontier.fastest_at(rows, target), frontier.base(rows)
    if winner and base:
        results.append((f"Fastest with at least {target:g}% accuracy",
                        speedup(winner["ratio"], winner["ratio_interval"]).replace(" (", "× faster (")
                        + f" than TorchScript ({base['us']:,.0f} µs)",
                        f"{frontier.short_name(winner)}: {winner['us']:,.0f} µs, {winner['test_accuracy']:.2f}%"))
    return results


def headline(fast: Mapping | None, accuracy: float, p100_us: float) -> Picture | None:
    """The median latency of a 5_faster record's original network in float32, and of the fastest at `accuracy` percent.

    Bars for TorchScript and for the fastest in each precision, down to the fastest of all; a line at `p100_us`, the original's
    mean. None without a record on all test images and without a row as accurate.
    """
    rows = frontier.ran(fast) if fast and on_the_test_images(fast) else []
    winner, base = frontier.fastest_at(rows, accuracy), frontier.base(rows)
    if not winner:
        return None
    reached = {row["precision"]: row for row in reversed(rows) if row["test_accuracy"] >= accuracy}
    reached.pop("float32", None)  # narrower networks, too; the baselines are of the original
    chosen = [*([base] if base else []), *frontier.other_baselines(rows), *reached.values(), winner]
    shown = sorted({frontier.name(row): row for row in chosen}.values(), key=lambda row: -row["us"])
    faster = f", {times_faster(winner['ratio'])} than TorchScript" if base and winner is not base else ""
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, axis = plt.subplots(figsize=(5.2, 0.5 + 0.42 * len(shown)))
        bars(axis, [(frontier.short_name(row), " · ".join([
            f"{row['us']:,.0f} µs", *([times_faster(row["ratio"])] if base and row is not base else []),
            f"{row['test_accuracy']:.2f}%"]), {HIGHLIGHT if row is winner else GRAY: row["us"]}) for row in shown])
        end = 1.01 * max(shown[0]["us"], p100_us)
        axis.axvline(p100_us, color=TEXT, linewidth=1, zorder=0.5)
        axis.annotate(f"original on a P100, 2018:\nmean {p100_us:,.0f} µs (other hardware)", (p100_us, 0), (0, -2), color=TEXT,
                      xycoords=axis.get_xaxis_transform(), textcoords="offset points", va="top",
                      ha="left" if p100_us < end / 2 else "right")
        axis.set_xlim(0, end)
        return picture(
            figure, "result",
            f"{' '.join(filter(None, [winner['network'], winner['precision']]))} with {winner['engine']}: one image in "
            f"{winner['us']:,.0f} µs{faster}, at {winner['test_accuracy']:.2f}% accuracy",
            "Median latency, speedup over TorchScript from Python, and accuracy: of TorchScript, and of the fastest in each "
            f"precision with an accuracy of at least {accuracy:g}%.",
            pd.DataFrame({"network, engine, precision": frontier.name(row), "median (µs)": with_interval(latency.quantile(row)),
                          "speedup over torchscript": speedup(row["ratio"], row["ratio_interval"]) if base else None,
                          "accuracy (%)": with_interval((row["test_accuracy"], frontier.accuracy_interval(row, fast)), 2)}
                         for row in shown))


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
        return f"{verdict['verdict']}: {verdict['reason' if verdict['verdict'] == NOT_RUN else 'ours']}" if own else "–"

    return pd.DataFrame({"claim": claim["short"], **{run: found(of_run[number]) for run, of_run in verdicts.items()}}
                        for number, claim in enumerate(claims) if claim["step"] in ("latency", "half_precision", "faster"))


def published_latencies() -> pd.DataFrame:
    """A row for each latency in published.yaml: its hardware, the mean (µs), and how it was timed."""
    latencies = yaml.safe_load((ROOT / "published.yaml").read_text(encoding="utf-8"))["latencies"]
    names = {"who": "published", "mean_us": "mean (µs)", "accuracy": "accuracy (%)"}
    return pd.DataFrame(latencies).rename(columns=names).astype({"date": str})

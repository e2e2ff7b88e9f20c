"""The figures that notebooks and the report share: one style, a title that states the finding, an alternative text."""

import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml
from IPython.display import HTML, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter
from torch import Tensor

from cifar_lib import ROOT, latency, records, stats
from cifar_lib.model import ResNet9, training_pflop

ORIGINAL_RUNS = (94.12, 94.72)  # %, from its README
ORIGINAL_SEEDS, ORIGINAL_EPOCHS = 5, 150
ORIGINAL_RECIPE = "the original's recipe"

STYLE = {
    "figure.figsize": (8, 4.2),
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    # Okabe and Ito's palette (brown for its yellow, too light for lines), told apart also by readers who are colour-blind
    "axes.prop_cycle": matplotlib.cycler(
        color=["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8B6F47"]),
    "svg.fonttype": "path",
    "svg.hashsalt": "cifar_lib",
}


@dataclass(frozen=True)
class Picture:
    """A drawn figure, as SVG, with the words for readers who cannot see it."""

    name: str
    svg: str
    caption: str
    alternative: str

    def save(self, run: str) -> Path:
        path = ROOT / "figures" / run / f"{self.name}.svg"
        with records.replacing(path) as scratch:
            scratch.write_text(self.svg)
        return path

    def _repr_html_(self) -> str:
        return (
            f'<figure id="{self.name}"><div role="img" aria-label="{html.escape(self.alternative)}">'
            f"{_embeddable(self.svg, self.name)}</div><figcaption>{html.escape(self.caption)}</figcaption></figure>"
        )


def show(picture: Picture) -> None:
    display(HTML(picture._repr_html_()))


def warn_if_stand_in(origin: dict) -> None:
    """Say on the page that the images are generated, where they are."""
    if origin["dataset"] != "CIFAR-10":
        display(HTML('<p class="warning"><strong>Stand-in data.</strong> CIFAR-10 was not at hand: these images are '
                     "generated, and nothing here says anything about accuracy on CIFAR-10.</p>"))


# Training


def photos(rows: dict, names: Sequence[str]) -> Picture:
    """Rows of images (uint8 N×3×32×32 tensors), one above the other, with a class name over each column."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(len(rows), len(names), figsize=(8, 1.1 * len(rows) + 0.3), squeeze=False)
        for line, images in zip(axes, rows.values()):
            for axis, image in zip(line, images):
                axis.imshow(image.permute(1, 2, 0).cpu().numpy())
                axis.axis("off")
        for axis, name in zip(axes[0], names):
            axis.set_title(name, fontsize=8, fontweight="normal", loc="center")
        return _picture(figure, "photos", "From top to bottom: " + ", ".join(rows) + ".",
                        f"{len(rows)} rows of {len(names)} photos: {', '.join(names)}; rows are {', '.join(rows)}.")


def schedule(shares: Sequence[float], epochs: int) -> Picture:
    """The learning rate of every step of a training, as a share of the highest."""
    epoch = np.arange(1, len(shares) + 1) * epochs / len(shares)
    finding = f"highest after {epoch[int(np.argmax(shares))]:.1f} epochs and ends at {shares[-1]:.1%} of that"
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 2.6))
        axis.plot(epoch, shares)
        axis.set(xlabel="epoch", ylabel="share of the highest", ylim=(0, 1.05), xlim=(0, epochs),
                 title=f"The learning rate is {finding}")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        return _picture(figure, "schedule", "Learning rate of every step.",
                        f"In a training of {epochs} epochs the learning rate is {finding}.")


def training_curves(trainings: Sequence[Mapping], name: str = "training_curves") -> Picture:
    """Loss on the training images and accuracy on the others after every epoch, a line for each record.

    A training still under way is a record whose epochs are fewer than its parameters ask for.
    """
    last = [record["measurements"]["epochs"][-1]["accuracy"] for record in trainings]
    many = len(trainings) > 1
    outcome = f"{min(last):.2f}–{max(last):.2f}%" if many else f"{last[0]:.2f}%"
    done = max(len(record["measurements"]["epochs"]) for record in trainings)
    epochs = max(record["parameters"]["epochs"] for record in trainings)
    scored_on = _listed(sorted({record["measurements"].get("scored_on", "test images") for record in trainings}))
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2)
        for record in trainings:
            rows = record["measurements"]["epochs"]
            number = [row["epoch"] for row in rows]
            label = f"seed {record['parameters']['seed']}"
            left.plot(number, [row["loss"] for row in rows], ".-", label=label)
            right.plot(number, [row["accuracy"] for row in rows], ".-", label=label)
        left.set(xlabel="epoch", ylabel="training loss", title="Training loss", ylim=(0, None))
        right.set(xlabel="epoch", ylabel=f"accuracy on {scored_on} (%)", title=f"{outcome} after epoch {done}")
        for axis in (left, right):
            axis.set_xlim(0.5, epochs + 0.5)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if many:
            right.legend(frameon=False)
        return _picture(figure, name, "Loss and accuracy after every epoch; the last epoch is the result.",
                        f"Accuracy on {scored_on} after epoch {done} of {epochs}: {outcome}.")


def training_table(trainings: Sequence[Mapping], when: Sequence[str]) -> pd.DataFrame:
    """A row for each record: what was trained, for how long, the accuracy (%) with its 95% interval, and `when` that was."""
    rows = []
    for record, told in zip(trainings, when):
        measured, parameters = record["measurements"], record["parameters"]
        low, high = _accuracy_interval(measured)
        without = parameters.get("without") or []
        rows.append({
            "recipe": parameters["recipe"] + (f" without {', '.join(without)}" if without else ""),
            "seed": str(parameters["seed"]),
            "epochs": len(measured["epochs"]),
            "images": measured["train_images"],
            "PFLOP": measured["pflop"],
            "images/s": measured["images_per_second"],
            "minutes": sum(row["train_seconds"] for row in measured["epochs"]) / 60,
            "accuracy (%)": f"{measured['accuracy']:.2f} ({low:.2f} to {high:.2f})",
            "scored on": f"{measured['test_images']:,} {measured.get('scored_on', 'test images')}",
            "hardware": record["environment"]["hardware"],
            "evidence": f"{told}, {record['made'][:10]}",
        })
    return pd.DataFrame(rows)


def seeds(trainings: Sequence[Mapping]) -> Picture:
    """The accuracy of each seed with the 95% interval of that one model (%).

    Where all were scored on the test images of CIFAR-10, the band of the original's runs is drawn behind them.
    """
    ordered = sorted(trainings, key=lambda record: record["parameters"]["seed"])
    accuracies = [record["measurements"]["accuracy"] for record in ordered]
    intervals = [_accuracy_interval(record["measurements"]) for record in ordered]
    half = max(high - low for low, high in intervals) / 2
    apart = f"{len(ordered)} seeds end {max(accuracies) - min(accuracies):.2f} points apart" if len(ordered) > 1 else (
        f"One seed ends at {accuracies[0]:.2f}%")
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 1.8 + 0.3 * len(ordered)))
        if all(_on_the_test_images(record) for record in ordered):
            axis.axvspan(*ORIGINAL_RUNS, color="0.88", linewidth=0, label="the original's five runs")
        errors = np.abs(np.transpose(intervals) - accuracies)
        axis.errorbar(accuracies, range(len(ordered)), xerr=errors, fmt="o", capsize=3, label="one model, 95% interval")
        axis.set(yticks=range(len(ordered)), yticklabels=[f"seed {record['parameters']['seed']}" for record in ordered],
                 ylim=(len(ordered) - 0.5, -0.5), xlabel="accuracy after the last epoch (%)",
                 title=f"{apart}; each is known to ±{half:.2f}")
        figure.legend(loc="outside lower right", ncols=2, frameon=False)
        return _picture(
            figure, "seeds", "Bars: where one model might lie on other test photos (binomial); from dot to dot: the seeds.",
            "Accuracy of each seed: " + _listed(f"{record['parameters']['seed']} {accuracy:.2f}%"
                                                for record, accuracy in zip(ordered, accuracies)))


def confusion(matrix: np.ndarray, names: Sequence[str]) -> Picture:
    """How often each class (rows) is taken for each other (columns), in images."""
    mistakes = matrix * (1 - np.eye(len(names), dtype=int))
    true, taken = np.unravel_index(int(mistakes.argmax()), matrix.shape)
    finding = f"{names[true]} is taken for {names[taken]} most often: {mistakes[true, taken]} of {matrix[true].sum():,}"
    if not mistakes.any():
        finding = "no image is taken for one of another class"
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, axis = plt.subplots(figsize=(8, 6.4))
        axis.imshow(np.ma.masked_equal(mistakes, 0), cmap="Oranges", aspect="auto", vmax=1.3 * max(1, mistakes.max()))
        for row, column in np.ndindex(matrix.shape):
            axis.text(column, row, f"{matrix[row, column]:,}", ha="center", va="center",
                      color="0.55" if row == column or not matrix[row, column] else "black")
        axis.set(xticks=range(len(names)), xticklabels=names, yticks=range(len(names)), yticklabels=names,
                 xlabel="taken for", ylabel="true class", title=finding[0].upper() + finding[1:])
        axis.tick_params(axis="x", rotation=40)
        return _picture(figure, "confusion", "Confusion matrix: every image, by its true class and the one it was taken for.",
                        f"Confusion matrix of {len(names)} classes. {finding}.")


def class_accuracy(matrix: np.ndarray, names: Sequence[str]) -> Picture:
    """The accuracy in each class, worst first, from a confusion matrix (rows: true class)."""
    hits, totals = matrix.diagonal(), matrix.sum(1)
    known = [number for number in range(len(names)) if totals[number]]
    order = sorted(known, key=lambda number: hits[number] / totals[number])
    shares = [100 * hits[number] / totals[number] for number in order]
    errors = np.abs(np.transpose([stats.share_interval(hits[number], totals[number]) for number in order]) - shares)
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 3.6))
        axis.errorbar(shares, range(len(order)), xerr=errors, fmt="o", capsize=3)
        axis.set(yticks=range(len(order)), yticklabels=[names[number] for number in order], ylim=(len(order) - 0.5, -0.5),
                 xlabel="right (%)", title=f"{names[order[0]].capitalize()} has the lowest accuracy here, {shares[0]:.1f}%")
        return _picture(figure, "class_accuracy", "Accuracy in each class, with its 95% interval (binomial).",
                        "Accuracy: " + _listed(f"{names[number]} {share:.1f}%" for number, share in zip(order, shares)))


def mistakes(images: Tensor, labels: Tensor, logits: Tensor, names: Sequence[str], count: int = 20) -> Picture:
    """The photos (uint8 N×3×32×32) that the network takes for another class and is surest about, surest first."""
    labels = labels.cpu()
    sure, taken = logits.softmax(1).max(1)
    wrong = (taken != labels).nonzero().flatten()
    chosen = wrong[sure[wrong].argsort(descending=True, stable=True)[:count]]
    lines = max(1, -(-len(chosen) // 5))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(lines, 5, figsize=(8, 2.1 * lines + 0.4), squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for axis, number in zip(axes.flat, chosen.tolist()):
            axis.imshow(images[number].permute(1, 2, 0).cpu().numpy())
            axis.set_title(f"{names[taken[number]]} {sure[number]:.0%}\nis {names[labels[number]]}", fontsize=10,
                           fontweight="normal", loc="center")
        figure.suptitle(f"{len(wrong):,} of {len(labels):,} are wrong; these are the surest", x=0.01, ha="left", fontsize=12,
                        fontweight="bold")
        return _picture(figure, "mistakes", "The surest mistakes: what the network says and how sure it is, then what is true.",
                        "Photos taken for another class: " + ", ".join(
                            f"{names[labels[number]]} for {names[taken[number]]}" for number in chosen.tolist()) + ".")


def ablation_table(record: Mapping) -> pd.DataFrame:
    """A row for each part left out, the most missed first: accuracy (%) and its change (points), on average and by seed."""
    table = _by_training(record)
    change = table - table.iloc[0]
    return pd.DataFrame({
        "trained with": table.index,
        "accuracy (%)": [f"{value:.2f}" for value in table.mean(axis=1)],
        "images/s": _by_training(record, "images_per_second").mean(axis=1)[table.index].to_numpy(),
        "change (points)": [f"{value:+.2f}" for value in change.mean(axis=1)],
        **{f"seed {seed}": [f"{value:+.2f}" for value in change[seed]] for seed in table},
    })


def ablation(record: Mapping) -> Picture:
    """What leaving out each part of the recipe costs (points of accuracy), a dot for each seed.

    The title names a part only where its interval excludes none; with a single seed there are no intervals.
    """
    table = _by_training(record).drop(index=ORIGINAL_RECIPE)
    change = (table - table.iloc[0]).iloc[1:]
    mean, parameters = change.mean(axis=1), record["parameters"]
    half = stats.differences_half(table.to_numpy()) if len(table.columns) > 1 else np.nan
    clear = [name for name in change.index if abs(mean[name]) > half]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 1.6 + 0.32 * len(change)))
        axis.axvline(0, color="0.5", linewidth=1)
        for seed in change:
            axis.plot(change[seed], range(len(change)), "o", color="C0", alpha=0.6, label="one seed" if seed == 0 else None)
        axis.errorbar(mean, range(len(change)), xerr=None if np.isnan(half) else half, fmt="k|", markersize=12, capsize=3,
                      label="mean" if np.isnan(half) else "mean, 95% interval")
        axis.set(yticks=range(len(change)), yticklabels=change.index, ylim=(len(change) - 0.5, -0.5),
                 xlabel="change of accuracy (points)", title=(
                     f"Trained {clear[0]}, accuracy changes by {mean[clear[0]]:+.1f} points" if clear else
                     "No part stands out from the luck of a seed" if len(change.columns) > 1 else
                     "One seed does not tell what a part brings from luck"))
        figure.legend(loc="outside lower right", ncols=2, frameon=False)
        return _picture(
            figure, "ablation",
            f"{parameters['seeds']} trainings each, of {parameters['epochs']} epochs on {parameters['train_images']:,} images, "
            f"with a network of width {parameters['width']}, scored on {parameters['held_out']:,} held-out images.",
            "Mean change of accuracy: " + _listed(f"{name} {value:+.2f}" for name, value in mean.items()))


def _by_training(record: Mapping, number: str = "accuracy") -> pd.DataFrame:
    """A number of an ablation: a column for each seed, a row for each training, the whole recipe first, then the lowest."""
    whole = "the fast recipe"
    names = {("fast", ""): whole, ("seed", ""): ORIGINAL_RECIPE}
    table = pd.DataFrame(
        {"name": names.get((row["recipe"], "".join(row["without"])), f"without {', '.join(row['without'])}"),
         "seed": row["seed"], number: row[number]} for row in record["measurements"]["trainings"]
    ).pivot(index="name", columns="seed", values=number)
    return table.loc[[whole, *table.mean(axis=1).drop(whole).sort_values(kind="stable").index]]


def protocol_sentence(trainings: Sequence[Mapping], hardware: str) -> str:
    """How long the original's protocol would take on `hardware`, from the largest of the trainings made there."""
    made_here = [record for record in trainings if record["environment"]["hardware"] == hardware]
    if not made_here:
        return ""
    measured = max((record["measurements"] for record in made_here), key=lambda measured: measured["pflop"])
    pflop = ORIGINAL_SEEDS * training_pflop(ResNet9(), ORIGINAL_EPOCHS * 50_000)
    hours = pflop / measured["pflop"] * sum(row["train_seconds"] for row in measured["epochs"]) / 3600
    protocol = f"{ORIGINAL_SEEDS} trainings of {ORIGINAL_EPOCHS} epochs (profile full, {pflop:.1f} PFLOP)"
    return (f"The original's protocol, {protocol}, takes about {hours:,.1f} hours on {hardware}, "
            f"at the speed of a training of {measured['pflop']:.2g} PFLOP.")


def _on_the_test_images(record: Mapping) -> bool:
    measured = record["measurements"]
    return (record["data"]["dataset"] == "CIFAR-10" and measured["test_images"] == 10_000
            and measured.get("scored_on", "test images") == "test images")


def _accuracy_interval(measured: Mapping) -> stats.Interval:
    return stats.share_interval(round(measured["accuracy"] * measured["test_images"] / 100), measured["test_images"])


# Export


def export_sentence(measured: Mapping) -> str:
    """Do the exported files compute what the network does? One sentence from an export's measurements."""
    formats = measured["formats"]
    changed = _listed(f"{one['changed_predictions']} of {one['images']:,} in {name}" for name, one in formats.items())
    furthest = max(formats, key=lambda name: formats[name]["relative_error"])
    error = formats[furthest]["relative_error"]
    difference = f"differ by at most {error:.1g} of the largest ({furthest})" if error else "are identical"
    return f"Changed predictions: {changed}; logits {difference}."


def export_table(measured: Mapping) -> pd.DataFrame:
    """A row for each exported file: its format, size (MB), changed predictions, error (of the largest logit) and hash."""
    kinds = {"model.pt": "TorchScript", "model.pt2": "exported program", "model.onnx": "ONNX"}
    return pd.DataFrame({
        "file": name, "format": kinds[name], "MB": one["file_bytes"] / 1e6, "images": one["images"],
        "changed predictions": one["changed_predictions"], "logit error": one["relative_error"], "SHA-256": one["sha256"][:16],
    } for name, one in measured["formats"].items())


# Latency


def latency_table(record: dict) -> pd.DataFrame:
    """A row for each engine: version, size (MB), load time (s), accuracy (%), logit error, quantiles (µs), ratio of medians.

    Quantiles are means over the runs, in brackets the 95% interval over the runs.
    """
    rows, table = record["measurements"]["engines"], []
    for row in sorted(rows, key=lambda row: latency.quantile(row, "p50")[0] if "runs" in row else np.inf):
        if "reason" in row:
            table.append({"engine": latency.name(row), "p50 (µs)": row["reason"]})
            continue
        ratio = latency.ratio(row, rows)
        table.append({
            "engine": latency.name(row), "p50 (µs)": _with_interval(latency.quantile(row, "p50")),
            **{f"{which} (µs)": f"{latency.quantile(row, which)[0]:,.0f}" for which in ("p90", "p99", "p99.9")},
            f"× {latency.BASE}": _with_interval(ratio, 2) if ratio else "1",
            "accuracy (%)": row["accuracy"], "largest logit error": row["largest_logit_error"],
            "load (s)": np.median([run["load_ns"] for run in row["runs"]]) / 1e9, "file (MB)": row["file_bytes"] / 1e6,
            "precision": row["precision"], "version": row["version"], "threads": row["threads"], "set": row["settings"],
        })
    return pd.DataFrame(table)


def published_table() -> pd.DataFrame:
    """A row for each latency that others published (published.yaml): on what, how much (mean, µs), how it was timed."""
    rows = yaml.safe_load((ROOT / "published.yaml").read_text())
    return pd.DataFrame({"published": row["who"], "hardware": row["hardware"], "date": str(row["date"]),
                         "mean (µs)": row["mean_us"], "accuracy (%)": row["accuracy"], "timing": row["timing"]} for row in rows)


def run_table(record: dict) -> pd.DataFrame:
    """A row for each engine and run: mean, quantiles and maximum (µs), and what is remarkable about the run."""
    rows = []
    for engine in record["measurements"]["engines"]:
        for number, run in enumerate(engine.get("runs", []), start=1):
            low, high = run["p50_interval_ns"]
            outliers, steps = run["outliers"], run["level_changes"]
            rows.append({
                "engine": latency.name(engine), "run": number, "mean (µs)": run["mean_ns"] / 1e3,
                "p50 (µs)": _with_interval((run["p50_ns"] / 1e3, (low / 1e3, high / 1e3))),
                **{f"{which} (µs)": run[f"{which}_ns"] / 1e3 for which in ("p90", "p99", "p99.9", "max")},
                "first image (ms)": run["first_image_ns"] / 1e6, "warm-up (images)": run["warmup_images"],
                "steps": len(steps), "outliers, mild": outliers["low_mild"] + outliers["high_mild"],
                "severe": outliers["low_severe"] + outliers["high_severe"],
                "context switches": run["involuntary_switches"], "steal (%)": 100 * run["steal_share"],
            })
    return pd.DataFrame(rows)


def latency_sentence(record: dict) -> str:
    """Which engine is the fastest, and by how much: one sentence from the record."""
    rows = [row for row in record["measurements"]["engines"] if "runs" in row and not row.get("variant")]
    fastest = min(rows, key=lambda row: latency.quantile(row, "p50")[0])
    words = f"One image takes {_with_interval(latency.quantile(fastest, 'p50'))} µs with {latency.name(fastest)}"
    if ratio := latency.ratio(fastest, rows):
        words += f", {_with_interval(ratio, 2)} times what it takes with {latency.BASE}"
    return f"{words} (median; 95% intervals over {len(fastest['runs'])} runs)."


def checks(record: dict, series: Mapping[str, np.ndarray]) -> list[str]:
    """What the measurement's checks of itself found, a sentence each."""
    measured, sentences = record["measurements"], []
    rows = [row for row in measured["engines"] if "runs" in row]
    for row in rows:
        if row.get("variant") and (found := latency.ratio(row, rows)):
            times = _with_interval(found, 3)
            sentences.append(f"{latency.BASE} {latency.VARIANTS[row['variant']]} takes {times} times as long.")
    told = measured["loadgen"]
    if "reason" in told:
        sentences.append(f"MLPerf's LoadGen did not run: {told['reason']}")
    else:
        ours, theirs = (np.median(told[which]) / 1e3 for which in ("ours_ns", "loadgen_ns"))
        times = _with_interval(latency.loadgen_ratio(told), 3)
        sentences.append(f"With {told['engine']}, MLPerf's LoadGen sees a p90 of {theirs:,.0f} µs, our timer {ours:,.0f} µs; "
                         f"ours is {times} times LoadGen's, the median of {len(told['ours_ns'])} rounds of "
                         f"{told['images']} images each, in turns.")
    clock = measured["clock"]
    sentences.append(f"Reading the clock ({clock['name']}) costs {clock['cost_ns']:,.0f} ns; its smallest step is "
                     f"{clock['step_ns']:,} ns.")
    for row in rows:
        found, words = latency.modes(series[row["series"]], series[f"{row['series']}-classes"], row["runs"])
        if words:
            places = _listed(f"{place:,.0f} µs" for place in found)
            sentences.append(f"{latency.name(row)} has {len(found)} modes ({places}); {words}.")
    return sentences


def latency_histogram(record: dict, series: Mapping[str, np.ndarray]) -> Picture:
    """A histogram for each engine, all runs together, one above the other on one logarithmic axis, the fastest on top."""
    engines, medians = _by_median(record, series)
    fastest, times = next(iter(engines)), {name: series[name].ravel() / 1e3 for name in engines}
    low, high = min(time.min() for time in times.values()), 1.05 * max(np.quantile(time, 0.998) for time in times.values())
    title = f"Half of the images take less than {medians[fastest]:,.0f} µs with {engines[fastest]}"
    with plt.rc_context({**STYLE, "axes.spines.left": False}):
        figure, axes = plt.subplots(len(engines), 1, sharex=True, squeeze=False, figsize=(8, 1.3 + 0.55 * len(engines)))
        for number, (axis, (name, engine)) in enumerate(zip(axes[:, 0], engines.items())):
            axis.hist(times[name], np.geomspace(low, high, 200), histtype="stepfilled", color=f"C{number}")
            beyond = int((times[name] > high).sum())
            axis.text(1.01, 0.3, f"p50 {medians[name]:,.0f} µs" + (f"\n{beyond:,} beyond" if beyond else ""), fontsize=9,
                      transform=axis.transAxes)
            axis.set(xscale="log", xlim=(low, high), yticks=[])
            axis.set_ylabel(engine, rotation=0, ha="right", va="center")
        _plain_log_ticks(axes[-1][0], low, high)
        axes[-1][0].set_xlabel("latency of one image (µs, logarithmic)")
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        return _picture(figure, "latency_histogram", "Every image of every run; each engine's histogram has its own height. "
                        "Beyond: images too slow for the axis.",
                        "Histograms of latency; median " + _listed(f"{engines[n]} {m:,.0f} µs" for n, m in medians.items()))


def latency_ecdf(record: dict, series: Mapping[str, np.ndarray]) -> Picture:
    """The share of images that take longer than a time, a line for each engine, both axes logarithmic: the tail at length."""
    engines, _ = _by_median(record, series)
    p99 = {name: float(np.quantile(series[name], 0.99)) / 1e3 for name in engines}
    slowest = max(p99, key=p99.get)
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots()
        for number, (name, engine) in enumerate(engines.items()):
            ordered = np.sort(series[name], axis=None) / 1e3
            beyond = 100 * (1 - np.arange(len(ordered)) / len(ordered))
            shown = np.unique(np.geomspace(1, len(ordered), 400, dtype=int))  # closest together where few are left
            axis.plot(ordered[-shown], beyond[-shown], color=f"C{number}", linewidth=1.4, label=engine)
        axis.set(xscale="log", yscale="log", xlabel="latency of one image (µs, logarithmic)",
                 ylabel="images that take longer (%)",
                 title=f"One image in a hundred takes longer than {p99[slowest]:,.0f} µs with {engines[slowest]}")
        _plain_log_ticks(axis, *_range_us(series, engines))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        figure.legend(loc="outside right center", frameon=False)
        return _picture(figure, "latency_ecdf", "Share of images slower than a time (one minus the ECDF), all runs together.",
                        "99% quantile: " + _listed(f"{engines[name]} {value:,.0f} µs" for name, value in p99.items()))


def latency_over_time(record: dict, series: Mapping[str, np.ndarray]) -> Picture:
    """Latency against the number of the image, a panel for each engine, all runs on top of each other."""
    engines, _ = _by_median(record, series)
    halves = {name: np.mean(series[name][:, series[name].shape[1] // 2:]) / np.mean(
        series[name][:, : series[name].shape[1] // 2]) - 1 for name in engines}
    most = max(halves, key=lambda name: abs(halves[name]))
    lines = -(-len(engines) // 2)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(lines, 2, squeeze=False, sharex=True, sharey=True, figsize=(8, 0.8 + 1.7 * lines))
        for axis in axes.flat[len(engines):]:
            axis.axis("off")
        for number, (axis, (name, engine)) in enumerate(zip(axes.flat, engines.items())):
            for ns in series[name]:
                axis.plot(ns / 1e3, ",", color=f"C{number}", rasterized=True)
            axis.set(yscale="log")
            axis.set_title(engine, fontsize=10, fontweight="normal")
            _plain_log_ticks(axis, *_range_us(series, engines), "y")
        figure.supxlabel("number of the image", fontsize=11)
        figure.supylabel("latency (µs, logarithmic)", fontsize=11)
        title = f"From first to second half of the runs, {engines[most]}'s mean changes by {halves[most]:+.1%}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        return _picture(figure, "latency_over_time", "Latency of every image in the order measured, all runs together.",
                        "Change of the mean from the first to the second half of the runs: "
                        + _listed(f"{engines[name]} {value:+.1%}" for name, value in halves.items()))


def run_means(record: dict, series: Mapping[str, np.ndarray]) -> Picture:
    """The mean of every run against its engine's mean (%), beside a band as wide as the original's ten runs were apart."""
    engines, _ = _by_median(record, series)
    means = {name: series[name].mean(axis=1) / 1e3 for name in engines}
    apart = {name: float(np.ptp(values)) for name, values in means.items()}
    shares = {name: apart[name] / means[name].mean() for name in engines}
    closest = min(shares, key=shares.get)
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 1.4 + 0.4 * len(engines)))
        axis.axvspan(-0.12, 0.12, color="0.85", linewidth=0)
        for number, values in enumerate(means.values()):
            axis.plot(100 * (values / values.mean() - 1), [number] * len(values), "o", color=f"C{number}", alpha=0.7)
        axis.set(yticks=range(len(engines)), yticklabels=engines.values(), ylim=(len(engines) - 0.5, -0.5),
                 xlabel="mean of a run against the engine's mean (%)",
                 title=f"At best, with {engines[closest]}, runs are {shares[closest]:.1%} apart")
        return _picture(figure, "run_means", "Mean of each run; the band is 0.24% wide, as wide as the original's spread.",
                        "Difference between the slowest and the fastest run: "
                        + _listed(f"{engines[name]} {apart[name]:,.0f} µs ({shares[name]:.1%})" for name in engines))


# Half precision


def half_precision_sentence(record: dict) -> str:
    """Does half precision help one image at a time here? One sentence made from the numbers."""
    answers, accuracies = [], []
    for row in record["measurements"]["precisions"]:
        if "reason" in row:
            answers.append(f"{row['precision']} does not run ({row['reason']})")
        elif "ratio" in row:
            low, high = row["ratio_interval"]
            verb = "is faster" if high < 1 else "is slower" if low > 1 else "makes no clear difference"
            answers.append(f"{row['precision']} ({row['support']}) {verb}: {row['ratio']:.2f} times float32's latency, "
                           f"{low:.2f} to {high:.2f}")
            accuracies.append(f"{row['changed_predictions']} with {row['precision']}")
    total = record["measurements"]["test_images"]
    hardware = record["environment"]["hardware"]
    changed = f"; of {total:,} predictions change {_listed(accuracies)}" if accuracies else ""
    return f"One image at a time on {hardware}, {'; '.join(answers)}{changed}."


def half_precision_table(record: dict) -> pd.DataFrame:
    """A row for each precision: latency (µs), ratio to float32, accuracy (%), changed predictions, logit error."""
    rows = []
    for row in record["measurements"]["precisions"]:
        runs, (low, high) = row.get("runs"), row.get("ratio_interval", (None, None))
        rows.append({
            "precision": row["precision"],
            "on this machine": row.get("reason", row["support"]),
            "mean (µs)": np.mean([run["mean_ns"] for run in runs]) / 1e3 if runs else np.nan,
            "p50 (µs)": np.mean([run["p50_ns"] for run in runs]) / 1e3 if runs else np.nan,
            "× float32's": f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})" if "ratio" in row else "–",
            "accuracy (%)": row["test_accuracy"],
            "changed predictions": row["changed_predictions"],
            "largest logit error": row["largest_logit_error"],
        })
    return pd.DataFrame(rows)


def half_precision(record: dict) -> Picture:
    """Mean latency of every run in every precision."""
    rows = [row for row in record["measurements"]["precisions"] if "runs" in row]
    means = {row["precision"]: [run["mean_ns"] / 1e3 for run in row["runs"]] for row in rows}
    faster = [row for row in rows if row.get("ratio_interval", [1, 1])[1] < 1]
    if faster:
        title = f"One image at a time, {min(faster, key=lambda row: row['ratio'])['precision']} is the fastest"
    elif all(row["ratio_interval"][0] > 1 for row in rows if "ratio_interval" in row):
        title = "One image at a time, float32 is the fastest"
    else:
        title = "One image at a time, no precision is clearly faster than float32"
    listed = _listed(f"{precision} {np.mean(values):,.0f} µs" for precision, values in means.items())
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 3))
        for number, values in enumerate(means.values()):
            axis.plot(values, [number] * len(values), "o", color=f"C{number}", alpha=0.7)
            axis.annotate(f"{np.mean(values):,.0f} µs", (np.mean(values), number), (0, 9), textcoords="offset points",
                          ha="center")
        axis.set(yticks=range(len(means)), yticklabels=list(means), ylim=(len(means) - 0.4, -0.6), xlabel="mean latency (µs)",
                 title=title)
        axis.set_xlim(0, 1.08 * max(max(values) for values in means.values()))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        return _picture(figure, "half_precision", "Mean latency of each run, a dot each, with their mean above.",
                        f"Mean latency: {listed}.")


def _by_median(record: dict, series: Mapping[str, np.ndarray]) -> tuple[dict[str, str], dict[str, float]]:
    """Series name to display name, and to median (µs), of each engine that ran, the fastest first."""
    names = {row["series"]: latency.name(row) for row in record["measurements"]["engines"]
             if "series" in row and not row.get("variant")}
    medians = {name: float(np.median(series[name])) / 1e3 for name in names}
    order = sorted(names, key=medians.get)
    return {name: names[name] for name in order}, {name: medians[name] for name in order}


def _with_interval(found: tuple[float, stats.Interval], digits: int = 0) -> str:
    value, (low, high) = found
    return f"{value:,.{digits}f} ({low:,.{digits}f}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{high:,.{digits}f})"


def _range_us(series: Mapping[str, np.ndarray], names: Iterable[str]) -> tuple[float, float]:
    times = np.concatenate([series[name].ravel() for name in names]) / 1e3
    return float(times.min()), float(times.max())


def _listed(items: Iterable[str]) -> str:
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last


def _plain_log_ticks(axis: Axes, low: float, high: float, which: str = "x") -> None:
    """Ticks at 1, 2 and 5 times powers of ten within the data, written as plain numbers."""
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [factor * 10.0**power for power in decades for factor in (1, 2, 5) if low <= factor * 10**power <= high]
    target = axis.xaxis if which == "x" else axis.yaxis
    target.set_major_locator(FixedLocator(ticks or [low, high]))
    target.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    target.set_minor_formatter(NullFormatter())


def _picture(figure: Figure, name: str, caption: str, alternative: str) -> Picture:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return Picture(name, buffer.getvalue(), caption, alternative)


def _embeddable(svg: str, name: str) -> str:
    """The <svg> element alone, its ids made unique to this figure, scaling with the page."""
    element = svg[svg.index("<svg"):]
    element = re.sub(r'(id="|href="#|url\(#)', rf"\1{name}-", element)
    return re.sub(r'<svg ([^>]*?)width="[^"]*"', r'<svg \1 style="max-width:100%;height:auto" width="100%"',
                  re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", element, count=1), count=1)

"""Figures, tables and sentences of training runs, and of what a network misclassifies."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from scipy.special import softmax

from cifar_bench import records
from cifar_bench.analysis import statistics
from cifar_bench.analysis.admissible import TEST_IMAGES
from cifar_bench.analysis.evidence import Evidence
from cifar_bench.analysis.verdicts import load_claim
from cifar_bench.report.style import HIGHLIGHT, STYLE, TEXT, Picture, label_ends, picture
from cifar_bench.report.words import listed, times_faster, with_interval
from cifar_lib import InputError


def example_images(rows: Mapping[str, np.ndarray], names: Sequence[str]) -> Picture:
    """Rows of images (uint8 N×3×32×32), one above the other, with a class name over each column."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(len(rows), len(names), figsize=(5.2, 0.55 * len(rows) + 0.7), squeeze=False)
        for line, images in zip(axes, rows.values()):
            for axis, image in zip(line, images):
                axis.imshow(image.transpose(1, 2, 0))
                axis.axis("off")
        for axis, name in zip(axes[0], names):
            axis.set_title(name, rotation=40)  # or long names would overlap
        return picture(figure, "example_images", f"{len(names)} training images", f"From top to bottom: {', '.join(rows)}.")


def curves(training_runs: Sequence[Mapping], name: str = "training_curves") -> Picture:
    """Accuracy after every epoch, a line for each record; the training loss is among the numbers.

    A training run under way is a record with fewer epochs than its parameters ask for.
    """
    measured = [record["measurements"] for record in training_runs]
    last = sorted(run["epochs"][-1]["accuracy"] for run in measured)
    outcome = f"{last[0]:.2f}–{last[-1]:.2f}%" if len(last) > 1 else f"{last[0]:.2f}%"
    done = max(len(run["epochs"]) for run in measured)
    epochs = max(record["parameters"]["epochs"] for record in training_runs)
    scored_on = listed(sorted({run["scored_on"] for run in measured}))
    numbers = pd.DataFrame({"seed": str(record["parameters"]["seed"]), "epoch": row["epoch"], "training loss": row["loss"],
                            "accuracy (%)": row["accuracy"]}
                           for record in training_runs for row in record["measurements"]["epochs"])
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots()
        for _, rows in numbers.groupby("seed"):
            axis.plot(rows["epoch"], rows["accuracy (%)"], ".-" if epochs <= 40 else "-", color=HIGHLIGHT, linewidth=1)
        axis.set(xlabel="epoch", ylabel="accuracy (%)", xlim=(0.5, epochs + 0.5))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        label_ends(axis, [(rows["epoch"].iloc[-1], rows["accuracy (%)"].iloc[-1],
                           f"seed {seed}: {rows['accuracy (%)'].iloc[-1]:.2f}%", HIGHLIGHT)
                          for seed, rows in numbers.groupby("seed")])
        return picture(figure, name, f"Accuracy of {outcome} on the {scored_on} after epoch {done} of {epochs}",
                       "Accuracy after every epoch; the last epoch is the result.", numbers)


def table(training_runs: Sequence[Evidence]) -> pd.DataFrame:
    """A row for each training run: how it was made, its cost, and its accuracy (%) with the 95% interval."""
    rows = []
    for item in training_runs:
        measured, parameters = item.measured, item.record["parameters"]
        low, high = accuracy_interval(measured)
        without, widths, teachers = (", ".join(map(str, parameters[name])) for name in ("without", "widths", "teachers"))
        recipe = [parameters["recipe"] + (f" without {without}" if without else ""), f"widths {widths}" if widths else "",
                  f"distilled from {teachers}" if teachers else "", "in bfloat16" if measured["bfloat16"] else ""]
        rows.append({
            "recipe": "; ".join(filter(None, recipe)), "seed": str(parameters["seed"]), "epochs": len(measured["epochs"]),
            "minutes": sum(row["train_seconds"] for row in measured["epochs"]) / 60,
            "accuracy (%)": f"{measured['accuracy']:.2f} ({low:.2f} to {high:.2f})",
            "images": measured["train_images"], "PFLOP": measured["pflop"], "images/s": measured["images_per_second"],
            "scored on": f"{measured['test_images']:,} {measured['scored_on']}",
            "hardware": item.record["environment"]["hardware"], "evidence": f"{item.when}, {item.record['made'][:10]}",
        })
    return pd.DataFrame(rows)


def sentence(full: Sequence[Evidence]) -> str:
    """The accuracy of the full-length training runs."""
    reached = listed(f"{item.measured['accuracy']:.2f}% (seed {item.record['parameters']['seed']}, {item.when})"
                     for item in full)
    epochs = listed(sorted({str(item.record["parameters"]["epochs"]) for item in full}))
    return f"Full-length training runs of {epochs} epochs reach an accuracy of {reached} on the test images."


def seeds(training_runs: Sequence[Mapping]) -> Picture:
    """The accuracy of each seed (%) with the 95% interval of that one model.

    The band of the original's runs is drawn behind them where all were scored on the test images of CIFAR-10.
    """
    ordered = sorted(training_runs, key=lambda record: record["parameters"]["seed"])
    names = [f"seed {record['parameters']['seed']}" for record in ordered]
    accuracies = [record["measurements"]["accuracy"] for record in ordered]
    intervals = [accuracy_interval(record["measurements"]) for record in ordered]
    half = max(high - low for low, high in intervals) / 2
    found = f"{len(ordered)} seeds have a spread of {np.ptp(accuracies):.2f} points" if len(ordered) > 1 else (
        f"One seed reaches an accuracy of {accuracies[0]:.2f}%")
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(5.2, 1.1 + 0.28 * len(ordered)))
        if all(on_the_test_images(record) for record in ordered):
            low, high = load_claim("accuracy-five-runs")["range"]
            axis.axvspan(low, high, color="0.88", linewidth=0)
            axis.text((low + high) / 2, -0.7, "the original's five runs", ha="center", va="center", color=TEXT)
        axis.errorbar(accuracies, range(len(ordered)), xerr=np.abs(np.transpose(intervals) - accuracies), fmt="o", capsize=3,
                      color=HIGHLIGHT)
        axis.set(yticks=range(len(ordered)), yticklabels=names, ylim=(len(ordered) - 0.5, -1),
                 xlabel="accuracy after the last epoch (%)")
        return picture(
            figure, "seeds", f"{found}; the sampling error of each is about ±{half:.2f} points",
            "Dots: the accuracy of each seed; seed variance scatters them. Bars: sampling error, the 95% interval of one model "
            "on other test images (binomial).",
            pd.DataFrame({"seed": name, "accuracy (%)": with_interval(estimate, 2)}
                         for name, *estimate in zip(names, accuracies, intervals)))


def siblings(folder: Path, record: Mapping) -> list[dict]:
    """The records of the training runs in `folder` that differ from `record` in seed and threads only, itself included."""
    same = []
    for path in sorted(folder.glob("seed*/record.json")):
        with suppress(InputError):  # of another version, perhaps
            other = records.read(path.parent)
            parameters = {**other["parameters"], **{name: record["parameters"][name] for name in ("seed", "threads")}}
            if (parameters, other["data"]) == (record["parameters"], record["data"]):
                same.append(other)
    return same


def mistakes(images: np.ndarray, labels: np.ndarray, logits: np.ndarray, names: Sequence[str], count: int = 20) -> Picture:
    """The misclassified images (uint8 N×3×32×32) with the highest confidence (softmax), highest first."""
    confidence, predicted = softmax(logits, axis=1).max(1), logits.argmax(1)
    wrong = np.flatnonzero(predicted != labels)
    chosen = wrong[np.argsort(-confidence[wrong], kind="stable")[:count]].tolist()
    lines = max(1, -(-len(chosen) // 4))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(lines, 4, figsize=(5.2, 1.65 * lines), squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for axis, number in zip(axes.flat, chosen):
            axis.imshow(images[number].transpose(1, 2, 0))
            axis.set_title(f"{names[predicted[number]]} {confidence[number]:.0%}\nis {names[labels[number]]}", loc="center")
        return picture(figure, "mistakes", f"{len(wrong):,} of {len(labels):,} images are misclassified",
                       "The mistakes of highest confidence: predicted class and confidence, then the true class.",
                       pd.DataFrame({"image": number, "true class": names[labels[number]],
                                     "predicted class": names[predicted[number]],
                                     "confidence (%)": 100 * float(confidence[number])} for number in chosen))


def mixed_precision_sentence(record: Mapping) -> str:
    """What training in float32 instead of bfloat16 changes, from pairs of training runs that differ in nothing else."""
    parameters, runs = record["parameters"], pd.DataFrame(record["measurements"]["training_runs"])
    paired = runs.pivot(index="seed", columns="mixed_precision")
    changes = paired["accuracy"]["off"] - paired["accuracy"]["on"]
    low, high = statistics.mean_interval(changes)
    slower = times_faster((paired["images_per_second"]["on"] / paired["images_per_second"]["off"]).median())
    return (f"Training in float32 instead of bfloat16 changes mean accuracy by {changes.mean():+.2f} points (95% interval "
            f"{low:+.2f} to {high:+.2f}) in {len(changes)} pairs of seeds, and is {slower} (median; "
            f"{parameters['epochs']} epochs, {parameters['train_images']:,} images, width {parameters['width']}, "
            f"{parameters['held_out']:,} held-out images, {record['environment']['hardware']}).")


def on_the_test_images(record: Mapping) -> bool:
    """Whether a record's accuracy is that of all official test images."""
    measured = record["measurements"]
    return (record["data"]["dataset"] == "CIFAR-10" and measured["test_images"] == TEST_IMAGES
            and measured.get("scored_on", "test images") == "test images")  # only training runs may be scored on others


def accuracy_interval(measured: Mapping) -> statistics.Interval:
    return statistics.accuracy_interval(measured["accuracy"], measured["test_images"])

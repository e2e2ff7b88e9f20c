"""Figures and tables of trainings, and of what a network gets wrong."""

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
from cifar_bench.analysis.rules import TRAINING_IMAGES
from cifar_bench.analysis.verdicts import load_claim
from cifar_bench.report.style import STYLE, Picture, label_ends, listed, picture, with_interval
from cifar_lib import InputError


def photos(rows: dict, names: Sequence[str]) -> Picture:
    """Rows of images (uint8 N×3×32×32), one above the other, with a class name over each column."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(len(rows), len(names), figsize=(8, 1.1 * len(rows) + 0.3), squeeze=False)
        for line, images in zip(axes, rows.values()):
            for axis, image in zip(line, images):
                axis.imshow(image.transpose(1, 2, 0))
                axis.axis("off")
        for axis, name in zip(axes[0], names):
            axis.set_title(name, fontsize=8, loc="center")
        return picture(figure, "photos", f"{len(names)} photos that the network learns from",
                       "From top to bottom: " + ", ".join(rows) + ".",
                       f"{len(rows)} rows of {len(names)} photos: {', '.join(names)}; rows are {', '.join(rows)}.")


def schedule(shares: Sequence[float], epochs: int) -> Picture:
    """The learning rate of every step of a training, as a share of the highest."""
    epoch = np.arange(1, len(shares) + 1) * epochs / len(shares)
    finding = f"highest after {epoch[int(np.argmax(shares))]:.1f} epochs and ends at {shares[-1]:.1%} of that"
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 2.6))
        axis.plot(epoch, shares)
        axis.set(xlabel="epoch", ylabel="share of the highest", ylim=(0, 1.05), xlim=(0, epochs))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        return picture(figure, "schedule", f"The learning rate is {finding}", "Learning rate of every step.",
                       f"In a training of {epochs} epochs the learning rate is {finding}.",
                       pd.DataFrame({"after epoch": range(1, epochs + 1), "share of the highest":
                                     [shares[len(shares) * number // epochs - 1] for number in range(1, epochs + 1)]}))


def curves(trainings: Sequence[Mapping], name: str = "training_curves") -> Picture:
    """Loss on the training images and accuracy on the others after every epoch, a line for each record.

    A training still under way is a record whose epochs are fewer than its parameters ask for.
    """
    last = [record["measurements"]["epochs"][-1]["accuracy"] for record in trainings]
    many = len(trainings) > 1
    outcome = f"{min(last):.2f}–{max(last):.2f}%" if many else f"{last[0]:.2f}%"
    done = max(len(record["measurements"]["epochs"]) for record in trainings)
    epochs = max(record["parameters"]["epochs"] for record in trainings)
    scored_on = listed(sorted({record["measurements"].get("scored_on", "test images") for record in trainings}))
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2)
        for record in trainings:
            rows = record["measurements"]["epochs"]
            number, style = [row["epoch"] for row in rows], ".-" if epochs <= 40 else "-"
            left.plot(number, [row["loss"] for row in rows], style)
            right.plot(number, [row["accuracy"] for row in rows], style, label=f"seed {record['parameters']['seed']}")
        left.set(xlabel="epoch", ylabel="training loss", ylim=(0, None))
        right.set(xlabel="epoch", ylabel=f"accuracy on {scored_on} (%)")
        for axis in (left, right):
            axis.set_xlim(0.5, epochs + 0.5)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if many:
            label_ends(right)
        return picture(figure, name, f"Right on {outcome} of the {scored_on} after epoch {done}",
                       "Loss and accuracy after every epoch; the last epoch is the result.",
                       f"Accuracy on {scored_on} after epoch {done} of {epochs}: {outcome}.", pd.DataFrame(
                           {"seed": str(record["parameters"]["seed"]), "epoch": row["epoch"], "training loss": row["loss"],
                            "accuracy (%)": row["accuracy"]}
                           for record in trainings for row in record["measurements"]["epochs"]), [left, right])


def table(trainings: Sequence[Mapping], when: Sequence[str]) -> pd.DataFrame:
    """A row for each record: what was trained, for how long, the accuracy (%) with its 95% interval, and `when` that was."""
    rows = []
    for record, evidence in zip(trainings, when):
        measured, parameters = record["measurements"], record["parameters"]
        low, high = accuracy_interval(measured)
        without = parameters.get("without") or []  # as the next two, not in records of before there were such
        trained = [parameters["recipe"] + (f" without {', '.join(without)}" if without else ""),
                   *([f"widths {', '.join(map(str, widths))}"] if (widths := parameters.get("widths")) else []),
                   *(f"taught by {teacher}" for teacher in parameters.get("teachers") or []),
                   *(["in bfloat16"] if measured.get("bfloat16") else [])]
        rows.append({
            "recipe": "; ".join(trained),
            "seed": str(parameters["seed"]),
            "epochs": len(measured["epochs"]),
            "images": measured["train_images"],
            "PFLOP": measured["pflop"],
            "images/s": measured["images_per_second"],
            "minutes": sum(row["train_seconds"] for row in measured["epochs"]) / 60,
            "accuracy (%)": f"{measured['accuracy']:.2f} ({low:.2f} to {high:.2f})",
            "scored on": f"{measured['test_images']:,} {measured.get('scored_on', 'test images')}",
            "hardware": record["environment"]["hardware"],
            "evidence": f"{evidence}, {record['made'][:10]}",
        })
    return pd.DataFrame(rows)


def sentence(full: Sequence[Evidence], own: Sequence[Evidence]) -> str:
    """How accurate the network becomes: in the trainings in full, and in this run's own, which may be shorter."""
    words = []
    if full:
        seeds = listed(f"{item.measured['accuracy']:.2f}% (seed {item.record['parameters']['seed']}, {item.when})"
                       for item in full)
        epochs = listed(sorted({str(item.record["parameters"]["epochs"]) for item in full}))
        words.append(f"Trained in full, for {epochs} epochs, it is right on {seeds} of the test images.")
    for item in own:
        if item not in full:
            scale = f"{item.measured['train_images']:,} images, epochs: {len(item.measured['epochs'])}"
            words.append(f"This run's own training ({scale}) ends at {item.measured['accuracy']:.2f}%.")
    return " ".join(words)


def seeds(trainings: Sequence[Mapping]) -> Picture:
    """The accuracy of each seed with the 95% interval of that one model (%).

    Where all were scored on the test images of CIFAR-10, the band of the original's runs is drawn behind them.
    """
    ordered = sorted(trainings, key=lambda record: record["parameters"]["seed"])
    accuracies = [record["measurements"]["accuracy"] for record in ordered]
    intervals = [accuracy_interval(record["measurements"]) for record in ordered]
    half = max(high - low for low, high in intervals) / 2
    apart = f"{len(ordered)} seeds end {max(accuracies) - min(accuracies):.2f} points apart" if len(ordered) > 1 else (
        f"One seed ends at {accuracies[0]:.2f}%")
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 1.8 + 0.3 * len(ordered)))
        if all(on_the_test_images(record) for record in ordered):
            low, high = load_claim("accuracy-five-runs")["range"]
            axis.axvspan(low, high, color="0.88", linewidth=0)
            axis.text((low + high) / 2, -0.7, "the original's five runs", ha="center", va="center", fontsize=9)
        errors = np.abs(np.transpose(intervals) - accuracies)
        axis.errorbar(accuracies, range(len(ordered)), xerr=errors, fmt="o", capsize=3)
        axis.set(yticks=range(len(ordered)), yticklabels=[f"seed {record['parameters']['seed']}" for record in ordered],
                 ylim=(len(ordered) - 0.5, -1), xlabel="accuracy after the last epoch (%)")
        return picture(
            figure, "seeds", f"{apart}; each is known to ±{half:.2f}",
            "Bars: where one model might lie on other photos (binomial, 95%); from dot to dot: the seeds.",
            "Accuracy of each seed: " + listed(f"{record['parameters']['seed']} {accuracy:.2f}%"
                                                for record, accuracy in zip(ordered, accuracies)),
            pd.DataFrame({"seed": str(record["parameters"]["seed"]), "accuracy (%)": with_interval((accuracy, interval), 2)}
                         for record, accuracy, interval in zip(ordered, accuracies, intervals)))


def siblings(folder: Path, record: Mapping) -> list[dict]:
    """The records of the trainings in `folder` with the parameters and data of `record`, but for the seed."""
    same = []
    for path in sorted(folder.glob("seed*/record.json")):
        with suppress(InputError):  # of another version, perhaps
            other = records.read(path.parent)
            parameters = {**other["parameters"], "seed": record["parameters"]["seed"]}
            if (parameters, other["data"]) == (record["parameters"], record["data"]):
                same.append(other)
    return same


def confusion(matrix: np.ndarray, names: Sequence[str]) -> Picture:
    """How often each class (rows) is taken for each other (columns), in images."""
    mistakes = matrix * (1 - np.eye(len(names), dtype=int))
    true, taken = np.unravel_index(int(mistakes.argmax()), matrix.shape)
    finding = f"{names[true]} is taken for {names[taken]} most often: {mistakes[true, taken]} of {matrix[true].sum():,}"
    if not mistakes.any():
        finding = "no image is taken for one of another class"
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, axis = plt.subplots(figsize=(8, 6.4))
        edges = np.arange(len(names) + 1) - 0.5
        axis.pcolormesh(edges, edges, np.ma.masked_equal(mistakes, 0), cmap="Oranges", vmax=1.3 * max(1, mistakes.max()))
        axis.invert_yaxis()
        for row, column in np.ndindex(matrix.shape):
            axis.text(column, row, f"{matrix[row, column]:,}", ha="center", va="center",
                      color="0.55" if row == column or not matrix[row, column] else "black")
        axis.set(xticks=range(len(names)), xticklabels=names, yticks=range(len(names)), yticklabels=names,
                 xlabel="taken for", ylabel="true class")
        axis.tick_params(axis="x", rotation=40)
        return picture(figure, "confusion", finding[0].upper() + finding[1:],
                       "Confusion matrix: every image, by its true class and the one it was taken for.",
                       f"Confusion matrix of {len(names)} classes. {finding}.",
                       pd.DataFrame({"true class": names, **{f"as {name}": matrix[:, number].tolist()
                                                             for number, name in enumerate(names)}}))


def class_accuracy(matrix: np.ndarray, names: Sequence[str]) -> Picture:
    """The accuracy in each class, worst first, from a confusion matrix (rows: true class)."""
    hits, totals = matrix.diagonal(), matrix.sum(1)
    known = [number for number in range(len(names)) if totals[number]]
    order = sorted(known, key=lambda number: hits[number] / totals[number])
    shares = [100 * hits[number] / totals[number] for number in order]
    errors = np.abs(np.transpose([statistics.share_interval(hits[number], totals[number]) for number in order]) - shares)
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 3.6))
        axis.errorbar(shares, range(len(order)), xerr=errors, fmt="o", capsize=3)
        axis.set(yticks=range(len(order)), yticklabels=[names[number] for number in order], ylim=(len(order) - 0.5, -0.5),
                 xlabel="right (%)")
        finding = f"{names[order[0]].capitalize()} has the lowest accuracy here, {shares[0]:.1f}%"
        return picture(figure, "class_accuracy", finding, "Accuracy in each class, with its 95% interval (binomial).",
                       "Accuracy: " + listed(f"{names[number]} {share:.1f}%" for number, share in zip(order, shares)),
                       pd.DataFrame({"class": names[number], "right": int(hits[number]), "of": int(totals[number]),
                                     "accuracy (%)": share} for number, share in zip(order, shares)))


def mistakes(images: np.ndarray, labels: np.ndarray, logits: np.ndarray, names: Sequence[str], count: int = 20) -> Picture:
    """The photos (uint8 N×3×32×32) that the network takes for another class and is surest about, surest first."""
    confidence, taken = softmax(logits, axis=1).max(1), logits.argmax(1)
    wrong = np.flatnonzero(taken != labels)
    chosen = wrong[np.argsort(-confidence[wrong], kind="stable")[:count]]
    lines = max(1, -(-len(chosen) // 5))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(lines, 5, figsize=(8, 2.1 * lines + 0.4), squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for axis, number in zip(axes.flat, chosen.tolist()):
            axis.imshow(images[number].transpose(1, 2, 0))
            axis.set_title(f"{names[taken[number]]} {confidence[number]:.0%}\nis {names[labels[number]]}", loc="center")
        return picture(figure, "mistakes", f"{len(wrong):,} of {len(labels):,} are wrong; these are the surest",
                       "The surest mistakes: what the network says and how sure it is, then what is true.",
                       "Photos taken for another class: " + ", ".join(
                           f"{names[labels[number]]} for {names[taken[number]]}" for number in chosen.tolist()) + ".",
                       pd.DataFrame({"image": number, "true class": names[labels[number]],
                                     "taken for": names[taken[number]], "confidence (%)": 100 * float(confidence[number])}
                                    for number in chosen.tolist()))


def protocol_sentence(trainings: Sequence[Mapping], hardware: str) -> str:
    """How long the original's protocol would take on `hardware`, from the largest of the trainings made there."""
    claim = load_claim("accuracy-five-runs")
    runs, (protocol, *_) = claim["runs"], claim["protocols"]
    epochs = protocol["epochs"]
    made_here = [record["measurements"] for record in trainings if record["environment"]["hardware"] == hardware
                 and record["parameters"]["width"] == protocol["width"]
                 and not (record["parameters"].get("widths") or record["parameters"].get("teachers"))]
    if not made_here:
        return ""
    measured = max(made_here, key=lambda measured: measured["pflop"])
    made = measured["train_images"] * len(measured["epochs"])  # images in all, by a network of the claim's width
    pflop = runs * measured["pflop"] * epochs * TRAINING_IMAGES / made
    hours = pflop / measured["pflop"] * sum(row["train_seconds"] for row in measured["epochs"]) / 3600
    trainings_in_words = f"{runs} trainings of {epochs} epochs (profile full, {pflop:.1f} PFLOP)"
    return (f"The original's protocol, {trainings_in_words}, would take about {hours:,.{0 if hours >= 10 else 1}f} hours on "
            f"{hardware}, extrapolated from a training of {measured['pflop']:.2g} PFLOP.")


def mixed_precision_sentence(record: Mapping) -> str:
    """What training in bfloat16 changes, from pairs of training runs that differ in nothing else."""
    parameters, runs = record["parameters"], pd.DataFrame(record["measurements"]["training_runs"])
    paired = runs.pivot(index="seed", columns="mixed_precision")
    changes = paired["accuracy"]["off"] - paired["accuracy"]["on"]
    low, high = statistics.mean_interval(changes)
    speed = (paired["images_per_second"]["off"] / paired["images_per_second"]["on"]).median()
    return (f"Training in float32 instead of bfloat16 changes accuracy by {changes.mean():+.2f} points ({low:+.2f} to "
            f"{high:+.2f}) in {len(changes)} pairs of seeds, at {speed:.0%} of the speed ({parameters['epochs']} epochs, "
            f"{parameters['train_images']:,} images, width {parameters['width']}, {parameters['held_out']:,} held-out images, "
            f"{record['environment']['hardware']}).")


def on_the_test_images(record: Mapping) -> bool:
    """Whether a record's accuracy is that of all official test images."""
    measured = record["measurements"]
    return (record["data"]["dataset"] == "CIFAR-10" and measured["test_images"] == TEST_IMAGES
            and measured.get("scored_on", "test images") == "test images")


def accuracy_interval(measured: Mapping) -> statistics.Interval:
    return statistics.accuracy_interval(measured["accuracy"], measured["test_images"])

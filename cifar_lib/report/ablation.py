"""What the parts of a recipe bring: figure and table of an ablation."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from cifar_lib.analysis import statistics
from cifar_lib.report.style import STYLE, Picture, listed, picture

ORIGINAL_RECIPE = "the original's recipe"


def table(record: Mapping) -> pd.DataFrame:
    """A row for each part left out, the most missed first: accuracy (%) and its change (points), on average and by seed."""
    accuracies = _by_training(record)
    change = accuracies - accuracies.iloc[0]
    return pd.DataFrame({
        "trained with": accuracies.index,
        "accuracy (%)": [f"{value:.2f}" for value in accuracies.mean(axis=1)],
        "images/s": _by_training(record, "images_per_second").mean(axis=1)[accuracies.index].to_numpy(),
        "change (points)": [f"{value:+.2f}" for value in change.mean(axis=1)],
        **{f"seed {seed}": [f"{value:+.2f}" for value in change[seed]] for seed in accuracies},
    })


def sentence(record: Mapping) -> str:
    """What leaving out each part costs (points of accuracy, with its interval), and how that was measured."""
    change, half = _changes(record)
    found = (f"{mean:+.2f}" + ("" if np.isnan(half) else f" ({mean - half:+.2f} to {mean + half:+.2f})") + f" {name}"
             for name, mean in change.mean(axis=1).items())
    return f"{_how(record)}. Accuracy changes, in points, by {listed(found)}."


def effects(record: Mapping) -> Picture:
    """What leaving out each part of the recipe costs (points of accuracy), a dot for each seed.

    The title names a part only where its interval excludes none; with a single seed there are no intervals.
    """
    change, half = _changes(record)
    mean = change.mean(axis=1)
    clear = [name for name in change.index if abs(mean[name]) > half]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 1.6 + 0.32 * len(change)))
        axis.axvline(0, color="0.5", linewidth=1)
        for seed in change:
            axis.plot(change[seed], range(len(change)), "o", color="C0", alpha=0.6)
        axis.errorbar(mean, range(len(change)), xerr=None if np.isnan(half) else half, fmt="k|", markersize=12, capsize=3)
        axis.set(yticks=range(len(change)), yticklabels=change.index, ylim=(len(change) - 0.5, -0.5),
                 xlabel="change of accuracy (points)")
        return picture(
            figure, "ablation",
            f"Trained {clear[0]}, accuracy changes by {mean[clear[0]]:+.1f} points" if clear else
            "No part stands out from the luck of a seed" if len(change.columns) > 1 else
            "One seed does not tell what a part brings from luck",
            f"{_how(record)}. Dots: one seed each; lines: the mean{'' if np.isnan(half) else ' with its 95% interval'}.",
            "Mean change of accuracy: " + listed(f"{name} {value:+.2f}" for name, value in mean.items()),
            table(record))


def _how(record: Mapping) -> str:
    parameters = record["parameters"]
    return (f"{parameters['seeds']} trainings each, of {parameters['epochs']} epochs on {parameters['train_images']:,} images, "
            f"with a network of width {parameters['width']}, scored on {parameters['held_out']:,} held-out images, by the fast "
            f"recipe of commit {(record['environment']['commit'] or 'unknown')[:10]}")


def _changes(record: Mapping) -> tuple[pd.DataFrame, float]:
    """The change of accuracy without each part, by seed, and half the width of the 95% interval of their means (or NaN)."""
    accuracies = _by_training(record).drop(index=ORIGINAL_RECIPE, errors="ignore")
    half = statistics.differences_half(accuracies.to_numpy()) if len(accuracies.columns) > 1 else np.nan
    return (accuracies - accuracies.iloc[0]).iloc[1:], half


def _by_training(record: Mapping, number: str = "accuracy") -> pd.DataFrame:
    """A number of an ablation: a column for each seed, a row for each training, the whole recipe first, then the lowest."""
    whole = "the fast recipe"
    names = {("fast", ""): whole, ("original", ""): ORIGINAL_RECIPE}
    table = pd.DataFrame(
        {"name": names.get((row["recipe"], "".join(row["without"])), f"without {', '.join(row['without'])}"),
         "seed": row["seed"], number: row[number]} for row in record["measurements"]["trainings"]
    ).pivot(index="name", columns="seed", values=number)
    return table.loc[[whole, *table.mean(axis=1).drop(whole).sort_values(kind="stable").index]]

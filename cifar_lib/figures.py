"""The figures that notebooks and the report share: one style, a title that states the finding, an alternative text."""

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML, display
from matplotlib.figure import Figure

from cifar_lib import ROOT

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
    # Okabe and Ito's palette, told apart also by readers who are colour-blind
    "axes.prop_cycle": matplotlib.cycler(color=["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]),
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
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.svg)
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


def training_curves(records: list[dict]) -> Picture:
    """Loss on the training images and accuracy on the test images after every epoch, a line for each record."""
    last = [record["measurements"]["accuracy"] for record in records]
    many = len(records) > 1
    outcome = f"{min(last):.2f}–{max(last):.2f}%" if many else f"{last[0]:.2f}%"
    epochs = max(len(record["measurements"]["epochs"]) for record in records)
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2)
        for record in records:
            rows = record["measurements"]["epochs"]
            number = [row["epoch"] for row in rows]
            label = f"seed {record['parameters']['seed']}"
            left.plot(number, [row["loss"] for row in rows], ".-", label=label)
            right.plot(number, [row["accuracy"] for row in rows], ".-", label=label)
        left.set(xlabel="epoch", ylabel="training loss", title="Training loss", yscale="log")
        right.set(xlabel="epoch", ylabel="test accuracy (%)", title=f"{outcome} after epoch {epochs}")
        for axis in (left, right):
            axis.xaxis.get_major_locator().set_params(integer=True)
        if many:
            right.legend(frameon=False)
        return _picture(figure, "training_curves", "Loss and accuracy after every epoch; the last epoch is the result.",
                        f"Test accuracy after the last of {epochs} epochs: {outcome}.")


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

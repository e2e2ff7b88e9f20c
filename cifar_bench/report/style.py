"""What all figures share: one style, and how a figure becomes part of a page."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, display
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from cifar_bench import records
from cifar_bench.report import page
from cifar_lib import ROOT

if not str(dict.get(matplotlib.rcParams, "backend")).startswith("module:"):  # but for a notebook's own
    matplotlib.use("agg")  # the user's options may name a backend that needs a display
STYLE = {
    # matplotlib's defaults first, so that no option of the user's matplotlibrc changes a figure
    **{name: value for name, value in matplotlib.rcParamsDefault.items() if not name.startswith("backend")},
    "figure.figsize": (5.2, 3.2),  # of a width that can be read on a phone, where it is shown at 0.95 times its size
    "figure.constrained_layout.use": True,
    "font.size": 9.5,
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    **{f"{part}.labelsize": "medium" for part in ("xtick", "ytick")},
    "axes.titlesize": "medium",  # of panels; the figure's title is larger and bold
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.fontsize": "medium",
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: smaller files, which can be searched
    "svg.hashsalt": "cifar_bench",  # the same ids in every process
}

# One color for what a figure's title says, gray for the rest, and where engines are told apart a color for each runtime: the
# first whose name the engine's begins with. All can be read as text on white, and told apart with color blindness.
HIGHLIGHT, GRAY, TEXT = "#0072B2", "0.6", "0.35"
RUNTIMES = {"onnxruntime": "#117733", "openvino": "#882255", "onednn": "#8B6F47", "executorch": "#332288", "": "#B34700"}
MASK = {"facecolor": "white", "linewidth": 0, "pad": 0.5}  # behind text that lines cross
MARKS = {"float32": "o", "tf32": "s", "float16": "^", "bfloat16": "D", "int8": "v"}  # of precisions


@dataclass(frozen=True)
class Picture:
    """A drawn figure as SVG, with its finding as the title and the numbers that it shows."""

    name: str
    title: str
    svg: str
    caption: str
    numbers: pd.DataFrame | None = None  # None where it shows images
    band: float = 0.0  # height of its title (pt)

    def save(self, run: str) -> None:
        """Write figures/`run`/`name`.svg; those of a reference run stay as they are."""
        if not records.is_reference(run):
            with records.replacing(ROOT / "figures" / run / f"{self.name}.svg") as scratch:
                scratch.write_text(self.svg, encoding="utf-8")

    def _repr_html_(self) -> str:
        return page.figure(self.name, self.title, _embeddable(self.svg, self.name, self.band), self.caption, self.numbers).data


def show(picture: Picture) -> None:
    display(HTML(picture._repr_html_()))


def warn_if_synthetic(origin: dict) -> None:
    """Say on the page that the images are synthetic, where they are."""
    if origin["dataset"] != "CIFAR-10":
        display(page.synthetic())


def engine_color(engine: str) -> str:
    """The color of an engine's runtime; PyTorch's for all that have no other."""
    return next(color for runtime, color in RUNTIMES.items() if engine.startswith(runtime))


def set_range(axis: Axis, low: float, high: float) -> str:
    """Show `low` to `high`, on a logarithmic axis from a factor of ten on; returns what the axis's label has to say of that.

    Ticks are at round numbers, written without exponents.
    """
    logarithmic = high >= 10 * low
    axis.axes.set(**{f"{axis.axis_name}scale": "log" if logarithmic else "linear", f"{axis.axis_name}lim": (low, high)})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if logarithmic else MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
    axis.set_minor_locator(NullLocator())
    return ", logarithmic" if logarithmic else ""


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Right of the axes, label the end of each line: its x, y, text and color. All else must be drawn before.

    Labels that would overlap are shifted, and a thin line leads to each.
    """
    axes.get_ylim()  # or the limits of what was drawn last would not count
    to_axes, gap = axes.transData + axes.transAxes.inverted(), 1.25 * STYLE["font.size"] / (50 * axes.figure.get_figheight())
    gap *= axes.get_gridspec().nrows
    below, heights = -np.inf, []
    ends = sorted(ends, key=lambda end: end[1])
    for x, y, *_ in ends:
        below = max(to_axes.transform((x, y))[1], below + gap)
        heights.append(below)
    for number, (x, y, text, color) in enumerate(ends):
        height = min(heights[number], 1 - gap * (len(ends) - 1 - number))
        axes.annotate(text, (x, y), (1.04, height), textcoords="axes fraction", va="center", color=color,
                      arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2})


def bars(axes: Axes, rows: Sequence[tuple[str, str, Mapping[str, float]]]) -> None:
    """Horizontal bars from zero, the first on top, each below its name and what is said of it on the right.

    A row is a name, a text, and the lengths of the bar's parts by color.
    """
    for number, (name, text, parts) in enumerate(rows):
        axes.barh(number, parts.values(), 0.4, np.cumsum([0, *parts.values()])[:-1], color=list(parts))
        for x, words, side in ((0, name, "left"), (1, text, "right")):
            axes.text(x, number - 0.28, words, transform=axes.get_yaxis_transform(), ha=side, va="bottom", bbox=MASK,
                      color=HIGHLIGHT if [*parts] == [HIGHLIGHT] else TEXT)
    axes.set(xticks=[], yticks=[], ylim=(len(rows) - 0.6, -0.9))
    axes.spines["bottom"].set_visible(False)


def picture(figure: Figure, name: str, title: str, caption: str, numbers: pd.DataFrame | None = None) -> Picture:
    """`figure` as SVG, made higher by as many lines as `title` above it takes."""
    heading = figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", wrap=True, gid="title")
    band = heading.get_window_extent().height / figure.dpi + 0.1  # inches
    figure.set_figheight(figure.get_figheight() + band)
    figure.draw_without_rendering()  # a second layout fits what lies outside the axes, such as labels, better than the first
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return Picture(name, title, buffer.getvalue(), caption, numbers, 72 * band)


def _embeddable(svg: str, name: str, band: float) -> str:
    """The <svg> element without its title, which the page shows as text, and with ids that no other figure has."""
    element = svg[svg.index("<svg"):].replace('<g id="title">', '<g display="none">')
    element = re.sub(r'viewBox="0 0 (\S+) (\S+)"',
                     lambda found: f'viewBox="0 {band:g} {found[1]} {float(found[2]) - band:g}"', element)
    element = re.sub(r' height="[\d.]+pt"', "", element, count=1)  # that of the file
    return re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", element)

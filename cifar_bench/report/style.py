"""What all figures share: one style, and how a figure becomes part of a page."""

import io
import re
from dataclasses import dataclass

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML, display
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
    "figure.figsize": (8, 4.2),
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.titlesize": 10,  # of panels; the figure's title is larger and bold
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    # Okabe and Ito's palette (brown for yellow, which is too light) and three of Tol's: distinguishable with color blindness
    "axes.prop_cycle": matplotlib.cycler(
        color=["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8B6F47", "#882255",
               "#332288", "#999933"]),
    "svg.hashsalt": "cifar_bench",  # the same ids in every process
}

# The engines in the order of their colors; a test holds that all are named.
ENGINES = ["eager", "torchscript", "torchscript-cpp", "torchscript-plain", "compile", "aotinductor", "aotinductor-cpp",
           "onnxruntime", "openvino", "openvino-cpp", "onednn-cpp", "executorch", "executorch-cpp", "eager-cudagraph",
           "torchscript-cudagraph"]
# The precisions' markers and line styles, likewise.
MARKS = {"float32": "o", "tf32": "s", "float16": "^", "bfloat16": "D", "int8": "v"}
LINES = {"float32": "-", "tf32": (0, (1, 4)), "float16": ":", "bfloat16": "--", "int8": "-."}


@dataclass(frozen=True)
class Picture:
    """A drawn figure as SVG, with its finding as the title and the numbers that it shows."""

    name: str
    title: str
    svg: str
    caption: str
    numbers: pd.DataFrame | None = None  # None where it shows images

    def save(self, run: str) -> None:
        """Write figures/`run`/`name`.svg; those of a reference run stay as they are."""
        if not records.is_reference(run):
            with records.replacing(ROOT / "figures" / run / f"{self.name}.svg") as scratch:
                scratch.write_text(self.svg, encoding="utf-8")

    def _repr_html_(self) -> str:
        return page.figure(self.name, self.title, _embeddable(self.svg, self.name), self.caption, self.numbers).data


def show(picture: Picture) -> None:
    display(HTML(picture._repr_html_()))


def warn_if_synthetic(origin: dict) -> None:
    """Say on the page that the images are synthetic, where they are."""
    if origin["dataset"] != "CIFAR-10":
        display(page.synthetic())


def engine_color(name: str) -> str:
    """The color of an engine in every figure; engines on a CUDA graph begin the palette again."""
    return f"C{ENGINES.index(name) if name in ENGINES else len(ENGINES)}"


def plain_log_ticks(axis: Axis) -> None:
    """Ticks of a logarithmic axis at round numbers, written without exponents; its limits must be set before."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 5 * low else MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
    axis.set_minor_locator(NullLocator())


def picture(figure: Figure, name: str, title: str, caption: str, numbers: pd.DataFrame | None = None) -> Picture:
    """`figure` as SVG, with `title` above it, in smaller type where the right edge would cut it."""
    heading = figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", gid="title")
    figure.draw_without_rendering()
    extent, right = heading.get_window_extent(), figure.bbox.x1 - 5
    if extent.x1 > right:
        heading.set_fontsize(heading.get_fontsize() * (right - extent.x0) / extent.width)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return Picture(name, title, buffer.getvalue(), caption, numbers)


def _embeddable(svg: str, name: str) -> str:
    """The <svg> element without its title, which the page shows as text, and with ids that no other figure has."""
    element = svg[svg.index("<svg"):].replace('<g id="title">', '<g display="none">')
    return re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", element)

"""What all figures share: one style, words beside each picture, and numbers written alike."""

import html
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from cifar_bench import records
from cifar_bench.analysis import statistics
from cifar_bench.report import page
from cifar_lib import ROOT

if not str(dict.get(matplotlib.rcParams, "backend")).startswith("module:"):  # but for a notebook's own
    matplotlib.use("agg")  # a window, which a user's options may name, may not be to be had
STYLE = {
    # first matplotlib's own, so that nothing of a user's options is seen in a figure
    **{name: value for name, value in matplotlib.rcParamsDefault.items() if not name.startswith("backend")},
    "figure.figsize": (8, 4.2),
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.titlesize": 10,  # of panels; a figure's own is larger and bold
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    # Okabe and Ito's palette (brown for its yellow, too light for lines), then three of Tol's: told apart by the colour-blind
    "axes.prop_cycle": matplotlib.cycler(
        color=["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8B6F47", "#882255",
               "#332288", "#999933"]),
    "svg.fonttype": "path",
    "svg.hashsalt": "cifar_lib",
}

# The engines in the order of their colors; a test holds that all are named.
ENGINES = ["eager", "torchscript", "torchscript-cpp", "torchscript-plain", "compile", "aotinductor", "aotinductor-cpp",
           "onnxruntime", "openvino", "openvino-cpp", "onednn-cpp", "eager-cudagraph", "torchscript-cudagraph"]
# The precisions' marks and lines, likewise.
MARKS = {"float32": "o", "tf32": "s", "float16": "^", "bfloat16": "D", "int8": "v"}
LINES = {"float32": "-", "tf32": (0, (1, 4)), "float16": ":", "bfloat16": "--", "int8": "-."}


@dataclass(frozen=True)
class Picture:
    """A drawn figure, as SVG, with its finding, the words for readers who cannot see it and the numbers behind it."""

    name: str
    title: str
    svg: str
    caption: str
    alternative: str
    numbers: pd.DataFrame | None = None  # None where it shows photos only
    readable: Sequence[dict] = ()  # axes whose values the page's script tells where one points at them

    def save(self, run: str) -> Path:
        path = ROOT / "figures" / run / f"{self.name}.svg"
        with records.replacing(path) as scratch:
            scratch.write_text(self.svg, encoding="utf-8")
        return path

    def _repr_html_(self) -> str:
        label = f"numbers of the figure: {self.name.replace('_', ' ')}"
        numbers = "" if self.numbers is None else page.table(self.numbers, label, folded=True).data
        readable = f' data-readable="{html.escape(json.dumps(self.readable))}"' if self.readable else ""
        return (
            f'<figure id="{self.name}"{readable}><p class="title"><strong>{html.escape(self.title)}</strong></p>'
            f'<div role="img" tabindex="0" aria-label="{html.escape(self.alternative)}">'
            f"{_embeddable(self.svg, self.name)}</div><figcaption>{html.escape(self.caption)}{numbers}</figcaption></figure>"
        )


def show(picture: Picture) -> None:
    display(HTML(picture._repr_html_()))


def warn_if_synthetic(origin: dict) -> None:
    """Say on the page that the images are generated, where they are."""
    if origin["dataset"] != "CIFAR-10":
        display(HTML('<p class="warning"><strong>Synthetic data.</strong> CIFAR-10 was not at hand: these images are '
                     "generated, and nothing here says anything about accuracy on CIFAR-10.</p>"))


def with_interval(estimate: tuple[float, statistics.Interval], digits: int = 0) -> str:
    value, (low, high) = estimate
    return f"{value:,.{digits}f} ({low:,.{digits}f}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{high:,.{digits}f})"


def not_run(rows: Iterable[Mapping], name: Callable[[Mapping], str]) -> list[str]:
    """Which of a record's rows could not run here, and why, a sentence each."""
    return [row["reason"] if row["reason"].startswith(f"{name(row)} ") else f"{name(row)}: {row['reason']}"
            for row in rows if "reason" in row]


def listed(items: Iterable[str]) -> str:
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last


def engine_color(name: str) -> str:
    """The color that an engine has in every figure; the palette begins again for those on a CUDA graph."""
    return f"C{ENGINES.index(name) if name in ENGINES else len(ENGINES)}"


def plain_log_ticks(axis: Axes, low: float, high: float, side: str = "x") -> None:
    """Ticks within the data at round multiples of powers of ten, written as plain numbers: from 4 on, where that does, to 8."""
    decades = [10.0**power for power in range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)]
    wide = np.log10(high / low) > 8 / 3
    for factors in ((1,) if wide else (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9)):
        ticks = [factor * power for power in decades for factor in factors if low <= factor * power <= high]
        if wide or len(ticks) >= 4:
            break
    target = axis.xaxis if side == "x" else axis.yaxis
    target.set_major_locator(FixedLocator(ticks or [low, high]))
    target.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}"))
    target.set_minor_formatter(NullFormatter())


def label_ends(axis: Axes) -> None:
    """Each labelled line's label to the right of `axis`, tied to the line's last point, apart from its neighbours."""
    axis.autoscale_view()  # else the axis may not know its range yet
    lines = [line for line in axis.get_lines() if not line.get_label().startswith("_")]
    ends = [axis.transLimits.transform(axis.transScale.transform(line.get_xydata()[-1])) for line in lines]
    apart = 0.055 * 4.2 / axis.figure.get_figheight()  # a line of text, as a share of the axis
    order, levels, level = sorted(range(len(lines)), key=lambda number: ends[number][1]), {}, -np.inf
    for number in order:
        levels[number] = level = max(ends[number][1], level + apart)
    level = 1 + apart
    for number in reversed(order):  # those pushed above the axis, back down
        levels[number] = level = min(levels[number], level - apart)
    for number, line in enumerate(lines):
        axis.annotate(line.get_label(), ends[number], (1.06, levels[number]), "axes fraction", "axes fraction", va="center",
                      fontsize=9, arrowprops={"arrowstyle": "-", "color": line.get_color(), "linestyle": line.get_linestyle(),
                                              "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 3})


def picture(
    figure: Figure, name: str, title: str, caption: str, alternative: str, numbers: pd.DataFrame | None = None,
    readable: Iterable[Axes] = (),
) -> Picture:
    """`figure` as SVG, with `title` above it, in smaller type where it would be cut at the right edge.

    `readable` are those of its axes where a page may tell the values under the pointer.
    """
    heading = figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", gid="title")
    figure.draw_without_rendering()
    place, room = heading.get_window_extent(), figure.bbox.x1 - 5
    if place.x1 > room:
        heading.set_fontsize(heading.get_fontsize() * (room - place.x0) / place.width)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    svg = _without_repetition(_short(_renumbered(buffer.getvalue())))
    return Picture(name, title, svg, caption, alternative, numbers, [_readable(axis) for axis in readable])


def _renumbered(svg: str) -> str:
    """`svg` with no ids but those that are referred to, counted as they come, and the title's.

    matplotlib gives every element one and makes some from positions whose last bits differ from time to time.
    """
    ids: dict[str, str] = {}
    svg = re.sub(r'(href="#|url\(#)([^")]+)', lambda match: match[1] + ids.setdefault(match[2], f"i{len(ids)}"), svg)
    ids["title"] = "title"
    return re.sub(r' id="([^"]+)"', lambda match: f' id="{ids[match[1]]}"' if match[1] in ids else "", svg)


def _short(svg: str) -> str:
    """`svg` with its coordinates in hundredths of a point, and no more white space and words than it needs.

    Scales keep their digits. Letters, which matplotlib places in hundredths of their size, are moved by whole ones.
    """
    rounded = re.sub(r"(?<!scale\()(?<!\d)\d+\.\d{3,}", lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), svg)
    placed = re.sub(r'(?<=") transform="translate\(([\d.]+) 0\)"/>', lambda match: f' x="{float(match[1]):.0f}"/>', rounded)
    return re.sub(r" ?\n *", "\n", re.sub(r" ?\n([LQCMz]) ?|(?<=d=\"M) ", r"\1", placed))


def _without_repetition(svg: str) -> str:
    """`svg` without what changes nothing: groups that say nothing of what is in them, and a shape's style where it is used."""
    style_of = dict(re.findall(r'<path id="([^"]*)" d="[^"]*" style="([^"]*)"', svg))
    styled = re.sub(r'(<use xlink:href="#([^"]*)"[^>]*?) style="([^"]*)"',
                    lambda use: use[1] if style_of.get(use[2]) == use[3] else use[0], svg)
    bare: list[bool] = []  # of each group that is open

    def kept(tag: re.Match) -> str:
        if not tag["end"]:
            bare.append(not tag["attributes"])
        return "" if (bare.pop() if tag["end"] else bare[-1]) else tag[0]

    return re.sub(r"<(?P<end>/)?g(?P<attributes> [^>]*[^/>])?>\n?", kept, styled)


def _readable(axis: Axes) -> dict:
    """Where `axis` lies in its picture (shares from the left and the top), and the label, ends and scale of x and y."""
    place = axis.get_position()
    sides = {name: {"label": side.get_label_text().replace(", logarithmic)", ")").removesuffix(" (logarithmic)"),
                     "low": ends[0], "high": ends[1], "logarithmic": side.get_scale() == "log"}
             for name, side, ends in (("x", axis.xaxis, axis.get_xlim()), ("y", axis.yaxis, axis.get_ylim()))}
    return {"left": place.x0, "right": place.x1, "top": 1 - place.y1, "bottom": 1 - place.y0, **sides}


def _embeddable(svg: str, name: str) -> str:
    """The <svg> element alone, without its title, its ids made unique to this figure, scaling with the page."""
    element = svg[svg.index("<svg"):].replace('<g id="title">', '<g id="title" display="none">')
    unique = f"{zlib.crc32(name.encode()):x}"[:4]  # short, since every letter refers to its shape
    element = re.sub(r'(?:xlink:)?(id="|href="#|url\(#)', rf"\g<1>{unique}", element)
    return re.sub(r'<svg ([^>]*?)width="[^"]*"', r'<svg \1 style="max-width:100%;height:auto" width="100%"',
                  re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", element, count=1), count=1)

"""Figures of reports: drawn once with matplotlib, shown in a page or written as SVG and PNG."""

import io
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from nas_submod.files import write_bytes
from nas_submod.report.markup import MINUS, escape

# Every colour of a report, on a light and on a dark page. Figures are drawn with the light colours;
# in a page, each is replaced by the CSS variable of its name.
THEME: Mapping[str, tuple[str, str]] = {
  "ink": ("#1f2328", "#e6edf3"),
  "soft": ("#59636e", "#9198a1"),
  "rule": ("#d1d9e0", "#3d444d"),
  "surface": ("#fffffe", "#0d1117"),
  "panel": ("#f6f8fa", "#161c24"),
  "line0": ("#0969da", "#58a6ff"),
  "line1": ("#bc4c00", "#ff9b57"),
  "line2": ("#1a7f37", "#4ac26b"),
  "line3": ("#8250df", "#bc8cff"),
  "line4": ("#bf3989", "#ff80c8"),
  "line5": ("#9a6700", "#e3b341"),
}
INK, SOFT, RULE, SURFACE, PANEL, *LINES = (light for light, _ in THEME.values())
BETTER, WORSE = LINES[:2]  # colours of gains

FIGURES = "figures"  # the folder of figures

_STYLE: Any = {
  "font.family": "sans-serif",
  "font.sans-serif": ["DejaVu Sans"],
  "font.size": 11,
  "figure.facecolor": "none",  # The page shows through.
  "text.color": INK,
  "text.parse_math": False,  # A name may hold a $.
  "axes.edgecolor": RULE,
  "axes.labelcolor": SOFT,
  "axes.facecolor": SURFACE,
  "axes.grid": True,
  "axes.axisbelow": True,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "grid.color": RULE,
  "grid.linewidth": 0.6,
  "xtick.color": SOFT,
  "ytick.color": SOFT,
  "xtick.labelsize": 10,
  "ytick.labelsize": 10,
  "legend.fontsize": 10,
  "legend.frameon": False,
  "legend.labelcolor": INK,
  "svg.fonttype": "none",  # Text stays text.
  "svg.hashsalt": "nas_submod",  # Equal figures give equal files.
}


class Plot(NamedTuple):
  """A figure and its description.

  Attributes:
    name: File name without extension; unique in a report.
    title: What it shows.
    caption: How to read it.
    figure: The figure, drawn at one point per pixel.
    spoken: Its content in a sentence, for a screen reader.
    columns: Headings of the table of its numbers; empty if a page has them elsewhere.
    rows: The table.
  """

  name: str
  title: str
  caption: str
  figure: Figure
  spoken: str
  columns: tuple[str, ...] = ()
  rows: tuple[tuple[str, ...], ...] = ()


def style() -> Any:
  """The context in which figures are drawn and written; restores global settings on exit."""
  return matplotlib.rc_context(_STYLE)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
  """A figure of this size in pixels with one pair of axes; call it inside `style()`."""
  # Without pyplot there is no display and no global state.
  figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")
  return figure, figure.subplots()


def empty_figure(width: float, height: float) -> tuple[Figure, Axes]:
  """A figure without visible axes, whose coordinates are pixels from the top left."""
  figure = Figure(figsize=(width / 72, height / 72), dpi=72)
  axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
  axes.set(xlim=(0, width), ylim=(height, 0))
  axes.axis("off")
  return figure, axes


def file_name(kind: str, resource: str) -> str:
  """The name of the figure of a resource, whose own name may not be that of a file."""
  return f"{kind}_" + re.sub(r"[^\w-]", "_", resource)


def legend(figure: Figure, axes: Axes) -> None:
  """Puts each label once above the axes; the figure grows with the rows of labels."""
  handles, labels = axes.get_legend_handles_labels()
  shown = dict(zip(labels, handles))
  # A letter takes six pixels, a handle the width of six letters.
  columns = min(max(int(figure.get_figwidth() * 72 / 6) // (max(map(len, shown)) + 6), 1), 3)
  figure.set_figheight(figure.get_figheight() + 16 / 72 * -(-len(shown) // columns))
  figure.legend(shown.values(), shown.keys(), loc="outside upper left", ncols=columns)


def short(value: float, _: float = 0) -> str:
  """A number on an axis: 120k, because long numbers overlap, but 0.03 rather than 30m."""
  text = EngFormatter(sep="")(value) if abs(value) >= 1000 else f"{value:g}"
  return text.replace("-", MINUS)


def inline(plot: Plot) -> str:
  """The figure as SVG for a page: in the page's colours, at most as wide as drawn."""
  svg = _svg(plot.figure)
  svg = svg[svg.index("<svg") :]
  svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.S)
  svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
  # Pages hold several figures, and an id must be unique in a page.
  for mark in ('id="', 'href="#', "url(#"):
    svg = svg.replace(mark, f"{mark}{plot.name}-")
  for name, (light, _) in THEME.items():
    svg = svg.replace(light, f"var(--{name})")
  width, height = (round(float(side) * 72) for side in plot.figure.get_size_inches())
  opening = (
    f'<svg role="img" aria-label="{escape(plot.spoken)}" viewBox="0 0 {width} {height}" '
    f'width="{width}" height="{height}">'
  )
  return opening + svg[svg.index(">") + 1 :]


def save(plot: Plot, folder: pathlib.Path) -> list[pathlib.Path]:
  """Writes a figure as SVG and PNG on white; returns the paths."""
  file = io.BytesIO()
  with style():
    plot.figure.savefig(file, format="png", dpi=144, facecolor="white")
  found = {"svg": _svg(plot.figure, facecolor="white").encode(), "png": file.getvalue()}
  paths = [folder / f"{plot.name}.{ending}" for ending in found]
  for path, content in zip(paths, found.values()):
    write_bytes(path, content)
  return paths


def save_all(plots: Sequence[Plot], folder: pathlib.Path) -> None:
  """Writes figures into the subfolder `FIGURES`, see `save`."""
  (folder / FIGURES).mkdir(exist_ok=True)
  for plot in plots:
    save(plot, folder / FIGURES)


def _svg(figure: Figure, **options: Any) -> str:
  file = io.StringIO()
  metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
  with style():
    figure.savefig(file, format="svg", metadata=metadata, **options)
  return file.getvalue()


def padded(values: Any) -> tuple[float, float]:
  """Limits of an axis that shows all finite values, with room at both ends."""
  finite = np.asarray(values, float)
  finite = finite[np.isfinite(finite)]
  low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
  room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
  return low - room, high + room

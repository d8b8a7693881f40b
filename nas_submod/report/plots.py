"""Plots of the values of a search: against each resource, and of its finalists."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from nas_submod.report.figure import (
  INK,
  LINES,
  SOFT,
  SURFACE,
  Plot,
  file_name,
  legend,
  new_figure,
  padded,
  short,
  style,
)
from nas_submod.report.finished import (
  Finished,
  mean_scores,
  real,
  row_scores,
  score_name,
)
from nas_submod.report.markup import with_error
from nas_submod.report.steps import Chain
from nas_submod.report.text import number
from nas_submod.resources import network_cost, network_costs

_WIDTH, _HEIGHT = 360, 270


def against_resources(search: Finished, chains: Sequence[Chain]) -> list[Plot]:
  """The paths, all networks measured and the finalists against each resource with a budget."""
  measured = mean_scores(search)
  networks = np.array([search.space.from_key(key) for key in measured])
  names = tuple(name for name in search.result["budget"] if name in search.resources)
  if not names:
    return []
  costs = network_costs(search.space, networks, names, search.resources)
  return [
    _against(search, chains, name, costs[:, column], measured) for column, name in enumerate(names)
  ]


def _against(
  search: Finished,
  chains: Sequence[Chain],
  name: str,
  costs: np.ndarray,
  measured: Mapping[str, float],
) -> Plot:
  result, values = search.result, np.array([*measured.values()])
  limit = result["budget"][name]
  with style():
    figure, axes = new_figure(_WIDTH, _HEIGHT)
    shown = _paths(axes, search, chains, name)
    for row in search.finalists:
      x, y, error = row["resources"][name], real(row["value"]), real(row["standard_error"])
      is_answer = row["architecture"] == result["architecture"]
      axes.errorbar(x, y, error, fmt="none", ecolor=INK, zorder=4)
      marker, size, fill = ("*", 13, INK) if is_answer else ("D", 5, SURFACE)
      label = "answer" if is_answer else "finalist"
      axes.plot(x, y, marker, ms=size, mec=INK, mfc=fill, label=label, zorder=5)
      shown += [y, y - error, y + error]
    axes.axvline(limit, ls="--", c=INK, lw=1, label="budget")
    # Networks that are worse than all of these would squeeze the paths together.
    low = min((v for v in shown if math.isfinite(v)), default=0.0)
    inside = values >= low
    if inside.any():
      axes.plot(costs[inside], values[inside], ".", c=SOFT, ms=4, alpha=0.45, label="measured")
    start = search.space.key(search.space.start)
    if measured.get(start, -math.inf) >= low:
      at = network_cost(search.space, search.space.start, search.resources)[name]
      axes.plot(at, measured[start], "s", ms=7, mec=INK, mfc=SURFACE, label="start", zorder=4)
    axes.set_ylim(padded([low, *values[inside], *(v for v in shown if v >= low)]))
    axes.set(xlabel=search.resources[name].unit, ylabel=score_name(search))
    axes.xaxis.set_major_formatter(short)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    legend(figure, axes)
  used = f"{number(result['resources'][name])} of {number(limit)}"
  caption = f"{name}: the answer uses {used}."
  if worse := np.count_nonzero(~inside):
    caption += f" Not shown: {worse} of {len(values)} networks, which score lower."
  return Plot(
    file_name("value", name),
    f"Value against {name}",
    caption,
    figure,
    f"{score_name(search)} against {name}. The answer uses "
    f"{used} and has {with_error(real(result['value']), real(result['standard_error']))}.",
  )


def _paths(axes: Axes, search: Finished, chains: Sequence[Chain], name: str) -> list[float]:
  """Draws each piece of the paths once; returns the values drawn.

  A piece that several paths share is thick and gray, so that no line lies on another one.
  """
  users: dict[tuple[str, str], int] = {}
  keys = [[search.space.key(step.row["architecture"]) for step in chain.steps] for chain in chains]
  for path in keys:
    for piece in itertools.pairwise(path):
      users[piece] = users.get(piece, 0) + 1
  shown = []
  # All paths of a run have one colour and one label.
  labels = list(dict.fromkeys(", ".join(chain.runs) for chain in chains))
  for chain, path in zip(chains, keys):
    xs = [step.row["resources"][name] for step in chain.steps]
    ys = [real(step.row["value"]) for step in chain.steps]
    label = ", ".join(chain.runs)
    color = LINES[labels.index(label) % len(LINES)]
    for begin, piece in enumerate(itertools.pairwise(path)):
      ends = slice(begin, begin + 2)
      if users[piece] > 1:
        axes.plot(xs[ends], ys[ends], "-", c=SOFT, lw=3.5, label="shared", zorder=2)
      else:
        axes.plot(xs[ends], ys[ends], "-" if chain.grows else ":", c=color, lw=2, zorder=2)
    axes.plot(xs, ys, "o", c=color, ms=5, label=label, zorder=3)
    shown += ys
  return shown


def finalists(search: Finished) -> Plot:
  """The fresh seeds of each finalist, with mean and standard error."""
  rows = search.finalists
  with style():
    figure, axes = new_figure(_WIDTH, 70 + 30 * len(rows))
    for place, row in enumerate(rows):
      scores = row_scores(row)
      axes.plot(scores, [place] * len(scores), "o", c=LINES[0], alpha=0.5, ms=6)
      value, error = real(row["value"]), real(row["standard_error"])
      if math.isfinite(value):
        axes.errorbar(value, place, xerr=error, fmt="|", c=INK, ms=14, capsize=3, lw=1.5)
    axes.set_yticks(range(len(rows)), [str(place + 1) for place in range(len(rows))])
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=score_name(search), ylabel="finalist")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(visible=False, axis="y")
  return Plot(
    "finalists",
    "Finalists",
    "Dots: trainings with fresh seeds. Bars: mean and standard error.",
    figure,
    f"Scores of {len(rows)} finalists with fresh seeds; the table has the numbers.",
  )

"""The map of gains: how much a block adds, by its position and type."""

import math

import numpy as np
from matplotlib.patches import Rectangle

from nas_submod.report.figure import (
  BETTER,
  RULE,
  SOFT,
  WORSE,
  Plot,
  empty_figure,
  style,
)
from nas_submod.report.finished import (
  Finished,
  mean_scores,
)
from nas_submod.report.markup import decimals

_CELL, _ROW = 58, 26  # in pixels


def gain_map(search: Finished) -> Plot:
  """Mean gain of a block by its position and type, from all networks measured."""
  gains, counts, paired = block_gains(search)
  space, largest = search.space, float(np.nanmax(np.abs(gains), initial=1e-12))
  digits = min(max(2 - math.floor(math.log10(largest)), 1), 5)
  shown = [p for p in range(space.positions) if counts[p].any()]
  names = [
    f"{stage + 1}.{position - where.start + 1}"
    for stage, where in enumerate(space.stage_slices)
    for position in range(where.start, where.stop)
  ]
  left, top = 44, _ROW
  with style():
    figure, axes = empty_figure(left + _CELL * len(space.options) + 4, top + _ROW * len(shown) + 4)
    for column, option in enumerate(space.options):
      axes.text(
        left + _CELL * (column + 0.5),
        top / 2,
        option.name,
        ha="center",
        va="center",
        color=SOFT,
        fontsize=10,
      )
    for line, position in enumerate(shown):
      y = top + _ROW * line
      axes.text(
        left - 8,
        y + _ROW / 2,
        names[position],
        ha="right",
        va="center_baseline",
        color=SOFT,
        fontsize=10,
      )
      for column, (gain, count) in enumerate(zip(gains[position], counts[position])):
        corner = (left + _CELL * column + 1, y + 1)
        axes.add_patch(Rectangle(corner, _CELL - 2, _ROW - 2, fc="none", ec=RULE, lw=0.8))
        if count:
          shade = 0.08 + 0.55 * min(abs(gain) / largest, 1)
          color = BETTER if gain > 0 else WORSE
          axes.add_patch(Rectangle(corner, _CELL - 2, _ROW - 2, fc=color, alpha=shade, lw=0))
          axes.text(
            left + _CELL * (column + 0.5),
            y + _ROW / 2,
            decimals(gain, digits, sign=True),
            ha="center",
            va="center_baseline",
            fontsize=10,
          )
  what = (
    "Mean gain of adding the block, over all measured pairs of networks with and without it"
    if paired
    else "Mean value of the measured networks with the block there, minus the mean of all. This is "
    "not a gain: no two measured networks differ in one block only"
  )
  rows = tuple(
    (
      names[p],
      *(
        f"{decimals(g, sign=True)} (n = {n})" if n else "not measured"
        for g, n in zip(gains[p], counts[p])
      ),
    )
    for p in shown
  )
  return Plot(
    "gains",
    "Gain by position and type",
    f"{what}. Rows: stage and place in it. Blue: better, orange: worse. Empty: not measured.",
    figure,
    f"{what}; the table has the numbers.",
    ("position", *(option.name for option in space.options)),
    rows,
  )


def block_gains(search: Finished) -> tuple[np.ndarray, np.ndarray, bool]:
  """Mean gain of each option at each position of the canonical form.

  Returns:
    The gains, NaN where unknown, and the number of network pairs behind each, both
    `[positions, options]`; and True. Without any pair, False, and each gain is the mean value of
    the networks with the block, minus the mean of all.
  """
  measured, space = mean_scores(search), search.space
  shape = space.positions, len(space.options)
  networks, values = np.array([space.from_key(key) for key in measured]), [*measured.values()]
  row_of = {network.tobytes(): row for row, network in enumerate(networks)}
  # Every network has the blocks of the start set.
  rows, positions = np.nonzero((networks > 0) & (np.array(space.start) == 0))
  smaller = networks[rows]
  smaller[np.arange(len(rows)), positions] = 0
  before = [row_of.get(network.tobytes(), -1) for network in space.canonical(smaller)]
  # Removing either of two equal neighbours gives one network: count it once, at the later place.
  pairs = {
    (row, other, networks[row, position]): position
    for row, other, position in zip(rows.tolist(), before, positions.tolist())
    if other >= 0
  }
  found = [(p, o - 1, float(values[row] - values[other])) for (row, other, o), p in pairs.items()]
  if not pairs:
    middle = np.mean(values)
    cells = zip(rows.tolist(), positions.tolist())
    found = [(p, networks[row, p] - 1, float(values[row] - middle)) for row, p in cells]
  sums, counts = np.zeros(shape), np.zeros(shape, int)
  for position, option, gain in found:
    sums[position, option] += gain
    counts[position, option] += 1
  return np.where(counts, sums / np.maximum(counts, 1), np.nan), counts, bool(pairs)

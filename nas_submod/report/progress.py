"""The best value so far of searches, against evaluations and against time."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from nas_submod.evaluation.evaluator import mean
from nas_submod.report.figure import (
  INK,
  LINES,
  SOFT,
  Plot,
  legend,
  new_figure,
  short,
  style,
)
from nas_submod.report.finished import (
  Finished,
  fresh_replicates,
  real,
  score_name,
  seconds_before,
  start_scores,
  within_budget,
)
from nas_submod.report.markup import decimals

_WIDTH, _HEIGHT = 360, 240


def progress_of(search: Finished) -> tuple[list[int], list[float], list[float]]:
  """Best value so far: number of evaluations, seconds without compiling, value.

  The value of a network is the mean of its evaluations so far, so the best may fall.
  """
  first, seconds = fresh_replicates(search).start, seconds_before(search)
  fitting = within_budget(search)
  scores: dict[str, list[float]] = {}
  means: dict[str, float] = {}
  highest = math.nan
  counts: list[int] = []
  times: list[float] = []
  best: list[float] = []
  for evaluation in search.evaluations:
    if evaluation.replicate >= first:
      continue
    seconds += evaluation.seconds
    if evaluation.replicate < 0 or evaluation.key not in fitting:
      continue
    key, score = evaluation.key, search.score(evaluation)
    if math.isfinite(score):
      led = means.get(key) == highest
      scores.setdefault(key, []).append(score)
      means[key] = mean(scores[key])
      # All are compared only if the leader may have fallen.
      highest = max(means.values()) if led or len(means) == 1 else max(highest, means[key])
    counts.append(len(counts) + 1)
    times.append(seconds)
    best.append(highest)
  return counts, times, best


def progress(searches: Sequence[Finished], labels: Sequence[str]) -> list[Plot]:
  """Best value so far of one or several searches, against evaluations and against seconds."""
  found = [progress_of(search) for search in searches]
  scored = [search.uses_shared_weights for search in searches]
  made = "scores with shared weights" if all(scored) else "trainings"
  made = made if len(set(scored)) == 1 else "evaluations"
  by_scores = [label for label, search in zip(labels, searches) if search.uses_shared_weights]
  mixed = f" {', '.join(by_scores)}: scores with shared weights, on a scale of their own."
  rows = [
    (label, f"{count:,}", f"{time:.0f}", decimals(value))
    for label, columns in zip(labels, found)
    for place, (count, time, value) in enumerate(zip(*columns))
    if place in (0, len(columns[0]) - 1) or value != columns[2][place - 1]
  ]
  plots = []
  for column, (name, unit) in enumerate(
    (("trainings", made), ("seconds", "seconds without compiling"))
  ):
    with style():
      figure, axes = new_figure(_WIDTH, _HEIGHT)
      for number, (label, columns) in enumerate(zip(labels, found)):
        color = LINES[number % len(LINES)]
        axes.step(columns[column], columns[2], where="post", c=color, lw=2, label=label)
      if len(searches) == 1:
        _levels(axes, searches[0])
      axes.set_xlim(left=0)
      axes.set(xlabel=unit, ylabel=f"best {score_name(searches[0])} so far")
      axes.xaxis.set_major_formatter(short)
      axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
      legend(figure, axes)
    plots.append(
      Plot(
        f"progress_{name}",
        f"Best so far against {name}",
        f"Best value so far against {unit}." + mixed * (0 < len(by_scores) < len(searches)),
        figure,
        f"Best {score_name(searches[0])} so far against {unit}; the table has the numbers.",
        ("search", made, "seconds", "best so far") if not column else (),
        tuple(rows) if not column else (),
      )
    )
  return plots


def _levels(axes: Axes, search: Finished) -> None:
  """Lines at the start network and at the answer, both with fresh seeds."""
  value, error = (real(search.result[name]) for name in ("value", "standard_error"))
  axes.axhline(value, c=INK, lw=1, label="answer, fresh seeds")
  if math.isfinite(error):
    axes.axhspan(value - error, value + error, color=SOFT, alpha=0.2, lw=0)
  if start := start_scores(search):
    axes.axhline(float(np.mean(start)), c=SOFT, ls=":", lw=1.5, label="start network")

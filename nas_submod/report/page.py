"""The report page of a search."""

import base64
import html
import io
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from nas_submod.evaluation.evaluator import METHODS, SHARED_WEIGHTS, TRAINING
from nas_submod.evaluation.journal import Journal
from nas_submod.evaluation.shared_weights.settings import method_of
from nas_submod.report.text import number, summary
from nas_submod.resources import network_costs
from nas_submod.search.setup import Setup


def write_page(
  setup: Setup, result: Mapping[str, Any], journal: Journal, path: pathlib.Path
) -> None:
  """Writes the report page: the answer, the paths against the budgets, progress, finalists."""
  rows = "".join(
    f"<tr><td>{html.escape(f['run'])}<td>{f['value']:.4f} ± {f['standard_error']:.4f}"
    f"<td>{'tie' if f['tie'] else ''}<td>{f['search_value']:.4f}"
    + "".join(f"<td>{number(f['resources'][name])}" for name in setup.budget)
    + f"<td><code>{html.escape(f['text'])}</code>"
    for f in sorted(result["finalists"], key=lambda f: -f["value"])
  )
  heads = "".join(f"<th>{name}" for name in setup.budget)
  scored = method_of(setup.config) == SHARED_WEIGHTS
  column = "score" if scored else "in the search"
  values = " The values of the runs are scores with shared weights." * scored
  trainings = [evaluation for evaluation in journal if evaluation.method == TRAINING]
  made = f"{len(trainings)} trainings"
  if others := len(journal) - len(trainings):
    made += f", {others} scores with shared weights"
  ties = any(step["tie"] for step in result["path"])
  hollow = " Hollow: a statistical tie; another block may have been better." * ties
  text = html.escape(summary(setup, result, path.parent).strip())
  title = f"{html.escape(setup.space.name)}: {html.escape(result['optimizer'])}"
  path.write_text(
    f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}}
img{{max-width:100%}}td,th{{padding:.2rem .8rem;text-align:left}}pre{{overflow-x:auto}}</style>
<h1>{title}</h1>
<pre>{text}</pre>
<h2>Value along each run, against the budgets</h2>
<p>Dashed: the budget. Star: the answer, trained again with fresh seeds.{values}{hollow}</p>
<img alt="value against costs" src="{_paths_figure(setup, result)}">
<h2>Best value while searching</h2>
<img alt="best value against evaluations" src="{_progress_figure(result, scored)}">
<h2>Finalists</h2>
<table><tr><th>run<th>fresh seeds<th><th>{column}{heads}<th>network</tr>{rows}</table>
<h2>Every network evaluated ({made})</h2>
<img alt="all evaluations" src="{_evaluations_figure(setup, journal)}">
</html>
"""
  )


def _figure(count: int) -> tuple[Figure, Sequence[Any]]:
  """A figure of so many axes, at most three in a row."""
  columns = min(count, 3)
  rows = -(-count // columns)
  # Drawn without pyplot: no display, no global state.
  figure = Figure(figsize=(5.2 * columns, 3.6 * rows), layout="constrained")
  axes = figure.subplots(rows, columns, squeeze=False).ravel()
  for axis in axes[:count]:
    axis.xaxis.set_major_formatter(_short)
  for axis in axes[count:]:
    axis.remove()
  return figure, list(axes[:count])


def _short(value: float, _: int) -> str:
  """A number on an axis: 120k, because long ones run together, but 0.03 rather than 30m."""
  return EngFormatter(sep="")(value) if abs(value) >= 1000 else f"{value:g}"


def _image(figure: Figure) -> str:
  file = io.BytesIO()
  figure.savefig(file, format="png", dpi=110)
  return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _paths_figure(setup: Setup, result: Mapping[str, Any]) -> str:
  figure, axes = _figure(len(setup.budget))
  for axis, (name, limit) in zip(axes, setup.budget.items()):
    for row, run in enumerate(setup.runs):
      path = [s for s in result["path"] if s["run"] == run and math.isfinite(s["value"])]
      costs = [s["resources"][name] for s in path]
      # Rules often take the same path: the later ones are drawn thinner, on top.
      width = 1 + 1.5 * (len(setup.runs) - 1 - row)
      axis.plot(costs, [s["value"] for s in path], "o-", ms=width + 2, lw=width, label=run)
      ties = [(s["resources"][name], s["value"]) for s in path if s["tie"]]
      axis.plot(*np.array(ties).reshape(-1, 2).T, "o", mfc="w", mec="k", ms=width + 2)
    axis.axvline(limit, ls="--", c="gray", label="budget")
    axis.errorbar(
      result["resources"][name],
      result["value"],
      result["standard_error"],
      fmt="*",
      ms=12,
      c="k",
      zorder=3,
    )
    axis.set(xlabel=setup.resources[name].unit, ylabel=result["score"])
    axis.grid(alpha=0.3)
  axes[0].legend(fontsize=8)
  return _image(figure)


def _progress_figure(result: Mapping[str, Any], scored: bool) -> str:
  figure, (axis,) = _figure(1)
  steps = sorted(result["path"], key=lambda s: s["evaluations"])
  best = np.maximum.accumulate([s["value"] for s in steps])
  axis.step([s["evaluations"] for s in steps], best, where="post")
  axis.xaxis.set_major_locator(MaxNLocator(integer=True))
  made = "scores with shared weights" if scored else "trainings"
  axis.set(xlabel=made, ylabel=f"best {result['score']} so far")
  axis.grid(alpha=0.3)
  return _image(figure)


def _evaluations_figure(setup: Setup, journal: Journal) -> str:
  figure, axes = _figure(len(setup.budget))
  # Replicate -1 is a short training.
  finished = [e for e in journal if e.metrics is not None and e.replicate != -1]
  methods = [method for method in METHODS if any(e.method == method for e in finished)]
  for method in methods:
    found = [evaluation for evaluation in finished if evaluation.method == method]
    values = [setup.score(evaluation) for evaluation in found]
    architectures = np.array([setup.space.from_key(e.key) for e in found])
    costs = network_costs(setup.space, architectures, tuple(setup.budget), setup.resources)
    for axis, column in zip(axes, costs.T):
      axis.plot(column, values, ".", ms=4, alpha=0.5, label=method.replace("_", " "))
  for axis, (name, limit) in zip(axes, setup.budget.items()):
    axis.axvline(limit, ls="--", c="gray")
    axis.set(xlabel=setup.resources[name].unit, ylabel=setup.config["score"])
    axis.grid(alpha=0.3)
  if len(methods) > 1:
    axes[0].legend(fontsize=8)
  return _image(figure)

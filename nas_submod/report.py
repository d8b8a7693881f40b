"""What a person reads after a search: the summary, and the report page."""

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

from nas_submod.journal import Journal
from nas_submod.objective import LARGEST_SCORE, SCORES
from nas_submod.resources import RESOURCES, network_costs
from nas_submod.search_setup import Setup
from nas_submod.search_space import SearchSpace


def draw(space: SearchSpace, architecture: Sequence[int]) -> str:
  """An architecture as text: one line a stage with its output and its blocks in order."""
  height, width, _ = space.image_shape
  height, width = -(-height // space.stem_stride), -(-width // space.stem_stride)
  stem = space.stem_block_channels or space.stem_channels
  lines = [f"stem     {height:>3} x {width:<3} {stem:>4} channels"]
  canonical = space.canonical(np.array(space.check(architecture)))
  for index, (stage, where) in enumerate(zip(space.stages, space.stage_slices)):
    height, width = -(-height // stage.stride), -(-width // stage.stride)
    names = [space.options[o - 1].name if o else "·" for o in canonical[where]]
    size = f"stage {index + 1}  {height:>3} x {width:<3} {stage.channels:>4} channels"
    lines.append(f"{size}   {' → '.join(names)}")
  head = f"1x1 to {space.head_channels} channels, " if space.head_channels else ""
  return "\n".join([*lines, f"head     {head}average pool, {space.classes} classes"])


def budget_lines(
  resources: Mapping[str, int], budget: Mapping[str, int], tight: Sequence[str] = ()
) -> list[str]:
  """One line a resource: what is used of what is allowed."""
  return [
    f"{name:<7} {resources[name]:>13,} of {limit:>13,}  {resources[name] / limit:6.1%}"
    + ("  binds" if name in tight else "")
    for name, limit in budget.items()
  ]


def certificate_lines(result: Mapping[str, Any]) -> list[str]:
  """The upper bound, what speaks against it, and what it means."""
  bound, found = result["upper_bound"], result["violations"]
  lines = []
  if found is None:
    lines.append("bound   none: some values are of shorter trainings")
  elif bound is None:
    lines.append("bound   none: not every single block was measured")
  elif bound >= (largest := LARGEST_SCORE[result["score"]]):
    lines.append(f"bound   none below {largest:g}, which no network can exceed")
  elif bound < result["value"]:
    lines.append(
      f"bound   none: the answer's fresh seeds are above {bound:.4f}, that of the search"
    )
  else:
    lines.append(
      f"bound   {bound:.4f}: no network within the budgets is better, as far as the score is "
      "monotone and submodular"
    )
  lines += [] if found is None else _violation_lines(found)
  if ties := sum(step["tie"] for step in result["path"]):
    lines.append(
      f"ties    {ties} of {len(result['path'])} steps: noise leaves open if another was better"
    )
  return lines


def _earlier(counts: Mapping[str, int]) -> str:
  earlier = counts["journal"] - counts["trained"]
  return f" (and {earlier} before this command began)" if earlier else ""


def _violation_lines(found: Mapping[str, Any]) -> list[str]:
  shares = [
    (found[f"{what}_failed"], found[f"{what}_checked"])
    for what in ("monotonicity", "submodularity")
  ]
  (lost, added), (grown, compared) = shares
  lines = [
    f"        measured: {lost} of {added} added blocks lowered it, {grown} of {compared} blocks "
    "gained more in a larger network"
  ]
  if found["submodularity_ratio"] is not None and found["curvature"] is not None:
    lines.append(
      f"        submodularity ratio {found['submodularity_ratio']:.2f} (1 or more if submodular), "
      f"curvature {found['curvature']:.2f} (0 if additive)"
    )
  return lines


def summary(setup: Setup, result: Mapping[str, Any], workdir: pathlib.Path) -> str:
  """What was found and why, for the terminal."""
  counts, seconds, signal = result["evaluations"], result["seconds"], result["signal"]
  gain, ratio = signal["mean_gain_of_first_additions"], signal["ratio"]
  compared = "" if ratio is None else f", {ratio:.2f} of a gain"
  others = [
    f"{f['run']:>15}  {f['value']:.4f} ± {f['standard_error']:.4f} {'tie' if f['tie'] else '':3}  "
    + f["text"]
    for f in sorted(result["finalists"], key=lambda f: -f["value"])
  ]
  return "\n".join(
    [
      "",
      draw(setup.space, result["architecture"]),
      "",
      *budget_lines(result["resources"], setup.budget, result["binding"]),
      *([] if result["binding"] else ["no budget binds: another block would fit"]),
      *limit_lines(setup, result),
      "",
      f"value   {result['value']:.4f} ± {result['standard_error']:.4f} ({result['score']}, mean "
      f"and standard error of {len(result['finalists'][0]['scores'])} fresh seeds)",
      f"signal  replicates of one network vary by {signal['replicate_standard_deviation']:.4f}"
      + ("" if gain is None else f"; the first {signal['additions']} blocks gain {gain:.4f} each")
      + compared,
      *certificate_lines(result),
      "finalists, trained again with fresh seeds (tie: noise leaves open if it is better):",
      *others,
      "",
      f"trained {counts['trained']}{_earlier(counts)}, reused {counts['reused']}, "
      f"failed {counts['failed']}; "
      f"{result['compilations']} training programs compiled",
      f"seconds {seconds['compile']:.0f} compile, {seconds['train']:.0f} train, "
      f"{seconds['rest']:.0f} rest on {result['devices']}",
      f"files   {workdir}/: result.json, report.html, evaluations.jsonl, config.json",
    ]
  )


def limit_lines(setup: Setup, result: Mapping[str, Any]) -> list[str]:
  """That the search was limited, if it was."""
  limit = setup.config["search"]["max_evaluations"]
  if not limit or result["measured"] < limit:
    return []
  return [f"ended at config.search.max_evaluations={limit}: without it more may be measured"]


def write_page(
  setup: Setup, result: Mapping[str, Any], journal: Journal, path: pathlib.Path
) -> None:
  """Writes the report page: the answer, the paths against the budgets, progress, finalists."""
  rows = "".join(
    f"<tr><td>{html.escape(f['run'])}<td>{f['value']:.4f} ± {f['standard_error']:.4f}"
    f"<td>{'tie' if f['tie'] else ''}<td>{f['search_value']:.4f}"
    + "".join(f"<td>{f['resources'][name]:,}" for name in setup.budget)
    + f"<td><code>{html.escape(f['text'])}</code>"
    for f in sorted(result["finalists"], key=lambda f: -f["value"])
  )
  heads = "".join(f"<th>{name}" for name in setup.budget)
  text = html.escape(summary(setup, result, path.parent).strip())
  title = f"{html.escape(setup.space.name)}: {html.escape(result['optimizer'])}"
  path.write_text(
    f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}}
img{{max-width:100%}}td,th{{padding:.2rem .8rem;text-align:left}}pre{{overflow-x:auto}}</style>
<h1>{title}</h1>
<pre>{text}</pre>
<h2>Value along each run, against the budgets</h2>
<p>Dashed: the budget. Star: the answer, trained again with fresh seeds. Hollow: a statistical tie,
noise leaves open whether another block was better.</p>
<img alt="value against costs" src="{_paths_figure(setup, result)}">
<h2>Best value while searching</h2>
<img alt="best value against trainings" src="{_progress_figure(setup, result)}">
<h2>Finalists</h2>
<table><tr><th>run<th>fresh seeds<th><th>in the search{heads}<th>network</tr>{rows}</table>
<h2>Every network trained ({len(journal)} trainings)</h2>
<img alt="all evaluations" src="{_evaluations_figure(setup, journal)}">
</html>
"""
  )


def _figure(columns: int) -> tuple[Figure, Sequence[Any]]:
  # Drawn without pyplot: no display, no global state.
  figure = Figure(figsize=(5.2 * columns, 3.6), layout="constrained")
  axes = figure.subplots(1, columns, squeeze=False)[0]
  for axis in axes:
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))  # 120k: long numbers run together.
  return figure, axes


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
    axis.set(xlabel=name, ylabel=result["score"])
    axis.grid(alpha=0.3)
  axes[0].legend(fontsize=8)
  return _image(figure)


def _progress_figure(setup: Setup, result: Mapping[str, Any]) -> str:
  figure, (axis,) = _figure(1)
  steps = sorted(result["path"], key=lambda s: s["evaluations"])
  best = np.maximum.accumulate([s["value"] for s in steps])
  axis.step([s["evaluations"] for s in steps], best, where="post")
  axis.xaxis.set_major_locator(MaxNLocator(integer=True))
  axis.set(xlabel="trainings", ylabel=f"best {result['score']} so far")
  axis.grid(alpha=0.3)
  return _image(figure)


def _evaluations_figure(setup: Setup, journal: Journal) -> str:
  figure, axes = _figure(len(setup.budget))
  score = SCORES[setup.config["score"]]
  finished = [e for e in journal if e.metrics is not None and e.replicate >= 0]
  values = [score(e.metrics) for e in finished if e.metrics is not None]
  costs = network_costs(setup.space, np.array([setup.space.from_key(e.key) for e in finished]))
  for axis, (name, limit) in zip(axes, setup.budget.items()):
    axis.plot(costs[:, RESOURCES.index(name)], values, ".", ms=4, alpha=0.5)
    axis.axvline(limit, ls="--", c="gray")
    axis.set(xlabel=name, ylabel=setup.config["score"])
    axis.grid(alpha=0.3)
  return _image(figure)

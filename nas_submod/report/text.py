"""The result of a search as text for a terminal."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas_submod.evaluation.evaluator import LARGEST_SCORE, SHARED_WEIGHTS
from nas_submod.evaluation.shared_weights.settings import method_of
from nas_submod.networks.search_space import SearchSpace
from nas_submod.search.setup import Setup


def draw(space: SearchSpace, architecture: Sequence[int]) -> str:
  """Draws an architecture as text: one line for each stage, with its output size and blocks."""
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


def number(value: int | float) -> str:
  """A number with separators of thousands; fractions with three digits, or more below 1."""
  if not math.isfinite(value):
    return str(value)
  digits = 3 if abs(value) >= 1 or not value else 2 - math.floor(math.log10(abs(value)))
  text = f"{value:,.{digits}f}"
  return text.rstrip("0").rstrip(".") if "." in text else text


def budget_lines(
  resources: Mapping[str, int | float],
  budget: Mapping[str, int | float],
  tight: Sequence[str] = (),
) -> list[str]:
  """One line for each budget: the amount used, the limit and the share; `tight` ones bind."""
  width = max(7, *map(len, budget))
  return [
    f"{name:<{width}} {number(resources[name]):>13} of {number(limit):>13}"
    f"  {resources[name] / limit:6.1%}" + ("  binds" if name in tight else "")
    for name, limit in budget.items()
  ]


def certificate_lines(result: Mapping[str, Any], scores: bool = False) -> list[str]:
  """The upper bound, and how far the measured values are from its assumptions.

  Args:
    result: The content of `result.json`.
    scores: Whether the search measured scores with shared weights.
  """
  bound, found = result["upper_bound"], result["violations"]
  lines = []
  if found is None:
    kind = "scores with shared weights" if scores else "shortened trainings"
    lines.append(f"bound   none: {kind} give no bound")
  elif bound is None:
    lines.append("bound   none: not every block was measured on its own")
  elif bound >= (largest := LARGEST_SCORE[result["score"]]):
    lines.append(f"bound   none: the measured gains allow {largest:g}, the largest possible score")
  elif bound < result["value"]:
    lines.append(
      f"bound   none: the answer scores above it with fresh seeds ({bound:.4f} in the search)"
    )
  else:
    lines.append(
      f"bound   {bound:.4f}: no network within the budgets is better, if the score is monotone and "
      "submodular"
    )
  lines += [] if found is None else _violation_lines(found)
  if ties := sum(step["tie"] for step in result["path"]):
    lines.append(
      f"ties    {ties} of {len(result['path'])} steps: another block may have been better"
    )
  return lines


def _earlier(counts: Mapping[str, Any]) -> str:
  earlier = counts["journal"] - counts["trained"] - counts["scored"]
  return f" (and {earlier} before this command began)" if earlier else ""


def _causes(counts: Mapping[str, Any]) -> str:
  causes = [f"{count} {cause}" for cause, count in counts["causes"].items()]
  return f" ({', '.join(causes)})" if causes else ""


def _seconds(seconds: Mapping[str, float]) -> list[str]:
  names = {
    "shared_weights": "shared weights",
    "compile": "compile",
    "train": "train",
    "score": "score",
    "rest": "rest",
  }
  scores = seconds.get("shared_weights")
  shown = [name for name in names if scores or name not in ("shared_weights", "score")]
  return [f"{seconds[name]:.0f} {names[name]}" for name in shown]


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
  """Describes the answer and why it was chosen, for the terminal."""
  counts, seconds, signal = result["evaluations"], result["seconds"], result["signal"]
  gain, ratio = signal["mean_gain_of_first_additions"], signal["ratio"]
  first = f"the first {signal['additions']} blocks gain" * (signal["additions"] > 1)
  gained = "" if gain is None else f"; {first or 'the first block gains'} {gain:.4f} each"
  compared = "" if ratio is None else f": noise is {ratio:.2f} of a gain"
  finalists = sorted(result["finalists"], key=lambda finalist: -finalist["value"])
  marks = ["best", *("tie" if finalist["tie"] else "" for finalist in finalists[1:])]
  others = [
    f"{f['run']:>15}  {f['value']:.4f} ± {f['standard_error']:.4f} {mark:4}  {f['text']}"
    for f, mark in zip(finalists, marks)
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
      + gained
      + compared,
      *certificate_lines(result, method_of(setup.config) == SHARED_WEIGHTS),
      "finalists, trained again with fresh seeds (tie: may be better within the noise):",
      *others,
      "",
      f"trained {counts['trained']}"
      + (f", scored {counts['scored']} with shared weights" if counts["scored"] else "")
      + f"{_earlier(counts)}, reused {counts['reused']}, "
      f"failed {counts['failed']}{_causes(counts)}; "
      f"{result['compilations']} training programs compiled",
      f"seconds {', '.join(_seconds(seconds))} on {result['devices']}",
      f"files   {workdir}/: result.json, report.html, evaluations.jsonl, config.json",
    ]
  )


def limit_lines(setup: Setup, result: Mapping[str, Any]) -> list[str]:
  """Says that a limit ended the search, if one did."""
  limit = setup.config["search"]["max_evaluations"]
  if not limit or result["measured"] < limit:
    return []
  return [f"ended at config.search.max_evaluations={limit}: without it more may be measured"]

"""The result of a search as text for a terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas_submod import networks
from nas_submod.evaluation.evaluator import LARGEST_SCORE
from nas_submod.networks.search_space import SearchSpace
from nas_submod.report.finished import Finished, deviation, real


def draw(space: SearchSpace, architecture: Sequence[int]) -> str:
  """Draws an architecture as text: one line for each stage, with its blocks.

  Stages that change the image show the size of their output.
  """
  canonical = space.canonical(np.array(space.check(architecture)))
  names = ["stem    ", *(f"stage {number + 1} " for number in range(len(space.stages)))]
  blocks = [
    [space.options[o - 1].name if o else "·" for o in canonical[where]]
    for where in space.stage_slices
  ]
  shapes = [networks.output_shape(space, place) for place in range(len(space.stages) + 1)]
  sizes = [f"{height:>3} x {width:<3} {count:>4} channels" for height, width, count in shapes]
  for index, where in enumerate(space.stage_slices):
    if not any(canonical[where]) and not space.stages[index].projection:
      sizes[index + 1] = " " * len(sizes[index + 1])
  lines = [
    f"{name} {size}   {' → '.join(row)}".rstrip()
    for name, size, row in zip(names, sizes, [[], *blocks])
  ]
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
  """One line for each budget: the amount used, the limit and the share; budgets in `tight` bind."""
  width = max(7, *map(len, budget))
  return [
    f"{name:<{width}} {number(resources[name]):>13} of {number(limit):>13}"
    f"  {resources[name] / limit:6.1%}" + ("  binds" if name in tight else "")
    for name, limit in budget.items()
  ]


def room_left(result: Mapping[str, Any]) -> str:
  """Says why the network is no larger if no budget binds; empty if one does."""
  if "positions" in result["binding"]:
    return "no budget binds: every position has a block"
  if result["binding"]:
    return ""
  return "no budget binds: another block would fit, but the search chose this network"


def bound_line(search: Finished) -> str:
  """The upper bound, or why there is none."""
  result, largest = search.result, LARGEST_SCORE[search.result["score"]]
  bound = real(result["upper_bound"])
  if search.uses_shared_weights:
    return "none: scores with shared weights give no bound"
  if math.isnan(bound):
    return "none: not every block was measured on its own"
  if bound >= largest:
    return f"none: the measured gains allow {bound:.4f}, and no score exceeds {largest:g} anyway"
  if bound < real(result["value"]):
    return f"none: with fresh seeds the answer scores above the bound of the search, {bound:.4f}"
  return (
    f"{bound:.4f}: no network within the budgets is better, if the score is monotone and "
    "submodular, ignoring noise"
  )


def noise_line(search: Finished) -> str:
  """The noise of one training, compared with the gain of a block."""
  signal = search.result["signal"]
  gain, ratio = signal["mean_gain_of_first_additions"], signal["ratio"]
  first = f"the first {signal['additions']} blocks gain" * (signal["additions"] > 1)
  gained = "" if gain is None else f"; {first or 'the first block gains'} {gain:.4f} each"
  compared = "" if ratio is None else f": noise is {ratio:.2f} of a gain"
  return f"replicates of one network vary by {deviation(search):.4f}{gained}{compared}"


def limit_line(search: Finished) -> str | None:
  """Says that a limit ended the search, if one did."""
  limit = search.config["search"]["max_evaluations"]
  if not limit or search.result["measured"] < limit:
    return None
  return f"ended at config.search.max_evaluations={limit}: without it more may be measured"


def counts_line(search: Finished) -> str:
  """Trainings and scores: made, reused, failed."""
  counts = search.result["evaluations"]
  scored = f", scored {counts['scored']} with shared weights" if counts["scored"] else ""
  earlier = counts["journal"] - counts["trained"] - counts["scored"]
  before = f" (and {earlier} known before)" if earlier else ""
  return (
    f"trained {counts['trained']}{scored}{before}, reused {counts['reused']}, "
    f"failed {counts['failed']}"
  )


def failed_line(search: Finished) -> str | None:
  """The failed evaluations in the journal, with causes; None if none failed."""
  causes = search.result["evaluations"]["causes"]
  counted = ", ".join(f"{count} x {cause}" for cause, count in causes.items())
  return f"failed  {counted}; these networks are never chosen" if counted else None


def seconds_of(search: Finished) -> dict[str, float]:
  """The seconds of the search by activity; activities that did not occur are left out."""
  seconds = search.result["seconds"]
  names = ("shared_weights", "compile", "train", "score", "rest")
  kept = [name for name in names if seconds.get(name) or name in ("compile", "train", "rest")]
  return {name.replace("_", " "): seconds[name] for name in kept}


def value_text(row: Mapping[str, Any]) -> str:
  """The value of a network with its error, or that it failed."""
  if row["value"] is None or not math.isfinite(row["value"]):
    return "failed"
  return f"{row['value']:.4f} ± {row['standard_error']:.4f}"


def summary(search: Finished, verbose: bool = False) -> str:
  """Describes the answer of a search for the terminal; if verbose, also how far to trust it."""
  result, rows = search.result, search.finalists
  width = max(len(row["run"]) for row in rows)
  marks = ["best", *("tie" if row["tie"] else "" for row in rows[1:])]
  values = [value_text(row) for row in rows]
  others = [
    f"  {row['run']:>{width}}  {value:<{max(map(len, values))}} {mark:4}  {row['text']}"
    for row, value, mark in zip(rows, values, marks)
  ]
  references = [
    f"  {'':>{width}}  {value_text(row):<{max(map(len, values))}}       {row['name']}"
    for row in result.get("references", ())
  ]
  times = ", ".join(f"{value:.0f} {name}" for name, value in seconds_of(search).items())
  more = [
    f"signal  {noise_line(search)}",
    f"bound   {bound_line(search)}",
    *(
      [f"ties    {ties} of {len(result['path'])} steps: another block may have been better"]
      if (ties := sum(row["tie"] for row in result["path"]))
      else []
    ),
    f"{counts_line(search)}; {result['compilations']} training programs compiled",
    f"seconds {times} on {result['devices']}",
  ]
  return "\n".join(
    [
      "",
      draw(search.space, result["architecture"]),
      "",
      *budget_lines(result["resources"], result["budget"], result["binding"]),
      *([room] if (room := room_left(result)) else []),
      *([limit] if (limit := limit_line(search)) else []),
      "",
      f"value   {result['value']:.4f} ± {result['standard_error']:.4f} ({result['score']}, mean "
      f"and standard error of {len(rows[0]['scores'])} fresh seeds)",
      "finalists, trained again with fresh seeds (tie: may be the best, given the noise):",
      *others,
      *(["references, trained alike:", *references] if references else []),
      "",
      *([failed] if (failed := failed_line(search)) else []),
      *(more if verbose else []),
      f"files   {search.name}/: result.json, report.html, evaluations.jsonl, config.json",
    ]
  )

"""The tables of a search's page: paths, finalists, noise, failures, cost."""

import math
from collections.abc import Iterator, Sequence

from nas_submod.report import steps, text
from nas_submod.report.finished import Finished, real
from nas_submod.report.markup import (
  Markup,
  block,
  decimals,
  element,
  join,
  sentence,
  table,
  with_error,
)
from nas_submod.report.markup import network as blocks_of

_MOST_ROWS = 50  # of a table of failures
_OPEN_PATHS = 6  # tables of paths that are not folded


def paths(search: Finished, chains: Sequence[steps.Chain]) -> Iterator[Markup]:
  """A table for each path; runs that took the same path share one."""
  grows = any(chain.grows for chain in chains)
  yield element(
    "p",
    "Each step adds a block. Runner-up: the best other block that was measured there, by the "
    "rule of the path. In doubt: noise leaves open which of the two is better."
    if grows
    else "Each row is the network that the optimizer held to be the best from then on. Its value "
    "may change when more is known. "
    + ("Values are scores with shared weights." if search.uses_shared_weights else ""),
  )
  answer = search.space.key(search.result["architecture"])
  for number, chain in enumerate(chains):
    name = ", ".join(chain.runs)
    rows = [_step(search, chain, step, answer) for step in chain.steps]
    columns = ["step", "block added" if chain.grows else "network", "value", "gain"]
    columns += [*search.result["budget"], *(("runner-up", "in doubt") if chain.grows else ())]
    shown = table(columns, rows, f"Path of {name}")
    if number < _OPEN_PATHS:
      yield join([element("h3", name), shown])
    else:
      yield element("details", join([element("summary", name), shown]))


def _step(search: Finished, chain: steps.Chain, step: steps.Step, answer: str) -> list[object]:
  """The cells of a step."""
  row, space = step.row, search.space
  is_answer = space.key(row["architecture"]) == answer
  mark = element("div", "★ answer") if is_answer else ""  # A line of its own, for narrow cells.
  what = blocks_of(space, row["architecture"])
  if step.added:
    what = join([block(space, step.added.option), f" in stage {step.added.stage}"])
  cells = [
    row["step"],
    join([what, mark]),
    decimals(real(row["value"], -math.inf)),
    "" if math.isnan(step.gain) else decimals(step.gain, sign=True),
    *(f"{row['resources'][name] / limit:.0%}" for name, limit in search.result["budget"].items()),
  ]
  if chain.grows:
    runner_up: object = ""
    if step.runner_up:
      addition, gain = step.runner_up
      place = f" in stage {addition.stage} ({decimals(gain, sign=True)})"
      runner_up = join([block(space, addition.option), place])
    cells += [runner_up, {None: "", True: "yes", False: "no"}[step.doubt]]
  return cells


def finalists(search: Finished) -> Markup:
  """The finalists, the best first."""
  names = tuple(search.result["budget"])
  column = "score with shared weights" if search.uses_shared_weights else "in the search"
  rows = [
    (
      place + 1,
      row["run"],
      with_error(real(row["value"], -math.inf), real(row["standard_error"])),
      "best" if not place else "tie" if row["tie"] else "",
      decimals(real(row["search_value"])),
      *(text.number(row["resources"][name]) for name in names),
      blocks_of(search.space, row["architecture"]),
    )
    for place, row in enumerate(search.finalists)
  ]
  columns = ("finalist", "run", "fresh seeds", "standing", column, *names, "network")
  return table(columns, rows, "Finalists, the best first")


def noise(search: Finished, chains: Sequence[steps.Chain]) -> Markup:
  """Noise, ties and the upper bound."""
  made = [step for chain in chains for step in chain.steps if step.doubt is not None]
  doubts = f"{sum(map(bool, (step.doubt for step in made)))} of {len(made)}"
  rows = [
    ("noise", sentence(text.noise_line(search))),
    (
      "finalists",
      f"{sum(row['tie'] for row in search.finalists)} cannot be told apart from the answer",
    ),
    *([("steps in doubt, all paths", doubts)] if made else []),
    ("upper bound", sentence(text.bound_line(search))),
  ]
  return table(("what", "found"), rows, "Noise and ties", class_="words")


def failures(search: Finished) -> Markup:
  """The evaluations that failed, with causes."""
  failed = [e for e in search.evaluations if e.metrics is None]
  if not failed:
    return element("p", "None.")
  rows = [
    (blocks_of(search.space, search.space.from_key(e.key)), e.replicate, e.cause or "diverged")
    for e in failed[:_MOST_ROWS]
  ]
  words = f"{len(failed)} failed; such a network is never chosen."
  words += f" The first {_MOST_ROWS}:" if len(failed) > _MOST_ROWS else ""
  shown = table(("network", "replicate", "cause"), rows, "Failed evaluations")
  return join([element("p", words), shown])


def cost(search: Finished) -> Markup:
  """What the search cost: trainings, steps, seconds."""
  result = search.result
  steps_made = result["evaluations"]["steps"]
  rows = [
    ("evaluations", text.counts_line(search)),
    ("training steps", f"{steps_made:,} of {search.config['train']['batch_size']} images"),
    ("programs compiled", result["compilations"]),
    *((f"seconds: {name}", f"{value:.0f}") for name, value in text.seconds_of(search).items()),
    ("networks measured by the optimizer", f"{result['measured']} in {result['rounds']} rounds"),
    ("devices", result["devices"]),
  ]
  return table(("what", "amount"), rows, "Cost of the search", class_="words")

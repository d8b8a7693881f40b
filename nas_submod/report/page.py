"""The page of a search: the answer first, then how it was found and how far to trust it."""

import json
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nas_submod.files import write_bytes
from nas_submod.report import gains, network, plots, progress, steps, text
from nas_submod.report.document import document, figure, plot_table, section
from nas_submod.report.figure import Plot
from nas_submod.report.finished import Finished, accuracy, real, score_name
from nas_submod.report.markup import (
  Markup,
  block,
  decimals,
  element,
  join,
  table,
  with_error,
)
from nas_submod.report.markup import network as blocks_of
from nas_submod.report.verdict import verdicts

PAGE_FILE = "report.html"
_MOST_ROWS = 50  # of a table of failures
_OPEN_PATHS = 6  # tables of paths that are not folded


def write_page(search: Finished, path: pathlib.Path) -> None:
  """Writes the page of a search."""
  write_bytes(path, page(search).encode())


def all_plots(search: Finished) -> list[Plot]:
  """The plots of a search, in the order of its page."""
  return [
    network.draw(search.space, search.result["architecture"]),
    *plots.against_resources(search, steps.chains(search)),
    plots.finalists(search),
    *progress.progress([search], [search.result["optimizer"]]),
    gains.gain_map(search),
  ]


def page(search: Finished) -> str:
  """The page of a search as HTML."""
  drawing, *others = all_plots(search)
  found = {plot.name: plot for plot in others}
  chains = steps.chains(search)
  title = f"{search.space.name}: found by {search.result['optimizer']}"
  against = [plot for name, plot in found.items() if name.startswith("value_")]
  over_time = [plot for name, plot in found.items() if name.startswith("progress_")]
  body = [
    element("h1", title),
    element("p", _subtitle(search), class_="soft"),
    element(
      "div", join([figure(drawing), element("div", join(_answer(search, chains)))]), class_="first"
    ),
    section("The path, step by step", *_paths(search, chains)),
    section(
      "Value against each resource",
      element("p", _reading(search)),
      element("div", join(map(figure, against)), class_="plots"),
    ),
    section("Finalists", figure(found["finalists"]), _finalists(search)),
    section(
      "Best value so far",
      element("div", join(map(figure, over_time)), class_="plots"),
      join(map(plot_table, over_time)),
    ),
    section(found["gains"].title, figure(found["gains"], wide=True), plot_table(found["gains"])),
    section("Noise and ties", *_noise(search, chains)),
    section("Failures", _failures(search)),
    section("Cost of the search", _cost(search)),
    section("To run it again", *_again(search)),
  ]
  return document(title, join(body))


def _subtitle(search: Finished) -> str:
  run = search.result.get("run") or {}
  parts = [run.get("date", ""), f"seed {search.result['seed']}", search.result["devices"]]
  return " · ".join(str(part) for part in parts if part)


def _answer(search: Finished, chains: Sequence[steps.Chain]) -> Iterator[Markup]:
  """Value, resources and verdicts of the answer."""
  result = search.result
  value = with_error(real(result["value"]), real(result["standard_error"]))
  seeds = len(search.finalists[0]["scores"])
  yield element("p", value, class_="value")
  words = f"{score_name(search)}: mean and standard error of {seeds} fresh seeds"
  if search.config["score"] != "accuracy" and math.isfinite(known := accuracy(search)):
    words += f"; accuracy {known:.1%} on the validation images"
  yield element("p", words, class_="soft")
  yield _budgets(result)
  items = [
    element("li", join([element("b", v.word), " ", v.sentence]), class_=v.kind)
    for v in verdicts(search, chains)
  ]
  yield element("ul", join(items), class_="verdicts")


def _budgets(result: Mapping[str, Any]) -> Markup:
  """A bar for each budget."""
  rows = []
  for name, limit in result["budget"].items():
    used = result["resources"][name]
    binds = name in result["binding"]
    bar = element("span", "", style=f"width:{min(used / limit, 1):.1%}")
    words = f"{text.number(used)} of {text.number(limit)}"
    share = [f"{used / limit:.1%}", element("b", " binds") if binds else ""]
    shown = element("div", bar, class_="bar binds" if binds else "bar", aria_hidden="true")
    rows.append((name, join([words, shown]), join(share)))
  parts = [table(("resource", "used of the budget", "share"), rows, "Budgets", class_="budgets")]
  if "positions" in result["binding"]:
    parts.append(element("p", "Every position has a block: no budget binds.", class_="soft"))
  elif not result["binding"]:
    parts.append(element("p", "No budget binds: another block would fit.", class_="soft"))
  return join(parts)


def _paths(search: Finished, chains: Sequence[steps.Chain]) -> Iterator[Markup]:
  """A table for each path; runs that took the same path share one."""
  grows = any(chain.grows for chain in chains)
  yield element(
    "p",
    "Each step adds a block. Nearly chosen: the best other block that was measured there, by the "
    "rule of the path. In doubt: noise leaves open which of the two is better."
    if grows
    else "Networks that were the best so far. "
    + ("Values are scores with shared weights." if search.scored else ""),
  )
  answer = search.space.key(search.result["architecture"])
  for number, chain in enumerate(chains):
    name = ", ".join(chain.runs)
    rows = [_step(search, chain, step, answer) for step in chain.steps]
    columns = ["step", "block added" if chain.grows else "network", "value", "gain"]
    columns += [*search.result["budget"], *(("nearly chosen", "in doubt") if chain.grows else ())]
    shown = table(columns, rows, f"Path of {name}")
    if number < _OPEN_PATHS:
      yield join([element("h3", name), shown])
    else:
      yield element("details", join([element("summary", name), shown]))


def _step(search: Finished, chain: steps.Chain, step: steps.Step, answer: str) -> list[object]:
  """The cells of a step."""
  row, space = step.row, search.space
  mark = " ★ answer" if space.key(row["architecture"]) == answer else ""
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
    nearly: object = ""
    if step.nearly:
      addition, gain = step.nearly
      place = f" in stage {addition.stage} ({decimals(gain, sign=True)})"
      nearly = join([block(space, addition.option), place])
    cells += [nearly, {None: "", True: "yes", False: "no"}[step.doubt]]
  return cells


def _reading(search: Finished) -> str:
  """How to read the plots against resources."""
  words = (
    "Small dots: all networks measured. Lines: the paths; thick gray: a piece that several paths "
    "share. Star and diamonds: the answer and other finalists, trained again with fresh seeds."
  )
  if search.scored:
    words += " Lines and dots are scores with shared weights, finalists are trained."
  return words


def _finalists(search: Finished) -> Markup:
  names = tuple(search.result["budget"])
  column = "score with shared weights" if search.scored else "in the search"
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


def _noise(search: Finished, chains: Sequence[steps.Chain]) -> Iterator[Markup]:
  made = [step for chain in chains for step in chain.steps if step.doubt is not None]
  rows = [
    ("noise", text.noise_line(search)),
    ("finalists", f"{sum(row['tie'] for row in search.finalists)} may be better than the answer"),
    ("steps in doubt", f"{sum(map(bool, (s.doubt for s in made)))} of {len(made)}"),
    ("upper bound", text.bound_line(search)),
  ]
  yield table(
    ("what", "found"), rows if made else [*rows[:2], rows[3]], "Noise and ties", class_="words"
  )


def _failures(search: Finished) -> Markup:
  failed = [e for e in search.evaluations if e.metrics is None]
  if not failed:
    return element("p", "None.")
  rows = [
    (blocks_of(search.space, search.space.from_key(e.key)), e.replicate, e.cause or "diverged")
    for e in failed[:_MOST_ROWS]
  ]
  words = f"{len(failed)} evaluations failed; such a network is never chosen."
  words += f" The first {_MOST_ROWS}:" if len(failed) > _MOST_ROWS else ""
  shown = table(("network", "replicate", "cause"), rows, "Failed evaluations")
  return join([element("p", words), shown])


def _cost(search: Finished) -> Markup:
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


def _again(search: Finished) -> Iterator[Markup]:
  run = search.result.get("run") or {}
  yield element("pre", run.get("command", "The command was not recorded."), tabindex=0)
  if versions := run.get("versions"):
    yield element("p", "Versions: " + ", ".join(f"{n} {v}" for n, v in versions.items()) + ".")
  config = element("pre", json.dumps(search.config, indent=1), tabindex=0)
  yield element("details", join([element("summary", "The whole config"), config]))

"""The page of a search: the answer first, then how it was found and how far to trust it."""

import json
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nas_submod.files import write_bytes
from nas_submod.report import gains, network, plots, progress, steps, tables, text
from nas_submod.report.document import document, figure, plot_table, section
from nas_submod.report.figure import Plot
from nas_submod.report.finished import Finished, accuracy, real, score_name
from nas_submod.report.markup import Markup, element, join, table, with_error
from nas_submod.report.verdict import verdicts

PAGE_FILE = "report.html"


def write_page(search: Finished, path: pathlib.Path, others: Sequence[Finished] = ()) -> None:
  """Writes the page of a search; see `page`."""
  write_bytes(path, page(search, others).encode())


def all_plots(search: Finished, chains: Sequence[steps.Chain]) -> list[Plot]:
  """The plots of a search, in the order of its page."""
  return [
    network.draw(search.space, search.result["architecture"]),
    *plots.against_resources(search, chains),
    plots.finalists(search),
    *progress.progress([search], [search.result["optimizer"]]),
    gains.gain_map(search),
  ]


def page(search: Finished, others: Sequence[Finished] = ()) -> str:
  """The page of a search as HTML.

  Args:
    search: The search.
    others: Other searches to compare its answer with, allowed by `comparison.check`.
  """
  chains = steps.chains(search)
  drawing, *rest = all_plots(search, chains)
  found = {plot.name: plot for plot in rest}
  answer = join(_answer(search, chains, others))
  title = f"{search.space.name}: found by {search.result['optimizer']}"
  against = [plot for name, plot in found.items() if name.startswith("value_")]
  over_time = [plot for name, plot in found.items() if name.startswith("progress_")]
  body = [
    element("h1", title),
    element("p", _subtitle(search), class_="soft"),
    *(element("p", note) for note in search.notes),
    element("div", join([figure(drawing), element("div", answer)]), class_="first"),
    section("The path, step by step", *tables.paths(search, chains)),
    section(
      "Value against each resource",
      element("p", _reading(search)),
      element("div", join(map(figure, against)), class_="plots"),
    ),
    section("Finalists", figure(found["finalists"]), tables.finalists(search)),
    section(
      "Best value so far",
      element("div", join(map(figure, over_time)), class_="plots"),
      join(map(plot_table, over_time)),
    ),
    section(found["gains"].title, figure(found["gains"], wide=True), plot_table(found["gains"])),
    section("Noise and ties", tables.noise(search, chains)),
    section("Failures", tables.failures(search)),
    section("Cost of the search", tables.cost(search)),
    section("To run it again", *_again(search)),
  ]
  return document(title, join(body))


def _subtitle(search: Finished) -> str:
  run = search.result.get("run") or {}
  parts = [run.get("date", ""), f"seed {search.result['seed']}", search.result["devices"]]
  return " · ".join(str(part) for part in parts if part)


def _answer(
  search: Finished, chains: Sequence[steps.Chain], others: Sequence[Finished]
) -> Iterator[Markup]:
  """Value, resources and verdicts of the answer."""
  result = search.result
  value = with_error(real(result["value"]), real(result["standard_error"]))
  seeds = len(search.finalists[0]["scores"])
  known = accuracy(search)
  shows_accuracy = result["score"] != "accuracy" and math.isfinite(known)
  yield element("p", f"{known:.1%} accuracy" if shows_accuracy else value, class_="value")
  words = f"{score_name(search)}: mean and standard error of {seeds} fresh seeds"
  if shows_accuracy:
    words = (
      "on the validation images, after the short training of the search; a full training comes "
      f"later. {value} {words}"
    )
  if (rivals := len(search.finalists)) > 1:
    words += (
      f". The same seeds chose it among {rivals} finalists, so the value is slightly optimistic"
    )
  yield element("p", f"{words}.", class_="soft")
  yield _budgets(result)
  items = [
    element("li", join([element("b", v.word), " ", v.sentence]), class_=v.kind)
    for v in verdicts(search, chains, others)
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
  if room := text.room_left(result):
    parts.append(element("p", f"{room.capitalize()}.", class_="soft"))
  elif set(result["binding"]) & set(result["budget"]):
    words = "A budget binds if it leaves no room for another block."
    parts.append(element("p", words, class_="soft"))
  return join(parts)


def _reading(search: Finished) -> str:
  """How to read the plots against resources."""
  words = (
    "Small dots: networks measured. Lines: the paths; thick gray: a piece that several paths "
    "share. Square: the start network. Star and diamonds: the answer and other finalists, trained "
    "again with fresh seeds."
  )
  if search.uses_shared_weights:
    words += " Lines and dots are scores with shared weights, finalists are trained."
  return words


def _again(search: Finished) -> Iterator[Markup]:
  run = search.result.get("run") or {}
  yield element("pre", run.get("command", "The command was not recorded."), tabindex=0)
  if versions := run.get("versions"):
    yield element("p", "Versions: " + ", ".join(f"{n} {v}" for n, v in versions.items()) + ".")
  if search.inputs:
    yield table(("what", "fingerprint"), search.inputs.items(), "What went in", class_="words")
  config = element("pre", json.dumps(search.config, indent=1), tabindex=0)
  yield element("details", join([element("summary", "The whole config"), config]))

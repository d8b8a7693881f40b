"""The page that compares finished searches: values with errors, resources, cost, progress."""

import json
import math
import os
import pathlib
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nas_submod.evaluation.evaluator import mean, standard_error
from nas_submod.files import local_path
from nas_submod.report import network, progress
from nas_submod.report.differences import difference, noise_of
from nas_submod.report.document import document, figure, plot_table, section
from nas_submod.report.figure import INK, LINES, Plot, file_name, legend, new_figure, short, style
from nas_submod.report.finished import (
  Finished,
  accuracy,
  answer_scores,
  real,
  score_name,
  trainings,
)
from nas_submod.report.markup import Markup, element, escape, join, table, with_error
from nas_submod.report.page import PAGE_FILE
from nas_submod.report.text import number
from nas_submod.workdir import first_difference

_SEEDS = ("seed",)  # Searches that differ only in these are repetitions.
# Fields of `config.train` that do not change how finalists are trained.
_OF_SEARCH = ("steps_per_call",)
_DATA = ("validation images", "validation labels")  # what a value is measured on


def check(searches: Sequence[Finished]) -> None:
  """Checks that the values of searches can be compared.

  Raises:
    ValueError: If two searches differ in scores, validation images or trainings.
  """
  first = searches[0]
  for other in searches[1:]:
    pair = f"{first.name} and {other.name} cannot be compared"
    scores = first.result["score"], other.result["score"]
    if scores[0] != scores[1]:
      raise ValueError(f"{pair}: their scores are {scores[0]} and {scores[1]}")
    if first.inputs and other.inputs:
      same = all(first.inputs.get(name) == other.inputs.get(name) for name in _DATA)
    else:
      same = first.config["data"] == other.config["data"]
    if not same:
      raise ValueError(f"{pair}: they measure on other validation images (config.data)")
    one_train, other_train = (
      {name: value for name, value in search.config["train"].items() if name not in _OF_SEARCH}
      for search in (first, other)
    )
    if different := first_difference(one_train, other_train, "config.train"):
      name, one, two = different
      raise ValueError(f"{pair}: their {name} are {one} and {two}")


def labels_of(searches: Sequence[Finished]) -> list[str]:
  """A name for each search: the last part of its folder if these differ, else the folder."""
  names = [pathlib.Path(search.name).name for search in searches]
  names = names if len(set(names)) == len(names) else [search.name for search in searches]
  # Matplotlib leaves labels that begin with "_" out of a legend.
  return [f"\u200b{name}" if name.startswith("_") else name for name in names]


def all_plots(searches: Sequence[Finished]) -> list[Plot]:
  """The networks, the answers against each resource, and progress, in the order of the page."""
  labels = labels_of(searches)
  drawings = [
    network.draw(search.space, search.result["architecture"])._replace(
      name=f"network_{place + 1}", caption=label
    )
    for place, (search, label) in enumerate(zip(searches, labels))
  ]
  names = list(dict.fromkeys(name for search in searches for name in search.result["budget"]))
  return [
    *drawings,
    *(_answers(searches, labels, name) for name in names),
    *progress.progress(searches, labels),
  ]


def _answers(searches: Sequence[Finished], labels: Sequence[str], name: str) -> Plot:
  """The answers against one resource, with their errors and budgets."""
  with style():
    figure_, axes = new_figure(360, 240)
    for place, (search, label) in enumerate(zip(searches, labels)):
      result, color = search.result, LINES[place % len(LINES)]
      if name in result["resources"]:
        error = real(result["standard_error"])
        x, y = result["resources"][name], real(result["value"])
        axes.errorbar(x, y, error, fmt="o", c=color, capsize=3, label=label)
    for limit in {s.result["budget"][name] for s in searches if name in s.result["budget"]}:
      axes.axvline(limit, ls="--", c=INK, lw=1)
    axes.set(xlabel=name, ylabel=score_name(searches[0]))
    axes.xaxis.set_major_formatter(short)
    legend(figure_, axes)
  caption = f"The answers against {name}, with standard errors. Dashed: budgets."
  told = f"{caption} The table has the numbers."
  return Plot(file_name("answers", name), name, caption, figure_, told)


def page(searches: Sequence[Finished], folder: pathlib.Path) -> str:
  """The page as HTML.

  Args:
    searches: Two or more, allowed by `check`.
    folder: Where the page will be, for its links to the pages of the searches.
  """
  labels, plots = labels_of(searches), all_plots(searches)
  drawn = {
    kind: [figure(plot) for plot in plots if plot.name.startswith(kind)]
    for kind in ("network", "answers", "progress")
  }
  grid = {kind: element("div", join(shown), class_="plots") for kind, shown in drawn.items()}
  title = f"{len(searches)} searches compared"
  best = max(searches, key=lambda search: real(search.result["value"], -math.inf))
  body = [
    element("h1", title),
    element("p", _first_sentence(searches, labels, best)),
    _table(searches, labels, best, folder),
    *_repetitions(searches),
    section("The networks", grid["network"]),
    section("The answers against each resource", grid["answers"]),
    section("Best value so far", grid["progress"], join(map(plot_table, plots))),
    section("What differs in their configs", _differences(searches, labels)),
  ]
  return document(title, join(body))


def _first_sentence(searches: Sequence[Finished], labels: Sequence[str], best: Finished) -> str:
  """Which answer is the best, and whether that is certain."""
  close = [
    label
    for search, label in zip(searches, labels)
    if search is not best and not _lead(best, search).certain
  ]
  name = labels[[search is best for search in searches].index(True)]
  value = with_error(real(best.result["value"]), real(best.result["standard_error"]))
  words = f"The best answer is that of {name}: {value} ({score_name(best)}, fresh seeds). "
  if close:
    return words + f"Within the noise it may be no better than that of {', '.join(close)}."
  return words + "It is ahead of all others beyond the noise of its seeds."


def _lead(best: Finished, other: Finished) -> Any:
  return difference(answer_scores(best), answer_scores(other), noise_of(best, other))


def _table(
  searches: Sequence[Finished], labels: Sequence[str], best: Finished, folder: pathlib.Path
) -> Markup:
  """A line for each search, the best answer first."""
  names = list(dict.fromkeys(name for search in searches for name in search.result["budget"]))
  rows = []
  for search, label in sorted(
    zip(searches, labels), key=lambda pair: -real(pair[0].result["value"], -math.inf)
  ):
    result = search.result
    counts = result["evaluations"]
    behind = _lead(best, search)
    away = f"{with_error(-behind.value, behind.error, sign=True)}" + " tie" * (not behind.certain)
    path = os.path.relpath(local_path(search.name) / PAGE_FILE, folder)
    target = urllib.parse.quote(path)
    known = accuracy(search)
    rows.append(
      (
        Markup(f'<a href="{escape(target)}">{escape(label)}</a>'),
        result["optimizer"],
        with_error(real(result["value"]), real(result["standard_error"])),
        "best" if search is best else away,
        f"{known:.1%}" if math.isfinite(known) else "unknown",
        *(_used(result, name) for name in names),
        f"{trainings(search):,}",
        f"{counts['steps']:,}",
        f"{result['seconds']['total'] + real(result['seconds'].get('shared_weights'), 0):.0f}",
      )
    )
  columns = ("search", "optimizer", score_name(best), "to the best", "accuracy", *names)
  return table((*columns, "trainings", "steps", "seconds"), rows, "Searches, the best answer first")


def _used(result: Mapping[str, Any], name: str) -> str:
  used, limit = result["resources"].get(name), result["budget"].get(name)
  if used is None:
    return "unknown"
  return number(used) + (f" ({used / limit:.0%})" if limit else "")


def _repetitions(searches: Sequence[Finished]) -> Iterator[Markup]:
  """The mean over searches that differ only in seeds, if there are any."""
  flat = [_flat(search.config) for search in searches]
  differing = [name for name in _differing(flat) if name not in _SEEDS]
  groups: dict[str, list[Finished]] = {}
  for search, fields in zip(searches, flat):
    name = ", ".join(f"{field} = {fields.get(field, 'none')}" for field in differing)
    groups.setdefault(name or "all", []).append(search)
  if all(len(group) == 1 for group in groups.values()):
    return
  rows = []
  for name, group in groups.items():
    values = [real(search.result["value"]) for search in group]
    spent = np.mean([search.result["evaluations"]["steps"] for search in group])
    value = with_error(mean(values), standard_error(values))
    rows.append((name, len(group), value, f"{spent:,.0f}"))
  columns = ("searches", "n", f"{score_name(searches[0])}: mean, error over searches", "steps")
  shown = table(columns, rows, "Searches that differ in seeds alone", class_="words")
  yield section("Repetitions", element("p", "Searches that differ in seeds alone."), shown)


def _differences(searches: Sequence[Finished], labels: Sequence[str]) -> Markup:
  flat = [_flat(search.config) for search in searches]
  rows = [(name, *(fields.get(name, "none") for fields in flat)) for name in _differing(flat)]
  if not rows:
    return element("p", "Nothing.")
  return table(("field", *labels), rows, "Fields of the configs that differ")


def _differing(flat: Sequence[Mapping[str, str]]) -> list[str]:
  """Names of the fields that differ; a missing field is off."""
  names = dict.fromkeys(name for fields in flat for name in fields)
  off = {"0", "0.0", "false", '""', "[]"}

  def values(name: str) -> set[str | None]:
    found = (fields.get(name) for fields in flat)
    return {None if value in off else value for value in found}

  return [name for name in names if len(values(name)) > 1]


def _flat(config: Mapping[str, Any], name: str = "") -> dict[str, str]:
  """The fields of a config by dotted name."""
  found: dict[str, str] = {}
  for key, value in config.items():
    dotted = f"{name}.{key}" if name else key
    if isinstance(value, Mapping) and value:
      found |= _flat(value, dotted)
    elif value not in (None, {}):
      found[dotted] = json.dumps(value)
  return found

"""The front of searches within several budgets: the best network within each, and references."""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nas_submod.files import local_path, read_json, write_bytes
from nas_submod.report import finished, network
from nas_submod.report.comparison import labels_of
from nas_submod.report.differences import difference, noise_of
from nas_submod.report.document import document, figure, section
from nas_submod.report.figure import (
  INK,
  LINES,
  SURFACE,
  Plot,
  file_name,
  legend,
  new_figure,
  save_all,
  short,
  style,
)
from nas_submod.report.finished import Finished, real, row_scores, score_name
from nas_submod.report.markup import Markup, element, escape, join, table, with_error
from nas_submod.report.markup import network as blocks_of
from nas_submod.report.page import PAGE_FILE
from nas_submod.report.text import number, value_text

FILE, PAGE = "front.json", "front.html"


class Point(NamedTuple):
  """The best network within a budget.

  Attributes:
    budget: Limits by resource.
    row: The network as `result.json` holds finalists.
    found: The name of the search that found it. A network found within a smaller budget may be the
      best within a larger one too.
    tie: Whether it may be no better than the point before it, within the noise.
    same: Whether it is the same network as the point before it.
  """

  budget: Mapping[str, int | float]
  row: Mapping[str, Any]
  found: str
  tie: bool
  same: bool

  @property
  def note(self) -> str:
    """How it compares with the point before it; empty if it is better."""
    return "the same network" if self.same else "tie with the smaller one" if self.tie else ""


def points(searches: Sequence[Finished]) -> list[Point]:
  """The best finalist of all searches within each search's budget, in the order of searches."""
  found: list[Point] = []
  for search in searches:
    budget = search.result["budget"]
    fitting = [
      (row, label)
      for other, label in zip(searches, labels_of(searches))
      for row in other.finalists
      # A search's own finalists fit: float costs have a tolerance.
      if other is search or all(row["resources"][n] <= limit for n, limit in budget.items())
    ]
    row, label = max(fitting, key=lambda pair: real(pair[0]["value"], -math.inf))
    before = found[-1].row if found else None
    tie = (
      before is not None
      and not difference(row_scores(row), row_scores(before), noise_of(*searches)).certain
    )
    same = before is not None and row["architecture"] == before["architecture"]
    found.append(Point(budget, row, label, tie, same))
  return found


def references(searches: Sequence[Finished]) -> list[Mapping[str, Any]]:
  """The reference networks of all searches, each once, without failed ones."""
  rows = {row["name"]: row for search in searches for row in search.result.get("references", ())}
  return [row for row in rows.values() if math.isfinite(real(row["value"]))]


def content(searches: Sequence[Finished]) -> dict[str, Any]:
  """The front as plain values, for a file."""
  shown = ("architecture", "text", "resources", "value", "standard_error")
  return {
    "score": searches[0].result["score"],
    "points": [
      {"budget": dict(p.budget), "found_in": p.found}
      | {"tie_with_smaller": p.tie, "same_as_smaller": p.same}
      | {name: p.row[name] for name in shown}
      for p in points(searches)
    ],
    "references": [{name: row[name] for name in ("name", *shown)} for row in references(searches)],
  }


def text(searches: Sequence[Finished]) -> str:
  """The front for a terminal."""
  lines = [f"front: the best network within each budget, by {score_name(searches[0])}"]
  for point in points(searches):
    notes = "; ".join(filter(None, (point.found, point.note)))
    lines += [_limits(point.budget), f"  {value_text(point.row)}  {point.row['text']}  ({notes})"]
  for row in references(searches):
    used = ", ".join(f"{n} {number(row['resources'][n])}" for n in searches[0].result["budget"])
    lines += [f"reference {row['name']}: {used}", f"  {value_text(row)}  {row['text']}"]
  return "\n".join(lines)


def all_plots(searches: Sequence[Finished]) -> list[Plot]:
  """The front against each resource, then its networks."""
  found, space = points(searches), searches[0].space
  drawings = [
    network.draw(space, point.row["architecture"])._replace(
      name=f"network_{place + 1}", caption=_limits(point.budget)
    )
    for place, point in enumerate(found)
  ]
  return [*(_against(searches, found, name) for name in searches[0].result["budget"]), *drawings]


def read(folder: pathlib.Path) -> list[Finished]:
  """The searches of the folder of a front, the smallest budget first.

  Raises:
    ValueError: If there are none, or one did not end.
  """
  try:
    count = len(read_json(folder / FILE)["points"])
  except (KeyError, TypeError) as error:
    raise ValueError(f"{folder / FILE} is damaged") from error
  # Another front in this folder may have had more budgets.
  return [finished.read(folder / f"budget_{number}") for number in range(1, count + 1)]


def write(folder: pathlib.Path) -> None:
  """Writes the page of the folder of a front, and its figures.

  Raises:
    ValueError: As for `read`.
  """
  searches = read(folder)
  write_bytes(folder / PAGE, page(searches, folder).encode())
  save_all(all_plots(searches), folder)


def page(searches: Sequence[Finished], folder: pathlib.Path) -> str:
  """The page as HTML, with links to the pages of the searches.

  Args:
    searches: Two or more, the smallest budget first; they differ only in their budgets.
    folder: Where the page will be.
  """
  plots = all_plots(searches)
  against = [figure(plot) for plot in plots if plot.name.startswith("front_")]
  drawn = [figure(plot) for plot in plots if plot.name.startswith("network_")]
  title = f"{searches[0].space.name}: the best within {len(searches)} budgets"
  body = [
    element("h1", title),
    element("p", _first_sentence(searches)),
    element("div", join(against), class_="plots"),
    _table(searches, folder),
    section("The networks", element("div", join(drawn), class_="plots")),
  ]
  return document(title, join(body))


def _against(searches: Sequence[Finished], found: Sequence[Point], name: str) -> Plot:
  with style():
    figure_, axes = new_figure(360, 260)
    costs = [point.row["resources"][name] for point in found]
    values = [real(point.row["value"]) for point in found]
    errors = [real(point.row["standard_error"]) for point in found]
    axes.errorbar(costs, values, errors, fmt="-", c=LINES[0], capsize=3, lw=1.5, label="found")
    for x, y, point in zip(costs, values, found):
      axes.plot(x, y, "o", c=LINES[0], mfc=SURFACE if point.tie else LINES[0], zorder=3)
    for place, row in enumerate(references(searches)):
      x, y, error = row["resources"][name], real(row["value"]), real(row["standard_error"])
      color = LINES[1 + place % (len(LINES) - 1)]
      axes.errorbar(x, y, error, fmt="D", c=color, capsize=3, label=row["name"])
    for point in found:
      axes.axvline(point.budget[name], ls="--", c=INK, lw=0.8, alpha=0.5)
    axes.set(xlabel=name, ylabel=score_name(searches[0]))
    axes.xaxis.set_major_formatter(short)
    legend(figure_, axes)
  caption = (
    f"Value against {name}, with standard errors of fresh seeds. Hollow: may be no better "
    "than the network of the next smaller budget, given the noise. Dashed: budgets."
  )
  told = f"{caption} The table has the numbers."
  return Plot(file_name("front", name), name, caption, figure_, told)


def _first_sentence(searches: Sequence[Finished]) -> str:
  found = points(searches)
  ties = sum(point.tie for point in found)
  words = "Each is better than the smaller one, beyond the noise."
  if ties:
    words = f"{ties} of {len(found) - 1} larger ones may be no better than the one before."
  return (
    f"The best network within each budget, from one set of evaluations. {words} The best of "
    "several finalists looks better than it is by a part of its error."
  )


def _table(searches: Sequence[Finished], folder: pathlib.Path) -> Markup:
  names = tuple(searches[0].result["budget"])
  pages = {
    label: os.path.relpath(local_path(search.name) / PAGE_FILE, folder)
    for search, label in zip(searches, labels_of(searches))
  }
  rows = [
    (
      _limits(point.budget),
      with_error(real(point.row["value"]), real(point.row["standard_error"])),
      point.note,
      Markup(f'<a href="{escape(pages[point.found])}">{escape(point.found)}</a>'),
      *(number(point.row["resources"][name]) for name in names),
      blocks_of(searches[0].space, point.row["architecture"]),
    )
    for point in points(searches)
  ]
  rows += [
    (
      f"reference {row['name']}",
      with_error(real(row["value"]), real(row["standard_error"])),
      "",
      "",
      *(number(row["resources"][name]) for name in names),
      blocks_of(searches[0].space, row["architecture"]),
    )
    for row in references(searches)
  ]
  columns = ("within", score_name(searches[0]), "note", "found in", *names, "network")
  return table(columns, rows, "The best network within each budget, and references")


def _limits(budget: Mapping[str, int | float]) -> str:
  return ", ".join(f"{name} {number(limit)}" for name, limit in budget.items())

"""What budgets allow: the smallest, a middle and the largest network, and options never reached."""

from collections.abc import Mapping, Sequence

import numpy as np

from nas_submod.networks.search_space import SearchSpace
from nas_submod.report.text import number
from nas_submod.resources import Resource, Resources, network_cost, network_costs
from nas_submod.resources.cost_bounds import (
  Place,
  forbidden,
  least_and_most,
  least_with,
  opened_by_others,
  random_networks,
)

_DRAWN = 1_000  # random networks for the median


def budget_lines(
  space: SearchSpace, budget: Mapping[str, int | float], table: Resources
) -> list[str]:
  """Describes what checked budgets allow among the networks that contain the start set."""
  drawn = random_networks(space, _DRAWN, np.random.default_rng(0))
  costs = network_costs(space, drawn, tuple(budget), table)
  start = network_cost(space, space.start, table)
  rows = [("budgets", "start", "smallest", "middle", "largest", "limit")]
  notes = []
  for column, (name, limit) in zip(costs.T, budget.items()):
    costs_of = table[name].table
    if costs_of is None:
      least, most, about = min(start[name], column.min()), max(start[name], column.max()), "~"
    else:
      [least, most], about = least_and_most(space, costs_of(space)), ""
      notes += _notes(space, table[name], limit)
    middle = _cell(np.median(column), limit)
    cells = (_cell(start[name], limit), about + _cell(least, limit), middle)
    rows.append((name, *cells, about + _cell(most, limit), number(limit)))
    if not about and most <= limit:
      notes.append(f"no limit   {name}: no network has more than {number(limit)}")
  first, *others = (max(map(len, column)) for column in zip(*rows))
  lines = [
    f"{name:<{max(first, 10)}}" + "".join(f"{c:>{w + 2}}" for c, w in zip(cells, others))
    for name, *cells in rows
  ]
  fit = (costs <= list(budget.values())).all(axis=1).mean()
  lines.append(
    f"           x: over the limit; all contain the start set; middle: the median of {_DRAWN:,} "
    f"random ones, of which {fit:.0%} fit"
    + "; ~: among these"
    * any(table[name].table is None for name in budget)
  )
  return [*lines, *notes]


def _cell(value: float, limit: float) -> str:
  rounded = round(value) if value >= 1000 else value
  return number(rounded) + ("" if value <= limit else " x")


def _notes(space: SearchSpace, resource: Resource, limit: float) -> list[str]:
  """Notes which options the limit forbids, and which it allows beside other blocks only."""
  assert resource.table is not None
  costs, notes = resource.table(space), []
  places = list(least_with(space, costs))
  if never := _grouped(space, forbidden(space, costs, limit), places):
    notes.append(f"never      {resource.name} rules out {never}")
  if late := _grouped(space, opened_by_others(space, costs, limit), places):
    notes.append(
      f"no bound   {resource.name} allows {late} only together with other blocks: the search "
      "starts without them and states no upper bound"
    )
  return notes


def _grouped(space: SearchSpace, places: Sequence[Place], all_places: Sequence[Place]) -> str:
  """Places as text: "e6, e6p2 in stages 1, 2; e12g2p4 first in stage 3"."""
  groups: dict[str, list[str]] = {}
  for option, name in enumerate((o.name for o in space.options), 1):
    stages: dict[str, list[str]] = {}
    for stage in range(len(space.stages)):
      found, possible = (
        {place.first for place in of if (place.stage, place.option) == (stage, option)}
        for of in (places, all_places)
      )
      if found:
        where = "" if found == possible else "first " if True in found else "later "
        stages.setdefault(where, []).append(str(stage + 1))
    parts = [f"{w}in stage{'s'[: len(s) > 1]} {', '.join(s)}" for w, s in stages.items()]
    if parts:
      groups.setdefault(" and ".join(parts), []).append(name)
  return "; ".join(f"{', '.join(names)} {where}" for where, names in groups.items())

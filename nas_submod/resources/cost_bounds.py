"""Which networks a budget allows: exact bounds over a whole space, by dynamic programming.

All networks here contain the start set. A stage feeds the next one that is not empty, so the cost
before a block and the cost after it each depend on one number only: the predecessor.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from nas_submod import networks
from nas_submod.networks.search_space import SearchSpace
from nas_submod.networks.single import has_opening
from nas_submod.resources.table import CostTable

Best = Callable[[Iterable[Any]], Any]  # min or max


class Place(NamedTuple):
  """A kind of position in the canonical form.

  Attributes:
    stage: Its stage, counted from 0.
    first: Whether it is the first position of the stage, or a later one.
    option: The option there.
  """

  stage: int
  first: bool
  option: int


@functools.cache
def least_and_most(space: SearchSpace, table: CostTable) -> tuple[int | float, int | float]:
  """The costs of the cheapest and of the most expensive network."""
  least, most = (_Bounds(space, table, best).total() for best in (min, max))
  return least, most


@functools.cache
def least_with(space: SearchSpace, table: CostTable) -> dict[Place, int | float]:
  """The cost of the cheapest network with an option at a place, for all possible places."""
  return dict(_Bounds(space, table, min).with_places())


def forbidden(space: SearchSpace, table: CostTable, limit: float) -> list[Place]:
  """The places, with their options, that no network within a limit has."""
  return [place for place, least in least_with(space, table).items() if least > limit]


def opened_by_others(space: SearchSpace, table: CostTable, limit: float) -> list[Place]:
  """Options that exceed a limit when added to the start set, but not in a larger network.

  There are none if a larger set never costs less.
  """
  found = []
  least = dict(_Bounds(space, table, min).with_places(besides_start=True))
  for stage, where in enumerate(space.stage_slices):
    for position in range(where.start, where.stop):
      if space.start[position]:
        continue
      for option in range(1, len(space.options) + 1):
        alone = [*space.start]
        alone[position] = option
        is_first = position == where.start
        within = [least[p] for p in _places(space, stage, is_first, option) if p in least]
        if min(within) <= limit < table.total(space, space.mask(np.array(alone))):
          found.append(Place(stage, is_first, option))
  return list(dict.fromkeys(found))


def _places(space: SearchSpace, stage: int, is_first: bool, option: int) -> list[Place]:
  """The places where the canonical form may have a block from a free position of the stage."""
  if is_first:
    return [Place(stage, True, option)]
  # Without projection a block moves to the front if the front is empty.
  held = space.start[space.stage_slices[stage].start]
  fronts = (False,) if held or space.stages[stage].projection else (False, True)
  return [Place(stage, first, option) for first in fronts]


class _Bounds:
  """The best cost over networks that contain the start set, computed stage by stage."""

  def __init__(self, space: SearchSpace, table: CostTable, best: Best):
    self._space, self._table, self._best = space, table, best

  def total(self) -> int | float:
    """The best cost of a network."""
    return self._join(self._table.stem.item(), self._from()[0][0])

  def with_places(self, besides_start: bool = False) -> Iterator[tuple[Place, int | float]]:
    """Each place and its best cost; with `besides_start`, its block is added to the start set."""
    space, table = self._space, self._table
    until, behind = self._until(), self._from()
    for stage, where in enumerate(space.stage_slices):
      start = space.start[where]
      for option in range(1, len(space.options) + 1):
        openings = [
          self._join(before, table.opening[stage, p, opening].item(), behind[stage + 1][stage + 1])
          for p, before in until[stage].items()
          for opening in self._openings(stage)
          if has_opening(space, stage, opening)
        ]
        first = [
          self._join(before, table.opening[stage, p, option].item(), behind[stage + 1][stage + 1])
          for p, before in until[stage].items()
          if option in self._openings(stage)
        ]
        if first:
          yield Place(stage, True, option), self._join(self._best(first), self._others(stage))
        if option in start[1:] and not besides_start:
          yield Place(stage, False, option), self._join(self._best(openings), self._others(stage))
        elif 0 in start[1:]:
          here, rest = table.other[stage, option].item(), self._others(stage, given=1)
          yield Place(stage, False, option), self._join(self._best(openings), here, rest)

  def _join(self, *costs: Any) -> Any:
    return sum(costs) if self._table.combine == "sum" else max(costs)

  def _openings(self, stage: int) -> Iterable[int]:
    """The options that networks may have at the first position of a stage."""
    held = self._space.start[self._space.stage_slices[stage].start]
    return [held] if held else networks.opening_options(self._space, stage)

  def _others(self, stage: int, given: int = 0) -> int | float:
    """The best cost of the other positions, without `given` free ones."""
    row = self._table.other[stage]
    held = [o for o in self._space.start[self._space.stage_slices[stage]][1:] if o]
    free = self._space.stages[stage].positions - 1 - len(held) - given
    return self._join(0, *(row[o].item() for o in held), *[self._best(row.tolist())] * free)

  def _steps(self, stage: int, predecessor: int) -> Iterator[tuple[int, int | float]]:
    """For each way through a stage, the predecessor of the next one and the cost."""
    for option in self._openings(stage):
      cost = self._table.opening[stage, predecessor, option].item()
      if has_opening(self._space, stage, option):
        yield stage + 1, self._join(cost, self._others(stage))
      else:
        yield predecessor, cost

  def _until(self) -> list[dict[int, int | float]]:
    """The best cost of the stem and the stages before each stage, by predecessor."""
    found = [{0: self._table.stem.item()}]
    for stage in range(len(self._space.stages)):
      costs: dict[int, list[Any]] = {}
      for predecessor, before in found[-1].items():
        for after, cost in self._steps(stage, predecessor):
          costs.setdefault(after, []).append(self._join(before, cost))
      found.append({after: self._best(values) for after, values in costs.items()})
    return found

  def _from(self) -> list[dict[int, int | float]]:
    """The best cost of each stage, the later stages and the head, by predecessor."""
    count = len(self._space.stages)
    heads = networks.predecessors(self._space, count)
    found = [{p: self._table.head[p].item() for p in heads}]
    for stage in reversed(range(count)):
      found.append(
        {
          p: self._best(self._join(cost, found[-1][after]) for after, cost in self._steps(stage, p))
          for p in networks.predecessors(self._space, stage)
        }
      )
    return found[::-1]


def random_networks(space: SearchSpace, count: int, rng: np.random.Generator) -> np.ndarray:
  """Draws random networks that contain the start set, of all sizes. `[count, positions]` int."""
  shape = count, space.positions
  filled = rng.random(shape) < rng.random((count, 1))
  options = rng.integers(1, len(space.options) + 1, shape)
  return np.where(space.start, space.start, options * filled)

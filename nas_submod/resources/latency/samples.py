"""Random networks of a space: to fit the correction of a table, and to check its predictions."""

from typing import NamedTuple

import numpy as np

from nas_submod.networks.search_space import SearchSpace
from nas_submod.resources.additive import MADDS
from nas_submod.resources.cost_bounds import random_networks

_POOL = 10_000


class Samples(NamedTuple):
  """Networks by key, see `SearchSpace.key`, with the multiply-adds of each.

  Attributes:
    fit: Networks of all sizes, to fit the correction.
    check: Networks of nearly equal multiply-adds, none of them in `fit`.
  """

  fit: dict[str, int]
  check: dict[str, int]


def draw(space: SearchSpace, fit: int, check: int, madds: float | None = None) -> Samples:
  """Draws networks that contain the start set, distinct and in canonical form.

  Args:
    space: The space.
    fit: Networks to fit.
    check: Networks to check; a small space may have fewer of both.
    madds: Multiply-adds of the networks to check; by default, and if outside of the range
      of random networks, their median.
  """
  rng = np.random.default_rng(0)
  pool = space.canonical(random_networks(space, _POOL, rng))
  [_, first] = np.unique(pool, axis=0, return_index=True)
  pool = pool[np.sort(first)]
  costs = MADDS.cost(space)(space.mask(pool))
  target = madds if madds and costs.min() <= madds <= costs.max() else np.median(costs)
  nearest = np.argsort(np.abs(costs - target), kind="stable")
  count = min(check, len(pool) // 2)
  others = np.sort(nearest[count:])[:fit]

  def keyed(rows):
    return {space.key(pool[row]): int(costs[row]) for row in rows}

  return Samples(keyed(others), keyed(nearest[:count]))

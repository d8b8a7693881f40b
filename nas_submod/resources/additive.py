"""Resources that add up over layers: parameters and multiply-adds.

The input channels of a block are the output channels of the block before it. The cost of an element
therefore depends on the other elements. Costs are tabulated by stage, predecessor and option, and
summed along the canonical form.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod import networks
from nas_submod.networks.layers import Layer, Shape
from nas_submod.networks.search_space import SearchSpace
from nas_submod.resources.base import CostFunction, Resource

_INT32_MAX = np.iinfo(np.int32).max


class CostTable(NamedTuple):
  """Costs of the layers of a space, int64. See `networks.predecessors` for their numbers."""

  stem: np.ndarray  # []
  opening: np.ndarray  # [stages, stages + 1 predecessors, options + 1]
  other: np.ndarray  # [stages, options + 1]
  head: np.ndarray  # [stages + 1 predecessors]

  def total(self, space: SearchSpace, mask: Any) -> Any:
    """Costs of the networks of `mask [..., n]`, `[...]`; NumPy or JAX, as the mask."""
    module = jnp if isinstance(mask, jax.Array) else np
    table = CostTable(*(module.asarray(part) for part in self))
    *steps, end = networks.walk(space, space.architecture(mask))
    # Few gathers of many entries: each one more takes XLA time to compile.
    stages = np.arange(len(steps))
    of_others = np.repeat(stages, [stage.positions - 1 for stage in space.stages])
    predecessors = module.stack([step.predecessor for step in steps], -1)
    openings = module.stack([step.opening for step in steps], -1)
    others = module.concatenate([step.others for step in steps], -1)
    return (
      table.stem
      + table.opening[stages, predecessors, openings].sum(-1)
      + table.other[of_others, others].sum(-1)
      + table.head[end.predecessor]
    )

  def most(self, space: SearchSpace) -> int:
    """An upper bound of the cost of every network: the most expensive layer at each position."""
    openings = int(self.opening.max((1, 2)).sum())
    others = sum(
      (stage.positions - 1) * int(costs.max()) for stage, costs in zip(space.stages, self.other)
    )
    return int(self.stem) + openings + others + int(self.head.max())


@functools.cache
def cost_table(space: SearchSpace, name: str) -> CostTable:
  """Tabulates what `Layer.cost` reports under a name.

  Raises:
    ValueError: If a block does not report the cost, or its output has the wrong shape.
  """
  count, options = len(space.stages), len(space.options)
  stem = networks.stem(space)
  shape, stem_cost = stem.cost(space.image_shape)
  opening = np.zeros((count, count + 1, options + 1), np.int64)
  other = np.zeros((count, options + 1), np.int64)
  head = np.zeros(count + 1, np.int64)
  for index, stage in enumerate(space.stages):
    after = (*(-(-side // stage.stride) for side in shape[:2]), stage.channels)
    for predecessor in networks.predecessors(space, index):
      before = (*shape[:2], networks.output_channels(space, predecessor))
      for option in networks.opening_options(space, index):
        layer = networks.opening_block(space, index, predecessor, option)
        is_empty = option == 0 and not stage.projection
        opening[index, predecessor, option] = _measured(
          space, option, layer, before, before if is_empty else after, name
        )
    for option in range(1, options + 1):
      layer = networks.block(space, option, stage.channels, stage.channels, 1)
      other[index, option] = _measured(space, option, layer, after, after, name)
    shape = after
  for predecessor in networks.predecessors(space, count):
    channels = networks.output_channels(space, predecessor)
    head[predecessor] = networks.head(space, channels).cost((*shape[:2], channels))[1][name]
  return CostTable(np.array(stem_cost[name]), opening, other, head)


def _measured(
  space: SearchSpace, option: int, layer: Layer, before: Shape, after: Shape, name: str
) -> int:
  """The cost of a block on images of shape `before`; its output must have the shape `after`."""
  shape, cost = layer.cost(before)
  block = space.options[option - 1].name
  if tuple(shape) != after:
    raise ValueError(
      f"block {block} makes {tuple(shape)} of an image {before}; allowed: {after} (height, width, "
      "channels)"
    )
  if name not in cost:
    raise ValueError(f"block {block} reports no {name} in Layer.cost, only {', '.join(cost)}")
  if cost[name] < 0 or cost[name] != int(cost[name]):
    raise ValueError(f"block {block} reports {name} = {cost[name]}; allowed: whole numbers from 0")
  return int(cost[name])


def _additive(name: str, unit: str) -> Resource:
  """The resource that layers report under a name in `Layer.cost`."""

  @functools.cache
  def cost(space: SearchSpace) -> CostFunction:
    table = cost_table(space, name)
    most = table.most(space)

    def of_mask(mask):
      if most > _INT32_MAX and isinstance(mask, jax.Array):
        raise ValueError(
          f"{name} of a network of space {space.name} may reach {most:,}; allowed in JAX: up to "
          f"{_INT32_MAX:,}; resources.knapsacks counts in larger units"
        )
      return table.total(space, mask)

    return of_mask

  @functools.cache
  def scaled(space: SearchSpace) -> tuple[int, CostFunction]:
    table = cost_table(space, name)
    if table.most(space) <= _INT32_MAX:
      return 1, cost(space)
    divisor = int(np.gcd.reduce(np.concatenate([part.ravel() for part in table])))
    units = CostTable(*(part // divisor for part in table))
    if units.most(space) > _INT32_MAX:
      raise ValueError(
        f"{name} of a network of space {space.name} may reach {table.most(space):,}; allowed: up "
        f"to {_INT32_MAX * divisor:,}; take smaller images, fewer channels or fewer positions"
      )
    return divisor, functools.partial(units.total, space)

  return Resource(name, unit, cost, scaled)


PARAMS = _additive("params", "learned numbers")
MADDS = _additive("madds", "multiply-adds of the convolutions for one image")

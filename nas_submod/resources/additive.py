"""Exact costs of whole networks.

The input channels of a block are the output channels of the block before it, so what an element
costs depends on what else was chosen: costs are tabulated by stage, option and predecessor, and
summed along the canonical form.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod import networks
from nas_submod.networks.search_space import SearchSpace

RESOURCES = ("params", "madds")


class CostTable(NamedTuple):
  """Costs of the parts of a space, in units of RESOURCES.

  `predecessor` p is the last stage before that has a block, 0 for the stem, `1 + s` for stage s.
  """

  stem: np.ndarray  # [m]
  opening: np.ndarray  # [stages, stages + 1 predecessors, options + 1, m]
  other: np.ndarray  # [stages, options + 1, m]
  head: np.ndarray  # [stages + 1 predecessors, m]


@functools.cache
def cost_table(space: SearchSpace) -> CostTable:
  """Tabulates the costs of a space. Integers, exact."""

  def measure(layer, shape):
    cost = layer.cost(shape)[1]
    return [cost[name] for name in RESOURCES]

  count = len(space.stages)
  stem = networks.stem(space)
  shape, _ = stem.cost(space.image_shape)
  opening = np.zeros((count, count + 1, len(space.options) + 1, len(RESOURCES)), np.int64)
  other = np.zeros((count, len(space.options) + 1, len(RESOURCES)), np.int64)
  for index, stage in enumerate(space.stages):
    side = tuple(-(-s // stage.stride) for s in shape[:2])
    for predecessor in networks.predecessors(space, index):
      channels = networks.output_channels(space, predecessor)
      for option in networks.opening_options(space, index):
        layer = networks.opening_block(space, index, predecessor, option)
        opening[index, predecessor, option] = measure(layer, (*shape[:2], channels))
    for option in range(1, len(space.options) + 1):
      layer = networks.block(space, option, stage.channels, stage.channels, 1)
      other[index, option] = measure(layer, (*side, stage.channels))
    shape = (*side, stage.channels)
  head = np.zeros((count + 1, len(RESOURCES)), np.int64)
  for predecessor in networks.predecessors(space, count):
    channels = networks.output_channels(space, predecessor)
    head[predecessor] = measure(networks.head(space, channels), (*shape[:2], channels))
  return CostTable(np.array(measure(stem, space.image_shape)), opening, other, head)


def network_costs(space: SearchSpace, architectures: Any) -> Any:
  """Costs of networks. Traceable; NumPy in, NumPy out (int64), JAX in, JAX out (int32).

  Args:
    space: The space.
    architectures: Valid architectures (see `SearchSpace.check`). Shape `[..., positions]`.

  Returns:
    Integers in the order of RESOURCES: parameters, and multiply-adds of one image.
    Shape `[..., 2]`.
  """
  module = jnp if isinstance(architectures, jax.Array) else np
  table = CostTable(*(module.asarray(part) for part in cost_table(space)))
  canonical = space.canonical(module.asarray(architectures))
  total = table.stem
  predecessor = module.zeros(canonical.shape[:-1], np.int32)
  for index, (stage, where) in enumerate(zip(space.stages, space.stage_slices)):
    first = canonical[..., where.start]
    total = total + table.opening[index, predecessor, first]
    total = total + table.other[index][canonical[..., where.start + 1 : where.stop]].sum(-2)
    filled = (first > 0) | stage.projection
    predecessor = module.where(filled, index + 1, predecessor)
  return total + table.head[predecessor]


def network_cost(space: SearchSpace, architecture: Sequence[int]) -> dict[str, int]:
  """Costs of one network.

  Args:
    space: The space.
    architecture: An option for every position, 0 = empty.

  Returns:
    `{"params": int, "madds": int}`: convolutions, batch norm scale and bias and classifier;
    multiply-adds of the convolutions for one image.

  Raises:
    ValueError: If the architecture does not belong to the space.
  """
  costs = network_costs(space, np.array(space.check(architecture)))
  return {name: int(value) for name, value in zip(RESOURCES, costs)}


def mask_cost(space: SearchSpace, names: Sequence[str]) -> Callable[[jax.Array], jax.Array]:
  """The cost of a set, for `Problem`.

  Args:
    space: The space.
    names: Which resources, of RESOURCES.

  Returns:
    A traceable function, mask `[n]` -> costs `[len(names)]`.

  Raises:
    ValueError: If a resource is unknown.
  """
  if unknown := [name for name in names if name not in RESOURCES]:
    raise ValueError(f"unknown resource {unknown[0]!r}; allowed: {', '.join(RESOURCES)}")
  columns = np.array([RESOURCES.index(name) for name in names])
  return lambda mask: network_costs(space, space.architecture(mask))[columns]

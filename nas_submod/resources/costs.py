"""Costs of networks in every resource."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.networks.search_space import SearchSpace
from nas_submod.resources.base import CostFunction, NotApplicableError, Resource
from nas_submod.resources.settings import RESOURCES, Resources


def named(names: Sequence[str], table: Resources = RESOURCES) -> tuple[Resource, ...]:
  """The resources of these names.

  Raises:
    ValueError: If one is unknown.
  """
  if unknown := [name for name in names if name not in table]:
    raise ValueError(f"unknown resource {unknown[0]!r}; allowed: {', '.join(table)}")
  return tuple(table[name] for name in names)


@functools.cache
def cost_of(resource: Resource, space: SearchSpace) -> CostFunction:
  """The cost function of a resource: the same object each time, so its programs compile once."""
  return resource.cost(space)


def network_cost(
  space: SearchSpace, architecture: Sequence[int], table: Resources = RESOURCES
) -> dict[str, int | float]:
  """The cost of one network in every resource.

  Args:
    space: The space.
    architecture: An option for every position, 0 = empty.
    table: The resources, see `from_config`.

  Returns:
    Costs by name, such as `{"params": int, "madds": int}`, without resources that do not apply to
    the space.

  Raises:
    ValueError: If the architecture does not belong to the space.
  """
  mask = space.mask(np.array(space.check(architecture)))
  costs = {}
  for name, resource in table.items():
    try:
      cost = cost_of(resource, space)
    except NotApplicableError:
      continue
    costs[name] = np.asarray(cost(mask)).item()
  return costs


def network_costs(
  space: SearchSpace, architectures: Any, names: Sequence[str], table: Resources = RESOURCES
) -> np.ndarray:
  """The exact costs of many networks, on the host.

  Args:
    space: The space.
    architectures: Valid architectures (see `SearchSpace.check`). `[..., positions]`.
    names: Names of resources.
    table: The resources.

  Returns:
    `[..., m]`, int64; float64 if a resource is not a whole number.

  Raises:
    ValueError: If a resource is unknown.
  """
  return mask_cost(space, names, table)(space.mask(np.asarray(architectures)))


def mask_cost(
  space: SearchSpace, names: Sequence[str], table: Resources = RESOURCES
) -> CostFunction:
  """The function `mask [..., n] -> costs [..., m]` of these resources. Traceable.

  NumPy masks give int64 and JAX masks int32, or float64 and float32 if a resource is not a whole
  number. Equal arguments give the same function, so its programs are compiled once.

  Raises:
    ValueError: If a resource is unknown. The function raises it for JAX masks if a cost may exceed
      int32.
  """
  return stack(tuple(cost_of(resource, space) for resource in named(names, table)))


@functools.cache
def stack(costs: tuple[CostFunction, ...]) -> CostFunction:
  """Joins m functions `mask [..., n] -> [...]` into one that returns `[..., m]`."""

  def cost(mask):
    module = jnp if isinstance(mask, jax.Array) else np
    return module.stack([of_mask(mask) for of_mask in costs], -1)

  return cost

"""Budgets: read from a config, and turned into knapsack constraints."""

import functools
import math
import numbers
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections.config_dict import placeholder

from nas_submod.networks.search_space import SearchSpace
from nas_submod.resources.base import CostFunction
from nas_submod.resources.costs import cost_of, named, network_cost, stack
from nas_submod.resources.known import RESOURCES


def budgets(**limits: float) -> dict[str, Any]:
  """Fields of `config.budget`: a float for each resource, of which some have a limit.

  The others are unset, but may be set by a flag. Floats, so that a flag may be a fraction.

  Raises:
    ValueError: If a resource is unknown.
  """
  named(tuple(limits))
  unset = {name: placeholder(float) for name in RESOURCES}
  return unset | {name: float(limit) for name, limit in limits.items()}


def check_budget(space: SearchSpace, budget: Mapping[str, Any]) -> dict[str, int | float]:
  """The budgets of a config, without those that are None.

  Args:
    space: The space.
    budget: A positive number by name of the resource.

  Returns:
    The same numbers; whole ones are ints.

  Raises:
    ValueError: If there is no budget, a resource is unknown, a budget is not a positive finite
      number, or the start set is over budget.
  """
  given = {name: value for name, value in budget.items() if value is not None}
  allowed = ", ".join(RESOURCES)
  if not given:
    raise ValueError(f"config.budget is empty; allowed: {allowed}")
  if unknown := [name for name in given if name not in RESOURCES]:
    raise ValueError(f"unknown resource {unknown[0]!r} in config.budget; allowed: {allowed}")
  checked = {name: _positive(name, value) for name, value in given.items()}
  for resource in named(tuple(checked)):
    cost_of(resource, space)  # Raises if the resource does not apply to the space.
  start = network_cost(space, space.start)
  for name, limit in checked.items():
    if start[name] > limit:
      raise ValueError(
        f"the start set is over budget: {name} {start[name]:,} > {limit:,}; "
        f"allow at least {start[name]:,} or start smaller"
      )
  return checked


def _positive(name: str, value: Any) -> int | float:
  is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
  if not is_number or not math.isfinite(value) or not value > 0:
    raise ValueError(f"config.budget.{name} is {value!r}; allowed are positive numbers")
  return int(value) if value == int(value) else float(value)


def knapsacks(
  space: SearchSpace, budget: Mapping[str, int | float]
) -> tuple[CostFunction, np.ndarray]:
  """The knapsack constraints of a budget, for `Problem(cost=..., budget=...)`.

  Whole costs are compared exactly. Those that may exceed int32 are counted in larger units, their
  greatest common divisor.

  Args:
    space: The space.
    budget: A positive number by name of the resource; see `check_budget`.

  Returns:
    The function `mask [n] -> costs [m]`, and its limits `[m]`. Equal arguments give the same
    function, so its programs are compiled once.

  Raises:
    ValueError: If a resource is unknown, or its costs exceed int32 in every unit.
  """
  costs, limits, whole = [], [], []
  for resource, limit in zip(named(tuple(budget)), budget.values()):
    divisor, cost = resource.scaled(space) if resource.scaled else (1, cost_of(resource, space))
    whole.append(np.asarray(cost(space.required)).dtype.kind in "iu")
    if whole[-1]:
      limit = min(math.floor(limit) // divisor, np.iinfo(np.int32).max)
    costs.append(cost)
    limits.append(limit)
  if not all(whole):
    # Beside float32 costs, whole ones become float32 too, and Problem would allow a tolerance.
    costs = [_exact(c, limit) if w else c for c, limit, w in zip(costs, limits, whole)]
  return stack(tuple(costs)), np.array(limits)


@functools.cache
def _exact(cost: CostFunction, limit: int) -> CostFunction:
  """The cost as float32, infinite where it is above the limit as a whole number."""

  def of_mask(mask):
    units = jnp.asarray(cost(mask))
    return jnp.where(units <= limit, units.astype(jnp.float32), jnp.inf)

  return of_mask

"""Budgets: read from a config, and turned into knapsack constraints."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections.config_dict import placeholder

from nas_submod.fields import is_number
from nas_submod.networks.search_space import SearchSpace
from nas_submod.resources.base import CostFunction
from nas_submod.resources.cost_bounds import least_and_most
from nas_submod.resources.costs import cost_of, named, network_cost, stack
from nas_submod.resources.settings import RESOURCES, Resources

# Fields of every config, so that flags can set them; a latency needs a table.
_FIELDS = (*RESOURCES, "latency_ms")
_NO_LATENCIES = (
  "config.budget.latency_ms needs a table of latencies: python -m experiments.measure_latency "
  "writes one, --config.resources.latency=PATH names it"
)


def budgets(**limits: float) -> dict[str, Any]:
  """Fields of `config.budget`: one for each resource, with its limit if it has one.

  The others are unset, but a flag may set them. They are floats, so that a flag may be a fraction.
  An unknown name is a resource of your own, see `from_config`.
  """
  unset = {name: placeholder(float) for name in _FIELDS}
  return unset | {name: float(limit) for name, limit in limits.items()}


def check_budget(
  space: SearchSpace, budget: Mapping[str, Any], table: Resources = RESOURCES
) -> dict[str, int | float]:
  """The budgets of a config, without those that are None.

  Args:
    space: The space.
    budget: A positive number by name of the resource.
    table: The resources.

  Returns:
    The same numbers; whole ones are ints.

  Raises:
    ValueError: If there is no budget, a resource is unknown, a budget is not a positive finite
      number, or the start set is over budget.
  """
  given = {name: value for name, value in budget.items() if value is not None}
  if not given:
    raise ValueError(f"config.budget is empty; allowed: {', '.join(table)}")
  for name in given:
    if name == "latency_ms" and name not in table:
      raise ValueError(_NO_LATENCIES)
    if name not in table:
      raise ValueError(
        f"unknown resource {name!r} in config.budget; allowed: {', '.join(table)}, or one of your "
        "own that config.resources names"
      )
  checked = {name: _positive(name, value) for name, value in given.items()}
  for resource in named(tuple(checked), table):
    cost_of(resource, space)  # Raises if the resource does not apply to the space.
  start = network_cost(space, space.start, table)
  if over := {name: limit for name, limit in checked.items() if start[name] > limit}:
    told = ", ".join(f"{name} {start[name]:,} > {limit:,}" for name, limit in over.items())
    raise ValueError(
      f"the start set {space.text(space.start)!r} is over budget: {told}; raise "
      f"{'these budgets' if len(over) > 1 else 'the budget'}{_other_start(space, over, table)}"
    )
  return checked


def _other_start(space: SearchSpace, limits: Mapping[str, int | float], table: Resources) -> str:
  """Advice on another start set, for one that exceeds these limits."""
  tables = {name: table[name].table for name in limits}
  least = {name: least_and_most(space, t(space))[0] for name, t in tables.items() if t}
  # A block with few channels early in a network can make the whole network cheaper.
  if all(least.get(name, math.inf) <= limit for name, limit in limits.items()):
    costs = ", ".join(f"{name} {cost:,}" for name, cost in least.items())
    return f", or start with more blocks: they can lower the cost to {costs}"
  return ", or try to start with fewer blocks" if any(space.start) else ""


def _positive(name: str, value: Any) -> int | float:
  if not is_number(value) or not value > 0:
    raise ValueError(f"config.budget.{name} is {value!r}; allowed are positive numbers")
  return int(value) if value == int(value) else float(value)


def knapsacks(
  space: SearchSpace, budget: Mapping[str, int | float], table: Resources = RESOURCES
) -> tuple[CostFunction, np.ndarray]:
  """The knapsack constraints of a budget, for `Problem(cost=..., budget=...)`.

  Whole-number costs are compared exactly. If they may exceed int32, the unit is their greatest
  common divisor.

  Args:
    space: The space.
    budget: A positive number by name of the resource; see `check_budget`.
    table: The resources.

  Returns:
    The function `mask [n] -> costs [m]`, and its limits `[m]`. Equal arguments give the same
    function, so its programs are compiled once.

  Raises:
    ValueError: If a resource is unknown, or its costs exceed int32 in every unit.
  """
  costs, limits, whole = [], [], []
  for resource, limit in zip(named(tuple(budget), table), budget.values()):
    divisor, cost = resource.scaled(space) if resource.scaled else (1, cost_of(resource, space))
    whole.append(np.asarray(cost(space.required)).dtype.kind in "iu")
    if whole[-1]:
      limit = min(math.floor(limit) // divisor, np.iinfo(np.int32).max)
    costs.append(cost)
    limits.append(limit)
  if not all(whole):
    # With float32 costs, whole ones become float32 too, and Problem would allow a tolerance.
    costs = [_exact(c, limit) if w else c for c, limit, w in zip(costs, limits, whole)]
  return stack(tuple(costs)), np.array(limits)


@functools.cache
def _exact(cost: CostFunction, limit: int) -> CostFunction:
  """The whole-number cost as float32; above the limit, at least twice the limit."""

  def of_mask(mask):
    units = jnp.asarray(cost(mask))
    rounded = units.astype(jnp.float32)
    return jnp.where(units <= limit, rounded, jnp.maximum(rounded, 2.0 * limit))

  return of_mask

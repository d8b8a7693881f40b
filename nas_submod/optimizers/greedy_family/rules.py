"""Greedy algorithms: every rule, eager or lazy, batched, several rules at once.

A rule sets the price of an element at a set: `offset + weights . marginal_cost`. Greedy adds the
element with the largest gain per price that still fits, until nothing fits. Resources that
`Problem.priced` leaves out have no price: they are only limits.
"""

import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.optimizers.base import Info, Optimizer, Outcome
from nas_submod.optimizers.constructors import constructor
from nas_submod.optimizers.drivers.compiled import drive
from nas_submod.optimizers.greedy_family.by_gains import solve_by_gains
from nas_submod.optimizers.greedy_family.decision import tell_path
from nas_submod.optimizers.greedy_family.path import (
  GreedyPath,
  Options,
  ask_path,
  best_of_path,
  by_path,
  in_turns,
  is_open,
  open_steps,
  start_path,
)
from nas_submod.optimizers.greedy_family.racing import make_racing
from nas_submod.optimizers.ties import best_of_all
from nas_submod.problem import Problem
from nas_submod.set_functions.base import SetFunction
from nas_submod.validation import at_least_one


class GreedyState(NamedTuple):
  """State of `R` paths, one per rule; `rules [R, 1 + m]` are offset and weights of their prices."""

  problem: Problem
  rules: jax.Array
  paths: GreedyPath


@constructor
def greedy(
  rule: str = "unit",
  lazy: bool = False,
  batch: int | None = 1,
  race: tuple[int, ...] | None = None,
  wide_start: bool = False,
) -> Optimizer:
  """Adds the element with the largest gain per price, until nothing fits.

  With one knapsack and monotone submodular F, the better of `density:0` and the best single element
  reaches 0.427 of the optimum (Feldman, Nutov, Shoham 2023). With groups alone `unit` reaches 1/2
  (Fisher, Nemhauser, Wolsey 1978). Lazy greedy (Minoux 1978) gives the same set for submodular F. A
  free element counts as costing 1e-20. Elements without gain come last.

  Args:
    rule: "unit" (every price is 1), "density:i" (units of resource i), or "joint" (the sum of the
      shares of all budgets). Resources without a price (`Problem.priced`) have no density and no
      part in "joint", which equals "unit" if none has a price.
    lazy: Measure only elements whose last known density could still be the best.
    batch: Sets asked in a round, None for all. It changes neither the decisions nor their order:
      measurements that a decision does not need are not used.
    race: None, or replicates per rung such as (1, 3, 6), for noisy F. In each step all candidates
      get the first number, those that could still be the best the second, the last three the
      third. In the end the best sets of the paths get the second number, those that could be the
      answer the third. A lazy race also measures elements that noise could make the best.
    wide_start: Ask all candidates of the first step in one round, so that they can be evaluated in
      parallel; later rounds ask `batch`. It changes neither decisions nor measurements.

  Returns:
    The optimizer.
  """
  return make_greedy((rule,), Options(lazy, batch, wide_start=wide_start), race)


@constructor
def rcas(
  lazy: bool = True,
  batch: int | None = 1,
  race: tuple[int, ...] | None = None,
  wide_start: bool = False,
) -> Optimizer:
  """Runs greedy with "unit", "density:i" for each priced resource, and "joint"; the best wins.

  All rules but the joint one are RCAS of Xiong, Mehta and Singh (ICCV 2019). With two budgets and k
  elements in the optimum they may reach only 1/k of it; the joint rule does not fail there. All run
  at once: a round asks `rules x batch` sets. If no resource is priced (`Problem.priced`), only
  "unit" runs.

  Args:
    lazy: As for `greedy`.
    batch: Sets asked in a round by each rule.
    race: As for `greedy`.
    wide_start: As for `greedy`.

  Returns:
    The optimizer.
  """
  return make_greedy(None, Options(lazy, batch, wide_start=wide_start), race)


@constructor
def stochastic_greedy(
  sample: int, rule: str = "unit", lazy: bool = False, batch: int | None = 1
) -> Optimizer:
  """Runs greedy on a random sample of the elements that fit, drawn anew in every step.

  Under a cardinality budget k alone, a sample of (n / k) log(1 / epsilon) gives 1 - 1/e - epsilon
  of the optimum in expectation (Mirzasoleiman et al. 2015, "lazier than lazy greedy").

  Args:
    sample: Candidates of a step.
    rule: As for `greedy`.
    lazy: As for `greedy`.
    batch: As for `greedy`.

  Returns:
    The optimizer.
  """
  at_least_one(sample=sample)
  return make_greedy((rule,), Options(lazy, batch, sample))


@constructor
def greedy_plus_max(
  rule: str = "joint", batch: int | None = 1, wide_start: bool = False
) -> Optimizer:
  """Greedy+Max: density greedy whose answer may be any set that it measured.

  Every set of the path is thus also completed by its best single element. With one knapsack and
  monotone submodular F it reaches 1/2 of the optimum (Yaroslavtsev, Zhou, Avdiukhin 2020).

  Args:
    rule: As for `greedy`; the 1/2 holds for the density of the one resource.
    batch: As for `greedy`.
    wide_start: As for `greedy`.

  Returns:
    The optimizer.
  """
  return make_greedy((rule,), Options(batch=batch, plus_max=True, wide_start=wide_start))


def make_greedy(
  rules: tuple[str, ...] | None, options: Options, race: tuple[int, ...] | None = None
) -> Optimizer:
  """Makes an optimizer of greedy paths, one for each of `rules`; None for all rules."""
  for rule in rules or ():
    if not re.fullmatch(r"unit|joint|density:\d+", rule):
      raise ValueError(f'rule is "unit", "joint" or "density:i" with i a resource, got "{rule}"')
  if options.batch is not None:
    at_least_one(batch=options.batch)
  if race is not None:
    options = options._replace(replicates_per_rung=race)
    return make_racing(functools.partial(_all_price_weights, rules), options)

  def init(problem: Problem, rng: jax.Array) -> GreedyState:
    weights = _all_price_weights(rules, problem)
    keys = jax.random.split(rng, weights.shape[0])
    start = jax.vmap(start_path, in_axes=(None, 0))
    return GreedyState(problem, weights, start(problem, keys))

  def ask(state: GreedyState) -> tuple[jax.Array, jax.Array]:
    masks, valid = jax.vmap(functools.partial(ask_path, options=options))(state.paths)
    return in_turns(masks), in_turns(valid)

  def tell(state: GreedyState, values: jax.Array) -> tuple[GreedyState, Info]:
    values = by_path(values, state.rules.shape[0])
    tell_all = jax.vmap(functools.partial(tell_path, options=options))
    paths, accepted = tell_all(state.paths, values)
    paths = open_steps(state.problem, paths, state.rules, accepted, options)
    return state._replace(paths=paths), Info(accepted, paths.mask, paths.value)

  def done(state: GreedyState) -> jax.Array:
    return ~jnp.any(is_open(state.paths))

  def best(state: GreedyState) -> tuple[jax.Array, jax.Array]:
    masks, values = jax.vmap(best_of_path)(state.paths)
    winner = best_of_all(values)
    return masks[winner], values[winner]

  def solve(problem: Problem, value: Any, rng: jax.Array) -> Outcome:
    # Gains do not tell which elements lead to the same canonical set.
    if isinstance(value, SetFunction) and value.incremental and problem.canonical is None:
      weights = _all_price_weights(rules, problem)
      # A run by gains does not use these options. They are static, so that other values would
      # compile again.
      shared = options._replace(batch=1, wide_start=False)
      return solve_by_gains(problem, value, rng, weights, shared)
    return drive(protocol, problem, value, rng)

  protocol = Optimizer(init, ask, tell, done, best)
  return protocol._replace(solve=solve)


def price_weights(rule: str, problem: Problem) -> jax.Array:
  """Offset and weight of each resource in the price of an element by a rule. `[1 + m]`."""
  weights = jnp.zeros(1 + problem.m)
  if rule == "unit" or (rule == "joint" and not any(problem.priced)):
    return weights.at[0].set(1.0)
  if rule == "joint":
    budget = jnp.where(problem.bounded, problem.budget, jnp.inf)
    has_price = (budget > 0) & np.array(problem.priced)
    return weights.at[1:].set(jnp.where(has_price, 1 / jnp.maximum(budget, 1e-30), 0.0))
  resource = int(rule.removeprefix("density:"))
  if resource >= problem.m:
    raise ValueError(f'rule "{rule}": the problem has {problem.m} resources, counted from 0')
  if not problem.priced[resource]:
    raise ValueError(
      f'rule "{rule}": resource {resource} is no sum over elements, so it has no price; allowed: '
      + ", ".join(["unit", *_densities(problem), "joint"])
    )
  return weights.at[1 + resource].set(1.0)


def _densities(problem: Problem) -> list[str]:
  return [f"density:{i}" for i, priced in enumerate(problem.priced) if priced]


@functools.partial(jax.jit, static_argnums=0)
def _all_price_weights(rules: tuple[str, ...] | None, problem: Problem) -> jax.Array:
  rules = rules or ("unit", *_densities(problem), *["joint"] * any(problem.priced))
  return jnp.stack([price_weights(rule, problem) for rule in rules])

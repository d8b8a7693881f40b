"""Synthetic problems of other shapes than the tables, so no optimizer is tuned to one table.

  widths    5 stages, each with a width and a depth of 6 levels; costs are depth x width^2
  cells     30 positions of 6 options or empty: neighbours interact, stages saturate; not monotone
  layers    60 positions of 5 options or empty (n = 300): stages saturate
  sensors   40 elements without groups: facility location plus modular, two knapsacks
  proxy     12 positions of 2 options or empty: F is a proxy that ranks sets roughly like the final
            score; regret is counted in the final score

Values are scaled like accuracies in percent: about 45 for the empty set (80 for `widths`), near
93.5 for random maximal sets, and tenths apart for good sets. A noisy measurement has a standard
deviation of 0.15. The problems of a suite differ in their weights, and their budgets are 0.3, 0.5
and 0.7 in turn. The largest value is found by brute force for `proxy`, and by long simulated
annealing (32 chains) for the others. A better value found by a run replaces it.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from benchmarks.regrets import proxy_note
from benchmarks.runs import Case, Instance, Suite
from nas_submod.optimizers.evolution import mutate
from nas_submod.optimizers.random_sets import random_set
from nas_submod.problem import Problem

NOISE = 0.15
_CHAINS, _STEPS = 32, 6_000
_HOTTEST, _COLDEST = 1.0, 1e-3  # temperatures, in points


class _Weights(NamedTuple):
  """Weights of the quality of a set; those that a function does not use are empty.

  Attributes:
    options: Quality of each element. Shape depends on the function.
    stages: Largest quality of a stage. `[stages]`.
    pairs: Quality of neighbours, or service of each element. Shape depends on the function.
  """

  options: jax.Array
  stages: jax.Array
  pairs: jax.Array


Total = Callable[[_Weights, Any], jax.Array]


def _accuracy(total: Partial, typical: jax.Array, mask: Any) -> jax.Array:
  """Scales a total: 45 for 0, and 93.5 for a typical one."""
  return 95 - 50 * jnp.exp(-3.5 * total(mask) / typical)


def _widths(weights: _Weights, mask: Any) -> jax.Array:
  widths, depths = _levels(mask)
  size = jnp.sqrt(widths) * depths**0.4
  chosen = jnp.sum(jnp.where(jnp.asarray(mask), weights.options, 0))
  return jnp.sum(weights.stages * size) + chosen


def _widths_cost(mask: Any) -> jax.Array:
  """Costs: parameters grow by 4 from stage to stage, multiply-adds do not."""
  widths, depths = _levels(mask)
  work = depths * widths**2
  return jnp.stack([jnp.sum(work * 4.0 ** jnp.arange(5)), jnp.sum(work)])


def _levels(mask: Any) -> tuple[jax.Array, jax.Array]:
  levels = 1 + jnp.sum(jnp.asarray(mask).reshape(2, 5, 5) * jnp.arange(1.0, 6.0), axis=-1)
  return levels[0], levels[1]


def _stages(weights: _Weights, mask: Any) -> jax.Array:
  chosen = jnp.where(jnp.asarray(mask), weights.options, 0)
  filled = chosen.reshape(weights.stages.shape[0], -1).sum(axis=1)
  return jnp.sum(weights.stages * (1 - jnp.exp(-filled / weights.stages)))


def _cells(weights: _Weights, mask: Any) -> jax.Array:
  chosen = jnp.asarray(mask).reshape(30, 6).astype(jnp.float32)
  filled = (chosen * weights.options).reshape(3, -1).sum(axis=1)
  saturated = jnp.sum(weights.stages * (1 - jnp.exp(-filled / weights.stages)))
  neighbours = jnp.einsum("pi,pj,pij->", chosen[:-1], chosen[1:], weights.pairs)
  return saturated + neighbours


def _sensors(weights: _Weights, mask: Any) -> jax.Array:
  mask = jnp.asarray(mask)
  served = jnp.max(jnp.where(mask[:, None], weights.pairs, 0), axis=0).sum()
  return served + jnp.sum(jnp.where(mask, weights.options, 0))


def _noisy(value: Partial, mask: Any, rng: jax.Array) -> jax.Array:
  return value(mask) + NOISE * jax.random.normal(rng)


def _draw_widths(rng: np.random.Generator, share: float) -> tuple[Problem, _Weights]:
  steps = rng.normal(0, 0.1, (2, 5, 5))
  largest = _widths_cost(np.eye(5)[[4] * 10])
  problem = Problem(np.arange(50) // 5, _widths_cost, share * np.asarray(largest))
  return problem, _weights(steps.reshape(-1), rng.uniform(0.5, 1.5, 5))


def _draw_groups(
  rng: np.random.Generator, share: float, positions: int, options: int, stages: int
) -> tuple[Problem, _Weights]:
  """Draws options: larger ones cost more and are mostly better. Each resource rises or falls."""
  size = np.arange(1, options + 1) * np.exp(rng.normal(0, 0.3, (positions, options)))
  late = np.linspace(0.5, 1.5, positions)[:, None]
  cost = np.stack([size * late, size * late[::-1] * rng.uniform(0.8, 1.2, size.shape)], axis=-1)
  budget = share * cost.max(axis=1).sum(axis=0)
  problem = Problem(
    np.repeat(np.arange(positions), options), cost.reshape(-1, 2), budget, canonical=None
  )
  quality = np.sqrt(size) * np.exp(rng.normal(0, 0.3, size.shape))
  room = quality.mean(axis=1).reshape(stages, -1).sum(axis=1) * rng.uniform(0.5, 1.5, stages)
  return problem, _weights(quality, room)


def _draw_cells(rng: np.random.Generator, share: float) -> tuple[Problem, _Weights]:
  problem, weights = _draw_groups(rng, share, 30, 6, 3)
  return problem, weights._replace(pairs=jnp.asarray(rng.normal(0, 0.15, (29, 6, 6)), jnp.float32))


def _draw_layers(rng: np.random.Generator, share: float) -> tuple[Problem, _Weights]:
  problem, weights = _draw_groups(rng, share, 60, 5, 6)
  return problem, weights._replace(options=weights.options.reshape(-1))


def _draw_sensors(rng: np.random.Generator, share: float) -> tuple[Problem, _Weights]:
  cost = rng.uniform(0.2, 1, (40, 2))
  problem = Problem(np.full(40, -1), cost, share / 2 * cost.sum(axis=0))
  weights = _weights(rng.uniform(0, 0.3, 40), np.zeros(0))
  near = np.exp(-4 * np.linalg.norm(rng.random((40, 1, 2)) - rng.random((30, 2)), axis=-1))
  return problem, weights._replace(pairs=jnp.asarray(near, jnp.float32))


def _draw_proxy(rng: np.random.Generator, share: float) -> tuple[Problem, _Weights]:
  problem, weights = _draw_groups(rng, share, 12, 2, 3)
  return problem, weights._replace(options=weights.options.reshape(-1))


def _weights(options: np.ndarray, stages: np.ndarray) -> _Weights:
  empty = jnp.zeros(0)
  f32 = functools.partial(jnp.asarray, dtype=jnp.float32)
  return _Weights(f32(options), f32(stages), empty)


_SUITES: dict[str, tuple[Total, Callable[..., tuple[Problem, _Weights]]]] = {
  "widths": (_widths, _draw_widths),
  "cells": (_cells, _draw_cells),
  "layers": (_stages, _draw_layers),
  "sensors": (_sensors, _draw_sensors),
  "proxy": (_stages, _draw_proxy),
}
NAMES = tuple(_SUITES)
_PROXY_SPREAD = 0.38  # standard deviation of the log error of the proxy in a quality


def load(name: str, problems: int = 3) -> Suite:
  """Loads a suite of the module's list with a number of problems.

  Raises:
    ValueError: If the name is unknown.
  """
  if name not in _SUITES:
    raise ValueError(f"no synthetic suite {name!r}; there are {', '.join(NAMES)}")
  total, draw = _SUITES[name]
  instances, proxied = [], []
  for i, share in zip(range(problems), itertools.cycle((0.3, 0.5, 0.7))):
    rng = np.random.default_rng([NAMES.index(name), i])
    problem, weights = draw(rng, share)
    sets = _random_sets(problem, jax.random.key(i))
    judge = _scaled(Partial(total, weights), sets)
    mean = judge
    if name == "proxy":
      factors = np.exp(rng.normal(0, _PROXY_SPREAD, weights.options.shape))
      distorted = weights._replace(options=weights.options * jnp.asarray(factors, jnp.float32))
      mean = _scaled(Partial(total, distorted), sets)
      proxied.append((np.asarray(_values(mean, sets)), np.asarray(_values(judge, sets))))
    case = Case(problem, mean, Partial(_noisy, mean), judge)
    find = brute_force if name == "proxy" else anneal
    instances.append(Instance(f"{i}: {share}", case, find(problem, judge)))
  title = f"synthetic {name}, n = {instances[0].case.problem.n}"
  annealed = "largest value: the best of 32 annealed chains, or of any run"
  return Suite(title, instances, True, proxy_note(proxied) if proxied else annealed)


@jax.jit
def _random_sets(problem: Problem, rng: jax.Array) -> jax.Array:
  return jax.vmap(lambda key: random_set(problem, key, 0.02))(jax.random.split(rng, 256))


@jax.jit
def _values(value: Partial, masks: jax.Array) -> jax.Array:
  return jax.vmap(value)(masks)


def _scaled(total: Partial, sets: jax.Array) -> Partial:
  """Scales a total to accuracies; its mean over `sets [K, n]` is the typical total."""
  return Partial(_accuracy, total, _values(total, sets).mean())


def brute_force(problem: Problem, value: Partial) -> float:
  """Finds the largest value over all feasible sets, in one program; groups have equal sizes."""
  size = int((np.asarray(problem.groups) == 0).sum())
  choices = np.vstack([np.zeros((1, size), bool), np.eye(size, dtype=bool)])
  positions = problem.n // size
  half = np.array([np.concatenate(c) for c in itertools.product(choices, repeat=positions // 2)])
  return float(_largest_of_pairs(problem, value, half))


@jax.jit
def _largest_of_pairs(problem: Problem, value: Partial, half: jax.Array) -> jax.Array:
  def row(first: jax.Array) -> jax.Array:
    masks = jnp.concatenate([jnp.broadcast_to(first, half.shape), half], axis=1)
    fits = jax.vmap(problem.feasible)(masks)
    return jnp.max(jnp.where(fits, jax.vmap(value)(masks), -jnp.inf))

  return jax.lax.map(row, half).max()


def anneal(problem: Problem, value: Partial, chains: int = _CHAINS, steps: int = _STEPS) -> float:
  """Finds a large value by simulated annealing from random sets."""
  keys = jax.random.split(jax.random.key(0), chains)
  return float(_anneal(problem, value, keys, steps).max())


@functools.partial(jax.jit, static_argnums=3)
def _anneal(problem: Problem, value: Partial, keys: jax.Array, steps: int) -> jax.Array:
  def chain(rng: jax.Array) -> jax.Array:
    start = random_set(problem, rng, 0.0)

    def step(i: jax.Array, carry: Any) -> Any:
      mask, here, best = carry
      move, chance = jax.random.split(jax.random.fold_in(rng, i))
      other = mutate(problem, move, mask)
      there = value(other)
      temperature = _HOTTEST * (_COLDEST / _HOTTEST) ** (i / steps)
      accept = jnp.log(jax.random.uniform(chance)) < (there - here) / temperature
      mask, here = jnp.where(accept, other, mask), jnp.where(accept, there, here)
      return mask, here, jnp.maximum(best, there)

    here = value(start)
    return jax.lax.fori_loop(0, steps, step, (start, here, here))[2]

  return jax.vmap(chain)(keys)

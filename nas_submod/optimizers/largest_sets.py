"""The feasible sets to measure first: the deepest and the largest by cost."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from nas_submod.optimizers.neighbours import random_neighbour
from nas_submod.optimizers.random_sets import maximal_sets
from nas_submod.problem import Problem

_STARTS = 8  # climbs for each criterion
_STEPS, _PROPOSALS = 64, 16  # steps of a climb, and neighbours tried in a step
_TIE = 1e-3  # weight of the other criteria


def largest_sets(problem: Problem) -> jax.Array:
  """Finds the largest feasible set by each criterion, approximately.

  The criteria are the number of elements of the canonical set, each cost, and the sum of the costs
  as shares of their budgets. An infinite budget has no part in that sum. The other criteria break
  ties. Sets are found by climbs from random maximal sets and from a set of cheap elements, so they
  are only near the largest ones, and may be equal. The function is traceable and deterministic.

  Args:
    problem: The problem, of `m` resources.

  Returns:
    The deepest set, the largest by each cost, and the jointly largest. `[m + 2, n]` bool.
  """
  rng, climb_rng = jax.random.split(jax.random.key(0))
  maximal = maximal_sets(problem, rng, _STARTS - 1)
  starts = jnp.concatenate([_filled(problem, problem.required)[None], maximal])
  size = _sizes(problem, starts)

  def climb(criterion: jax.Array, start: jax.Array, rng: jax.Array) -> tuple[jax.Array, jax.Array]:
    def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
      mask, height = carry
      chances = jax.random.uniform(key, (_PROPOSALS, 5))
      near = jax.vmap(random_neighbour, (None, None, 0))(problem, mask, chances)
      heights = jax.vmap(size, (0, None))(near, criterion)
      best = jnp.argmax(heights)
      better = heights[best] >= height
      return (jnp.where(better, near[best], mask), jnp.maximum(heights[best], height)), None

    carry = start, size(start, criterion)
    (mask, _), _ = jax.lax.scan(step, carry, jax.random.split(rng, _STEPS))
    mask = _filled(problem, mask)
    return mask, size(mask, criterion)

  every_start = jax.vmap(climb, in_axes=(None, 0, 0))
  criteria = jnp.arange(problem.m + 2)
  keys = jax.random.split(climb_rng, _STARTS)
  masks, heights = jax.vmap(every_start, in_axes=(0, None, None))(criteria, starts, keys)
  return jnp.take_along_axis(masks, jnp.argmax(heights, axis=1)[:, None, None], axis=1)[:, 0]


def largest_of(problem: Problem, masks: jax.Array) -> jax.Array:
  """Finds the largest feasible sets among `masks [K, n]`, by the same criteria. `[m + 2]` int."""
  every_criterion = jax.vmap(_sizes(problem, masks), in_axes=(None, 0))
  sizes = jax.vmap(every_criterion, in_axes=(0, None))(masks, jnp.arange(problem.m + 2))
  return jnp.argmax(sizes, axis=0)


def first_sets(problem: Problem, rng: jax.Array, count: int) -> jax.Array:
  """Chooses the sets that a model measures first: largest and random maximal ones in turn.

  A monotone F is largest at maximal sets. The largest ones show the effect of costs and sizes, the
  random ones the effect of elements. The jointly largest set comes first. Sets may be equal.

  Args:
    problem: The problem.
    rng: Random key of the random sets.
    count: Number of sets.

  Returns:
    The sets. `[count, n]` bool.
  """
  return in_turn(largest_sets(problem), maximal_sets(problem, rng, count))


def in_turn(large: jax.Array, others: jax.Array) -> jax.Array:
  """Alternates large and other sets: the jointly largest, another, the deepest, and so on.

  Args:
    large: The largest sets, in the order of `largest_sets`. `[m + 2, n]`.
    others: Other sets. `[count, n]`.

  Returns:
    Large sets and others in turn, then the rest of the others. `[count, n]`.
  """
  large = jnp.roll(large, 1, axis=0)[: len(others)]
  pairs = jnp.stack([large, others[: len(large)]], axis=1).reshape(-1, large.shape[1])
  return jnp.concatenate([pairs, others[len(large) :]])[: len(others)]


def _sizes(problem: Problem, examples: jax.Array) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """Returns the function `(mask [n], criterion []) -> []`, the size of a set; -inf if infeasible.

  The largest cost among `examples [K, n]` is the unit of a cost without a budget.
  """
  costs = jax.vmap(problem.cost)(examples).astype(jnp.float32)
  bounded = problem.bounded
  unit = jnp.where(bounded, problem.budget, costs.max(axis=0)).clip(1e-9)
  shares = jnp.eye(problem.m) + _TIE * bounded
  weights = jnp.concatenate([(_TIE * bounded)[None], shares, (1.0 * bounded)[None]])
  deep = jnp.full(problem.m + 2, _TIE).at[0].set(1.0)

  def size(mask: jax.Array, criterion: jax.Array) -> jax.Array:
    used = problem.cost(mask).astype(jnp.float32) / unit
    elements = problem.canonical_form(mask).sum()
    height = deep[criterion] * elements + weights[criterion] @ used
    return jnp.where(problem.feasible(mask), height, -jnp.inf)

  return size


def _filled(problem: Problem, mask: jax.Array) -> jax.Array:
  """Adds to a feasible set `mask [n]` the cheapest element that fits, until none fits."""
  unit = jnp.where(problem.bounded, problem.budget, jnp.inf).clip(1e-9)

  def add(carry: Any) -> Any:
    mask, additions = carry
    price = (additions.cost / unit).sum(axis=1)
    element = jnp.argmin(jnp.where(additions.fits, price, jnp.inf))
    mask = mask.at[element].set(True)
    return mask, problem.additions(mask)

  start = mask, problem.additions(mask)
  return jax.lax.while_loop(lambda carry: carry[1].fits.any(), add, start)[0]

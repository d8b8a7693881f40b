"""Draws the networks that a store trains, one per step: within the budgets, of several sizes.

Every option of a position is trained equally often (strict fairness: Chu et al. 2021, "FairNAS"). A
network grows from the required set: at each step a random slot with room takes the option that was
trained least so far. It is finished when nothing fits its share of the budgets. The shares of a
round are spread evenly from a least share to the whole budgets. Each round also trains the required
set and the largest set.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.optimizers.largest_sets import largest_sets
from nas_submod.problem import Problem

ROUND = 16  # networks per round
_ENDS = 2  # of these, the required set and the largest set


def ends(problem: Problem) -> jax.Array:
  """The required set and the jointly largest set. `[2, n]` bool."""
  masks = jnp.stack([jnp.asarray(problem.required), largest_sets(problem)[-1]])
  return jax.vmap(problem.canonical_form)(masks)


def next_round(
  problem: Problem, ends: jax.Array, counts: jax.Array, rng: jax.Array, least: float
) -> tuple[jax.Array, jax.Array]:
  """Draws the sets of a round; traceable.

  Args:
    problem: The problem.
    ends: From `ends`. `[2, n]` bool.
    counts: How often each element was trained before. `[n]` int.
    rng: Key of the round.
    least: The least share of the budgets, in [0, 1].

  Returns:
    The counts after the round `[n]`, and its sets `[ROUND, n]` bool.
  """
  grow_key, offset_key, order_key = jax.random.split(rng, 3)
  grown = ROUND - _ENDS
  strata = (jnp.arange(grown) + jax.random.uniform(offset_key, (grown,))) / grown
  shares = least + (1 - least) * strata

  def one(counts: jax.Array, drawn: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    mask = grow(problem, counts, *drawn)
    return counts + mask, mask

  counts, masks = jax.lax.scan(
    one, counts + ends.sum(0), (jax.random.split(grow_key, grown), shares)
  )
  return counts, jax.random.permutation(order_key, jnp.concatenate([ends, masks]))


def grow(problem: Problem, counts: jax.Array, rng: jax.Array, share: jax.Array) -> jax.Array:
  """Draws the set of one network, maximal within a share of the budgets. `[n]` bool.

  Args:
    problem: The problem.
    counts: How often each element was trained before. `[n]` int.
    rng: Random key.
    share: Share of the way from the cost of the required set to the budgets, in [0, 1]. Infinite
      budgets, and budgets of unpriced resources such as a peak, are not scaled. `[]`.
  """
  used = problem.cost(problem.required)
  shared = jnp.asarray(np.array(problem.priced)) & problem.bounded
  limit = jnp.where(shared, used + (problem.budget - used) * share, problem.budget)
  # Float32 rounds large whole numbers, perhaps up.
  limit = jnp.minimum(limit.astype(problem.budget.dtype), problem.budget)
  limited = problem.replace(budget=limit)
  elements = jnp.arange(problem.n)
  slots = jnp.where(problem.groups < 0, problem.n + elements, problem.groups)

  def choices(mask: jax.Array) -> jax.Array:
    additions = limited.additions(mask)
    return additions.fits & (additions.representative == elements)

  def add(carry: Any) -> Any:
    mask, rng, fits = carry
    rng, slot_key, tie_key = jax.random.split(rng, 3)
    chances = jax.random.uniform(slot_key, (2 * problem.n,))[slots]
    slot = slots[jnp.argmax(jnp.where(fits, chances, -1.0))]
    order = counts + jax.random.uniform(tie_key, (problem.n,))
    element = jnp.argmin(jnp.where(fits & (slots == slot), order, jnp.inf))
    mask = problem.canonical_form(mask.at[element].set(True))
    return mask, rng, choices(mask)

  begin = problem.canonical_form(problem.required)
  return jax.lax.while_loop(lambda carry: carry[2].any(), add, (begin, rng, choices(begin)))[0]

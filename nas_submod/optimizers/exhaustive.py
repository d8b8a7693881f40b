"""The optimum, by brute force: what every other optimizer is tested against."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.optimizers.base import Info, Optimizer
from nas_submod.optimizers.constructors import constructor
from nas_submod.optimizers.ties import best_in_order
from nas_submod.problem import Problem
from nas_submod.validation import at_least_one

_MOST_ELEMENTS = 24


class BruteForceState(NamedTuple):
  """State of `brute_force`: subset `number` (its bits are the mask) begins the next round."""

  problem: Problem
  number: jax.Array
  started: jax.Array
  best_mask: jax.Array
  best_value: jax.Array


@constructor
def brute_force(batch: int = 256) -> Optimizer:
  """Measures every feasible set of a ground set of at most 24 elements; of ties the first wins.

  Args:
    batch: Subsets looked at in a round; the feasible ones among them are asked.

  Returns:
    The optimizer. Its `init` raises ValueError for a larger ground set.
  """
  at_least_one(batch=batch)

  def init(problem: Problem, rng: jax.Array) -> BruteForceState:
    del rng
    if problem.n > _MOST_ELEMENTS:
      raise ValueError(f"brute_force takes at most {_MOST_ELEMENTS} elements, got {problem.n}")
    return BruteForceState(
      problem,
      number=jnp.int32(0),
      started=jnp.bool_(False),
      best_mask=problem.required,
      best_value=jnp.float32(-jnp.inf),
    )

  def look(problem: Problem, number: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The subsets from `number []` on, and which of them are to be asked."""
    numbers = number + jnp.arange(batch)
    masks = (numbers[:, None] >> jnp.arange(problem.n)) % 2 == 1
    known = (masks == problem.required).all(axis=1)
    return masks, jax.vmap(problem.feasible)(masks) & (numbers < 2**problem.n) & ~known

  def skip(problem: Problem, number: jax.Array) -> jax.Array:
    """The next `number []` whose round asks for something, or the end."""

    def in_vain(number: jax.Array) -> jax.Array:
      return (number < 2**problem.n) & ~look(problem, number)[1].any()

    return jax.lax.while_loop(in_vain, lambda number: number + batch, number)

  def ask(state: BruteForceState) -> tuple[jax.Array, jax.Array]:
    masks, valid = look(state.problem, state.number)
    first = jnp.arange(batch) == 0
    required = jnp.where(first[:, None], state.problem.required, masks)
    return jnp.where(state.started, masks, required), jnp.where(state.started, valid, first)

  def tell(state: BruteForceState, values: jax.Array) -> tuple[BruteForceState, Info]:
    masks, valid = ask(state)
    values = jnp.where(valid, values, -jnp.inf)
    winner = best_in_order(values, state.best_value)
    better = winner >= 0
    state = BruteForceState(
      problem=state.problem,
      number=skip(state.problem, state.number + jnp.where(state.started, batch, 0)),
      started=jnp.bool_(True),
      best_mask=jnp.where(better, masks[winner], state.best_mask),
      best_value=jnp.where(better, values[winner], state.best_value),
    )
    return state, Info(better[None], state.best_mask[None], state.best_value[None])

  def done(state: BruteForceState) -> jax.Array:
    return state.number >= 2**state.problem.n

  def best(state: BruteForceState) -> tuple[jax.Array, jax.Array]:
    return state.best_mask, state.best_value

  return Optimizer(init, ask, tell, done, best)

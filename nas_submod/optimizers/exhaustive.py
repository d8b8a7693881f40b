"""The optimum of a small problem by enumeration of all sets; tests compare optimizers with it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.optimizers.base import Info, Optimizer
from nas_submod.optimizers.constructors import constructor
from nas_submod.optimizers.incumbent import Incumbent, no_incumbent
from nas_submod.problem import Problem
from nas_submod.validation import at_least_one

_MOST_ELEMENTS = 24


class BruteForceState(NamedTuple):
  """State of `brute_force`.

  Attributes:
    number: First subset of the next round; the bits of a number are the mask. `[]` int.
    started: Whether the required set was asked; it comes first. `[]` bool.
    incumbent: The best set so far.
  """

  problem: Problem
  number: jax.Array
  started: jax.Array
  incumbent: Incumbent


@constructor
def brute_force(batch: int = 256) -> Optimizer:
  """Measures every feasible set of at most 24 elements; the first of tied sets wins.

  Args:
    batch: Subsets examined in a round; the feasible ones are asked.

  Returns:
    The optimizer. Its `init` raises ValueError for a larger ground set.
  """
  at_least_one(batch=batch)

  def init(problem: Problem, rng: jax.Array) -> BruteForceState:
    del rng
    if problem.n > _MOST_ELEMENTS:
      raise ValueError(f"brute_force takes at most {_MOST_ELEMENTS} elements, got {problem.n}")
    return BruteForceState(problem, jnp.int32(0), jnp.bool_(False), no_incumbent(problem))

  def look(problem: Problem, number: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the subsets from `number []` on, and which of them to ask."""
    numbers = number + jnp.arange(batch)
    masks = (numbers[:, None] >> jnp.arange(problem.n)) % 2 == 1
    known = (masks == problem.required).all(axis=1)
    return masks, jax.vmap(problem.feasible)(masks) & (numbers < 2**problem.n) & ~known

  def skip(problem: Problem, number: jax.Array) -> jax.Array:
    """Returns the next `number []` whose round asks something, or the end."""

    def asks_nothing(number: jax.Array) -> jax.Array:
      return (number < 2**problem.n) & ~look(problem, number)[1].any()

    return jax.lax.while_loop(asks_nothing, lambda number: number + batch, number)

  def ask(state: BruteForceState) -> tuple[jax.Array, jax.Array]:
    masks, valid = look(state.problem, state.number)
    first = jnp.arange(batch) == 0
    required = jnp.where(first[:, None], state.problem.required, masks)
    return jnp.where(state.started, masks, required), jnp.where(state.started, valid, first)

  def tell(state: BruteForceState, values: jax.Array) -> tuple[BruteForceState, Info]:
    masks, valid = ask(state)
    incumbent, info = state.incumbent.challenged(masks, jnp.where(valid, values, -jnp.inf))
    number = skip(state.problem, state.number + jnp.where(state.started, batch, 0))
    return BruteForceState(state.problem, number, jnp.bool_(True), incumbent), info

  def done(state: BruteForceState) -> jax.Array:
    return state.number >= 2**state.problem.n

  return Optimizer(init, ask, tell, done, lambda state: state.incumbent)

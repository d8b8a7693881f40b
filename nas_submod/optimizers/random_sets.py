"""Random feasible sets, and random search: the baseline that every method must beat."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.equal_sets import same_sets
from nas_submod.optimizers.base import Info, Optimizer
from nas_submod.optimizers.constructors import constructor
from nas_submod.optimizers.incumbent import Incumbent, no_incumbent
from nas_submod.problem import Problem
from nas_submod.validation import at_least_one

_PATIENCE = 200  # known draws in a row after which random search gives up


class RandomState(NamedTuple):
  """State of `random_search` for `E` evaluations in batches of `B`.

  Attributes:
    rng: Key of draw 0; draw i uses `fold_in(rng, i)`, so batches do not change the draws.
    draws: Sets drawn so far. `[]` int.
    idle: Draws since the last new set; drawing ends at `_PATIENCE`. `[]` int.
    asked: Sets asked so far. `[]` int.
    seen: Their canonical masks. `[E + B, n]` bool.
    masks: The sets to ask next. `[B, n]` bool.
    valid: Which of them are new. `[B]` bool.
    incumbent: The best set so far.
  """

  problem: Problem
  rng: jax.Array
  draws: jax.Array
  idle: jax.Array
  asked: jax.Array
  seen: jax.Array
  masks: jax.Array
  valid: jax.Array
  incumbent: Incumbent


@constructor
def random_search(evaluations: int = 1000, batch: int = 1, stop: float = 0.1) -> Optimizer:
  """Measures random feasible sets near the budgets, each distinct set once.

  A draw extends the required set by random elements until none fits; before each addition it ends
  with probability `stop`. For a monotone F this is far stronger than uniform draws, and a smaller
  `stop` is stronger. The first set is the required one.

  Args:
    evaluations: Sets to measure.
    batch: Sets asked in a round; the answer does not depend on it.
    stop: Probability of ending a draw before each addition, in [0, 1).

  Returns:
    The optimizer.
  """
  at_least_one(evaluations=evaluations, batch=batch)
  check_stop(stop)

  def init(problem: Problem, rng: jax.Array) -> RandomState:
    first = jnp.zeros((batch, problem.n), bool).at[0].set(problem.required)
    return RandomState(
      problem=problem,
      rng=rng,
      draws=jnp.int32(0),
      idle=jnp.int32(0),
      asked=jnp.int32(0),
      seen=jnp.zeros((evaluations + batch, problem.n), bool),
      masks=first,
      valid=jnp.arange(batch) == 0,
      incumbent=no_incumbent(problem),
    )

  def ask(state: RandomState) -> tuple[jax.Array, jax.Array]:
    return state.masks, state.valid

  def tell(state: RandomState, values: jax.Array) -> tuple[RandomState, Info]:
    canonical = jax.vmap(state.problem.canonical_form)
    values = jnp.where(state.valid, values, -jnp.inf)
    incumbent, info = state.incumbent.challenged(state.masks, values)
    seen, asked = _append(state.seen, state.asked, canonical(state.masks), state.valid)
    indices = state.draws + jnp.arange(batch)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(state.rng, indices)
    masks = jax.vmap(lambda key: random_set(state.problem, key, stop))(keys)
    new = _is_new(canonical(masks), seen, asked)
    order = jnp.arange(batch)
    last_new = jax.lax.cummax(jnp.where(new, order, -1))
    idle = jnp.where(last_new < 0, state.idle + order + 1, order - last_new)
    given_up = jnp.cumsum(jnp.append(state.idle, idle[:-1]) >= _PATIENCE) > 0
    new &= ~given_up
    new &= asked + jnp.cumsum(new) <= evaluations
    state = RandomState(
      problem=state.problem,
      rng=state.rng,
      draws=state.draws + batch,
      idle=jnp.where(idle.max() >= _PATIENCE, _PATIENCE, idle[-1]),
      asked=asked,
      seen=seen,
      masks=masks,
      valid=new,
      incumbent=incumbent,
    )
    return state, info

  def done(state: RandomState) -> jax.Array:
    given_up = (state.idle >= _PATIENCE) & ~state.valid.any()
    return (state.asked >= evaluations) | given_up

  return Optimizer(init, ask, tell, done, lambda state: state.incumbent)


def check_stop(stop: float) -> None:
  """Raises ValueError if `stop` is not a probability below 1."""
  if not 0 <= stop < 1:
    raise ValueError(f"stop is 0 to below 1, got {stop}")


def random_set(problem: Problem, rng: jax.Array, stop: float) -> jax.Array:
  """Draws a feasible set `[n]`: extends the required set by random elements that fit.

  The draw ends before each addition with probability `stop`; 0 gives maximal sets.
  """

  def unfinished(carry: Any) -> jax.Array:
    _, _, fits, going = carry
    return going & fits.any()

  def add(carry: Any) -> Any:
    mask, rng, fits, _ = carry
    rng, choice, ending = jax.random.split(rng, 3)
    element = jnp.argmax(jnp.where(fits, jax.random.uniform(choice, fits.shape), -1.0))
    mask = mask.at[element].set(True)
    going = jax.random.uniform(ending) >= stop
    return mask, rng, problem.additions(mask).fits, going

  rng, ending = jax.random.split(rng)
  going = jax.random.uniform(ending) >= stop
  start = (problem.required, rng, problem.additions(problem.required).fits, going)
  return jax.lax.while_loop(unfinished, add, start)[0]


def maximal_sets(problem: Problem, rng: jax.Array, count: int) -> jax.Array:
  """Draws random maximal feasible sets. `[count, n]` bool."""
  keys = jax.random.split(rng, count)
  return jax.vmap(random_set, in_axes=(None, 0, None))(problem, keys, 0.0)


def _append(
  seen: jax.Array, count: jax.Array, keys: jax.Array, valid: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Appends the valid rows of `keys [B, n]`; returns all rows and how many are used."""
  target = jnp.where(valid, count + jnp.cumsum(valid) - 1, seen.shape[0])
  return seen.at[target].set(keys, mode="drop"), count + valid.sum()


def _is_new(keys: jax.Array, seen: jax.Array, count: jax.Array) -> jax.Array:
  """Returns which rows of `keys [B, n]` are not in `seen[:count]` and not repeated. `[B]` bool."""
  known = same_sets(keys, seen) & (jnp.arange(seen.shape[0]) < count)
  repeated = same_sets(keys, keys) & jnp.tri(len(keys), k=-1, dtype=bool)
  return ~known.any(axis=1) & ~repeated.any(axis=1)

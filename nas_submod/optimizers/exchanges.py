"""First-improvement local search by small exchanges, from the answer of another optimizer."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.equal_sets import first_of_equal
from nas_submod.optimizers.base import Info, Optimizer, State
from nas_submod.optimizers.constructors import constructor
from nas_submod.optimizers.neighbours import counterparts, same_group, toggle
from nas_submod.optimizers.ties import beats
from nas_submod.problem import Problem
from nas_submod.validation import at_least_one

_WINDOW = 128  # moves whose costs are computed together in the search for feasible ones


class Climb(NamedTuple):
  """A first-improvement climb with `M = n + 2 n^2` moves, of which a round tries `B`.

  Attributes:
    rng: Random key.
    mask: The current set. `[n]` bool.
    value: F(mask). `[]`.
    order: All moves in random order, impossible ones last. `[M]` int.
    possible: Number of possible moves, budgets ignored. `[]` int.
    pointer: Moves of `order` examined so far. `[]` int.
    masks: The neighbours to try next. `[B, n]` bool.
    valid: Which of them exist; none at a local optimum. `[B]` bool.
  """

  rng: jax.Array
  mask: jax.Array
  value: jax.Array
  order: jax.Array
  possible: jax.Array
  pointer: jax.Array
  masks: jax.Array
  valid: jax.Array


class ExchangeState(NamedTuple):
  """State of `exchange`: the inner optimizer, then the climb from its answer.

  Attributes:
    inner: State of the inner optimizer.
    climbing: Whether the inner optimizer is done. `[]` bool.
    climb: The climb.
  """

  problem: Problem
  inner: State
  climbing: jax.Array
  climb: Climb


@constructor
def exchange(inner: Optimizer, batch: int = 1) -> Optimizer:
  """Improves the answer of `inner` by small exchanges until it is a local optimum.

  A move adds an element, removes one, replaces one by another (of its own group or of an empty
  group) or swaps the choices of two groups. Moves that exceed a budget are skipped. The others are
  tried in random order, and the first that improves F is taken. The answer is at least as good as
  that of `inner`. Memory is O(n^2).

  Args:
    inner: The optimizer to start from.
    batch: Moves tried in a round; it does not change which are taken.

  Returns:
    The optimizer.
  """
  at_least_one(batch=batch)
  if inner.replicates is not None:
    raise ValueError("exchange cannot improve an inner optimizer that asks for replicates")

  def init(problem: Problem, rng: jax.Array) -> ExchangeState:
    rng, key = jax.random.split(rng)
    climb = start_climb(problem, key, problem.required, jnp.float32(-jnp.inf), batch)
    return ExchangeState(problem, inner.init(problem, rng), jnp.bool_(False), climb)

  def ask(state: ExchangeState) -> tuple[jax.Array, jax.Array]:
    masks, valid = inner.ask(state.inner)
    rows = max(batch, valid.shape[0])
    climb = state.climb
    return (
      jnp.where(state.climbing, _pad(climb.masks, rows), _pad(masks, rows)),
      jnp.where(state.climbing, _pad(climb.valid, rows), _pad(valid, rows)),
    )

  def tell(state: ExchangeState, values: jax.Array) -> tuple[ExchangeState, Info]:
    return jax.lax.cond(state.climbing, tell_climb, tell_inner, state, values)

  def tell_climb(state: ExchangeState, values: jax.Array) -> tuple[ExchangeState, Info]:
    climb, accepted = climb_step(state.problem, state.climb, values[:batch])
    runs = inner_runs(state)
    info = Info(
      jnp.zeros(runs + 1, bool).at[runs].set(accepted),
      jnp.broadcast_to(climb.mask, (runs + 1, climb.mask.shape[0])),
      jnp.broadcast_to(climb.value, runs + 1),
    )
    return state._replace(climb=climb), info

  def tell_inner(state: ExchangeState, values: jax.Array) -> tuple[ExchangeState, Info]:
    rows = inner.ask(state.inner)[1].shape[0]
    told, info = inner.tell(state.inner, values[:rows])
    mask, value = inner.best(told)
    climbing = inner.done(told)
    climb = jax.lax.cond(
      climbing,
      lambda rng: start_climb(state.problem, rng, mask, value, batch),
      lambda rng: state.climb,
      state.climb.rng,
    )
    info = Info(
      jnp.append(info.accepted, False),
      jnp.concatenate([info.masks, mask[None]]),
      jnp.append(info.values, value),
    )
    return state._replace(inner=told, climbing=climbing, climb=climb), info

  def inner_runs(state: ExchangeState) -> int:
    rows = inner.ask(state.inner)[1].shape[0]
    shapes = jax.eval_shape(inner.tell, state.inner, jax.ShapeDtypeStruct((rows,), jnp.float32))
    return shapes[1].accepted.shape[0]

  def done(state: ExchangeState) -> jax.Array:
    return state.climbing & ~state.climb.valid.any()

  def best(state: ExchangeState) -> tuple[jax.Array, jax.Array]:
    mask, value = inner.best(state.inner)
    return (
      jnp.where(state.climbing, state.climb.mask, mask),
      jnp.where(state.climbing, state.climb.value, value),
    )

  return Optimizer(init, ask, tell, done, best)


def start_climb(
  problem: Problem, rng: jax.Array, mask: jax.Array, value: jax.Array, batch: int
) -> Climb:
  """Starts a climb from the feasible set `mask [n]` of `value []`."""
  rng, key = jax.random.split(rng)
  possible = _possible_moves(problem, mask)
  order = jnp.argsort(jnp.where(possible, jax.random.uniform(key, possible.shape), 2.0))
  climb = Climb(
    rng=rng,
    mask=mask,
    value=value,
    order=order,
    possible=possible.sum(),
    pointer=jnp.int32(0),
    masks=jnp.zeros((batch, problem.n), bool),
    valid=jnp.zeros(batch, bool),
  )
  return _next_neighbours(problem, climb)


def climb_step(problem: Problem, climb: Climb, values: jax.Array) -> tuple[Climb, jax.Array]:
  """Moves to the first improving neighbour, given the values `[B]` of the asked ones.

  Returns:
    The climb with the next neighbours to try, and whether it moved, `[]` bool.
  """
  improves = climb.valid & beats(values, climb.value)
  first = jnp.argmax(improves)
  accepted = improves[first]
  batch = values.shape[0]
  climb = jax.lax.cond(
    accepted,
    lambda: start_climb(problem, climb.rng, climb.masks[first], values[first], batch),
    lambda: _next_neighbours(problem, climb),
  )
  return climb, accepted


def _next_neighbours(problem: Problem, climb: Climb) -> Climb:
  """Finds the next `B` neighbours within the budgets, in the order of the moves."""
  batch, n = climb.masks.shape
  here = problem.canonical_form(climb.mask)

  def seeking(carry: Any) -> jax.Array:
    pointer, found, _ = carry
    return (found < batch) & (pointer < climb.possible)

  def look(carry: Any) -> Any:
    pointer, found, masks = carry
    places = pointer + jnp.arange(_WINDOW)
    moves = climb.order[jnp.minimum(places, climb.order.size - 1)]
    neighbours = jax.vmap(functools.partial(_apply_move, problem, climb.mask))(moves)
    keys = jax.vmap(problem.canonical_form)(neighbours)
    fits = jax.vmap(problem.feasible)(neighbours) & (places < climb.possible)
    fits &= (keys != here).any(axis=1)
    fits &= first_of_equal(keys, fits) == jnp.arange(_WINDOW)
    target = found + jnp.cumsum(fits) - 1
    taken = fits & (target < batch)
    masks = masks.at[jnp.where(taken, target, batch)].set(neighbours, mode="drop")
    filled = found + fits.sum() >= batch
    last = jnp.max(jnp.where(taken, places + 1, pointer))
    return jnp.where(filled, last, pointer + _WINDOW), found + taken.sum(), masks

  start = (climb.pointer, jnp.int32(0), jnp.zeros((batch, n), bool))
  pointer, found, masks = jax.lax.while_loop(seeking, look, start)
  return climb._replace(pointer=pointer, masks=masks, valid=jnp.arange(batch) < found)


def _possible_moves(problem: Problem, mask: jax.Array) -> jax.Array:
  """Returns which moves keep the required elements and the groups. `[n + 2 n^2]` bool.

  Move e < n toggles element e. The pairs (i, j) follow twice: first those that replace i by j,
  then those that swap the choices i and j of two groups.
  """
  n, alike = problem.n, same_group(problem)
  rivals = (alike & mask).sum(axis=1)
  free = mask & ~problem.required
  toggled = jnp.where(mask, ~problem.required, rivals == 0)
  replace = free[:, None] & ~mask[None, :] & (rivals[None, :] - alike == 0)
  counterpart, exists = counterparts(problem)
  swap = free[:, None] & free[None, :] & ~alike & jnp.triu(jnp.ones((n, n), bool), 1)
  swap &= exists & exists.T & (counterpart != jnp.arange(n)[None, :])
  return jnp.concatenate([toggled, replace.ravel(), swap.ravel()])


def _apply_move(problem: Problem, mask: jax.Array, move: jax.Array) -> jax.Array:
  """Applies a possible move, numbered as in `_possible_moves`. `[n]` bool."""
  n = problem.n
  kind = jnp.where(move < n, 0, 1 + (move - n) // (n * n))
  i, j = jnp.divmod((move - n) % (n * n), n)
  counterpart, _ = counterparts(problem)
  emptied = mask.at[i].set(False)
  swapped = emptied.at[j].set(False).at[counterpart[i, j]].set(True).at[counterpart[j, i]].set(True)
  return jnp.select(
    [kind == 0, kind == 1],
    [toggle(problem, mask, move % n), toggle(problem, emptied, j)],
    swapped,
  )


def _pad(rows: jax.Array, count: int) -> jax.Array:
  return jnp.pad(rows, [(0, count - rows.shape[0])] + [(0, 0)] * (rows.ndim - 1))

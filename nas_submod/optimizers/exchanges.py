"""Local search by small exchanges, after another optimizer or from any set."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.optimizers.base import Info, Optimizer, State
from nas_submod.optimizers.constructors import constructor
from nas_submod.optimizers.ties import beats
from nas_submod.problem import Problem, first_of_equal
from nas_submod.validation import at_least_one

_WINDOW = 128  # moves whose costs are computed together when the next feasible ones are sought


class Climb(NamedTuple):
  """A first-improvement climb over `M = n + 2 n^2` moves, `B` tried in a round.

  Attributes:
    rng: Random key.
    mask: Where the climb is. `[n]` bool.
    value: F(mask). `[]`.
    order: All moves in random order, impossible ones last. `[M]` int.
    possible: Moves that are possible but for the budgets. `[]` int.
    pointer: Moves of `order` already looked at. `[]` int.
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
  """State of `exchange`: the inner optimizer, and the climb from its answer once it is done."""

  problem: Problem
  inner: State
  climbing: jax.Array
  climb: Climb


@constructor
def exchange(inner: Optimizer, batch: int = 1) -> Optimizer:
  """Improves the answer of `inner` until no small exchange does: a local optimum.

  Moves: add or remove an element, replace one by another (of the same group or of a free one, so
  that it also moves along), swap what two groups hold. All stay within the budgets. They are tried
  in random order, and the first that improves is taken. The answer is at least that of `inner`.
  Memory is O(n^2).

  Args:
    inner: The optimizer to start from.
    batch: Moves tried in a round; it does not change which are taken.

  Returns:
    The optimizer.
  """
  at_least_one(batch=batch)
  if inner.replicates is not None:
    raise ValueError("exchange takes no inner optimizer that asks for replicates")

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
  """A climb from the feasible set `mask [n]` of known `value []`."""
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
  """Goes to the first improving neighbour, given the values `[B]` of those asked.

  Returns:
    The climb with the next neighbours to try, and whether it went somewhere, `[]` bool.
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
  """Looks along the order for the next `B` neighbours within the budgets."""
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
  """Which moves keep to the required set and the groups, `[n + 2 n^2]` bool.

  Move e < n toggles element e; then come the pairs (i, j) that replace i by j, and those that swap
  the places of i and j.
  """
  groups, n = problem.groups, problem.n
  alike = (groups[:, None] == groups[None, :]) & (groups >= 0)
  rivals = (alike & mask).sum(axis=1)
  free = mask & ~problem.required
  toggle = jnp.where(mask, ~problem.required, rivals == 0)
  replace = free[:, None] & ~mask[None, :] & (rivals[None, :] - alike == 0)
  partner, has_partner = _partners(problem)
  swap = free[:, None] & free[None, :] & ~alike & jnp.triu(jnp.ones((n, n), bool), 1)
  swap &= has_partner & has_partner.T & (partner != jnp.arange(n)[None, :])
  return jnp.concatenate([toggle, replace.ravel(), swap.ravel()])


def _partners(problem: Problem) -> tuple[jax.Array, jax.Array]:
  """For elements i, j the element of j's group that is what i is in its own, and if it exists."""
  groups, n = problem.groups, problem.n
  alike = (groups[:, None] == groups[None, :]) & (groups >= 0)
  rank = (alike & jnp.tri(n, k=-1, dtype=bool)).sum(axis=1)
  place = jnp.where(groups >= 0, groups, n)
  elements = jnp.full((n + 1, n), n).at[place, rank].set(jnp.arange(n)).at[n].set(n)
  partner = elements[place[None, :], rank[:, None]]
  return partner, partner < n


def _apply_move(problem: Problem, mask: jax.Array, move: jax.Array) -> jax.Array:
  n = problem.n
  kind = jnp.where(move < n, 0, 1 + (move - n) // (n * n))
  i, j = jnp.divmod((move - n) % (n * n), n)
  partner, _ = _partners(problem)
  toggled = mask.at[move % n].set(~mask[move % n])
  emptied = mask.at[i].set(False)
  replaced = emptied.at[j].set(True)
  swapped = emptied.at[j].set(False).at[partner[i, j]].set(True).at[partner[j, i]].set(True)
  return jnp.select([kind == 0, kind == 1], [toggled, replaced], swapped)


def _pad(rows: jax.Array, count: int) -> jax.Array:
  return jnp.pad(rows, [(0, count - rows.shape[0])] + [(0, 0)] * (rows.ndim - 1))

"""Greedy on set functions with gains: the same decisions, without a value for each set."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.optimizers import ties
from nas_submod.optimizers.base import Outcome
from nas_submod.optimizers.greedy_family.decision import best_of, is_safe, settle
from nas_submod.optimizers.greedy_family.path import (
  LOWEST,
  GreedyPath,
  Options,
  best_of_path,
  densities,
  is_open,
  measure_required,
  most_promising,
  next_elements,
  open_step,
  per_price,
  price_of,
  start_path,
)
from nas_submod.precision import full_precision
from nas_submod.problem import Problem
from nas_submod.set_functions.base import SetFunction

_LAZY_BATCH = 64  # gains measured together; decisions do not depend on it, 512 made rounds longer


@functools.partial(jax.jit, static_argnames="options")
@full_precision()
def solve_by_gains(
  problem: Problem, function: SetFunction, rng: jax.Array, rules: jax.Array, options: Options
) -> Outcome:
  """Runs greedy by `rules [R, 1 + m]` if `problem.canonical` is None; the best path wins.

  An evaluation in the outcome is one gain of one element.
  """
  keys = jax.random.split(rng, rules.shape[0])
  solve = functools.partial(_solve_all if options.sample is None else _solve_sampled, problem)
  # One rule after the other: under vmap a `cond` computes both branches, so a lazy path would
  # make every measurement of an eager one.
  outcomes = jax.lax.map(lambda path: solve(function, options, *path), (keys, rules))
  # Sums of gains drift by rounding, so the value comes from the set itself.
  values = jax.vmap(function.value)(outcomes.mask).astype(jnp.float32)
  winner = ties.best_of_all(values)
  return Outcome(
    mask=outcomes.mask[winner],
    value=values[winner],
    evaluations=outcomes.evaluations.sum(),
    rounds=outcomes.rounds.max(),
    finite=outcomes.finite.all(),
    answered=outcomes.answered.all(),
  )


class _GainsPath(NamedTuple):
  """A path that measures all candidates, with fewer fields than `GreedyPath` for faster steps.

  Attributes:
    outcome: The outcome so far.
    mask, value, scale: As in `GreedyPath`.
    state: The set function's state.
    bounds: Last measured gain of each element while it fitted, +inf if never; None if eager. `[n]`.
    candidates: Elements that may be added. `[n]` bool.
    rate: Their density per gain. `[n]`.
    left: Number of candidates, 0 once the path is over. `[]` int.
  """

  outcome: Outcome
  mask: jax.Array
  value: jax.Array
  scale: jax.Array
  state: Any
  bounds: jax.Array | None
  candidates: jax.Array
  rate: jax.Array
  left: jax.Array


class _Best(NamedTuple):
  """The best element of a step.

  Attributes:
    gains: Gains, measured or last known. `[n]`.
    element: The best element. `[]` int.
    lower: Lower bound of its density under rounding. `[]`.
    scale: Scale of the path with these gains. `[]`.
    measured: Number of gains measured. `[]` int.
  """

  gains: jax.Array
  element: jax.Array
  lower: jax.Array
  scale: jax.Array
  measured: jax.Array


def _solve_all(
  problem: Problem, function: SetFunction, options: Options, rng: jax.Array, rule: jax.Array
) -> Outcome:
  """Runs one path with all elements as candidates; lazily where that saves work."""
  assert function.init is not None and function.add is not None
  lazy, with_element = options.lazy and function.selective, function.add
  assert not (lazy and options.plus_max), "Greedy+Max needs every value, bounds are not enough"
  del rng

  def candidates_of(mask: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    additions = problem.additions(mask)
    rate = per_price(price_of(additions, rule))
    return additions.fits, rate, additions.fits.sum()

  def step(path: _GainsPath, measure: Callable[[SetFunction, _GainsPath], _Best]) -> _GainsPath:
    """Adds the best element; if it is not accepted, the path ends and the set is not used."""
    gains, element, lower, scale, measured = measure(function, path)
    outcome, after = path.outcome, path.value + gains
    accepted = lower > LOWEST
    added = path.mask.at[element].set(True)
    candidate = element
    if options.plus_max:
      candidate = ties.first_largest(jnp.where(path.candidates, after, -jnp.inf))
    better = ties.beats(after[candidate], outcome.value) & accepted
    outcome = Outcome(
      mask=jnp.where(better, path.mask.at[candidate].set(True), outcome.mask),
      value=jnp.where(better, after[candidate], outcome.value),
      evaluations=outcome.evaluations + measured,
      rounds=outcome.rounds + (path.left > 0),  # perhaps nothing fits in the first step
      finite=outcome.finite & ~jnp.isnan(lower),
    )
    candidates, rate, left = candidates_of(added)
    value = after[element]
    return _GainsPath(
      outcome=outcome,
      mask=added,
      value=value,
      scale=jnp.maximum(scale, jnp.abs(value)),
      state=with_element(path.state, element),
      # Gains of elements that did not fit may be meaningless, so they are not bounds.
      bounds=None if path.bounds is None else jnp.where(path.candidates, gains, path.bounds),
      candidates=candidates,
      rate=rate,
      left=jnp.where(accepted, left, 0),
    )

  start = problem.required
  value = function.value(start).astype(jnp.float32)
  outcome = Outcome(start, value, jnp.int32(1), jnp.int32(1), ~jnp.isnan(value))
  opened = candidates_of(start)
  bounds = jnp.full(problem.n, jnp.inf) if lazy else None
  path = _GainsPath(outcome, start, value, ties.size(value), function.init(start), bounds, *opened)
  path = step(path, functools.partial(_measure_all, first=True))
  measure = _measure_lazily if lazy else _measure_all
  return jax.lax.while_loop(
    lambda path: path.left > 0, functools.partial(step, measure=measure), path
  ).outcome._replace(answered=_is_answered(value))


def _measure_all(function: SetFunction, path: _GainsPath, first: bool = False) -> _Best:
  """Measures every element, so the best one is known."""
  assert function.gains is not None
  gains, scale = _finite(function.gains(path.state)), path.scale
  if first:
    scale = jnp.maximum(scale, jnp.max(jnp.where(path.candidates, gains, 0.0)))
  density = densities(gains, path.rate, scale)
  return _Best(gains, *best_of(density, path.candidates), scale, path.left)


def _measure_lazily(function: SetFunction, path: _GainsPath) -> _Best:
  """Measures the elements of the highest known density, and all if these do not decide."""
  assert function.gain is not None and path.bounds is not None
  size = path.mask.size
  count = min(_LAZY_BATCH, size)
  elements, valid = most_promising(path.bounds, path.rate, path.candidates, count)
  target = jnp.where(valid, elements, size)
  some = _finite(jax.vmap(function.gain, (None, 0))(path.state, elements))
  gains = path.bounds.at[target].set(some, mode="drop")
  seen = jnp.zeros(size, bool).at[target].set(True, mode="drop")
  density = densities(gains, path.rate, path.scale)
  element, lower = best_of(density, seen)
  safe = is_safe(element, lower, density, density, path.candidates & ~seen)
  # One pass over all elements decides at once; more batches could take many rounds.
  best = jax.lax.cond(
    safe,
    lambda: _Best(gains, element, lower, path.scale, jnp.int32(0)),
    lambda: _measure_all(function, path),
  )
  return best._replace(measured=best.measured + valid.sum())


def _solve_sampled(
  problem: Problem, function: SetFunction, options: Options, rng: jax.Array, rule: jax.Array
) -> Outcome:
  """Runs one path with a random sample of the elements as candidates of each step."""
  assert function.init is not None and function.add is not None
  add = function.add
  value = function.value(problem.required).astype(jnp.float32)
  path = measure_required(start_path(problem, rng), value)
  path = open_step(problem, path, rule, jnp.bool_(True), options)
  # A round measures a whole sample, and uses all of it.
  at_once = options._replace(lazy=False, batch=options.sample)

  def play_round(carry):
    path, state, evaluations, rounds, finite = carry
    before, may_add = path.mask, path.candidates
    path, accepted, count = _measure_sample(function, at_once, path, state)
    finite &= ~jnp.isnan(jnp.where(may_add, path.gain, 0.0)).any()
    element = ties.first_true(path.mask & ~before)
    state = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), add(state, element), state)
    path = open_step(problem, path, rule, accepted, options)
    return path, state, evaluations + count, rounds + 1, finite & ~jnp.isnan(path.value)

  state = function.init(problem.required)
  carry = (path, state, jnp.int32(1), jnp.int32(1), ~jnp.isnan(value))
  carry = jax.lax.while_loop(lambda carry: is_open(carry[0]), play_round, carry)
  path, _, evaluations, rounds, finite = carry
  mask, best_value = best_of_path(path)
  return Outcome(mask, best_value, evaluations, rounds, finite, answered=_is_answered(value))


def _measure_sample(
  function: SetFunction, options: Options, path: GreedyPath, state: Any
) -> tuple[GreedyPath, jax.Array, jax.Array]:
  """Measures the candidates and adds the best; also returns whether it did, and their number."""
  assert function.gain is not None
  elements, valid = next_elements(path, options)
  gains = _finite(jax.vmap(function.gain, (None, 0))(state, elements))
  path, accepted = settle(path, elements, valid, gains, path.value + gains, options)
  return path, accepted, valid.sum()


def _is_answered(value: jax.Array) -> jax.Array:
  """Whether gains are defined: over a required set of value -inf they are not."""
  return ~jnp.isneginf(value)


def _finite(gains: jax.Array) -> jax.Array:
  return jnp.clip(gains.astype(jnp.float32), LOWEST, -LOWEST)

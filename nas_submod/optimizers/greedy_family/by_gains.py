"""Greedy runs on set functions that give gains: the same decisions, without a value per set."""

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
  begin,
  best_of_run,
  densities,
  highest,
  is_open,
  next_elements,
  open_run,
  per_price,
  price_of,
  start_run,
)
from nas_submod.precision import full_precision
from nas_submod.problem import Problem
from nas_submod.set_functions.base import SetFunction

_LAZY_BATCH = 64  # gains measured together


@functools.partial(jax.jit, static_argnames="options")
@full_precision()
def solve_by_gains(
  problem: Problem, function: SetFunction, rng: jax.Array, rules: jax.Array, options: Options
) -> Outcome:
  """Greedy runs by `rules [R, 1 + m]`; the best wins.

  Args:
    problem: What may be chosen, without a `canonical` function.
    function: A function that gives gains.
    rng: Random key.
    rules: Offset and weights of the price of an element, for each run.
    options: How the runs go.

  Returns:
    The outcome; an evaluation is one gain of one element.
  """
  keys = jax.random.split(rng, rules.shape[0])
  of_all = options.sample is None
  solve = functools.partial(_solve_of_all if of_all else _solve_of_samples, problem, function)
  # One rule after the other: vmapped, a lazy run would make every measurement of an eager one.
  outcomes = jax.lax.map(lambda run: solve(options, *run), (keys, rules))
  # Sums of gains drift by their rounding: the value of a set is what the function says it is.
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


class _Path(NamedTuple):
  """A run that looks at all elements, with fewer fields than a `GreedyPath`: faster steps.

  `bounds [n]` are the gains last measured of what fitted then, +inf if never; None if none is used
  again. `fits [n]` and `rate [n]` are of what may be added, `left []` is how many, 0 where the run
  is over. The others are as in `Outcome` and `GreedyPath`.
  """

  outcome: Outcome
  mask: jax.Array
  value: jax.Array
  scale: jax.Array
  state: Any
  bounds: jax.Array | None
  fits: jax.Array
  rate: jax.Array
  left: jax.Array


class _Choice(NamedTuple):
  """Gains `[n]`; the best element, the least that the highest density is, scale, and count `[]`."""

  gains: jax.Array
  element: jax.Array
  least: jax.Array
  scale: jax.Array
  measured: jax.Array


def _solve_of_all(
  problem: Problem, function: SetFunction, options: Options, rng: jax.Array, rule: jax.Array
) -> Outcome:
  """All elements are looked at in every step; if lazy and that saves anything, by bounds first."""
  assert function.init is not None and function.add is not None
  lazy, with_element = options.lazy and function.selective, function.add
  assert not (lazy and options.best_of_all), "bounds are no values"
  del rng

  def openings(mask: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    additions = problem.additions(mask)
    rate = per_price(price_of(additions, rule))
    return additions.fits, rate, additions.fits.sum()

  def step(path: _Path, measure: Callable[[SetFunction, _Path], _Choice]) -> _Path:
    """Adds the best; if none is accepted the path ends, and what it then holds is not looked at."""
    gains, element, least, scale, measured = measure(function, path)
    outcome, after = path.outcome, path.value + gains
    accepted = least > LOWEST
    added = path.mask.at[element].set(True)
    candidate = element
    if options.best_of_all:
      candidate = ties.first_largest(jnp.where(path.fits, after, -jnp.inf))
    better = ties.beats(after[candidate], outcome.value) & accepted
    outcome = Outcome(
      mask=jnp.where(better, path.mask.at[candidate].set(True), outcome.mask),
      value=jnp.where(better, after[candidate], outcome.value),
      evaluations=outcome.evaluations + measured,
      rounds=outcome.rounds + (path.left > 0),  # nothing may fit in the first step
      finite=outcome.finite & ~jnp.isnan(least),
    )
    fits, rate, left = openings(added)
    value = after[element]
    return _Path(
      outcome=outcome,
      mask=added,
      value=value,
      scale=jnp.maximum(scale, jnp.abs(value)),
      state=with_element(path.state, element),
      bounds=None if path.bounds is None else jnp.where(path.fits, gains, path.bounds),
      fits=fits,
      rate=rate,
      left=jnp.where(accepted, left, 0),
    )

  start = problem.required
  value = function.value(start).astype(jnp.float32)
  outcome = Outcome(start, value, jnp.int32(1), jnp.int32(1), ~jnp.isnan(value))
  opened = openings(start)
  bounds = jnp.full(problem.n, jnp.inf) if lazy else None
  path = _Path(outcome, start, value, ties.size(value), function.init(start), bounds, *opened)
  path = step(path, functools.partial(_measure_all, first=True))
  measure = _measure_lazily if lazy else _measure_all
  return jax.lax.while_loop(
    lambda path: path.left > 0, functools.partial(step, measure=measure), path
  ).outcome._replace(answered=_is_answered(value))


def _measure_all(function: SetFunction, path: _Path, first: bool = False) -> _Choice:
  """Measures every element: all that fits is fresh, so that nothing else is looked at."""
  assert function.gains is not None
  gains, scale = _finite(function.gains(path.state)), path.scale
  if first:
    scale = jnp.maximum(scale, jnp.max(jnp.where(path.fits, gains, 0.0)))
  density = densities(gains, path.rate, scale)
  return _Choice(gains, *best_of(density, path.fits), scale, path.left)


def _measure_lazily(function: SetFunction, path: _Path) -> _Choice:
  """Measures the elements of the highest known density, and all if those do not decide."""
  assert function.gain is not None and path.bounds is not None
  size = path.mask.size
  elements, valid = highest(path.bounds, path.rate, path.fits, min(_LAZY_BATCH, size))
  target = jnp.where(valid, elements, size)
  some = _finite(jax.vmap(function.gain, (None, 0))(path.state, elements))
  gains = path.bounds.at[target].set(some, mode="drop")
  seen = jnp.zeros(size, bool).at[target].set(True, mode="drop")
  density = densities(gains, path.rate, path.scale)
  element, least = best_of(density, seen)
  safe = is_safe(element, least, density, density, path.fits & ~seen)
  # What the most promising elements do not decide, a pass over all decides at once.
  found = jax.lax.cond(
    safe,
    lambda: _Choice(gains, element, least, path.scale, jnp.int32(0)),
    lambda: _measure_all(function, path),
  )
  return found._replace(measured=found.measured + valid.sum())


def _solve_of_samples(
  problem: Problem, function: SetFunction, options: Options, rng: jax.Array, rule: jax.Array
) -> Outcome:
  """A random sample of the elements is looked at in every step."""
  assert function.init is not None and function.add is not None
  add = function.add
  value = function.value(problem.required).astype(jnp.float32)
  run = start_run(problem, rng)
  run = begin(run, value)
  run = open_run(problem, run, rule, jnp.bool_(True), options)
  # A round measures a whole sample, and uses all of it.
  at_once = options._replace(lazy=False, batch=options.sample)

  def play_round(carry):
    run, state, evaluations, rounds, finite = carry
    before, may_add = run.mask, run.open
    run, accepted, count = _measure_sample(function, at_once, run, state)
    finite &= ~jnp.isnan(jnp.where(may_add, run.gain, 0.0)).any()
    element = ties.first_true(run.mask & ~before)
    state = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), add(state, element), state)
    run = open_run(problem, run, rule, accepted, options)
    return run, state, evaluations + count, rounds + 1, finite & ~jnp.isnan(run.value)

  state = function.init(problem.required)
  carry = (run, state, jnp.int32(1), jnp.int32(1), ~jnp.isnan(value))
  carry = jax.lax.while_loop(lambda carry: is_open(carry[0]), play_round, carry)
  run, _, evaluations, rounds, finite = carry
  mask, best_value = best_of_run(run)
  return Outcome(mask, best_value, evaluations, rounds, finite, answered=_is_answered(value))


def _measure_sample(
  function: SetFunction, options: Options, run: GreedyPath, state: Any
) -> tuple[GreedyPath, jax.Array, jax.Array]:
  """Measures what is open, and adds the best."""
  assert function.gain is not None
  elements, valid = next_elements(run, options)
  gains = _finite(jax.vmap(function.gain, (None, 0))(state, elements))
  run, accepted = settle(run, elements, valid, gains, run.value + gains, options)
  return run, accepted, valid.sum()


def _is_answered(value: jax.Array) -> jax.Array:
  """Whether gains say something: over a required set of -inf they do not."""
  return ~jnp.isneginf(value)


def _finite(gains: jax.Array) -> jax.Array:
  return jnp.clip(gains.astype(jnp.float32), LOWEST, -LOWEST)

"""Greedy runs on set functions that give gains: the same decisions, without a value per set."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from nas_submod.optimizers import greedy_run, greedy_step, rounding
from nas_submod.optimizers.base import Outcome
from nas_submod.optimizers.greedy_run import Options, Run
from nas_submod.problem import Problem
from nas_submod.set_function import SetFunction

_LAZY_BATCH = 64  # gains measured together


@functools.partial(jax.jit, static_argnames="options")
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
  eager = not options.lazy and options.sample is None
  solve = functools.partial(_solve_eagerly if eager else _solve_one, problem, function, options)
  # One rule after the other: vmapped, a lazy run would make every measurement of an eager one.
  outcomes = jax.lax.map(lambda run: solve(*run), (keys, rules))
  # Sums of gains drift by their rounding: the value of a set is what the function says it is.
  values = jax.vmap(function.value)(outcomes.mask).astype(jnp.float32)
  winner = rounding.best_of_all(values)
  return Outcome(
    mask=outcomes.mask[winner],
    value=values[winner],
    evaluations=outcomes.evaluations.sum(),
    rounds=outcomes.rounds.max(),
    clean=outcomes.clean.all(),
    known=~jnp.isneginf(function.value(problem.required)),  # a gain over -inf says nothing
  )


def _solve_eagerly(
  problem: Problem, function: SetFunction, options: Options, rng: jax.Array, rule: jax.Array
) -> Outcome:
  """Every gain in every step: all that is open is fresh, so that a step needs no more than it."""
  assert function.init is not None and function.commit is not None
  assert function.marginals is not None
  marginals, commit = function.marginals, function.commit
  del rng

  def openings(mask):
    additions = problem.additions(mask)
    price = rule[0] + jnp.sum(additions.cost * rule[1:], axis=-1)
    return additions.fits, greedy_run.per_price(price), additions.fits.sum()

  def add(carry):
    outcome, mask, value, scale, cover, (fits, rate, count) = carry
    gains = _finite(marginals(cover))
    after = value + gains
    density = greedy_run.densities(gains, rate, scale)
    least = jnp.max(jnp.where(fits, density.least, -jnp.inf))  # NaN if a gain is.
    element = rounding.first_true(fits & (density.most >= least))
    accepted = least > greedy_run.LOWEST
    added = mask.at[element].set(True)
    candidate = element
    if options.best_of_all:
      candidate = rounding.first_largest(jnp.where(fits, after, -jnp.inf))
    better = rounding.beats(after[candidate], outcome.value) & accepted
    outcome = Outcome(
      mask=jnp.where(better, mask.at[candidate].set(True), outcome.mask),
      value=jnp.where(better, after[candidate], outcome.value),
      evaluations=outcome.evaluations + count,
      rounds=outcome.rounds + 1,
      clean=outcome.clean & ~jnp.isnan(least),
    )
    fits, rate, count = openings(added)
    opened = fits, rate, jnp.where(accepted, count, 0)
    value, cover = after[element], commit(cover, element)
    return outcome, added, value, jnp.maximum(scale, jnp.abs(value)), cover, opened

  start = problem.required
  value = function.value(start).astype(jnp.float32)
  outcome = Outcome(start, value, jnp.int32(1), jnp.int32(1), ~jnp.isnan(value))
  carry = (outcome, start, value, rounding.size(value), function.init(start), openings(start))
  return jax.lax.while_loop(lambda carry: carry[-1][-1] > 0, add, carry)[0]


def _solve_one(
  problem: Problem, function: SetFunction, options: Options, rng: jax.Array, rule: jax.Array
) -> Outcome:
  assert function.init is not None and function.commit is not None
  commit = function.commit
  value = function.value(problem.required).astype(jnp.float32)
  run = greedy_run.start_run(problem, rng)
  run = greedy_run.begin(run, value)
  run = greedy_run.open_run(problem, run, rule, jnp.bool_(True), options)
  cover = function.init(problem.required)

  at_once = options._replace(lazy=False)  # all gains that are measured together are used
  measure_all = functools.partial(_measure_all, function, at_once)
  measure_next = functools.partial(_measure_next, function, at_once)

  def measure_lazily(run, cover):
    # What the most promising elements do not decide, a pass over all decides at once.
    return jax.lax.cond(run.fresh.any(), measure_all, measure_next, run, cover)

  def play_round(carry, measure=measure_lazily if options.lazy else measure_next):
    run, cover, evaluations, rounds, clean = carry
    before, may_add = run.mask, run.open
    run, accepted, count = measure(run, cover)
    clean &= ~jnp.isnan(jnp.where(may_add, run.gain, 0.0)).any()
    element = rounding.first_true(run.mask & ~before)
    cover = jax.tree.map(
      lambda new, old: jnp.where(accepted, new, old), commit(cover, element), cover
    )
    run = greedy_run.open_run(problem, run, rule, accepted, options)
    return run, cover, evaluations + count, rounds + 1, clean & ~jnp.isnan(run.value)

  carry = (run, cover, jnp.int32(1), jnp.int32(1), ~jnp.isnan(value))
  if options.sample is None:
    carry = play_round(carry, measure_all)  # the first step needs every gain, lazy or not
  carry = jax.lax.while_loop(lambda carry: greedy_run.is_open(carry[0]), play_round, carry)
  run, _, evaluations, rounds, clean = carry
  mask, best_value = greedy_run.best_of_run(run)
  return Outcome(mask, best_value, evaluations, rounds, clean)


def _measure_all(
  function: SetFunction, options: Options, run: Run, cover: Any
) -> tuple[Run, jax.Array, jax.Array]:
  """Measures every element that is open, and adds the best."""
  assert function.marginals is not None
  gains = _finite(function.marginals(cover))
  after = run.value + gains
  count = run.open.sum()
  run = run._replace(gain=gains, after=after, fresh=run.open)
  nothing_asked = (jnp.zeros(1, jnp.int32), jnp.zeros(1, bool), jnp.zeros(1), jnp.zeros(1))
  run, accepted = greedy_step.settle(run, *nothing_asked, options)
  return run, accepted, count


def _measure_next(
  function: SetFunction, options: Options, run: Run, cover: Any
) -> tuple[Run, jax.Array, jax.Array]:
  """Measures the elements of the highest known density, and adds one if that decides."""
  assert function.marginal is not None
  batch = min(options.sample or _LAZY_BATCH, run.mask.size)
  elements, valid = greedy_run.next_elements(run, batch)
  gains = _finite(jax.vmap(function.marginal, (None, 0))(cover, elements))
  run, accepted = greedy_step.settle(run, elements, valid, gains, run.value + gains, options)
  return run, accepted, valid.sum()


def _finite(gains: jax.Array) -> jax.Array:
  return jnp.clip(gains.astype(jnp.float32), greedy_run.LOWEST, -greedy_run.LOWEST)

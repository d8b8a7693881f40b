"""The two drivers of an optimizer: a function on the host, or one compiled program."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.optimizers.base import Info, Optimizer, Outcome, Result, State, Step
from nas_submod.optimizers.certificate import certify_at, certify_measured
from nas_submod.optimizers.measurements import UNKNOWN, Measurements
from nas_submod.problem import Problem
from nas_submod.set_functions import SetFunction

Callback = Callable[[int, Info, State], None]
_NO_LIMIT = np.iinfo(np.int32).max


def maximize(
  problem: Problem,
  value: Callable[..., Any],
  optimizer: Optimizer,
  max_evaluations: int | None = None,
  seed: int = 0,
  traceable: bool = False,
  callback: Callback | None = None,
) -> Result:
  """Maximises `value` over the feasible sets of `problem`.

  Args:
    problem: What may be chosen.
    value: On the host, `masks [K, n] -> values [K]` or `(values, standard_errors)`, called once a
      round at most. Every row is one measurement: a set is there more than once, or again later,
      only if the optimizer wants replicates. If traceable, an exact `mask [n] -> value []`,
      also of sets beyond the budgets (for the upper bound). Values are compared as float32: where
      gains are below 1e-7 of the values, subtract a constant.
    optimizer: Any optimizer of `nas_submod.optimizers`.
    max_evaluations: Stop after so many measurements; None for as many as the optimizer wants.
    seed: Seed of all that is random in the optimizer.
    traceable: Whether `value` is traceable: then the whole run is one compiled program.
    callback: Called after each round with `(round, info, state)`; on the host only.

  Returns:
    The best set found and how it was found.

  Raises:
    ValueError: If a value is NaN or infinite, or an argument is not allowed.
  """
  if not isinstance(optimizer, Optimizer):
    raise ValueError(f"optimizer must be an Optimizer, such as rcas(), got {optimizer!r}")
  if max_evaluations is not None and max_evaluations < 1:
    raise ValueError(f"max_evaluations must be at least 1, got {max_evaluations}")
  rng = jax.random.key(seed)
  limit = _NO_LIMIT if max_evaluations is None else max_evaluations
  if not traceable:
    return _maximize_on_host(problem, value, optimizer, limit, rng, callback)
  if callback is not None:
    raise ValueError("callback needs traceable=False: a compiled program does not call back")
  if optimizer.solve is None or max_evaluations is not None:
    outcome = drive(optimizer, problem, value, rng, limit)
  else:
    outcome = optimizer.solve(problem, value, rng)
  if not outcome.clean:
    raise ValueError("value returned NaN for a feasible set")
  mask = np.asarray(outcome.mask)
  upper_bound, violations = certify_at(problem, value, mask)
  return Result(
    mask=mask,
    value=float(outcome.value),
    standard_error=0.0,
    cost=np.asarray(problem.cost(mask)),
    evaluations=int(outcome.evaluations),
    rounds=int(outcome.rounds),
    trace=(),
    upper_bound=max(upper_bound, float(outcome.value)),
    violations=violations,
  )


def drive(
  optimizer: Optimizer,
  problem: Problem,
  value: Callable[..., Any],
  rng: jax.Array,
  limit: Any = _NO_LIMIT,
) -> Outcome:
  """Runs the optimizer as one program; may be called under `jit`, `vmap` and `pmap`.

  Args:
    optimizer: The optimizer.
    problem: What may be chosen.
    value: `mask [n] -> value []`; compiled again for another function object. Arrays in a
      `jax.tree_util.Partial` are arguments of the program, not constants of it.
    rng: Random key.
    limit: Sets that may be asked, `[]` int.

  Returns:
    The outcome.
  """
  if not isinstance(value, jax.tree_util.Partial | SetFunction):
    value = jax.tree_util.Partial(value)
  return _drive(optimizer._replace(solve=None), problem, value, rng, limit)


@functools.partial(jax.jit, static_argnums=0)
def _drive(optimizer, problem, value, rng, limit):
  def unfinished(carry):
    state, evaluations, _, _ = carry
    return ~optimizer.done(state) & (evaluations < limit)

  def play_round(carry):
    state, evaluations, rounds, clean = carry
    masks, valid = optimizer.ask(state)
    asked = valid & (evaluations + jnp.cumsum(valid) <= limit)
    measured = jax.vmap(value)(masks).astype(jnp.float32)
    chex.assert_shape(measured, valid.shape)
    answers = jnp.where(asked & ~jnp.isnan(measured), measured, -jnp.inf)
    exact = () if optimizer.replicates is None else (jnp.zeros_like(answers),)
    state, _ = optimizer.tell(state, answers, *exact)
    clean &= ~jnp.any(asked & jnp.isnan(measured))
    return state, evaluations + asked.sum(), rounds + 1, clean

  carry = (optimizer.init(problem, rng), jnp.int32(0), jnp.int32(0), jnp.bool_(True))
  state, evaluations, rounds, clean = jax.lax.while_loop(unfinished, play_round, carry)
  mask, best_value = optimizer.best(state)
  return Outcome(mask, best_value, evaluations, rounds, clean)


class _Question(NamedTuple):
  masks: jax.Array
  valid: jax.Array
  canonical: jax.Array
  replicates: jax.Array
  done: jax.Array


def _maximize_on_host(
  problem: Problem,
  value: Callable[..., Any],
  optimizer: Optimizer,
  limit: int,
  rng: jax.Array,
  callback: Callback | None,
) -> Result:
  start, advance, best = _compiled(optimizer)
  measurements = Measurements(value)
  trace: list[Step] = []
  rounds = 0
  cut = False
  state, question = start(problem, rng)
  question = jax.device_get(question)
  while not question.done and not cut:
    rows = np.flatnonzero(question.valid)
    keys = [key.tobytes() for key in np.packbits(question.canonical[rows], axis=1)]
    replicates = question.replicates[rows]
    cut = measurements.measure(question.masks[rows], keys, replicates, limit - measurements.total)
    answers = np.tile(np.array(UNKNOWN, np.float32), (question.valid.size, 1))
    for row, key, count in zip(rows, keys, replicates):
      answers[row] = measurements.pooled(key, count)
    state, info, costs, question = advance(problem, state, *answers.T)
    info, costs, question = jax.device_get((info, costs, question))
    ties = np.zeros_like(info.accepted) if info.ties is None else info.ties
    for run in np.flatnonzero(info.accepted):
      reached = info.masks[run], float(info.values[run]), costs[run]
      trace.append(Step(int(run), *reached, measurements.total, bool(ties[run])))
    if callback is not None:
      callback(rounds, info, state)
    rounds += 1
  mask, best_value, cost, key = jax.device_get(best(problem, state))
  pooled = measurements.pooled(np.packbits(key).tobytes())
  best_value = float(best_value) if pooled is UNKNOWN else pooled.value
  upper_bound, violations = certify_measured(problem, measurements)
  return Result(
    mask=mask,
    value=best_value,
    standard_error=pooled.standard_error,
    cost=cost,
    evaluations=measurements.total,
    rounds=rounds,
    trace=tuple(trace),
    upper_bound=max(upper_bound, best_value),
    violations=violations,
  )


@functools.cache
def _compiled(optimizer: Optimizer) -> tuple[Callable[..., Any], ...]:
  """The functions of an optimizer, jitted once: start, one whole round, best."""

  def question(problem, state):
    masks, valid = optimizer.ask(state)
    chex.assert_shape(masks, (valid.shape[0], problem.n))
    once = jnp.ones(valid.shape, jnp.int32)
    replicates = once if optimizer.replicates is None else optimizer.replicates(state)
    keys = jax.vmap(problem.canonical_form)(masks)
    return _Question(masks, valid, keys, replicates, optimizer.done(state))

  def start(problem, rng):
    state = optimizer.init(problem, rng)
    return state, question(problem, state)

  def advance(problem, state, values, errors):
    if optimizer.replicates is None:
      state, info = optimizer.tell(state, values)
    else:
      state, info = optimizer.tell(state, values, errors)
    return state, info, jax.vmap(problem.cost)(info.masks), question(problem, state)

  def best(problem, state):
    mask, value = optimizer.best(state)
    return mask, value, problem.cost(mask), problem.canonical_form(mask)

  return jax.jit(start), jax.jit(advance), jax.jit(best)

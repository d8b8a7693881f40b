"""The two drivers of an optimizer: a function on the host, or one compiled program."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.optimizers import checks
from nas_submod.optimizers.arguments import at_least_one, checked
from nas_submod.optimizers.base import Info, Optimizer, Outcome, Result, State, Step
from nas_submod.optimizers.certificate import certify_at, certify_measured
from nas_submod.optimizers.measurements import UNKNOWN, Measurements
from nas_submod.problem import Problem
from nas_submod.set_function import SetFunction

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
    ValueError: If a value is NaN or +inf, an argument is not allowed, or the optimizer breaks its
      protocol.
  """
  checked("optimizer", optimizer, Optimizer)
  if not isinstance(problem, Problem):
    raise ValueError(f"problem must be a Problem, got {problem!r}")
  checks.check_value(problem, value, traceable)
  limit = checked("max_evaluations", max_evaluations, int | None)
  if limit is not None:
    at_least_one(max_evaluations=limit)
  rng = jax.random.key(checked("seed", seed, int))
  if callback is not None and not callable(callback):
    raise ValueError(f"callback must be a function or None, got {callback!r}")
  at_most = _NO_LIMIT if limit is None else min(limit, _NO_LIMIT)
  if not traceable:
    return _maximize_on_host(problem, value, optimizer, at_most, rng, callback)
  if callback is not None:
    raise ValueError("callback needs traceable=False: a compiled program does not call back")
  if optimizer.solve is None or limit is not None:
    outcome = drive(optimizer, problem, value, rng, at_most)
  else:
    outcome = optimizer.solve(problem, value, rng)
  if not np.all(outcome.feasible):
    raise checks.infeasible("asked for")
  if not outcome.clean or np.isnan(outcome.value) or outcome.value == np.inf:
    raise ValueError("value returned NaN or infinity for a feasible set")
  if not outcome.evaluations:
    raise ValueError("the optimizer asked for no set")
  mask = np.asarray(outcome.mask)
  feasible, cost = jax.device_get(_judge(problem, mask))
  if not feasible:
    raise checks.infeasible("answered", mask)
  upper_bound, violations = certify_at(problem, value, mask)
  return Result(
    mask=mask,
    value=float(outcome.value),
    standard_error=0.0,
    cost=cost,
    evaluations=int(outcome.evaluations),
    rounds=int(outcome.rounds),
    trace=(),
    upper_bound=max(upper_bound, float(outcome.value)),
    violations=violations,
  )


@jax.jit
def _judge(problem, mask):
  return problem.feasible(mask), problem.cost(mask)


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
    state, evaluations, *_ = carry
    return ~optimizer.done(state) & (evaluations < limit)

  def play_round(carry):
    state, evaluations, rounds, clean, feasible = carry
    masks, valid = checks.ask(optimizer, problem, state)
    asked = valid & (evaluations + jnp.cumsum(valid) <= limit)
    measured = jax.vmap(value)(masks).astype(jnp.float32)
    fine = measured < jnp.inf  # NaN is not
    answers = jnp.where(asked & fine, measured, -jnp.inf)
    exact = () if optimizer.replicates is None else (jnp.zeros_like(answers),)
    state, _ = checks.tell(optimizer, state, answers, *exact)
    clean &= ~jnp.any(asked & ~fine)
    feasible &= ~jnp.any(valid & ~jax.vmap(problem.feasible)(masks))
    return state, evaluations + asked.sum(), rounds + 1, clean, feasible

  state, nothing, yes = optimizer.init(problem, rng), jnp.int32(0), jnp.bool_(True)
  carry = (state, nothing, nothing, yes, yes)
  state, *counted = jax.lax.while_loop(unfinished, play_round, carry)
  return Outcome(*checks.best(optimizer, problem, state), *counted)


class _Question(NamedTuple):
  masks: jax.Array
  valid: jax.Array
  feasible: jax.Array
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
    for row in rows[~question.feasible[rows]]:
      raise checks.infeasible("asked for", question.masks[row])
    keys = [key.tobytes() for key in np.packbits(question.canonical[rows], axis=1)]
    replicates = question.replicates[rows]
    cut = measurements.measure(question.masks[rows], keys, replicates, limit - measurements.total)
    answers = np.tile(np.array(UNKNOWN, np.float32), (question.valid.size, 1))
    for row, key, count in zip(rows, keys, replicates):
      answers[row] = measurements.pooled(key, count)
    state, info, costs, question = advance(problem, state, *answers.T)
    info, costs, question = jax.device_get((info, costs, question))
    ties = np.zeros_like(info.accepted) if info.ties is None else info.ties
    for run in np.flatnonzero(info.accepted & ~(cut & np.isneginf(info.values))):
      reached = info.masks[run], float(info.values[run]), costs[run]
      trace.append(Step(int(run), *reached, measurements.total, bool(ties[run])))
    if callback is not None:
      callback(rounds, info, state)
    rounds += 1
  if not measurements.asked:
    raise ValueError("the optimizer asked for no set")
  mask, best_value, feasible, cost, key = jax.device_get(best(problem, state))
  if not feasible:
    raise checks.infeasible("answered", mask)
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
    masks, valid = checks.ask(optimizer, problem, state)
    feasible = jax.vmap(problem.feasible)(masks)
    once = jnp.ones(valid.shape, jnp.int32)
    replicates = once if optimizer.replicates is None else optimizer.replicates(state)
    keys = jax.vmap(problem.canonical_form)(masks)
    return _Question(masks, valid, feasible, keys, replicates, optimizer.done(state))

  def start(problem, rng):
    state = optimizer.init(problem, rng)
    return state, question(problem, state)

  def advance(problem, state, values, errors):
    answers = (values,) if optimizer.replicates is None else (values, errors)
    state, info = checks.tell(optimizer, state, *answers)
    return state, info, jax.vmap(problem.cost)(info.masks), question(problem, state)

  def best(problem, state):
    mask, value = checks.best(optimizer, problem, state)
    return mask, value, *_judge(problem, mask), problem.canonical_form(mask)

  return jax.jit(start), jax.jit(advance), jax.jit(best)

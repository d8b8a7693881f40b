"""The driver for a set function on the host: a compiled program asks, Python measures."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.optimizers.base import Callback, Optimizer, Result, Step, steps_of
from nas_submod.optimizers.certificate.bound import certify_measured
from nas_submod.optimizers.drivers import checks
from nas_submod.optimizers.measurements import UNKNOWN, UNMEASURED, Measurements
from nas_submod.precision import full_precision
from nas_submod.problem import Problem


class _Question(NamedTuple):
  """The `B` sets that a state asks for; `idle` counts rounds in a row that asked for nothing."""

  masks: jax.Array
  valid: jax.Array
  feasible: jax.Array
  canonical: jax.Array
  replicates: jax.Array
  done: jax.Array
  idle: jax.Array


def maximize_on_host(
  problem: Problem,
  value: Callable[..., Any],
  optimizer: Optimizer,
  limit: int,
  rng: jax.Array,
  callback: Callback | None,
) -> Result:
  """`maximize` for a `value` on the host; at most `limit` measurements are made."""
  start, advance, best = _compiled(optimizer)
  measurements = Measurements(value)
  trace: list[Step] = []
  rounds = 0
  cut = False
  state, question = start(problem, rng)
  question = jax.device_get(question)
  while not question.done and not cut:
    rows = np.flatnonzero(question.valid)
    infeasible = rows[~question.feasible[rows]]
    if infeasible.size:
      raise checks.infeasible("asked for", question.masks[infeasible[0]])
    keys = [key.tobytes() for key in np.packbits(question.canonical[rows], axis=1)]
    replicates = question.replicates[rows]
    cut = measurements.measure(question.masks[rows], keys, replicates, limit - measurements.total)
    answers = np.tile(np.array(UNKNOWN, np.float32), (question.valid.size, 1))
    for row, key, count in zip(rows, keys, replicates):
      answers[row] = measurements.pooled(key, count) if key in measurements else UNMEASURED
    state, info, (costs, feasible), question = advance(problem, state, question, *answers.T)
    info, costs, feasible, question = jax.device_get((info, costs, feasible, question))
    # A search trains these sets again.
    wrong = np.flatnonzero(info.accepted & np.isfinite(info.values) & ~feasible)
    if wrong.size:
      raise checks.infeasible("moved to", info.masks[wrong[0]])
    # In a round cut by the limit, runs may step to sets that were not measured.
    steps = steps_of(info, costs, measurements.total)
    trace += [step for step in steps if not (cut and np.isneginf(step.value))]
    if callback is not None:
      callback(rounds, info, state)
    if checks.is_stuck(question.idle) and not question.done:
      raise checks.stuck()
    rounds += 1
  if not measurements.asked:
    raise checks.asks_nothing()
  if measurements.differences_are_lost():
    warnings.warn(
      "the values of F differ by less than a millionth of the largest one, or are below 1e-38, so "
      "they count as equal: subtract a constant from F, or scale it",
      stacklevel=3,
    )
  mask, best_value, feasible, cost, key = jax.device_get(best(problem, state))
  if not feasible:
    raise checks.infeasible("answered", mask)
  checks.check_cost(mask, cost)
  key = np.packbits(key).tobytes()
  if np.isfinite(best_value) and key not in measurements.asked.values():
    raise ValueError(
      f"the optimizer answered a set that it never asked for, of elements "
      f"{np.flatnonzero(mask).tolist()}"
    )
  # The optimizer may have seen fewer measurements of its answer than there are now.
  pooled = measurements.pooled(key)
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
    ties=measurements.ties(key),
    done=not cut,
  )


@functools.cache
def _compiled(optimizer: Optimizer) -> tuple[Callable[..., Any], ...]:
  """The optimizer's compiled functions: start, advance (one round), best."""

  def are_feasible(problem, masks):
    return jax.vmap(functools.partial(checks.is_feasible, problem))(masks)

  def question(problem, state, idle):
    masks, valid = checks.ask(optimizer, problem, state)
    once = jnp.ones(valid.shape, jnp.int32)
    return _Question(
      masks=masks,
      valid=valid,
      feasible=are_feasible(problem, masks),
      canonical=jax.vmap(problem.canonical_form)(masks),
      replicates=once if optimizer.replicates is None else optimizer.replicates(state),
      done=checks.done(optimizer, state),
      idle=idle,
    )

  def start(problem, rng):
    state = optimizer.init(problem, rng)
    return state, question(problem, state, jnp.int32(0))

  def advance(problem, before, asked, values, errors):
    answers = (values,) if optimizer.replicates is None else (values, errors)
    state, info = checks.tell(optimizer, problem, before, *answers)
    idle = checks.idle_rounds(asked.idle, asked.valid, before, state)
    moved_to = jax.vmap(problem.cost)(info.masks), are_feasible(problem, info.masks)
    return state, info, moved_to, question(problem, state, idle)

  def best(problem, state):
    mask, value = checks.best(optimizer, problem, state)
    return (
      mask,
      value,
      checks.is_feasible(problem, mask),
      problem.cost(mask),
      problem.canonical_form(mask),
    )

  return tuple(jax.jit(full_precision()(function)) for function in (start, advance, best))

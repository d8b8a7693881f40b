"""The driver for a traceable set function: one program for a run, or one for each round."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.optimizers.base import Callback, Optimizer, Outcome, Result, State
from nas_submod.optimizers.certificate.bound import certify_at
from nas_submod.optimizers.drivers import checks
from nas_submod.precision import full_precision
from nas_submod.problem import Problem
from nas_submod.set_functions.base import as_argument

NO_LIMIT = np.iinfo(np.int32).max


def maximize_compiled(
  problem: Problem,
  value: Callable[..., Any],
  optimizer: Optimizer,
  limit: int,
  rng: jax.Array,
  callback: Callback | None,
) -> Result:
  """`maximize` for a traceable `value`; at most `limit` sets are asked."""
  solve = optimizer.solve if limit == NO_LIMIT and callback is None else None
  if callback is None:
    with full_precision():  # for a user's `solve` too
      outcome = solve(problem, value, rng) if solve else None
      if outcome is None or not outcome.answered:
        outcome = drive(optimizer, problem, value, rng, limit)
  else:
    outcome = drive_round_by_round(optimizer, problem, value, rng, limit, callback)
  bad_set = None if outcome.bad_set is None else np.asarray(outcome.bad_set)
  if not np.all(outcome.feasible):
    raise checks.infeasible("asked for", bad_set)
  if np.any(outcome.stuck):
    raise checks.stuck()
  if not outcome.finite:
    raise checks.not_finite(value, bad_set)
  if not outcome.evaluations:
    raise checks.asks_nothing()
  mask = np.asarray(outcome.mask)
  feasible, cost = jax.device_get(_judge(problem, mask))
  if not feasible:
    raise checks.infeasible("answered", mask)
  checks.check_cost(mask, cost)
  if not outcome.value < np.inf:  # true of NaN as well
    raise checks.not_finite(value, mask)
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
    done=bool(outcome.done),
  )


def drive(
  optimizer: Optimizer,
  problem: Problem,
  value: Callable[..., Any],
  rng: jax.Array,
  limit: Any = NO_LIMIT,
) -> Outcome:
  """Runs the optimizer as one program; works under `jit`, `vmap` and `pmap`.

  Args:
    optimizer: The optimizer.
    problem: The problem.
    value: `mask [n] -> value []`. Another function object is compiled anew. Arrays in a
      `jax.tree_util.Partial` or a `SetFunction` are arguments of the program, not constants.
    rng: Random key.
    limit: The most sets that may be asked, `[]` int.

  Returns:
    The outcome.
  """
  # Programs are cached by optimizer and do not use `solve`. Without it, optimizers that differ only
  # in `solve` share a program.
  return _drive(optimizer._replace(solve=None), problem, as_argument(value), rng, limit)


def drive_round_by_round(
  optimizer: Optimizer,
  problem: Problem,
  value: Callable[..., Any],
  rng: jax.Array,
  limit: int,
  callback: Callback,
) -> Outcome:
  """Runs the optimizer with a program for each round, and calls `callback` after each."""
  optimizer, value = optimizer._replace(solve=None), as_argument(value)
  run, unfinished = _start(optimizer, problem, rng, limit)
  while unfinished:
    round_number = int(run.rounds)
    run, info, unfinished = _compiled_round(optimizer, problem, value, limit, run)
    callback(round_number, jax.device_get(info), run.state)
  return _outcome(optimizer, problem, value, run)


class DriverState(NamedTuple):
  """State of a run: the optimizer's state, and the counts and flags that become its `Outcome`.

  `idle` counts rounds in a row that asked for nothing. `cut` says that the limit stopped the run.
  """

  state: State
  evaluations: jax.Array
  rounds: jax.Array
  finite: jax.Array
  feasible: jax.Array
  bad_set: jax.Array
  idle: jax.Array
  cut: jax.Array


def _begin(optimizer, problem, rng):
  zero, true = jnp.int32(0), jnp.bool_(True)
  state = optimizer.init(problem, rng)
  return DriverState(state, zero, zero, true, true, problem.required, idle=zero, cut=~true)


def _unfinished(optimizer, run):
  return ~(checks.done(optimizer, run.state) | checks.is_stuck(run.idle) | run.cut)


def _play_round(optimizer, problem, value, limit, run):
  masks, valid = checks.ask(optimizer, problem, run.state)
  asked = valid & (run.evaluations + jnp.cumsum(valid) <= limit)
  measured = jax.vmap(value)(masks).astype(jnp.float32)
  finite = measured < jnp.inf  # -inf is allowed, NaN is not
  answers = jnp.where(asked & finite, measured, -jnp.inf)
  errors = jnp.where(valid & ~asked, jnp.inf, jnp.zeros_like(answers))
  exact = () if optimizer.replicates is None else (errors,)
  state, info = checks.tell(optimizer, problem, run.state, answers, *exact)
  not_finite = asked & ~finite
  infeasible = valid & ~jax.vmap(functools.partial(checks.is_feasible, problem))(masks)
  # The first infeasible set of a run is reported, else the first whose value is not finite.
  any_infeasible = infeasible.any()
  first = masks[jnp.argmax(jnp.where(any_infeasible, infeasible, not_finite))]
  is_first = jnp.where(any_infeasible, run.feasible, not_finite.any() & run.finite & run.feasible)
  return DriverState(
    state=state,
    evaluations=run.evaluations + asked.sum(),
    rounds=run.rounds + 1,
    finite=run.finite & ~not_finite.any(),
    feasible=run.feasible & ~any_infeasible,
    bad_set=jnp.where(is_first, first, run.bad_set),
    idle=checks.idle_rounds(run.idle, valid, run.state, state),
    cut=run.cut | jnp.any(valid & ~asked),
  ), info


@functools.partial(jax.jit, static_argnums=0)
@full_precision()
def _outcome(optimizer, problem, value, run):
  mask, stated = checks.best(optimizer, problem, run.state)
  # As on the host, the value of the set replaces a wrong value stated by the optimizer.
  measured = jnp.asarray(value(mask), jnp.float32)
  ended = checks.done(optimizer, run.state)
  agrees = jnp.isneginf(stated) | jnp.isclose(stated, measured, rtol=1e-5)
  return Outcome(
    mask=mask,
    value=jnp.where(agrees, stated, measured),
    evaluations=run.evaluations,
    rounds=run.rounds,
    finite=run.finite,
    feasible=run.feasible,
    bad_set=run.bad_set,
    stuck=checks.is_stuck(run.idle) & ~ended,
    done=ended & ~run.cut,
  )


@functools.partial(jax.jit, static_argnums=0)
@full_precision()
def _drive(optimizer, problem, value, rng, limit):
  run = jax.lax.while_loop(
    lambda run: _unfinished(optimizer, run),
    lambda run: _play_round(optimizer, problem, value, limit, run)[0],
    _begin(optimizer, problem, rng),
  )
  return _outcome(optimizer, problem, value, run)


@functools.partial(jax.jit, static_argnums=0)
@full_precision()
def _start(optimizer, problem, rng, limit):
  run = _begin(optimizer, problem, rng)
  return run, _unfinished(optimizer, run)


@functools.partial(jax.jit, static_argnums=0)
@full_precision()
def _compiled_round(optimizer, problem, value, limit, run):
  run, info = _play_round(optimizer, problem, value, limit, run)
  return run, info, _unfinished(optimizer, run)


@jax.jit
@full_precision()
def _judge(problem, mask):
  return checks.is_feasible(problem, mask), problem.cost(mask)

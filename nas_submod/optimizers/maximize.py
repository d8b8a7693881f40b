"""`maximize`: checks what it is given, runs the driver that fits, certifies the answer."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from nas_submod.optimizers import checks
from nas_submod.optimizers.arguments import at_least_one, checked
from nas_submod.optimizers.base import Callback, Optimizer, Result
from nas_submod.optimizers.certificate import certify_at
from nas_submod.optimizers.compiled_driver import NO_LIMIT, drive, drive_round_by_round
from nas_submod.optimizers.host_driver import maximize_on_host
from nas_submod.problem import Problem


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
      also of sets beyond the budgets (for the upper bound). Values are float32, and their
      differences tie within 1e-6 of them: where gains are so small, subtract a constant before.
    optimizer: Any optimizer of `nas_submod.optimizers`.
    max_evaluations: Stop after so many measurements (sets asked, if traceable, where one that is
      asked again counts again); None for as many as the optimizer wants. On the host what is known
      costs nothing, so that this does not end an optimizer that is never done.
    seed: Seed of all that is random in the optimizer, from 0 to 2**32 - 1.
    traceable: Whether `value` is traceable: then the whole run is one compiled program.
    callback: Called after each round with `(round, info, state)`. With a traceable function a
      round is then a program, and the optimizer's shorter way (`solve`) is not taken.

  Returns:
    The optimizer's answer and how it was found.

  Raises:
    ValueError: If a value is NaN or +inf, an argument is not allowed, or the optimizer breaks its
      protocol.
  """
  checked("optimizer", optimizer, Optimizer)
  if not isinstance(problem, Problem):
    raise ValueError(f"problem must be a Problem, got {problem!r}")
  checks.check_value(problem, value, traceable)
  limit = checked("max_evaluations", max_evaluations, int | None)
  if not 0 <= checked("seed", seed, int) < 2**32:
    raise ValueError(f"seed must be from 0 to 2**32 - 1, got {seed}")
  if limit is not None:
    at_least_one(max_evaluations=limit)
  rng = jax.random.key(seed)
  if callback is not None and not callable(callback):
    raise ValueError(f"callback must be a function or None, got {callback!r}")
  at_most = NO_LIMIT if limit is None else min(limit, NO_LIMIT)
  if not checked("traceable", traceable, bool):
    return maximize_on_host(problem, value, optimizer, at_most, rng, callback)
  solve = optimizer.solve if limit is None and callback is None else None
  outcome = solve(problem, value, rng) if solve else None
  if outcome is None or not outcome.known:
    if callback is None:
      outcome = drive(optimizer, problem, value, rng, at_most)
    else:
      outcome = drive_round_by_round(optimizer, problem, value, rng, at_most, callback)
  if not np.all(outcome.feasible):
    raise checks.infeasible("asked for")
  if np.any(outcome.stuck):
    raise checks.stuck()
  if not outcome.clean or np.isnan(outcome.value) or outcome.value == np.inf:
    raise ValueError("value returned NaN or infinity for a feasible set")
  if not outcome.evaluations:
    raise checks.asks_nothing()
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
  return checks.is_feasible(problem, mask), problem.cost(mask)

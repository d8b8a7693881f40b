"""`maximize`: checks what it is given, runs the driver that fits, certifies the answer."""

from collections.abc import Callable
from typing import Any

import jax

from nas_submod.optimizers.base import Callback, Optimizer, Result
from nas_submod.optimizers.drivers import checks
from nas_submod.optimizers.drivers.compiled import NO_LIMIT, maximize_compiled
from nas_submod.optimizers.drivers.host import maximize_on_host
from nas_submod.problem import Problem
from nas_submod.validation import at_least_one, checked, checked_seed


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
      also of sets beyond the budgets (for the upper bound); products of matrices in it are of full
      float32 precision, on accelerators too, unless they say another. Values are float32, and their
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
  checks.check_optimizer(optimizer)
  if not isinstance(problem, Problem):
    raise ValueError(f"problem must be a Problem, got {problem!r}")
  checks.check_value(problem, value, traceable)
  limit = checked("max_evaluations", max_evaluations, int | None)
  if limit is not None:
    at_least_one(max_evaluations=limit)
  rng = jax.random.key(checked_seed("seed", seed))
  if callback is not None and not callable(callback):
    raise ValueError(f"callback must be a function or None, got {callback!r}")
  at_most = NO_LIMIT if limit is None else min(limit, NO_LIMIT)
  run = maximize_compiled if checked("traceable", traceable, bool) else maximize_on_host
  return run(problem, value, optimizer, at_most, rng, callback)

"""`maximize`: checks its arguments, then runs the driver for the kind of set function."""

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
    problem: The problem.
    value: The set function, in float32. On the host it is `masks [K, n] -> values [K]` or
      `(values, standard_errors)`, called at most once a round. Each row is one measurement; a set
      is repeated only if the optimizer wants replicates. A traceable one is an exact
      `mask [n] -> value []`. It is also called beyond the budgets, for the upper bound. Its matrix
      products have full float32 precision on every platform, unless it sets another. Differences
      up to 1e-6 of a value are ties: if gains are that small, subtract a constant from F.
    optimizer: Any optimizer of `nas_submod.optimizers`.
    max_evaluations: The most measurements on the host; the most sets asked of a traceable function,
      repeats included. None for no limit. On the host a set that is already measured is free, so a
      limit does not end an optimizer that is never done.
    seed: Seed of the optimizer's randomness, from 0 to 2**32 - 1.
    traceable: Whether `value` is traceable. The whole run is then one compiled program.
    callback: Called after each round with `(round, info, state)`. With a traceable function each
      round is then its own program, and the optimizer's `solve` is not used.

  Returns:
    The optimizer's answer, and how it was found.

  Raises:
    ValueError: If a value is NaN or +inf, an argument is not allowed, or the optimizer breaks the
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

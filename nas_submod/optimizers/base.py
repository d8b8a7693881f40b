"""The protocol of an optimizer, and the results of a run."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from nas_submod.optimizers.certificate.bound import Violations

State = Any


class Optimizer(NamedTuple):
  """Pure functions over a state of fixed shapes, as in optax. A round asks for `B` sets.

  The first set asked for is the required set (`surrogate`: the largest set). Every set asked for
  is feasible. A value of -inf means that the set could not be measured; it is never chosen. States
  are NamedTuples with a field `problem`, so `ask(state)` needs no other argument.

  Attributes:
    init: `(problem, rng) -> state`.
    ask: `state -> (masks [B, n] bool, valid [B] bool)`, the sets to measure next, most urgent
      first. Rows that are not valid are ignored. 10,000 rounds in a row without a valid row are an
      error.
    tell: `(state, values [B]) -> (state, info)`. With `replicates` it takes `standard_errors [B]`
      as a third argument; they are NaN if unknown: for one measurement without a stated error, or
      a value of -inf. A set that `max_evaluations` left unmeasured has -inf and the error inf.
    done: `state -> []` bool.
    best: `state -> (mask [n], value [])`, the best answer so far, at any time.
    replicates: None, or `state -> [B]` int: the number `k` of measurements that each asked set
      needs in total. `tell` gets the mean of the first `k`, even if there are more. So the value
      that a run sees does not depend on what other runs have measured.
    solve: None, or `(problem, value, rng) -> Outcome`, a faster way to the same answer. The driver
      uses it instead of rounds if `value` is traceable, evaluations are not limited and there is no
      callback. If F is not submodular, a lazy optimizer may return another set, because it bounds
      gains by other values.
  """

  init: Callable[..., State]
  ask: Callable[[State], tuple[jax.Array, jax.Array]]
  tell: Callable[..., tuple[State, "Info"]]
  done: Callable[[State], jax.Array]
  best: Callable[[State], tuple[jax.Array, jax.Array]]
  replicates: Callable[[State], jax.Array] | None = None
  solve: Callable[..., "Outcome"] | None = None


class Info(NamedTuple):
  """Progress of an optimizer in a round. Each of its `R` runs is for one rule or seed.

  Attributes:
    accepted: Whether the run took a step. Its first step is to the required set. `[R]` bool.
    masks: The current set of each run. `[R, n]` bool. The driver on the host refuses a set that is
      not feasible, if it was accepted and has a value.
    values: Its value. `[R]`.
    ties: Whether another element may have been better, given the noise. `[R]` bool, or None if the
      optimizer does not judge it.
  """

  accepted: jax.Array
  masks: jax.Array
  values: jax.Array
  ties: jax.Array | None = None


Callback = Callable[[int, Info, State], None]  # (round, its info, the state after it)


class Outcome(NamedTuple):
  """Outcome of a run with a traceable set function.

  Attributes:
    mask: The answer. `[n]` bool.
    value: Its value. `[]`.
    evaluations: Number of sets asked for. `[]` int.
    rounds: Rounds of ask and tell. `[]` int.
    finite: False if a value was NaN or +inf. `[]` bool.
    feasible: False if a set asked was infeasible. `[]` bool.
    bad_set: The first infeasible set, else the first whose value is NaN or +inf, `[n]` bool. None
      if `solve` does not report it.
    answered: False if `solve` has no answer, because F of a required set is -inf. The driver then
      runs rounds of ask and tell. `[]` bool.
    stuck: Whether the optimizer no longer asks for sets but is not done. `[]` bool.
    done: Whether the optimizer ended before the limit. `[]` bool.
  """

  mask: jax.Array
  value: jax.Array
  evaluations: jax.Array
  rounds: jax.Array
  finite: jax.Array
  feasible: jax.Array | bool = True
  bad_set: jax.Array | None = None
  answered: jax.Array | bool = True
  stuck: jax.Array | bool = False
  done: jax.Array | bool = True


class Step(NamedTuple):
  """A step that a run took on its path.

  Attributes:
    run: Which of the optimizer's runs.
    mask: The set reached. `[n]` bool.
    value: Its value.
    cost: Its cost. `[m]`.
    evaluations: Evaluations made until then.
    tie: Whether another element may have been better, given the noise.
  """

  run: int
  mask: np.ndarray
  value: float
  cost: np.ndarray
  evaluations: int
  tie: bool = False


def steps_of(info: Info, costs: np.ndarray, evaluations: int) -> list[Step]:
  """The steps of a round, in the order of the runs.

  Args:
    info: What `tell` returned, on the host.
    costs: Cost of the current set of each run. `[R, m]`.
    evaluations: Evaluations made until then.
  """
  ties = np.zeros_like(info.accepted) if info.ties is None else info.ties
  reached = zip(np.asarray(info.masks), info.values.tolist(), costs, ties.tolist())
  return [
    Step(run, mask, value, cost, evaluations, tie)
    for run, (mask, value, cost, tie) in enumerate(reached)
    if info.accepted[run]
  ]


class Result(NamedTuple):
  """Result of `maximize`.

  Attributes:
    mask: The optimizer's answer, feasible. `[n]` bool. A better set may have been measured: greedy
      returns the end of its path, not the best single element.
    value: Its value, the mean of all its measurements.
    standard_error: Standard error of the value: 0 if exact, NaN if unknown (one measurement, no
      stated error).
    cost: Units of each resource that it uses, `[m]`. Whole numbers or float32; `problem.feasible`
      decides whether it fits.
    evaluations: Measurements of a host function, replicates included; sets asked of a traceable
      function.
    rounds: Rounds of ask and tell: the parallel depth of the search.
    trace: Steps of all runs, in order; empty with a traceable function.
    upper_bound: Upper bound on the value of any feasible set if F is monotone and submodular, inf
      if there is none. See `nas_submod.optimizers.certificate`.
    violations: Violations of monotonicity and submodularity among the measurements.
    ties: Number of other measured sets that may be better than the answer, given the noise. 0 if
      values are exact, None if the noise is unknown.
    done: False if `max_evaluations` stopped the run.
  """

  mask: np.ndarray
  value: float
  standard_error: float
  cost: np.ndarray
  evaluations: int
  rounds: int
  trace: tuple[Step, ...]
  upper_bound: float
  violations: Violations
  ties: int | None = 0
  done: bool = True

  def __str__(self) -> str:
    """A summary in a few lines; `repr` has every field."""
    error = f" ± {self.standard_error:.3g}" * (self.standard_error > 0)  # not where it is NaN
    noise = {None: ", of unknown noise", 0: ""}.get(self.ties, f", ties with {self.ties}")
    noisy = "" if self.standard_error == 0 else " (ignoring noise)"
    cut = "" if self.done else ", cut by max_evaluations"
    v = self.violations
    bound = f"at most {self.upper_bound:.6g} if F is monotone and submodular{noisy}"
    return "\n".join(
      [
        f"elements    {np.flatnonzero(self.mask).tolist()}",
        f"cost        {', '.join(f'{cost:.9g}' for cost in self.cost.tolist())}",
        f"value       {self.value:.6g}{error}{noise}",
        f"optimum     {bound if np.isfinite(self.upper_bound) else 'nothing bounds it'}",
        f"submodular  gains rose in {v.submodularity_failed} of {v.submodularity_checked} checks, "
        f"additions lost in {v.monotonicity_failed} of {v.monotonicity_checked}",
        f"found by    {self.evaluations} evaluations in {self.rounds} rounds{cut}",
      ]
    )

"""The protocol of an optimizer, and what a run of one gives back."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from nas_submod.optimizers.certificate.bound import Violations

State = Any


class Optimizer(NamedTuple):
  """Pure functions over a state of fixed shapes, as in optax; `B` sets are asked in a round.

  The first set asked is the required set. All sets asked are feasible. A set whose value is -inf
  could not be measured and is never chosen. States are NamedTuples that hold the problem in a
  field `problem`, so that `ask(state)` needs nothing else.

  Attributes:
    init: `(problem, rng) -> state`.
    ask: `state -> (masks [B, n] bool, valid [B] bool)`, the sets whose values are wanted next, in
      order of urgency; rows that are not valid are ignored. One that asks for nothing in 10,000
      rounds in a row is refused.
    tell: `(state, values [B]) -> (state, info)`; with `replicates` also `standard_errors [B]`.
    done: `state -> []` bool.
    best: `state -> (mask [n], value [])`, the answer so far, at any time.
    replicates: None, or `state -> [B]` int: measurements each asked set should have in total.
      Its answer is the mean of its first so many, whatever else is known of the set: an answer
      never depends on what another run inside the optimizer asked before. Standard errors are NaN
      where unknown: one measurement without a stated error, or a value of -inf.
    solve: None, or `(problem, value, rng) -> Outcome`: a shorter way to the same answer where
      `value` is traceable and evaluations are not limited, instead of rounds of ask and tell. If F
      is not submodular, a lazy run may take other gains for bounds, and answer otherwise.
  """

  init: Callable[..., State]
  ask: Callable[[State], tuple[jax.Array, jax.Array]]
  tell: Callable[..., tuple[State, "Info"]]
  done: Callable[[State], jax.Array]
  best: Callable[[State], tuple[jax.Array, jax.Array]]
  replicates: Callable[[State], jax.Array] | None = None
  solve: Callable[..., "Outcome"] | None = None


class Info(NamedTuple):
  """What a person wants to see of a round. `R` runs go on inside (rules, seeds; or one).

  Attributes:
    accepted: The runs that took a step, the required set being their first. `[R]` bool.
    masks: Where each run is now. `[R, n]` bool.
    values: The value there. `[R]`.
    ties: Steps of which noise leaves open whether another element was better. `[R]` bool; None
      where that is not judged.
  """

  accepted: jax.Array
  masks: jax.Array
  values: jax.Array
  ties: jax.Array | None = None


Callback = Callable[[int, Info, State], None]  # round, what happened in it, the state after it


class Outcome(NamedTuple):
  """Answer of a traceable run: `mask [n]`, `value []`, sets asked and rounds, `[]` int.

  `finite` is false if a value was NaN or +inf, `feasible` if a set asked was not. `bad_set [n]` is
  then the first infeasible set, or else the first without a finite value; None where `solve` does
  not report it. `answered` is false where `solve` cannot answer, because F of a required set is
  -inf: then the driver runs rounds of ask and tell. `stuck` says that
  the optimizer is not done but asks nothing any more; `done` that it ended before a limit.
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
  """A step some run took: its set `[n]`, value, cost `[m]`, evaluations made until then.

  `tie` says that noise leaves open whether another element was better.
  """

  run: int
  mask: np.ndarray
  value: float
  cost: np.ndarray
  evaluations: int
  tie: bool = False


class Result(NamedTuple):
  """What `maximize` returns.

  Attributes:
    mask: The optimizer's answer, feasible. `[n]` bool. A better set may have been measured on the
      way: greedy answers where it ends, not the best single element it saw.
    value: Its value, the mean of all measurements of it.
    standard_error: Of the value: 0 if exact, NaN if unknown (one measurement, no error stated).
    cost: Units of each resource it uses, float32 unless they are whole numbers: whether it fits is
      for `problem.feasible` to say. `[m]`.
    evaluations: Measurements made with a host function, a set counting as often as it was
      measured; sets asked with a traceable one.
    rounds: Rounds of ask and tell, the parallel depth of the search.
    trace: Steps accepted, in order; empty with a traceable function.
    upper_bound: On the value of any feasible set, if F is submodular, and monotone as far as
      `violations` tell; inf where nothing bounds it. See `nas_submod.optimizers.certificate`.
    violations: How far what was measured is from monotone and submodular.
    ties: Other sets measured of which noise leaves open whether they are better than the answer;
      0 where values are exact, None where nothing tells their noise.
    done: False if `max_evaluations` stopped the run before its end.
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
    """What a person wants to know, a line each; `repr` has all of it."""
    error = f" ± {self.standard_error:.3g}" * (self.standard_error > 0)  # not where it is NaN
    told = {None: ", of unknown noise", 0: ""}.get(self.ties, f", ties with {self.ties}")
    noisy = "" if self.standard_error == 0 else " (noise apart)"
    cut = "" if self.done else ", cut by max_evaluations"
    v, bound = self.violations, f"at most {self.upper_bound:.6g} if F is submodular{noisy}"
    return "\n".join(
      [
        f"elements    {np.flatnonzero(self.mask).tolist()}",
        f"cost        {', '.join(f'{cost:.9g}' for cost in self.cost.tolist())}",
        f"value       {self.value:.6g}{error}{told}",
        f"optimum     {bound if np.isfinite(self.upper_bound) else 'nothing bounds it'}",
        f"submodular  gains rose in {v.submodularity_failed} of {v.submodularity_checked} checks, "
        f"additions lost in {v.monotonicity_failed} of {v.monotonicity_checked}",
        f"found by    {self.evaluations} evaluations in {self.rounds} rounds{cut}",
      ]
    )

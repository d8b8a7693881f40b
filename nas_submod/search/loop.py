"""The search: the optimizer asks for sets, the evaluator scores what is new, until nothing fits.

The answer is chosen among finalists that are trained again with fresh seeds, so that the winner is
not merely the luckiest. It is a pure function of the config and the journal. The way of a set:

  optimizers.maximize    asks for masks (optimizers/drivers/host.py)
  Objective              masks to jobs, evaluations to values
  Screened, Inheriting   save trainings, if the config says so
  Journaled              looks up what is known, writes down what is new
  TrainingEvaluator      trains a network on each device
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from nas_submod import optimizers, parallel, resources
from nas_submod.compilation import CompilationLog
from nas_submod.evaluation.evaluator import Evaluator, mean, standard_error
from nas_submod.evaluation.inherit import Inheriting
from nas_submod.evaluation.journal import Journal, Journaled
from nas_submod.evaluation.objective import Objective
from nas_submod.evaluation.screening import Screened
from nas_submod.optimizers import Result, Step
from nas_submod.optimizers.base import steps_of
from nas_submod.search.setup import Setup

Row = dict[str, Any]  # A step of the path, or a finalist, as `result.json` holds it.


class Display(NamedTuple):
  """Callbacks of a search, for a person who watches; see `report.live`.

  Attributes:
    accepted: Called with each step of the path, as `result.json` holds it.
    working: Called before evaluations with the counts so far and what they are for.
    progress: Called by an evaluator with the share of its round that is done.
  """

  accepted: Callable[[Row], None] = lambda row: None
  working: Callable[[Journaled, str], None] = lambda counts, phase: None
  progress: Callable[[float], None] = lambda share: None


class SearchFailedError(Exception):
  """The search has no answer: the start network or all finalists failed."""


def run(
  setup: Setup,
  evaluator: Evaluator,
  journal: Journal | None = None,
  display: Display | None = None,
) -> dict[str, Any]:
  """Searches.

  Args:
    setup: From `make_setup`.
    evaluator: Turns jobs into evaluations: `TrainingEvaluator`, or a table of known ones.
    journal: The evaluations made before; new ones are added. None keeps them in memory.
    display: What to tell on the way.

  Returns:
    The content of `result.json`; see docs/searching.md.

  Raises:
    SearchFailedError: If the start network or all finalists fail.
  """
  began = time.perf_counter()
  display = display or Display()
  config, space = setup.config, setup.space
  search, seed = config["search"], config["seed"]
  objective, counts = objective_for(setup, evaluator, Journal(None) if journal is None else journal)
  measure = objective.function(search["replicates"])
  path: list[Row] = []
  phase = "start"

  def value(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    display.working(counts, phase)
    return measure(masks)

  def accept(run_name: str, step: Step) -> None:
    path.append(_row(setup, path, run_name, step))
    display.accepted(path[-1])

  def on_round(number: int, info: optimizers.Info, _: Any) -> None:
    nonlocal phase
    phase = ("first step" if number == 0 else "greedy") if setup.grows else "search"
    costs = resources.network_costs(space, space.architecture(info.masks), tuple(setup.budget))
    for step in steps_of(info, costs, counts.needed):
      accept(setup.runs[step.run % len(setup.runs)], step)

  compiled = CompilationLog()
  with compiled.counting():
    display.working(counts, phase)
    _check_start(setup, objective)
    limit = search["max_evaluations"] or None
    answer = optimizers.maximize(
      setup.problem, value, setup.optimizer, max_evaluations=limit, seed=seed, callback=on_round
    )
    # The answer of `greedy_plus_max` may lie off the path of its run.
    reached = {space.key(row["architecture"]) for row in path}
    if math.isfinite(answer.value) and space.key(space.architecture(answer.mask)) not in reached:
      accept("answer", Step(0, answer.mask, answer.value, answer.cost, counts.needed))
    display.working(counts, "finalists")
    finalists = _rerun(setup, objective, _finalists(setup, path))
    display.working(counts, "signal")
    signal = _signal(setup, objective, path, finalists)
  best = max(finalists, key=lambda finalist: finalist["value"])
  if not math.isfinite(best["value"]):
    causes = ", ".join(counts.failed) or "diverged"
    raise SearchFailedError(f"all finalists failed: {causes}")
  architecture = np.array(best["architecture"])
  # Shortened trainings score too low, so they give no bound.
  shortened = any(config["train"].get(name, 0) for name in ("inherit_steps", "screen_steps"))
  total = time.perf_counter() - began
  seconds = {"compile": compiled.seconds, "train": counts.seconds}
  return {
    "architecture": best["architecture"],
    "canonical": [int(option) for option in space.canonical(architecture)],
    "text": space.text(space.canonical(architecture)),
    "space": space.name,
    "resources": best["resources"],
    "budget": setup.budget,
    "binding": binding(setup, best["architecture"]),
    "score": config["score"],
    "value": best["value"],
    "standard_error": best["standard_error"],
    "optimizer": search["optimizer"],
    "seed": seed,
    "evaluations": {
      "trained": counts.trained,
      "reused": counts.reused,
      "failed": sum(counts.failed.values()),
      "causes": counts.failed,
      "steps": sum(evaluation.steps for evaluation in counts.journal),  # Of earlier runs too.
      "journal": len(counts.journal),
    },
    "measured": answer.evaluations,
    "rounds": answer.rounds,
    **({"upper_bound": None, "violations": None} if shortened else certificate(answer)),
    "compilations": counts.compilations.programs,
    "seconds": seconds | {"rest": max(total - sum(seconds.values()), 0.0), "total": total},
    "devices": f"{parallel.device_count()} x {jax.local_devices()[0].device_kind}",
    "signal": signal,
    "finalists": finalists,
    "path": path,
  }


def objective_for(
  setup: Setup, evaluator: Evaluator, journal: Journal
) -> tuple[Objective, Journaled]:
  """The set function of a search, and the counts of its evaluations.

  The evaluator is wrapped by the journal, and by what the config says to save trainings.
  """
  train = setup.config["train"]
  counts = Journaled(evaluator, setup.space, journal)
  wrapped: Evaluator = counts
  if steps := train.get("inherit_steps", 0):
    wrapped = Inheriting(wrapped, setup.space, journal, setup.score, steps)
  if steps := train.get("screen_steps", 0):
    wrapped = Screened(wrapped, setup.score, steps)
  return Objective(setup.space, wrapped, setup.score), counts


def _check_start(setup: Setup, objective: Objective) -> None:
  """Evaluates the start network.

  Raises:
    SearchFailedError: If it fails.
  """
  wanted = range(setup.config["search"]["replicates"])
  [found] = objective.evaluations([setup.space.start], [wanted])
  for evaluation in found:
    if not math.isfinite(setup.score(evaluation)):
      cause = evaluation.cause or "diverged"
      if cause == "diverged":
        raise SearchFailedError("the start network diverged: lower config.train.learning_rate")
      raise SearchFailedError(
        f"the start network cannot be trained: {cause}; to try again, take another --workdir or "
        f"delete the line of {evaluation.key} from its journal"
      )


def _row(setup: Setup, path: Sequence[Row], run: str, step: Step) -> Row:
  """A step as `result.json` holds it, `path` being the steps before it."""
  architecture = [int(option) for option in setup.space.architecture(step.mask)]
  return {
    "run": run,
    "step": sum(row["run"] == run for row in path),
    "architecture": architecture,
    "value": step.value,
    "resources": resources.network_cost(setup.space, architecture),
    "evaluations": step.evaluations,
    "tie": step.tie,
  }


def certificate(answer: Result) -> dict[str, Any]:
  """The upper bound and the violations for `result.json`; None where nothing is known."""
  numbers = {"upper_bound": answer.upper_bound, **answer.violations._asdict()}
  plain = {name: x if math.isfinite(x) else None for name, x in numbers.items()}
  return {"upper_bound": plain.pop("upper_bound"), "violations": plain}


def _finalists(setup: Setup, path: Sequence[Row]) -> list[Row]:
  """The best network of every run, then the best of all others on their paths."""
  by_value = sorted(path, key=lambda row: -row["value"])
  best_of_run = {row["run"]: row for row in reversed(by_value)}
  chosen: dict[str, Row] = {}
  for row in [*sorted(best_of_run.values(), key=lambda row: -row["value"]), *by_value]:
    if len(chosen) < setup.config["search"]["finalists"]:
      chosen.setdefault(setup.space.key(row["architecture"]), row)
  return list(chosen.values())


def _rerun(setup: Setup, objective: Objective, rows: Sequence[Row]) -> list[Row]:
  """Trains networks of the path again, with seeds that no choice has seen."""
  search = setup.config["search"]
  seen = search["replicates"] * setup.most_measurements
  fresh = range(seen, seen + search["finalist_replicates"])
  architectures = [row["architecture"] for row in rows]
  scores = objective.scores(architectures, [fresh] * len(rows), full=True)
  return [
    {
      "run": row["run"],
      "architecture": row["architecture"],
      "text": setup.space.text(row["architecture"]),
      "resources": row["resources"],
      "search_value": row["value"],
      "value": mean(values),
      "standard_error": standard_error(values),
      "tie": tie,
      "scores": values,
    }
    for row, values, tie in zip(rows, scores, statistical_ties(np.array(scores)))
  ]


def statistical_ties(scores: np.ndarray) -> list[bool]:
  """Whether noise leaves open that a network is better than the one with the best mean.

  One-sided 95% test of Student's t, with one variance pooled over all networks, as in a race.

  Args:
    scores: Two or more replicates of each network. -inf marks a failed one; its network ties with
      nothing. Shape `[K, R]`.
  """
  finite = np.isfinite(scores).all(axis=1)
  if not finite.any():
    return [False] * len(scores)
  means, count = scores.mean(axis=1), scores.shape[1]
  best = np.argmax(means)
  variance = np.var(scores[finite], axis=1, ddof=1).mean()
  quantile = stats.t.ppf(0.95, finite.sum() * (count - 1))
  close = finite & (means[best] - means < quantile * math.sqrt(2 * variance / count))
  close[best] = False
  return close.tolist()


def _signal(
  setup: Setup,
  objective: Objective,
  path: Sequence[Row],
  finalists: Sequence[Row],
) -> dict[str, Any]:
  """Compares the noise of a replicate with the gain of a block, both from fresh seeds.

  The gain is that of the first three additions of the first rule; None without additions.
  """
  first = [row for row in path if row["run"] == setup.runs[0]] if setup.grows else []
  added = min(3, len(first) - 1)
  ends = _rerun(setup, objective, [first[0], first[added]]) if added > 0 else []
  rows = [f["scores"] for f in (*finalists, *ends) if np.isfinite(f["scores"]).all()]
  deviation = float(np.sqrt(np.mean([np.var(row, ddof=1) for row in rows]))) if rows else math.nan
  gain = (ends[1]["value"] - ends[0]["value"]) / added if ends else None
  return {
    "replicate_standard_deviation": deviation,
    "mean_gain_of_first_additions": gain,
    "additions": max(added, 0),
    "ratio": deviation / gain if gain is not None and gain > 0 else None,
    "replicates": sum(len(row) for row in rows),
  }


def binding(setup: Setup, architecture: Sequence[int]) -> list[str]:
  """Names the budgets that leave no room for the cheapest further block.

  Where each budget alone would leave room and both together do not, it is the tightest one. A
  network without a free position is bound by `positions`.
  """
  mask = jnp.asarray(setup.space.mask(np.array(architecture)))
  cost, limit = np.asarray(setup.problem.cost(mask)), np.asarray(setup.problem.limit)
  after = jax.vmap(setup.problem.cost)(mask | jnp.eye(setup.problem.n, dtype=bool))
  free = np.array(architecture)[np.asarray(setup.space.groups)] == 0
  if not free.any():
    return ["positions"]
  fits = np.asarray(after)[free] <= limit
  short = ~fits.any(axis=0)
  if not short.any() and not fits.all(axis=1).any():
    share_left = (limit - cost) / limit
    short = share_left == share_left.min()
  return [name for name, tight in zip(setup.budget, short) if tight]

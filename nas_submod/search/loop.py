"""The search: asks the optimizer for sets and scores new ones, until the optimizer is done.

The answer is chosen among finalists that are trained again with fresh seeds, so that the winner is
not merely the luckiest. The answer is a pure function of the config and the journal. The path of a
set:

  optimizers.maximize    asks for masks (optimizers/drivers/host.py)
  Objective              turns masks into jobs, evaluations into values
  Journaled              looks up known evaluations, stores new ones
  SharedWeights          scores networks without training them, if the config says so
  TrainingEvaluator      trains a network on each device
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from nas_submod import optimizers, parallel, resources
from nas_submod.compilation import CompilationLog
from nas_submod.evaluation.evaluator import SHARED_WEIGHTS, TRAINING, Evaluator
from nas_submod.evaluation.journal import Journal, Journaled
from nas_submod.evaluation.objective import Objective
from nas_submod.evaluation.shared_weights.settings import method_of
from nas_submod.optimizers import Result, Step
from nas_submod.optimizers.base import steps_of
from nas_submod.resources.cost_bounds import opened_by_others
from nas_submod.search.finalists import (
  Row,
  binding,
  choose_finalists,
  signal_of,
  train_again,
  train_references,
)
from nas_submod.search.setup import Setup
from nas_submod.search.sharing import guided_optimizer


class Display(NamedTuple):
  """Callbacks that show the progress of a search; see `report.live`.

  Attributes:
    accepted: Called with each step of the path, as `result.json` holds it.
    working: Called before evaluations with the counts so far and the phase.
    progress: Called by an evaluator with the share of its round that is done.
    sharing: Called while shared weights train, with the steps done and all steps.
  """

  accepted: Callable[[Row], object] = lambda row: None
  working: Callable[[Journaled, str], None] = lambda counts, phase: None
  progress: Callable[[float], None] = lambda share: None
  sharing: Callable[[int, int], None] = lambda step, steps: None


class SearchFailedError(Exception):
  """The search has no answer: the start network or all finalists failed."""


def run(
  setup: Setup,
  evaluator: Evaluator,
  journal: Journal | None = None,
  display: Display | None = None,
) -> dict[str, Any]:
  """Runs a search.

  Args:
    setup: From `make_setup`.
    evaluator: Turns jobs into evaluations: `TrainingEvaluator`, or a table of known ones.
    journal: Earlier evaluations; new ones are added. None keeps them in memory.
    display: Callbacks during the search.

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
    if not np.any(info.accepted):
      return
    asked = space.architecture(info.masks)
    costs = resources.network_costs(space, asked, tuple(setup.budget), setup.resources)
    for step in steps_of(info, costs, counts.needed):
      if math.isfinite(step.value):  # A run may begin at a set that failed or is beyond the limit.
        accept(setup.runs[step.run % len(setup.runs)], step)

  compiled = CompilationLog()
  with compiled.counting():
    display.working(counts, phase)
    _check_start(setup, objective)
    optimizer = setup.optimizer
    if setup.guided:
      display.working(counts, "pool")
      optimizer = guided_optimizer(setup, objective)
    limit = search["max_evaluations"] or None
    answer = optimizers.maximize(
      setup.problem, value, optimizer, max_evaluations=limit, seed=seed, callback=on_round
    )
    # The answer of `greedy_plus_max` may lie off the path of its run.
    reached = {space.key(row["architecture"]) for row in path}
    if math.isfinite(answer.value) and space.key(space.architecture(answer.mask)) not in reached:
      accept("answer", Step(0, answer.mask, answer.value, answer.cost, counts.needed))
    if not path:
      raise SearchFailedError(
        "all trainings of the search failed; evaluations.jsonl says why. To try again, take "
        "another --workdir or delete their lines"
      )
    display.working(counts, "finalists")
    finalists = train_again(setup, objective, choose_finalists(setup, path))
    if not any(math.isfinite(finalist["value"]) for finalist in finalists):
      raise SearchFailedError(
        "the trainings of all finalists failed; evaluations.jsonl says why. To try again, take "
        "another --workdir or delete their lines"
      )
    references = train_references(setup, objective)
    display.working(counts, "signal")
    signal = signal_of(setup, objective, path, finalists)
  best = max(finalists, key=lambda finalist: finalist["value"])
  architecture = np.array(best["architecture"])
  # Scores with shared weights are on another scale than those of finalists, and give no bound.
  unbounded = method_of(config) == SHARED_WEIGHTS
  rest = time.perf_counter() - began - compiled.seconds - counts.seconds - counts.scoring_seconds
  evaluations = list(counts.journal)  # Of all runs.
  seconds = {
    "compile": compiled.seconds,
    "train": sum(e.seconds for e in evaluations if e.method == TRAINING),
    "score": sum(e.seconds for e in evaluations if e.method != TRAINING),
    "rest": max(rest, 0.0),
  }
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
      "scored": counts.scored,
      "reused": counts.reused,
      "failed": sum(counts.failed.values()),
      "causes": counts.failed,
      "steps": sum(evaluation.steps for evaluation in evaluations),
      "journal": len(evaluations),
    },
    "measured": answer.evaluations,
    "rounds": answer.rounds,
    **({"upper_bound": None, "violations": None} if unbounded else certificate(setup, answer)),
    "compilations": counts.compilations.programs,
    "seconds": seconds | {"total": sum(seconds.values())},
    "devices": f"{parallel.device_count()} x {jax.local_devices()[0].device_kind}",
    "signal": signal,
    "finalists": finalists,
    "references": references,
    "path": path,
  }


def objective_for(
  setup: Setup, evaluator: Evaluator, journal: Journal
) -> tuple[Objective, Journaled]:
  """The set function of a search, and the journal that counts its evaluations."""
  counts = Journaled(evaluator, setup.space, journal)
  return Objective(setup.space, counts, setup.score), counts


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
        section = "train" if evaluation.method == TRAINING else "evaluation.store"
        raise SearchFailedError(f"the start network diverged: lower config.{section}.learning_rate")
      raise SearchFailedError(
        f"the start network cannot be trained: {cause}; to try again, take another --workdir or "
        f"delete the line of {evaluation.key} from its journal"
      )


def _row(setup: Setup, path: Sequence[Row], run: str, step: Step) -> Row:
  """A step as `result.json` holds it; `path` holds the steps before it."""
  architecture = [int(option) for option in setup.space.architecture(step.mask)]
  return {
    "run": run,
    "step": sum(row["run"] == run for row in path),
    "architecture": architecture,
    "value": step.value,
    "resources": resources.network_cost(setup.space, architecture, setup.resources),
    "evaluations": step.evaluations,
    "tie": step.tie,
  }


def certificate(setup: Setup, answer: Result) -> dict[str, Any]:
  """The upper bound and the violations for `result.json`; None where nothing is known.

  If an option fits only in networks larger than the start, its gain at the start is not measured,
  and no bound holds.
  """
  tables = [(setup.resources[name].table, limit) for name, limit in setup.budget.items()]
  bound = answer.upper_bound
  if any(table and opened_by_others(setup.space, table(setup.space), x) for table, x in tables):
    bound = math.inf
  numbers = {"upper_bound": bound, **answer.violations._asdict()}
  plain = {name: x if math.isfinite(x) else None for name, x in numbers.items()}
  return {"upper_bound": plain.pop("upper_bound"), "violations": plain}

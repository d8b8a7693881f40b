"""The search: the optimizer asks for sets, the objective trains what is new, until nothing fits.

The answer is chosen among finalists trained again with fresh seeds, so that the winner is not
merely the luckiest, and is a pure function of the config and the journal.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from nas_submod import optimizers, parallel, resources
from nas_submod.compilation import CompilationLog
from nas_submod.evaluation.journal import Journal
from nas_submod.evaluation.objective import ProxyObjective, mean, standard_error
from nas_submod.optimizers import Result
from nas_submod.search.setup import Setup, first_additions, is_greedy


class Accepted(NamedTuple):
  """A step of the search: one run inside the optimizer moved to a network."""

  run: str
  step: int
  architecture: tuple[int, ...]
  value: float
  resources: dict[str, int]
  evaluations: int  # Trainings needed until then, those found in the journal among them.
  tie: bool  # Whether noise leaves open that another network was better.


class Display(NamedTuple):
  """What a search tells the person who watches; see `live.live`."""

  accepted: Callable[[Accepted], None] = lambda step: None
  progress: Callable[[ProxyObjective, float, str], None] = lambda objective, share, doing: None


def run(setup: Setup, journal: Journal, display: Display | None = None) -> dict[str, Any]:
  """Searches.

  Args:
    setup: From `prepare`.
    journal: What has been trained already; everything trained is added.
    display: What to tell on the way.

  Returns:
    The content of `result.json`; see README.

  Raises:
    FloatingPointError: If the start network diverges.
  """
  began = time.perf_counter()
  display = display or Display()
  config, space = setup.config, setup.space
  search = config["search"]
  compiled = CompilationLog()
  doing = "start"

  def on_progress(share):
    display.progress(objective, share, doing)

  objective = ProxyObjective(space, setup.data, config, journal, on_progress)
  found: list[Accepted] = []
  value = measured_value(setup, objective)

  def on_round(_, info, state):
    ties = np.zeros_like(info.accepted) if info.ties is None else info.ties
    for row in np.flatnonzero(info.accepted):
      architecture = tuple(int(o) for o in space.architecture(info.masks[row]))
      name = setup.runs[row % len(setup.runs)]
      step = sum(a.run == name for a in found)
      costs = resources.network_cost(space, architecture)
      reached = float(info.values[row]), costs, objective.needed, bool(ties[row])
      found.append(Accepted(name, step, architecture, *reached))
      display.accepted(found[-1])

  with compiled.counting():
    limit = search["max_evaluations"] or None
    first: Sequence[Any] = list(first_additions(setup))[:limit] if is_greedy(setup) else []
    once = range(search["replicates"])
    if not np.isfinite(objective.scores([space.start], [once])).all():
      raise FloatingPointError("the start network diverged: lower config.train.learning_rate")
    doing = "first step"
    # Every rule needs all of them: trained at full width, no rule waits for another.
    objective.scores(first, [once] * len(first))
    doing = "greedy" if len(first) else "search"
    answer = optimizers.maximize(
      setup.problem,
      value,
      setup.optimizer,
      max_evaluations=limit,
      seed=config["seed"],
      callback=on_round,
    )
    off_the_path = _answer_off_the_path(setup, objective, answer, found)
    if off_the_path is not None:
      found.append(off_the_path)
      display.accepted(off_the_path)
    doing = "finalists"
    finalists = _rerun(setup, objective, _finalists(setup, found))
    doing = "signal"
    signal = _signal(setup, objective, found, finalists)
  best = max(finalists, key=lambda f: f["value"])
  architecture = best["architecture"]
  # Of what was trained for less time values are too low: they bound and tell nothing.
  shortened = any(config["train"].get(name, 0) for name in ("inherit_steps", "screen_steps"))
  nothing = {"upper_bound": None, "violations": None}
  total = time.perf_counter() - began
  costs = best["resources"]
  seconds = {"compile": compiled.seconds, "train": objective.train_seconds}
  return {
    "architecture": architecture,
    "canonical": [int(o) for o in space.canonical(np.array(architecture))],
    "text": space.text(space.canonical(np.array(architecture))),
    "space": space.name,
    "resources": costs,
    "budget": setup.budget,
    "binding": binding(setup, architecture),
    "score": config["score"],
    "value": best["value"],
    "standard_error": best["standard_error"],
    "optimizer": search["optimizer"],
    "seed": config["seed"],
    "evaluations": {
      "trained": objective.trained,
      "reused": objective.reused,
      "failed": objective.failed,
      "steps": sum(evaluation.steps for evaluation in journal),  # Of earlier runs too.
      "journal": len(journal),
    },
    "measured": answer.evaluations,
    "rounds": answer.rounds,
    **(nothing if shortened else certificate(answer)),
    "compilations": objective.compilations.programs,
    "seconds": seconds | {"rest": max(total - sum(seconds.values()), 0.0), "total": total},
    "devices": f"{parallel.device_count()} x {jax.local_devices()[0].device_kind}",
    "signal": signal,
    "finalists": finalists,
    "path": [step._asdict() for step in found],
  }


def measured_value(
  setup: Setup, objective: ProxyObjective
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
  """The set function for the host driver: `masks [K, n] -> (values [K], standard errors [K])`.

  Each row is a measurement: the mean of the next `config.search.replicates` trainings of that
  network. They are counted here, so that the same search asks for the same trainings again.
  """
  replicates = setup.config["search"]["replicates"]
  measured: dict[tuple[int, ...], int] = {}

  def value(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    architectures = setup.space.architecture(masks)
    wanted = []
    for architecture in architectures:
      network = tuple(int(o) for o in setup.space.canonical(architecture))
      begin = replicates * measured.get(network, 0)
      measured[network] = measured.get(network, 0) + 1
      wanted.append(range(begin, begin + replicates))
    scores = objective.scores(architectures, wanted)
    return np.array([mean(s) for s in scores]), np.array([standard_error(s) for s in scores])

  return value


def certificate(answer: Result) -> dict[str, Any]:
  """The upper bound and the violations for `result.json`; None where nothing is known."""
  numbers = {"upper_bound": answer.upper_bound, **answer.violations._asdict()}
  plain = {name: x if math.isfinite(x) else None for name, x in numbers.items()}
  return {"upper_bound": plain.pop("upper_bound"), "violations": plain}


def _answer_off_the_path(
  setup: Setup, objective: ProxyObjective, answer: Result, found: Sequence[Accepted]
) -> Accepted | None:
  """The optimizer's answer, where no run went there: that of `greedy_plus_max` may be such."""
  architecture = tuple(int(o) for o in setup.space.architecture(answer.mask))
  passed = {setup.space.key(step.architecture) for step in found}
  if setup.space.key(architecture) in passed or not math.isfinite(answer.value):
    return None
  costs = resources.network_cost(setup.space, architecture)
  return Accepted("answer", 0, architecture, answer.value, costs, objective.needed, False)


def _finalists(setup: Setup, found: Sequence[Accepted]) -> list[Accepted]:
  """The best network of every run, then the best of all others on their paths."""
  by_value = sorted(found, key=lambda step: -step.value)
  best_of_run = {step.run: step for step in reversed(by_value)}
  chosen: dict[str, Accepted] = {}
  for step in [*sorted(best_of_run.values(), key=lambda s: -s.value), *by_value]:
    if len(chosen) < max(setup.config["search"]["finalists"], 1):
      chosen.setdefault(setup.space.key(step.architecture), step)
  return list(chosen.values())


def _rerun(
  setup: Setup, objective: ProxyObjective, steps: Sequence[Accepted]
) -> list[dict[str, Any]]:
  """Trains networks again with seeds that no choice has seen."""
  search = setup.config["search"]
  seen = search["replicates"] * setup.most_measurements
  fresh = range(seen, seen + search["finalist_replicates"])
  scores = objective.scores([step.architecture for step in steps], [fresh] * len(steps), True)
  ties = statistical_ties(np.array(scores))
  return [
    {
      "run": step.run,
      "architecture": list(step.architecture),
      "text": setup.space.text(step.architecture),
      "resources": step.resources,
      "search_value": step.value,
      "value": mean(values),
      "standard_error": standard_error(values),
      "tie": tie,
      "scores": values,
    }
    for step, values, tie in zip(steps, scores, ties)
  ]


def statistical_ties(scores: np.ndarray) -> list[bool]:
  """Whether noise leaves open that a network is better than the one with the best mean.

  One-sided 95% of Student's t, with one variance pooled from all networks, as in a race.

  Args:
    scores: Of two or more replicates of each network. Shape `[K, R]`; -inf where one diverged,
      which ties with nothing.
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
  objective: ProxyObjective,
  found: Sequence[Accepted],
  finalists: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
  """How the noise of a replicate compares with the gain of a block, both from fresh seeds.

  The gain is that of the first three additions of the first rule; None without additions.
  """
  path = [step for step in found if step.run == setup.runs[0]] if is_greedy(setup) else []
  added = min(3, len(path) - 1)
  ends = _rerun(setup, objective, [path[0], path[added]]) if added > 0 else []
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
  """The budgets that leave no room for the cheapest further block."""
  mask = jnp.asarray(setup.space.mask(np.array(architecture)))
  costs = np.asarray(setup.problem.cost(mask))
  after = jax.vmap(setup.problem.cost)(mask | jnp.eye(setup.problem.n, dtype=bool))
  positions = np.asarray(setup.space.groups)
  free = np.array(architecture)[positions] == 0
  if not free.any():
    return ["positions"]
  limit = np.array(list(setup.budget.values()))
  short = (np.asarray(after)[free] > limit).all(0)
  if not short.any() and not (np.asarray(after)[free] <= limit).all(1).any():
    short = (limit - costs) / limit == ((limit - costs) / limit).min()
  return [name for name, tight in zip(setup.budget, short) if tight]

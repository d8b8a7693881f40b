"""The search: the optimizer asks for sets, the objective trains what is new, until nothing fits.

Everything is checked before anything is trained. The answer is chosen among finalists trained
again with fresh seeds, so that the winner is not merely the luckiest, and is a pure function of the
config and the journal.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod import data as datasets
from nas_submod import optimizers, parallel, resources, spaces, training
from nas_submod.compilation import CompilationLog
from nas_submod.journal import Journal
from nas_submod.objective import SCORES, ProxyObjective, check_fit, mean, standard_error
from nas_submod.optimizers import Optimizer
from nas_submod.problem import Problem
from nas_submod.spaces import SearchSpace

# What `config.search.optimizer` may be; those that ask in batches ask one set a device.
OPTIMIZERS: tuple[str, ...] = ("rcas", "greedy", "random_search", "regularized_evolution")


class Setup(NamedTuple):
  """A checked config: everything a search needs, nothing trained yet."""

  config: Mapping[str, Any]
  space: SearchSpace
  data: datasets.Data
  problem: Problem
  budget: dict[str, int]
  optimizer: Optimizer
  runs: tuple[str, ...]  # Names of what goes on inside the optimizer.


class Accepted(NamedTuple):
  """A step of the search: one run inside the optimizer moved to a network."""

  run: str
  step: int
  architecture: tuple[int, ...]
  value: float
  resources: dict[str, int]
  evaluations: int  # Networks trained until then, this process and those before it.


class Display(NamedTuple):
  """What a search tells the person who watches; see `report.live`."""

  accepted: Callable[[Accepted], None] = lambda step: None
  progress: Callable[[ProxyObjective, float, str], None] = lambda objective, share, doing: None


def prepare(config: Mapping[str, Any]) -> Setup:
  """Checks a config and loads its data.

  Args:
    config: `seed`, `space`, `data`, `budget`, `score`, `train` and `search`; see `configs/`.

  Raises:
    ValueError: If anything in it cannot work: one line with what is allowed.
  """
  space = spaces.from_config(config["space"])
  budget = check_budget(space, config["budget"])
  if config["score"] not in SCORES:
    raise ValueError(f"unknown score {config['score']!r}; allowed: {', '.join(SCORES)}")
  names = tuple(budget)
  problem = Problem(
    groups=space.groups,
    cost=resources.mask_cost(space, names),
    budget=np.array(list(budget.values())),
    required=space.required,
    canonical=space.canonical_mask,
  )
  optimizer, runs = make_optimizer(config["search"], names)
  for name, least in (("replicates", 1), ("finalists", 1), ("finalist_replicates", 2)):
    if config["search"][name] < least:
      raise ValueError(f"config.search.{name} is {config['search'][name]}; at least {least}")
  data = datasets.load(config["data"])
  check_fit(space, data)
  training.recipe(config["train"], data)
  return Setup(config, space, data, problem, budget, optimizer, runs)


def check_budget(space: SearchSpace, budget: Mapping[str, Any]) -> dict[str, int]:
  """The budgets as integers.

  Raises:
    ValueError: If there is none, one is unknown or not positive, or the start set is over it.
  """
  given = {name: value for name, value in budget.items() if value is not None}
  allowed = ", ".join(resources.RESOURCES)
  if not given:
    raise ValueError(f"config.budget is empty; allowed: {allowed}")
  start = resources.network_cost(space, space.start)
  for name, value in given.items():
    if name not in start:
      raise ValueError(f"unknown resource {name!r} in config.budget; allowed: {allowed}")
    if not value > 0:
      raise ValueError(f"config.budget.{name} is {value}; allowed are positive numbers")
    if start[name] > value:
      raise ValueError(
        f"the start set is over budget: {name} {start[name]:,} > {int(value):,}; "
        f"allow at least {start[name]:,} or start smaller"
      )
  return {name: int(value) for name, value in given.items()}


def make_optimizer(
  config: Mapping[str, Any], resource_names: Sequence[str]
) -> tuple[Optimizer, tuple[str, ...]]:
  """The optimizer of `config.search`, and the names of the runs inside it.

  Raises:
    ValueError: If the optimizer or one of its options is unknown.
  """
  name, options = config["optimizer"], dict(config["options"])
  if name not in OPTIMIZERS:
    raise ValueError(f"unknown optimizer {name!r}; allowed: {', '.join(OPTIMIZERS)}")
  rules = ("unit", *resource_names, "joint")
  devices = parallel.device_count()
  if name == "rcas":
    options.setdefault("batch", -(-devices // len(rules)))
  elif name in ("greedy", "random_search"):
    options.setdefault("batch", devices)
  try:
    optimizer = getattr(optimizers, name)(**options)
  except TypeError as error:
    raise ValueError(f"config.search.options of {name}: {error}") from error
  return optimizer, rules if name == "rcas" else (name,)


def first_additions(setup: Setup) -> np.ndarray:
  """The start set and all distinct networks of one more block that fit. `[K, positions]`."""
  start = jnp.asarray(setup.space.required)
  additions = setup.problem.additions(start)
  distinct = np.asarray(additions.fits & (additions.twin == jnp.arange(setup.problem.n)))
  masks = np.asarray(start) | np.eye(setup.problem.n, dtype=bool)[distinct]
  return setup.space.architecture(np.concatenate([np.asarray(start)[None], masks]))


def estimate_evaluations(setup: Setup) -> int:
  """How many networks the search will train, roughly.

  A greedy run takes as many steps as average first additions fit into the budgets, and measures
  about three networks a step; runs share the first step, and half of the others.
  """
  search = setup.config["search"]
  final = search["finalist_replicates"] * (search["finalists"] + 2)
  if limit := search["options"].get("evaluations") or search["max_evaluations"]:
    return int(limit) + final
  first = first_additions(setup)
  costs = resources.network_costs(setup.space, first)[:, _columns(setup)]
  room = np.array(list(setup.budget.values())) - costs[0]
  extra = np.maximum((costs[1:] - costs[0]).mean(0), 1) if len(first) > 1 else room
  steps = int((room / extra).min())
  return len(first) + math.ceil(3 * steps * (1 + (len(setup.runs) - 1) / 2)) + final


def _is_greedy(setup: Setup) -> bool:
  return setup.config["search"]["optimizer"] in ("rcas", "greedy")


def _columns(setup: Setup) -> list[int]:
  return [resources.RESOURCES.index(name) for name in setup.budget]


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

  def value(masks):
    architectures = space.architecture(masks)
    scores = objective.scores(architectures, [range(search["replicates"])] * len(masks))
    return np.array([mean(s) for s in scores])

  def on_round(_, info, state):
    for row in np.flatnonzero(info.accepted):
      architecture = tuple(int(o) for o in space.architecture(info.masks[row]))
      name = setup.runs[row]
      step = sum(a.run == name for a in found)
      costs = resources.network_cost(space, architecture)
      found.append(
        Accepted(name, step, architecture, float(info.values[row]), costs, objective.trained)
      )
      display.accepted(found[-1])

  with compiled.counting():
    limit = search["max_evaluations"] or None
    first: Sequence[Any] = list(first_additions(setup))[:limit] if _is_greedy(setup) else []
    start_scores = objective.scores([space.start], [range(search["replicates"])])
    if not np.isfinite(start_scores).all():
      raise FloatingPointError("the start network diverged: lower config.train.learning_rate")
    doing = "first step"
    # Every rule needs all of them: trained at full width, no rule waits for another.
    objective.scores(first, [range(search["replicates"])] * len(first))
    doing = "greedy" if len(first) else "search"
    answer = optimizers.maximize(
      setup.problem,
      value,
      setup.optimizer,
      max_evaluations=limit,
      seed=config["seed"],
      callback=on_round,
    )
    doing = "finalists"
    finalists = _rerun(setup, objective, _finalists(found, search["finalists"]))
    doing = "signal"
    signal = _signal(setup, objective, found, finalists)
  best = max(finalists, key=lambda f: f["value"])
  architecture = best["architecture"]
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
      "journal": len(journal),
    },
    "measured": answer.evaluations,
    "rounds": answer.rounds,
    "upper_bound": answer.upper_bound if math.isfinite(answer.upper_bound) else None,
    "compilations": objective.compilations.programs,
    "seconds": seconds | {"rest": max(total - sum(seconds.values()), 0.0), "total": total},
    "devices": f"{parallel.device_count()} x {jax.local_devices()[0].device_kind}",
    "signal": signal,
    "finalists": finalists,
    "path": [step._asdict() for step in found],
  }


def _finalists(found: Sequence[Accepted], count: int) -> list[Accepted]:
  """The best network of every run, then the best of all others on their paths."""
  by_value = sorted(found, key=lambda step: -step.value)
  best_of_run = {step.run: step for step in reversed(by_value)}
  chosen: dict[tuple[int, ...], Accepted] = {}
  for step in [*sorted(best_of_run.values(), key=lambda s: -s.value), *by_value]:
    if len(chosen) < max(count, 1):
      chosen.setdefault(step.architecture, step)
  return list(chosen.values())


def _rerun(
  setup: Setup, objective: ProxyObjective, steps: Sequence[Accepted]
) -> list[dict[str, Any]]:
  """Trains networks again with seeds that no choice has seen."""
  search = setup.config["search"]
  fresh = range(search["replicates"], search["replicates"] + search["finalist_replicates"])
  scores = objective.scores([step.architecture for step in steps], [fresh] * len(steps))
  return [
    {
      "run": step.run,
      "architecture": list(step.architecture),
      "text": setup.space.text(step.architecture),
      "resources": step.resources,
      "search_value": step.value,
      "value": mean(values),
      "standard_error": standard_error(values),
      "scores": values,
    }
    for step, values in zip(steps, scores)
  ]


def _signal(
  setup: Setup,
  objective: ProxyObjective,
  found: Sequence[Accepted],
  finalists: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
  """How the noise of a replicate compares with the gain of a block, both from fresh seeds.

  The gain is that of the first three additions of the first rule; None without additions.
  """
  path = [step for step in found if step.run == setup.runs[0]] if _is_greedy(setup) else []
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

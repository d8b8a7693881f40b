"""Ablations of RCAS, and what other optimizers need, on instances of a table.

Each is compared by its regret: the gap between the mean accuracy of its answer and the best one
within the budgets, in points. `experiments.study` runs them.
"""

import functools
import itertools
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import nas_submod as ns
from benchmarks.additive import additive
from benchmarks.runs import SEED, Case, Curves, Instance, curves_of, read_or_make
from benchmarks.tables import Table
from nas_submod import set_functions
from nas_submod.optimizers import Optimizer
from nas_submod.optimizers.greedy_family.path import Options
from nas_submod.optimizers.greedy_family.rules import make_greedy
from nas_submod.optimizers.random_sets import random_set
from nas_submod.problem import Problem

KINDS = ("exact", "noisy")
NO_DEDUPLICATION = ", no deduplication"
_DRAWS = 500  # random changes of an answer
_REPLACED = 1 / 3  # of the blocks of a path, in "last blocks at random"
_REPEATS = 20  # sets asked for each wanted measurement; repeated sets cost nothing
_RESAMPLES = 400  # of the seeds, for an error


class Change(NamedTuple):
  """A change of RCAS's answers, over the instances.

  Attributes:
    change: Mean change of the accuracy, in points. `[I]`.
    costs: Mean costs of the changed ones, as shares of the budgets. `[I, m]`.
  """

  change: np.ndarray
  costs: np.ndarray


def ablated(resources: int, canonical: bool) -> dict[str, Optimizer]:
  """RCAS and RCAS without a part of it, by name."""
  densities = [f"density:{i}" for i in range(resources)]
  alone = {f"rule {r} alone": ns.optimizers.greedy(r, lazy=True) for r in ("unit", *densities)}
  found = {
    "rcas": ns.optimizers.rcas(),
    "rcas, not lazy": ns.optimizers.rcas(lazy=False),
    "no joint rule": _without_joint(("unit", *densities)),
    **alone,
    "rule joint alone": ns.optimizers.greedy("joint", lazy=True),
  }
  if canonical:
    found["rcas" + NO_DEDUPLICATION] = ns.optimizers.rcas()
  return found


@functools.cache  # The same object each time: a program is compiled once for an object.
def _without_joint(rules: tuple[str, ...]) -> Optimizer:
  return make_greedy(rules, Options(lazy=True, batch=1))


def rivals(limit: int) -> dict[str, Optimizer]:
  """Other optimizers by name, made for `limit` measurements."""
  o = ns.optimizers
  return {
    "racing rcas": o.rcas(race=(1, 3, 6)),
    "exchange of rcas": o.exchange(o.rcas()),
    "random search": o.random_search(evaluations=limit, stop=0.0),
    "evolution": o.regularized_evolution(evaluations=_REPEATS * limit, stop=0.0),
    "local search": o.local_search(evaluations=_REPEATS * limit, stop=0.0),
    "additive model": additive(evaluations=limit),
    "surrogate": o.surrogate(evaluations=limit),
  }


def run_all(
  optimizers: dict[str, Optimizer],
  instances: Sequence[Instance],
  limit: int,
  seeds: int,
  folder: pathlib.Path,
  tell: Callable[[str], None],
  kinds: Sequence[str] = KINDS,
) -> dict[str, dict[str, list[Curves]]]:
  """Runs each optimizer on all instances, or reads what an earlier run left in the folder.

  Raises:
    ValueError: If an optimizer exceeds a budget.
  """
  runs: dict[str, dict[str, list[Curves]]] = {}
  for name, optimizer in optimizers.items():
    began = time.perf_counter()
    for kind in kinds:
      for number, instance in enumerate(instances):
        if name.endswith(NO_DEDUPLICATION):
          instance = instance._replace(case=without_canonical(instance.case))
        make = functools.partial(curves_of, optimizer, limit, instance, seeds, kind)
        curves = read_or_make(folder / f"{name}_{kind}_{number}.npz", make)
        runs.setdefault(name, {}).setdefault(kind, []).append(curves)
    tell(f"{name}: {time.perf_counter() - began:.0f} s")
  return runs


def without_canonical(case: Case) -> Case:
  """The case where equal networks are measured each on its own."""
  problem = case.problem
  plain = Problem(problem.groups, problem._cost_function, problem.budget, problem.required)
  return case._replace(problem=plain)


def regret(instances: Sequence[Instance], curves: Sequence[Curves]) -> np.ndarray:
  """Regret after each number of measurements, mean over the instances. `[seeds, limit + 1]`."""
  optima = np.array([instance.optimum for instance in instances])
  scores = np.stack([found.scores for found in curves]).astype(float)
  return (optima[:, None, None] - scores).mean(axis=0)


def needed(regrets: np.ndarray, threshold: float) -> tuple[float, float]:
  """Measurements until the mean of `regrets [seeds, limit + 1]` is at most a threshold.

  Returns:
    The number and its standard error, by the bootstrap over seeds; inf and NaN if never.
  """

  def first(mean: np.ndarray) -> float:
    below = np.flatnonzero(mean <= threshold)
    return float(below[0]) if below.size else np.inf

  rng = np.random.default_rng(SEED)
  drawn = rng.integers(0, len(regrets), (_RESAMPLES, len(regrets)))
  resampled = [first(regrets[rows].mean(axis=0)) for rows in drawn]
  error = float(np.std(resampled)) if np.isfinite(resampled).all() else np.nan
  return first(regrets.mean(axis=0)), error


def summary(
  instances: Sequence[Instance], curves: Sequence[Curves], thresholds: Sequence[float]
) -> dict[str, Any]:
  """The regrets of an optimizer as plain values: mean and standard error over seeds, and needs."""
  regrets = regret(instances, curves)
  seeds, steps = regrets.shape
  errors = regrets.std(axis=0, ddof=1) / np.sqrt(seeds) if seeds > 1 else np.zeros(steps)
  return {
    "regret": regrets.mean(axis=0).tolist(),
    "error": errors.tolist(),
    "made": float(np.mean([found.measurements for found in curves])),
    "needed": {str(threshold): needed(regrets, threshold) for threshold in thresholds},
  }


def changed_answers(instances: Sequence[Instance]) -> dict[str, Change]:
  """RCAS's answers on exact values, their last blocks drawn anew, and one random block more."""
  rows: dict[str, list[Any]] = {"last blocks at random": [], "one more random block": []}
  for instance in instances:
    case, problem = instance.case, instance.case.problem
    value = set_functions.on_host(case.mean)
    found = ns.maximize(problem, value, ns.optimizers.rcas())
    reached = [step for step in found.trace if (step.mask == found.mask).all()][:1]
    path = [step.mask for step in found.trace if reached and step.run == reached[0].run]
    path = [mask for mask in path if (mask <= found.mask).all()]
    if not path:  # The answer was measured, but no step of a greedy run ended there.
      continue
    kept = path[max(int(np.ceil(len(path) * (1 - _REPLACED))) - 1, 0)]
    keys = jax.random.split(jax.random.key(SEED), _DRAWS)
    anew = jax.vmap(random_set, (None, 0, None))(problem.replace(required=kept), keys, 0.0)
    groups = np.asarray(problem.groups)
    free = np.flatnonzero(~np.isin(groups, groups[found.mask]))
    more = found.mask | np.eye(problem.n, dtype=bool)[free]
    more = more[np.isfinite(value(more))] if len(more) else more  # A table may lack some.
    for masks, name in zip((np.asarray(anew), more), rows):
      if len(masks):
        costs = np.asarray(jax.vmap(problem.cost)(jnp.asarray(masks)))
        change = float(np.mean(value(masks))) - found.value
        rows[name].append((change, (costs / np.asarray(problem.budget)).mean(axis=0)))
  return {name: Change(*map(np.array, zip(*found))) for name, found in rows.items() if found}


def one_type_only(
  instances: Sequence[Instance], masks: np.ndarray, values: np.ndarray
) -> dict[int, float]:
  """Mean regret of the best networks of one type alone, by type: no search can find better ones.

  Args:
    instances: The instances.
    masks: All sets of the table. `[K, n]` bool.
    values: Their final scores. `[K]`.
  """
  groups = np.asarray(instances[0].case.problem.groups)
  first = np.searchsorted(groups, groups)
  types = np.arange(len(groups)) - first + 1
  found: dict[int, list[float]] = {int(kind): [] for kind in np.unique(types)}
  for instance in instances:
    problem = instance.case.problem
    fits = np.asarray(jax.jit(jax.vmap(problem.feasible))(jnp.asarray(masks)))
    for kind, regrets in found.items():
      alone = fits & ~masks[:, types != kind].any(axis=1)
      regrets.append(instance.optimum - values[alone].max(initial=-np.inf))
  return {kind: float(np.mean(regrets)) for kind, regrets in found.items()}


def all_sets(table: Table, problem: Problem) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """All sets of a table: masks `[K, n]` bool, the rows that hold them, and their objects `[K]`.

  Sets of one object have the same canonical form.
  """
  choices = [np.flatnonzero(table.groups == group) for group in np.unique(table.groups)]
  chosen = itertools.product(*([-1, *elements] for elements in choices))
  masks = (np.array(list(chosen))[:, :, None] == np.arange(problem.n)).any(axis=1)
  rows = np.asarray(jax.jit(jax.vmap(table.row))(jnp.asarray(masks)))
  masks, rows = masks[rows < len(table.costs)], rows[rows < len(table.costs)]
  forms = np.asarray(jax.jit(jax.vmap(problem.canonical_form))(jnp.asarray(masks)))
  return masks, rows, np.unique(forms, axis=0, return_inverse=True)[1]

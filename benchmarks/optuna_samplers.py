"""Optuna's samplers on the same cases, in a setup that favours them.

A group is a categorical parameter: one of its elements or none. An element without a group is a
parameter of two values. Each budget is a constraint of the trial, in shares of the budget, so a
sampler learns by how much a suggestion failed. Only feasible sets are measured, each canonical set
once. Infeasible and known suggestions cost nothing, up to 20 suggestions for each measurement.
Every study starts like `regularized_evolution`: with the required set and random maximal sets. The
answer is the set of the best measured value.

`tpe` is multivariate with groups. `nsga2` comes in several population sizes; its fair result is the
best of them at each number of measurements.
"""

import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optuna

from benchmarks.runs import Case, Curves
from nas_submod.optimizers.random_sets import random_set
from nas_submod.problem import Problem

NSGA2_POPULATIONS = (10, 20, 50)
_SUGGESTIONS = 20  # per measurement, after which a sampler is stopped

Sampler = Callable[[int], optuna.samplers.BaseSampler]
Parameters = dict[str, np.ndarray]  # elements of each parameter; its value 0 is none of them


def samplers() -> dict[str, tuple[Sampler, int]]:
  """Returns by name a function of the seed, and the number of sets that a study starts with."""

  def tpe(seed: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
      return optuna.samplers.TPESampler(
        multivariate=True, group=True, n_startup_trials=10, seed=seed
      )

  def nsga2(population: int) -> Sampler:
    return lambda seed: optuna.samplers.NSGAIISampler(population_size=population, seed=seed)

  return {
    "optuna_tpe": (tpe, 10),
    **{f"optuna_nsga2_{size}": (nsga2(size), size) for size in NSGA2_POPULATIONS},
  }


def run(sampler: Sampler, start: int, case: Case, limit: int, seeds: int, exact: bool) -> Curves:
  """Runs a sampler once for each seed.

  Args:
    sampler: Makes the sampler of a seed.
    start: Number of sets that a study starts with.
    case: The case.
    limit: Largest number of measurements.
    seeds: Number of runs.
    exact: Whether F is measured without noise.

  Returns:
    The curves.
  """
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  runs = [_run(sampler(seed), start, case, limit, seed, exact) for seed in range(seeds)]
  return Curves(np.stack([scores for scores, _ in runs]), np.array([made for _, made in runs]))


@jax.jit
def _look(case: Case, mask: jax.Array) -> tuple[jax.Array, ...]:
  problem = case.problem
  budget = problem.budget
  excess = (problem.cost(mask) - budget) / jnp.where(budget > 0, budget, 1)
  feasible, key = problem.feasible(mask), problem.canonical_form(mask)
  return feasible, excess, key, case.mean(mask), case.judge(mask)


@jax.jit
def _draw(case: Case, mask: jax.Array, rng: jax.Array) -> jax.Array:
  return case.draw(mask, rng)


@jax.jit
def _starts(problem: Problem, rngs: jax.Array) -> jax.Array:
  return jax.vmap(lambda rng: random_set(problem, rng, 0.0))(rngs)


def _parameters(problem: Problem) -> Parameters:
  groups = np.asarray(problem.groups)
  alone = {f"element {i}": np.array([i]) for i in np.flatnonzero(groups < 0)}
  grouped = {f"group {g}": np.flatnonzero(groups == g) for g in np.unique(groups[groups >= 0])}
  return alone | grouped


def _run(
  sampler: optuna.samplers.BaseSampler,
  start: int,
  case: Case,
  limit: int,
  seed: int,
  exact: bool,
) -> tuple[np.ndarray, int]:
  problem = case.problem
  rng = jax.random.key(seed)
  parameters = _parameters(problem)
  study = optuna.create_study(sampler=sampler, direction="maximize")
  first = np.asarray(_starts(problem, jax.random.split(rng, start)))
  for mask in [np.asarray(problem.required), *first[1:]]:
    study.enqueue_trial(
      {
        name: int((mask[some] * (1 + np.arange(some.size))).sum())
        for name, some in parameters.items()
      }
    )
  store: dict[bytes, float] = {}
  scores = np.full(limit + 1, float(case.judge(problem.required)))
  best = -np.inf
  for _ in range(_SUGGESTIONS * limit):
    if len(store) >= limit:
      break
    trial = study.ask()
    mask = np.asarray(problem.required).copy()
    for name, some in parameters.items():
      choice = trial.suggest_categorical(name, list(range(some.size + 1)))
      if choice:
        mask[some[choice - 1]] = True
    feasible, excess, key, value, score = jax.device_get(_look(case, mask))
    for resource, share in enumerate(excess):
      trial.set_constraint(f"budget {resource}", float(share if not feasible else min(share, 0)))
    if not feasible:
      study.tell(trial, 0.0)
      continue
    known = key.tobytes()
    if known not in store:
      if not exact:
        value = _draw(case, mask, jax.random.fold_in(rng, len(store)))
      store[known] = float(value)
      if store[known] > best:
        best = store[known]
        scores[len(store) :] = score
    study.tell(trial, store[known])
  return scores, len(store)

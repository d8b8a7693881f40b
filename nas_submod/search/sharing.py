"""Shared weights in a search: they are trained first, then score networks.

With `config.evaluation.method=shared_weights` the score is the value of a network, and only
finalists are trained. With `config.search.options={"features": "shared_weights"}` the optimizer
`surrogate` chooses which networks of a scored pool are trained, and learns what the score is worth.
"""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from nas_submod import identity, networks, parallel
from nas_submod.evaluation.evaluator import BESIDE_TRAININGS, SHARED_WEIGHTS, Evaluator
from nas_submod.evaluation.objective import Objective
from nas_submod.evaluation.shared_weights import score, settings, store, train
from nas_submod.evaluation.shared_weights.evaluator import SharedWeights
from nas_submod.optimizers import Optimizer
from nas_submod.optimizers.largest_sets import largest_sets
from nas_submod.optimizers.neighbours import random_neighbour
from nas_submod.optimizers.random_sets import maximal_sets
from nas_submod.problem import Problem
from nas_submod.search import inputs
from nas_submod.search.setup import Setup, make_optimizer
from nas_submod.workdir import check_workdir, plain_of

FOLDER = "shared_weights"  # in a workdir: checkpoints of each store
_GENERATIONS = 3  # of networks near the best ones of the pool


def evaluator_with_shared_weights(
  setup: Setup,
  evaluator: Evaluator,
  workdir: pathlib.Path | None = None,
  on_step: Callable[[int, int], None] = lambda step, steps: None,
  on_progress: Callable[[float], None] = lambda share: None,
) -> Evaluator:
  """Trains or reads the stores of a search, and wraps its evaluator.

  Args:
    setup: The setup; if it has no shared weights, the evaluator is returned unchanged.
    evaluator: Trains networks.
    workdir: The folder of the search, where stores are kept; None keeps them in memory.
    on_step: Called with the steps done and all steps, of all stores.
    on_progress: Called with the share of a call's networks that are scored.

  Raises:
    FloatingPointError: If the training of a store diverges.
    preemption.Preempted: On SIGTERM while a store trains, after a checkpoint.
  """
  if not setup.shares:
    return evaluator
  config, found = setup.config, settings.from_config(setup.config, setup.data)
  steps = found.recipe.steps
  stores = []
  for number in range(found.stores):

    def on_step_of_store(step: int, _: int, before: int = number * steps) -> None:
      on_step(before + step, found.stores * steps)

    folder = workdir and workdir / FOLDER / str(number)
    stores.append(
      train.train(setup.space, setup.problem, setup.data, config, folder, number, on_step_of_store)
    )
  return SharedWeights(
    evaluator,
    setup.space,
    score.make_metrics(setup.space, found.recipe),
    score.scoring_data(stores, setup.data, found.statistics_images),
    settings.method_of(config) == SHARED_WEIGHTS,
    on_progress,
  )


def variables_of(
  setup: Setup, workdir: pathlib.Path, architecture: Sequence[int]
) -> networks.Variables:
  """The variables of `networks.build` from the first store of a search, for its final training.

  Raises:
    ValueError: If the folder of the search has no finished shared weights, or they are from another
      config.
  """
  folder = workdir / FOLDER / "0"
  steps = settings.from_config(setup.config, setup.data).recipe.steps

  def check() -> None:
    if not folder.is_dir():
      raise ValueError(
        f"{folder} does not exist: config.final.from_shared_weights needs the --workdir of a "
        "search that trained shared weights"
      )
    check_workdir(workdir, plain_of(_plain(setup.config)), _of_store, inputs.of_search(setup))
    if not (folder / str(steps)).is_dir():
      raise ValueError(f"the shared weights in {folder} are not finished: run the search again")

  parallel.on_first_process(check)
  stored = train.train(setup.space, setup.problem, setup.data, setup.config, folder)
  network = networks.build_universal(setup.space, parallel.platform_of())
  numbers = jnp.asarray(architecture)
  params = store.take(stored, store.where(network, numbers))
  return network.specialize(
    networks.Variables(params, network.init(jax.random.key(0), numbers).state), architecture
  )


def _of_store(config: Mapping[str, Any]) -> dict[str, Any]:
  """The part of a plain config that decides what a store is."""
  evaluation = (config.get("evaluation") or {}) | {"method": SHARED_WEIGHTS}
  part = identity.of_evaluations({**config, "evaluation": evaluation})
  of_store = {name: part["evaluation"].get(name) for name in ("store", "least_share")}
  return {**part, "evaluation": of_store}


def _plain(config: Mapping[str, Any]) -> Mapping[str, Any]:
  return config.to_dict() if isinstance(config, ConfigDict) else config


def guided_optimizer(setup: Setup, objective: Objective) -> Optimizer:
  """The optimizer of a config, given a pool of networks and their shared-weights scores."""
  pool, scores = scored_pool(setup, objective)
  options = {**setup.config["search"]["options"], "pool": pool, "features": scores[:, None]}
  priced = [name for name in setup.budget if setup.resources[name].additive]
  return make_optimizer(setup.config, setup.space, priced, options).optimizer


def scored_pool(setup: Setup, objective: Objective) -> tuple[np.ndarray, np.ndarray]:
  """Scores networks for `surrogate` to choose from.

  The networks are the largest sets, random maximal sets, and neighbours of the best sets so far.

  Returns:
    Distinct canonical masks `[K, n]` and their scores `[K]`.
  """
  size = settings.from_config(setup.config, setup.data).pool
  problem, key = setup.problem, jax.random.key(setup.config["seed"])
  pool = np.zeros((0, problem.n), bool)
  scores = np.zeros(0)
  draws = 8 * -(-size // (1 + _GENERATIONS))  # equally many each time, so nothing compiles again
  for generation in range(1 + _GENERATIONS):
    wanted = -(-size * (generation + 1) // (1 + _GENERATIONS)) - len(pool)
    best = pool[np.argsort(-scores, kind="stable")[: max(len(pool) // 4, 1)]]
    drawn = _draw(problem, jax.random.fold_in(key, generation), best, draws)
    new = _new(drawn, pool)[:wanted]
    if len(new):
      found = objective.scores(setup.space.architecture(new), [[BESIDE_TRAININGS]] * len(new))
      pool = np.concatenate([pool, new])
      scores = np.append(scores, np.array(found)[:, 0])
  finite = np.isfinite(scores)
  return pool[finite], scores[finite]


def _draw(problem: Problem, key: jax.Array, best: np.ndarray, count: int) -> np.ndarray:
  """Draws feasible sets: near `best [B, n]`, or the largest and maximal ones if it is empty."""
  if len(best):
    keys = jax.random.split(key, count)
    masks, fits = _near(problem, keys, best[np.arange(count) % len(best)])
  else:
    masks, fits = _maximal(problem, key, count)
  return np.asarray(masks)[np.asarray(fits)]


@functools.partial(jax.jit, static_argnums=2)
def _maximal(problem: Problem, key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
  """The largest sets, then `count` random maximal ones: canonical forms, and which fit."""
  masks = jnp.concatenate([largest_sets(problem), maximal_sets(problem, key, count)])
  return jax.vmap(problem.canonical_form)(masks), jax.vmap(problem.feasible)(masks)


@jax.jit
def _near(problem: Problem, keys: jax.Array, masks: jax.Array) -> tuple[jax.Array, jax.Array]:
  """A random neighbour of each set `[K, n]`: canonical forms, and which fit."""
  chances = jax.vmap(lambda key: jax.random.uniform(key, (5,)))(keys)
  near = jax.vmap(lambda mask, chance: random_neighbour(problem, mask, chance))(masks, chances)
  return jax.vmap(problem.canonical_form)(near), jax.vmap(problem.feasible)(near)


def _new(drawn: np.ndarray, pool: np.ndarray) -> np.ndarray:
  """The distinct rows of `drawn [K, n]` that `pool` lacks, in their order."""
  known = {row.tobytes() for row in pool}
  rows = []
  for row in drawn:
    if row.tobytes() not in known:
      known.add(row.tobytes())
      rows.append(row)
  return np.array(rows).reshape(-1, drawn.shape[1])

"""Networks near the budgets, evaluations that are kept, and models fitted to them."""

import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod import resources
from nas_submod.evaluation.evaluator import Evaluation, Evaluator, Job
from nas_submod.evaluation.journal import Journal, Journaled
from nas_submod.evaluation.shared_weights import score, settings
from nas_submod.evaluation.shared_weights import train as stores
from nas_submod.evaluation.shared_weights.evaluator import SharedWeights
from nas_submod.networks.layer import Params
from nas_submod.optimizers.bayesian import kernel, posterior
from nas_submod.optimizers.bayesian.data import Data, warp
from nas_submod.optimizers.random_sets import random_set
from nas_submod.precision import full_precision
from nas_submod.problem import Problem
from nas_submod.search.setup import Setup

_LEAST = 0.8  # share of some budget that a network uses
_DRAWN, _ROUNDS = 256, 100  # sets drawn at once, and how often before giving up
_ROOM = 64  # measurements of a program of the surrogate, which are filled up
_FIT_ROUNDS = 25  # of the fit of the surrogate; a search takes one after each measurement


class Progress:
  """Writes to standard error how much is done and how long the rest may take."""

  def __init__(self, what: str):
    self._what, self._began, self._said = what, time.perf_counter(), 0.0
    self._first: int | None = None

  def __call__(self, done: int, total: int) -> None:
    """Says it, at most every ten seconds, and at the end."""
    now = time.perf_counter()
    if self._first is None:
      self._first, self._began = done, now  # What compiles, or was done earlier, is not counted.
    if now - self._said < 10 and done < total:
      return
    self._said = now
    line = f"{self._what}: {done:,} of {total:,}"
    if done > self._first:
      rest = (now - self._began) / (done - self._first) * (total - done)
      line += f", {rest / 60:.0f} minutes left"
    print(line, file=sys.stderr, flush=True)


def random_networks(setup: Setup, count: int) -> list[tuple[int, ...]]:
  """Draws distinct random maximal sets that use 80% or more of a budget.

  A smaller `count` gives the first of them.

  Raises:
    ValueError: If too few are found.
  """
  problem, space = setup.problem, setup.space

  @jax.jit
  def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    masks = jax.vmap(lambda key: random_set(problem, key, 0.0))(jax.random.split(key, _DRAWN))
    return masks, (jax.vmap(problem.cost)(masks) / problem.budget).max(axis=1) >= _LEAST

  found: dict[tuple[int, ...], None] = {}
  for number in range(_ROUNDS):
    masks, near = map(np.asarray, draw(jax.random.fold_in(jax.random.key(0), number)))
    for architecture in space.canonical(space.architecture(masks[near])):
      found.setdefault(tuple(architecture.tolist()))
    if len(found) >= count:
      return list(found)[:count]
  raise ValueError(
    f"only {len(found)} networks that use {_LEAST:.0%} of a budget were found, {count} are needed: "
    "lower --judged, --fits or config.evaluation.store.steps"
  )


def evaluated(
  evaluator: Evaluator, setup: Setup, journal: Journal, jobs: Sequence[Job], what: str
) -> list[Evaluation]:
  """Evaluates jobs; what the journal holds is not evaluated again.

  Raises:
    ValueError: If an evaluation failed.
  """
  progress = Progress(what)

  def counted(jobs: Sequence[Job]) -> Iterator[Evaluation]:
    for done, evaluation in enumerate(evaluator(jobs), 1):
      yield evaluation
      progress(done, len(jobs))

  found = Journaled(counted, setup.space, journal)(jobs)
  if failed := [evaluation for evaluation in found if evaluation.metrics is None]:
    raise ValueError(f"{what}: network {failed[0].key} failed: {failed[0].cause}")
  return found


class Scores(NamedTuple):
  """Scores with shared weights, a row for each store.

  Attributes:
    loss: Negative validation loss, in nats. `[stores, N]`.
    accuracy: Share of the validation images that are classified correctly. `[stores, N]`.
    seconds: Seconds of a network with one store, in the fastest call.
  """

  loss: np.ndarray
  accuracy: np.ndarray
  seconds: float

  @property
  def feature(self) -> np.ndarray:
    """The mean loss, as a block of features. `[N, 1]`."""
    return self.loss.mean(axis=0)[:, None]

  def of_first(self, count: int) -> "Scores":
    """The scores of the first networks."""
    return self._replace(loss=self.loss[:, :count], accuracy=self.accuracy[:, :count])


class Shared:
  """The stores of a config, trained, and scores with them.

  Attributes:
    settings: The settings of `config.evaluation`.
  """

  def __init__(self, setup: Setup, workdir: pathlib.Path):
    """Trains the stores, or reads them from their folders in the workdir."""
    self.settings = settings.from_config(setup.config, setup.data)
    self._setup, self._workdir = setup, workdir
    self._metrics = score.make_metrics(setup.space, self.settings.recipe)
    self._stores = [self._trained(number) for number in range(self.settings.stores)]

  def _trained(self, number: int) -> Params:
    setup, folder = self._setup, self._workdir / f"store_{number}"
    progress = Progress(f"store {number}, steps")
    return stores.train(
      setup.space, setup.problem, setup.data, setup.config, folder, number, progress
    )

  def scores(self, networks: Sequence[tuple[int, ...]], images: int) -> Scores:
    """Scores networks after batch norm was estimated on a number of images."""
    found = []
    for number, store in enumerate(self._stores):
      held = score.scoring_data([store], self._setup.data, images)
      evaluator = SharedWeights(_no_trainings, self._setup.space, self._metrics, held)
      journal = Journal(self._workdir / f"scores_{number}_{images}.jsonl")
      jobs, what = [Job(network, 0) for network in networks], f"store {number}, {images} images"
      found.append(evaluated(evaluator, self._setup, journal, jobs, what))
    loss, accuracy = (_metric(found, name) for name in ("loss", "accuracy"))
    return Scores(-loss, accuracy, float(min(e.seconds for row in found for e in row)))


def _metric(found: Sequence[Sequence[Evaluation]], name: str) -> np.ndarray:
  return np.array([[(e.metrics or {})[name] for e in row] for row in found])


def _no_trainings(jobs: Sequence[Job]) -> list[Evaluation]:
  raise AssertionError(f"{len(jobs)} trainings were asked of an evaluator that only scores")


def blocks(setup: Setup, networks: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
  """Features of an additive model: elements `[N, n]`, depth `[N, 1]`, log costs `[N, m]`."""
  array = np.array(networks)
  costs = resources.network_costs(setup.space, array, tuple(setup.budget), setup.resources)
  depth = np.count_nonzero(array, axis=1)[:, None].astype(float)
  return [setup.space.mask(array).astype(float), depth, np.log(costs)]


class Surrogate:
  """The model of the optimizer `surrogate`, used like `ranking.Additive`."""

  def __init__(self, problem: Problem, masks: np.ndarray, score: np.ndarray | None):
    """Takes all networks `[M, n]` bool, and a score as a feature `[M, 1]` or None."""
    self._given = problem, jnp.asarray(masks), None if score is None else jnp.asarray(score)

  def predict(self, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Posterior means of all networks, from values `[K]` of those of `rows [K]`. `[M]`."""
    room = (0, -len(rows) % _ROOM)
    used = np.pad(np.ones(len(rows), int), room)
    found = _posterior_means(*self._given, np.pad(rows, room), np.pad(values, room), used)
    return np.asarray(found)


@jax.jit
@full_precision()
def _posterior_means(
  problem: Problem,
  masks: jax.Array,
  given: jax.Array | None,
  rows: jax.Array,
  values: jax.Array,
  used: jax.Array,
) -> jax.Array:
  """Fits the model of `surrogate`, which takes values in any unit, and predicts. `[M]`."""
  even = len(masks) // 2 * 2  # `encode` takes two halves.
  encoding = kernel.encode(problem, masks[:even], None if given is None else given[:even])
  features = kernel.featurize(problem, encoding, masks, given)
  of_data = jax.tree.map(lambda feature: feature[rows], features)
  measured = Data(masks[rows], of_data, values, used, jnp.full(len(rows), jnp.nan))
  targets = warp(measured)
  fit = jax.lax.fori_loop(
    0,
    _FIT_ROUNDS,
    lambda _, fit: posterior.improve(fit, encoding, measured, targets),
    posterior.start_fit(encoding),
  )
  found = posterior.condition(fit.parameters, encoding, measured, targets)
  return posterior.covariances(found, encoding, features) @ found.pull

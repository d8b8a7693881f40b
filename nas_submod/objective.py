"""The set function F(S): build the network of a set, train it briefly, return its score.

One program trains every architecture; each device trains another one at the same time. Evaluations
are stored under the canonical form and the replicate, in a journal on disk before they are used.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod import networks, parallel, training
from nas_submod.compilation import CompilationLog
from nas_submod.data import Data
from nas_submod.journal import Evaluation, Journal
from nas_submod.spaces import SearchSpace

SCORES: Mapping[str, Callable[[Mapping[str, float]], float]] = {
  "accuracy": lambda metrics: metrics["accuracy"],
  "negative_loss": lambda metrics: -metrics["loss"],
}

_EVAL_BATCH = 256


class Job(NamedTuple):
  """One network to train: a canonical architecture and a replicate."""

  architecture: tuple[int, ...]
  replicate: int


class Programs(NamedTuple):
  """The three compiled programs of a search; leading axis `[D]` = devices.

  Attributes:
    start: `(seed [D, 2], architecture [D, positions]) -> TrainState`.
    train: `(TrainState, seed, architecture, order [D, steps, B], images, labels, stop)`: trains to
      step `stop`.
    evaluate: `(TrainState, architecture, images [batches, B, ...], labels) -> Metrics [D]`.
  """

  start: Callable[..., Any]
  train: Callable[..., Any]
  evaluate: Callable[..., Any]


def make_programs(space: SearchSpace, recipe: training.Recipe) -> Programs:
  """Makes the programs that train any architecture of a space."""
  network = networks.build_universal(space)

  def key_of(seed):
    return jax.random.fold_in(jax.random.key(seed[0]), seed[1])

  def apply_of(architecture):
    return lambda params, state, x, train: network.apply(params, state, architecture, x, train)

  def start(seed, architecture):
    variables = network.init(key_of(seed), architecture)
    return training.start(variables, recipe.transformation)

  def train(train_state, seed, architecture, order, images, labels, stop):
    rng = jax.random.fold_in(key_of(seed), 1)

    def step(state):
      rows = order[state.step]
      batch = images[rows], labels[rows]
      return training.train_step(recipe, apply_of(architecture), state, rng, *batch)[0]

    return jax.lax.while_loop(lambda state: state.step < stop, step, train_state)

  def evaluate(train_state, architecture, images, labels):
    def step(total, batch):
      metrics = training.eval_step(
        recipe, apply_of(architecture), train_state.params, train_state.state, *batch
      )
      return jax.tree.map(jnp.add, total, metrics), None

    zeros = training.Metrics(*(jnp.zeros((), t) for t in (int, int, float, int)))
    return jax.lax.scan(step, zeros, (images, labels))[0]

  return Programs(
    parallel.pmap_candidates(start, (0, 0)),
    parallel.pmap_candidates(train, (0, 0, 0, 0, None, None, None), donate=(0,)),
    parallel.pmap_candidates(evaluate, (0, 0, None, None)),
  )


class ProxyObjective:
  """F(S) by a short training on the training split, scored on the validation split.

  Attributes:
    trained: Networks trained by this object.
    reused: Values that were asked for and found in the journal.
    failed: Trained networks that diverged.
    train_seconds: Spent in training and evaluation, without compiling.
    compilations: What was compiled for training.
  """

  def __init__(
    self,
    space: SearchSpace,
    data: Data,
    config: Mapping[str, Any],
    journal: Journal,
    on_progress: Callable[[float], None] = lambda share: None,
  ):
    """Prepares the data; compiles nothing yet.

    Args:
      space: The space; images and classes must be those of the data.
      data: Splits as NumPy arrays.
      config: `seed`, `score`, and `train` (see `training.recipe`) with `steps_per_call`.
      journal: Where evaluations are looked up and stored.
      on_progress: Called with the share of the networks under way that is done.

    Raises:
      ValueError: If data and space do not fit, or a setting is unknown.
    """
    check_fit(space, data)
    if config["score"] not in SCORES:
      raise ValueError(f"unknown score {config['score']!r}; allowed: {', '.join(SCORES)}")
    self._space, self._journal, self._on_progress = space, journal, on_progress
    self._score = SCORES[config["score"]]
    self._seed = config["seed"]
    self._steps_per_call = config["train"]["steps_per_call"]
    self._recipe = training.recipe(config["train"], data)
    self._programs = make_programs(space, self._recipe)
    self._train = parallel.replicate(data.train)
    self._validation = parallel.replicate(training.batches(data.validation, _EVAL_BATCH))
    self._orders: dict[int, np.ndarray] = {}
    self.trained = self.reused = self.failed = 0
    self.train_seconds = 0.0
    self.compilations = CompilationLog()

  def __call__(
    self, masks: np.ndarray, replicates: np.ndarray | None = None
  ) -> tuple[np.ndarray, np.ndarray]:
    """Values and standard errors of sets; `-inf` where a network diverged.

    Args:
      masks: Feasible sets. Shape `[K, n]` bool.
      replicates: Trainings per set, 1 by default. Shape `[K]` int.

    Returns:
      Mean scores and their standard errors (NaN for a single training). Shapes `[K]`.
    """
    counts = np.ones(len(masks), int) if replicates is None else np.asarray(replicates)
    architectures = self._space.architecture(np.asarray(masks))
    wanted = [range(count) for count in counts]
    scores = self.scores(architectures, wanted)
    return np.array([mean(s) for s in scores]), np.array([standard_error(s) for s in scores])

  def scores(
    self, architectures: Sequence[Sequence[int]], replicates: Sequence[Sequence[int]]
  ) -> list[list[float]]:
    """Scores of the stated replicates of each architecture, trained where the journal lacks them.

    Args:
      architectures: Any form. `[K, positions]`.
      replicates: Which replicates of each.

    Returns:
      For each architecture its scores in the order asked, `-inf` where a network diverged.
    """
    jobs = [
      [Job(tuple(int(o) for o in self._space.canonical(np.asarray(a))), r) for r in wanted]
      for a, wanted in zip(architectures, replicates)
    ]
    asked = dict.fromkeys(job for row in jobs for job in row)
    missing = [job for job in asked if self._find(job) is None]
    self.reused += len(asked) - len(missing)
    devices = parallel.device_count()
    for first in range(0, len(missing), devices):
      self._train_round(missing[first : first + devices])
    return [[self._value(job) for job in row] for row in jobs]

  def _find(self, job: Job) -> Evaluation | None:
    return self._journal.get(self._space.key(job.architecture), job.replicate)

  def _value(self, job: Job) -> float:
    evaluation = self._find(job)
    assert evaluation is not None
    return -math.inf if evaluation.metrics is None else self._score(evaluation.metrics)

  def _train_round(self, jobs: Sequence[Job]) -> None:
    """Trains up to one network a device, and writes the results to the journal."""
    began, compiled = time.perf_counter(), self.compilations.seconds
    padded = [*jobs, *[jobs[-1]] * (parallel.device_count() - len(jobs))]
    with self.compilations.counting():
      states, metrics = self._run(padded)
    seconds = time.perf_counter() - began - (self.compilations.seconds - compiled)
    results = []
    for row, job in enumerate(jobs):
      train_loss = float(states.loss_sum[row]) / self._recipe.steps
      loss = float(metrics.loss[row]) / int(metrics.examples[row])
      found = {
        "accuracy": int(metrics.correct[row]) / int(metrics.examples[row]),
        "loss": loss,
        "train_loss": train_loss,
      }
      finite = math.isfinite(loss) and math.isfinite(train_loss)
      key = self._space.key(job.architecture)
      results.append(Evaluation(key, job.replicate, found if finite else None, seconds / len(jobs)))
    self._journal.add(results)
    self.trained += len(results)
    self.failed += sum(result.metrics is None for result in results)
    self.train_seconds += seconds

  def _run(self, jobs: Sequence[Job]) -> tuple[training.TrainState, training.Metrics]:
    jobs = parallel.own_part(jobs)
    seeds = np.array([(self._seed, job.replicate) for job in jobs], np.uint32)
    architectures = np.array([job.architecture for job in jobs], np.int32)
    orders = np.stack([self._order(job.replicate) for job in jobs])
    self._on_progress(0.0)
    states = self._programs.start(seeds, architectures)
    steps, chunk = self._recipe.steps, self._steps_per_call
    for stop in [*range(chunk, steps, chunk), steps]:
      states = self._programs.train(
        states, seeds, architectures, orders, *self._train, np.int32(stop)
      )
      jax.block_until_ready(states.step)
      self._on_progress(stop / steps)
    metrics = self._programs.evaluate(states, architectures, *self._validation)
    return parallel.gather((states.replace(params=(), state=(), optimizer=()), metrics))

  def _order(self, replicate: int) -> np.ndarray:
    if replicate not in self._orders:
      size = self._train.labels.shape[0]
      self._orders[replicate] = training.batch_order(
        (self._seed, replicate), size, self._recipe.batch_size, self._recipe.steps
      )
    return self._orders[replicate]


def check_fit(space: SearchSpace, data: Data) -> None:
  """Checks that a space is made for the data.

  Raises:
    ValueError: If image shapes or numbers of classes differ.
  """
  shape = data.train.images.shape[1:]
  if shape != space.image_shape:
    raise ValueError(
      f"images are {shape}, space {space.name} takes {space.image_shape}: "
      "set config.space.image_shape or config.data.image_size"
    )
  if data.classes != space.classes:
    raise ValueError(
      f"data have {data.classes} classes, space {space.name} has {space.classes}: "
      "set config.space.classes"
    )


def mean(scores: Sequence[float]) -> float:
  """Mean score; `-inf` if a replicate diverged."""
  return float(np.mean(scores))


def standard_error(scores: Sequence[float]) -> float:
  """Standard error of the mean; NaN for a single score or a diverged replicate."""
  if len(scores) < 2 or not np.isfinite(scores).all():
    return math.nan
  return float(np.std(scores, ddof=1) / len(scores) ** 0.5)

"""The set function F(S): build the network of a set, train it briefly, return its score.

One program trains every architecture; each device trains another one at the same time. Evaluations
are stored under the canonical form and the replicate, in a journal on disk before they are used.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from nas_submod import networks, parallel, training
from nas_submod.compilation import CompilationLog, compile_together
from nas_submod.data import Data
from nas_submod.inherit import Ancestors, Weights, collect, graft
from nas_submod.journal import Evaluation, Journal
from nas_submod.programs import make_programs
from nas_submod.spaces import SearchSpace

SCORES: Mapping[str, Callable[[Mapping[str, float]], float]] = {
  "accuracy": lambda metrics: metrics["accuracy"],
  "negative_loss": lambda metrics: -metrics["loss"],
  # The mean over all steps, so the sum of training losses (Ru et al. 2021): no held-out image says
  # more of a short training than how fast it learned.
  "negative_train_loss": lambda metrics: -metrics["train_loss"],
}

_EVAL_BATCH = 256


class Job(NamedTuple):
  """One network to train: a canonical architecture, a replicate, and the key of its parent."""

  architecture: tuple[int, ...]
  replicate: int
  parent: str | None = None


class ProxyObjective:
  """F(S) by a short training on the training split, scored on the validation split.

  Attributes:
    trained: Networks trained by this object.
    steps: Steps of their trainings.
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
      config: `seed`, `score`, and `train` (see `training.recipe`) with `steps_per_call` and, if
        networks are to inherit, `inherit_steps`: the steps of one that starts from a parent.
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
    self._inherit_steps = config["train"].get("inherit_steps", 0)
    self._ancestors = Ancestors(space, journal, lambda evaluation: self._score_of(evaluation))
    self._recipe = training.recipe(config["train"], data)
    self._network = networks.build_universal(space)
    self._programs = make_programs(space, self._recipe)
    self._train = parallel.replicate(data.train)
    self._validation = parallel.replicate(training.batches(data.validation, _EVAL_BATCH))
    self._orders: dict[int, np.ndarray] = {}
    self._compiled = False
    self.trained = self.steps = self.reused = self.failed = 0
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
    self,
    architectures: Sequence[Sequence[int]],
    replicates: Sequence[Sequence[int]],
    afresh: bool = False,
  ) -> list[list[float]]:
    """Scores of the stated replicates of each architecture, trained where the journal lacks them.

    Args:
      architectures: Any form. `[K, positions]`.
      replicates: Which replicates of each.
      afresh: Train in full, whatever could be inherited, and let nothing inherit from it.

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
    inherit = self._inherit_steps > 0 and not afresh
    if inherit:
      missing = [job._replace(parent=self._ancestors.parent(*job[:2])) for job in missing]
      missing.sort(key=self._length)  # Those that take equally long go together.
    devices = parallel.device_count()
    for first in range(0, len(missing), devices):
      self._train_round(missing[first : first + devices])
    if inherit:
      self._ancestors.use(found for job in asked if (found := self._find(job)))
    return [[self._value(job) for job in row] for row in jobs]

  def _find(self, job: Job) -> Evaluation | None:
    return self._journal.get(self._space.key(job.architecture), job.replicate)

  def _value(self, job: Job) -> float:
    evaluation = self._find(job)
    assert evaluation is not None
    return self._score_of(evaluation)

  def _score_of(self, evaluation: Evaluation) -> float:
    return -math.inf if evaluation.metrics is None else self._score(evaluation.metrics)

  def _length(self, job: Job) -> int:
    return self._recipe.steps if job.parent is None else self._inherit_steps

  def _train_round(self, jobs: Sequence[Job]) -> None:
    """Trains up to one network a device, and writes the results to the journal."""
    began, compiled = time.perf_counter(), self.compilations.seconds
    padded = [*jobs, *[jobs[-1]] * (parallel.device_count() - len(jobs))]
    with self.compilations.counting():
      states, metrics = self._run(padded)
    seconds = time.perf_counter() - began - (self.compilations.seconds - compiled)
    results = []
    for row, job in enumerate(jobs):
      length = self._length(job)
      train_loss = float(states.loss_sum[row]) / length
      loss = float(metrics.loss[row]) / int(metrics.examples[row])
      found = {
        "accuracy": int(metrics.correct[row]) / int(metrics.examples[row]),
        "loss": loss,
        "train_loss": train_loss,
      }
      finite = math.isfinite(loss) and math.isfinite(train_loss)
      metrics_found = found if finite else None
      taken = seconds / len(jobs), length, job.parent
      key = self._space.key(job.architecture)
      results.append(Evaluation(key, job.replicate, metrics_found, *taken))
      if self._inherit_steps and job.replicate == 0 and finite:
        own = _row(states.best_variables, row)
        self._ancestors.write(key, collect(self._network, own, job.architecture))
    self._journal.add(results)
    self.trained += len(results)
    self.steps += sum(result.steps for result in results)
    self.failed += sum(result.metrics is None for result in results)
    self.train_seconds += seconds

  def _run(self, jobs: Sequence[Job]) -> tuple[training.TrainState, training.Metrics]:
    parents = {job.parent for job in jobs if job.parent is not None}
    weights = {parent: self._ancestors.read(parent) for parent in sorted(parents)}
    jobs = parallel.own_part(jobs)
    seeds = np.array([(self._seed, job.replicate) for job in jobs], np.uint32)
    architectures = np.array([job.architecture for job in jobs], np.int32)
    orders = np.stack([self._order(job.replicate) for job in jobs])
    lengths = np.array([self._length(job) for job in jobs], np.int32)
    self._on_progress(0.0)
    if not self._compiled:
      self._compile(seeds, architectures, orders, lengths)
    states = self._programs.start(seeds, architectures)
    if weights:
      states = self._grafted(states, jobs, weights)
    steps, chunk = int(lengths.max()), self._steps_per_call
    for stop in [*range(chunk, steps, chunk), steps]:
      states = self._programs.train(
        states, seeds, architectures, orders, lengths, *self._train, np.int32(stop)
      )
      jax.block_until_ready(states.step)
      self._on_progress(stop / steps)
    metrics = self._programs.evaluate(states, architectures, *self._validation)
    states = states.replace(optimizer=())
    if not self._inherit_steps:
      states = states.replace(params=(), state=())
    return parallel.gather((states, metrics))

  def _grafted(
    self, states: training.TrainState, jobs: Sequence[Job], weights: Mapping[str, Weights]
  ) -> training.TrainState:
    """The states of networks that start from their parents' weights."""
    variables = jax.tree.map(np.array, states.best_variables)
    for row, job in enumerate(jobs):
      if job.parent is not None:
        parent = self._space.from_key(job.parent)
        own = _row(variables, row)
        graft(self._network, own, job.architecture, weights[job.parent], parent)
    return states.replace(**parallel.spread(variables._asdict()))

  def _compile(
    self, seeds: np.ndarray, architectures: np.ndarray, orders: np.ndarray, lengths: np.ndarray
  ) -> None:
    """Compiles all programs at once, by calls that train nothing."""
    start, train, evaluate = self._programs
    shapes = jax.eval_shape(start, seeds, architectures)
    states, again = (
      parallel.spread(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes))
      for _ in range(2)
    )
    compile_together(
      lambda: train(states, seeds, architectures, orders, lengths, *self._train, np.int32(0)),
      lambda: start(seeds, architectures),
      lambda: evaluate(again, architectures, *self._validation),
    )
    self._compiled = True

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


def _row(tree: Any, row: int) -> Any:
  """What one candidate has of arrays `[D, ...]`."""
  return jax.tree.map(lambda leaf: leaf[row], tree)


def mean(scores: Sequence[float]) -> float:
  """Mean score; `-inf` if a replicate diverged."""
  return float(np.mean(scores))


def standard_error(scores: Sequence[float]) -> float:
  """Standard error of the mean; NaN for a single score or a diverged replicate."""
  if len(scores) < 2 or not np.isfinite(scores).all():
    return math.nan
  return float(np.std(scores, ddof=1) / len(scores) ** 0.5)

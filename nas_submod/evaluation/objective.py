"""The set function F(S): build the network of a set, train it briefly, return its score.

One program trains every architecture; each device trains another one at the same time. Evaluations
are stored under the canonical form and the replicate, in a journal on disk before they are used.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nas_submod import parallel
from nas_submod.compilation import CompilationLog
from nas_submod.data.loading import Data
from nas_submod.evaluation.candidates import Job, Trainer
from nas_submod.evaluation.inherit import Ancestors
from nas_submod.evaluation.journal import Evaluation, Journal
from nas_submod.networks.search_space import SearchSpace
from nas_submod.training import check_fit

SCORES: Mapping[str, Callable[[Mapping[str, float]], float]] = {
  "accuracy": lambda metrics: metrics["accuracy"],
  "negative_loss": lambda metrics: -metrics["loss"],
  # The mean over all steps: the order is that of the sum of training losses (Ru et al. 2021).
  "negative_train_loss": lambda metrics: -metrics["train_loss"],
}
LARGEST_SCORE: Mapping[str, float] = {"accuracy": 1, "negative_loss": 0, "negative_train_loss": 0}

CONTEST = 8  # A call with more new networks than that is a contest.
_SCREENING = -1  # The replicate that stands for the short training of a contest.


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
      config: `seed`, `score`, and `train` (see `training.recipe`) with `steps_per_call`. Less is
        trained with `inherit_steps`, the steps of a network that starts from the weights of
        another, and `screen_steps`, the steps that all take in a call with more than eight new
        networks, of which the better half is then trained in full.
      journal: Where evaluations are looked up and stored.
      on_progress: Called with the share of the networks under way that is done.

    Raises:
      ValueError: If data and space do not fit, or a setting is unknown.
    """
    check_fit(space, data)
    if config["score"] not in SCORES:
      raise ValueError(f"unknown score {config['score']!r}; allowed: {', '.join(SCORES)}")
    self._space, self._journal = space, journal
    self._score = SCORES[config["score"]]
    self._inherit_steps = config["train"].get("inherit_steps", 0)
    self._screen_steps = config["train"].get("screen_steps", 0)
    self._ancestors = Ancestors(space, journal, self._score_of)
    self._trainer = Trainer(space, data, config, on_progress)
    self._asked: set[Job] = set()
    self._screened: dict[Job, float] = {}
    self._needed: set[tuple[tuple[int, ...], int]] = set()
    self.trained = self.steps = self.reused = self.failed = 0
    self.train_seconds = 0.0
    self.compilations = CompilationLog()

  @property
  def needed(self) -> int:
    """Trainings that the scores so far rest on, whether made now or found in the journal."""
    return len(self._needed)

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
    asked = list(dict.fromkeys(job for row in jobs for job in row))
    recalled = [] if afresh else self._recall(asked)
    self.reused += sum(self._find(job) is not None for job in asked)
    planned = {job: self._plan(job, afresh) for job in asked}
    if self._screen_steps and not afresh:
      asked = self._screen(asked, planned)
    self._train([planned[job] for job in asked])
    if self._inherit_steps and not afresh:
      used = [*recalled, *asked]
      self._ancestors.use(found for job in used if (found := self._find(job)))
    return [[self._value(job) for job in row] for row in jobs]

  def _plan(self, job: Job, afresh: bool) -> Job:
    """The job with its parent and its steps."""
    if self._inherit_steps and not afresh:
      parent = self._ancestors.parent(job.architecture, job.replicate)
      if parent is not None:
        return job._replace(parent=parent, steps=self._inherit_steps)
    return job._replace(steps=self._trainer.recipe.steps)

  def _screen(self, asked: list[Job], planned: Mapping[Job, Job]) -> list[Job]:
    """What is worth a whole training of what is asked; the others get their value here.

    One rung of successive halving (Jamieson and Talwalkar 2016).
    It depends on what was asked in earlier calls, not on what the journal holds. The value of a
    loser is that of its short training, at most the worst of the winners': as a rule too low, so
    that it wins nothing, and a lazy search asks for it late, if at all.
    """
    new = [job for job in asked if job.replicate == 0 and job not in self._asked]
    self._asked.update(new)
    if len(new) > CONTEST:
      short = {
        job: planned[job]._replace(replicate=_SCREENING, steps=self._screen_steps) for job in new
      }
      self._train(list(short.values()))
      ranked = sorted(new, key=lambda job: -self._value(short[job]))
      winners, losers = ranked[: len(new) // 2], ranked[len(new) // 2 :]
      self._train([planned[job] for job in winners])
      finite = [value for job in winners if math.isfinite(value := self._value(job))]
      if finite:  # Else none is a winner, and all are trained in full.
        worst = min(finite)
        self._screened.update({job: min(self._value(short[job]), worst) for job in losers})
    return [job for job in asked if job not in self._screened]

  def _recall(self, asked: Sequence[Job]) -> list[Job]:
    """Trains losers in full of which further replicates are asked, as a race does; which they are.

    Their replicates start where the first one did. The optimizer knows the value of the short
    training as one of several, so that their mean is too low still.
    """
    first = {job._replace(replicate=0): None for job in asked if job.replicate > 0}
    recalled = [job for job in first if job in self._screened]
    for job in recalled:
      del self._screened[job]
    self._train([self._plan(job, afresh=False) for job in recalled])
    return recalled

  def _train(self, jobs: Sequence[Job]) -> None:
    """Trains what is not in the journal yet."""
    self._needed.update((job.architecture, job.replicate) for job in jobs)
    missing = [job for job in jobs if self._find(job) is None]
    missing.sort(key=lambda job: job.steps)  # Those that take equally long go together.
    devices = parallel.device_count()
    for first in range(0, len(missing), devices):
      self._train_round(missing[first : first + devices])

  def _find(self, job: Job) -> Evaluation | None:
    return self._journal.get(self._space.key(job.architecture), job.replicate)

  def _value(self, job: Job) -> float:
    if job in self._screened:
      return self._screened[job]
    evaluation = self._find(job)
    assert evaluation is not None
    return self._score_of(evaluation)

  def _score_of(self, evaluation: Evaluation) -> float:
    return -math.inf if evaluation.metrics is None else self._score(evaluation.metrics)

  def _train_round(self, jobs: Sequence[Job]) -> None:
    """Trains up to one network a device, and writes the results to the journal."""
    began, compiled = time.perf_counter(), self.compilations.seconds
    parents = dict.fromkeys(job.parent for job in jobs if job.parent is not None)
    weights = {parent: self._ancestors.read(parent) for parent in parents}
    with self.compilations.counting():
      states, metrics = self._trainer.train(jobs, weights)
    if not self._inherit_steps:
      states = states.replace(params=(), state=())
    # Not counted: what joins several processes trains nothing.
    states, metrics = parallel.gather((states, metrics))
    seconds = time.perf_counter() - began - (self.compilations.seconds - compiled)
    results = []
    for row, job in enumerate(jobs):
      train_loss = float(states.loss_sum[row]) / job.steps
      loss = float(metrics.loss[row]) / int(metrics.examples[row])
      found = {
        "accuracy": int(metrics.correct[row]) / int(metrics.examples[row]),
        "loss": loss,
        "train_loss": train_loss,
      }
      finite = math.isfinite(loss) and math.isfinite(train_loss)
      metrics_found = found if finite else None
      taken = seconds / len(jobs), job.steps, job.parent
      key = self._space.key(job.architecture)
      results.append(Evaluation(key, job.replicate, metrics_found, *taken))
      if self._inherit_steps and job.replicate == 0 and finite:
        self._ancestors.write(key, self._trainer.weights(states, row, job))
    self._journal.add(results)
    self.trained += len(results)
    self.steps += sum(result.steps for result in results)
    self.failed += sum(result.metrics is None for result in results)
    self.train_seconds += seconds


def mean(scores: Sequence[float]) -> float:
  """Mean score; `-inf` if a replicate diverged."""
  return float(np.mean(scores))


def standard_error(scores: Sequence[float]) -> float:
  """Standard error of the mean; NaN for a single score or a diverged replicate."""
  if len(scores) < 2 or not np.isfinite(scores).all():
    return math.nan
  return float(np.std(scores, ddof=1) / len(scores) ** 0.5)

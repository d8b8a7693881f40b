"""Inheriting: a network starts from the trained weights of a network with one block less."""

from collections.abc import Iterable, Sequence

import numpy as np

from nas_submod.evaluation.evaluator import Evaluation, Evaluator, Job, Score
from nas_submod.evaluation.journal import Journal
from nas_submod.networks.search_space import SearchSpace

_KEPT = 100  # Networks whose weights are kept.


class Inheriting:
  """An evaluator that starts networks from the weights of their best parent.

  Later trainings depend on the jobs of earlier calls and on their order, on nothing else: run again
  with the same journal, the search chooses the same parents.
  """

  def __init__(
    self, evaluator: Evaluator, space: SearchSpace, journal: Journal, score: Score, steps: int
  ):
    """Trains children for `steps` steps; `score` says which parent is the best."""
    self._evaluator, self._steps = evaluator, steps
    self._ancestors = Ancestors(space, journal, score)

  def __call__(self, jobs: Sequence[Job]) -> list[Evaluation]:
    """Evaluates jobs, in their order."""
    found = list(self._evaluator([self._with_parent(job) for job in jobs]))
    self._ancestors.use(
      evaluation for job, evaluation in zip(jobs, found) if job.replicate >= 0 and not job.full
    )
    return found

  def _with_parent(self, job: Job) -> Job:
    parent = None if job.full else self._ancestors.parent(job.architecture, job.replicate)
    if parent is None:
      return job
    return job._replace(parent=parent, steps=job.steps or self._steps)


class Ancestors:
  """The networks that others may start from: those the search used last.

  Replicate 0 of each network is kept. Further replicates of its children start from the same
  weights, with other initial values of the new block and another data order, so that they vary as
  children of one parent do. Networks that were not used for long are dropped.
  """

  def __init__(self, space: SearchSpace, journal: Journal, score: Score):
    """Starts without any network; weights are in `journal.weights`."""
    self._space, self._journal, self._score = space, journal, score
    self._seen: set[str] = set()
    self._kept: dict[str, None] = {}  # In order of their last use.

  def parent(self, architecture: Sequence[int], replicate: int) -> str | None:
    """Key of the network that a replicate starts from; None for fresh values.

    It is the best network of one block less, and for further replicates the parent of replicate 0.
    Of equally good ones it is the one without the earliest block.
    """
    if replicate > 0 and (first := self._journal.get(self._space.key(architecture), 0)):
      return first.parent if first.parent in self._kept else None
    best, best_score = None, -np.inf
    for position in np.flatnonzero(architecture):
      smaller = np.array(architecture)
      smaller[position] = 0
      try:
        key = self._space.key(smaller.tolist())
      except ValueError:  # A stage is empty where the start set has a block.
        continue
      evaluation = self._journal.get(key, 0)
      if key in self._kept and evaluation and self._score(evaluation) > best_score:
        best, best_score = key, self._score(evaluation)
    return best

  def use(self, evaluations: Iterable[Evaluation]) -> None:
    """Notes the evaluations of a call, all in the journal; drops the networks used least lately."""
    for evaluation in evaluations:
      if evaluation.parent in self._kept:
        self._kept[evaluation.parent] = self._kept.pop(evaluation.parent)
      if evaluation.replicate > 0 or evaluation.metrics is None or evaluation.key in self._seen:
        continue
      self._seen.add(evaluation.key)
      self._kept[evaluation.key] = None
    for key in list(self._kept)[: max(len(self._kept) - _KEPT, 0)]:
      del self._kept[key]
      self._journal.weights.delete(key)

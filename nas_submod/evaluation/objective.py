"""The set function F(S): an evaluator's score of the network of S."""

from collections.abc import Callable, Sequence

import numpy as np

from nas_submod.evaluation.evaluator import Evaluation, Evaluator, Job, Score, mean, standard_error
from nas_submod.networks.search_space import SearchSpace


class Objective:
  """Scores of networks. Sets with the same canonical form are the same network."""

  def __init__(self, space: SearchSpace, evaluator: Evaluator, score: Score):
    """Scores networks of `space` by applying `score` to what `evaluator` returns."""
    self._space, self._evaluator, self._score = space, evaluator, score

  def evaluations(
    self,
    architectures: Sequence[Sequence[int]],
    replicates: Sequence[Sequence[int]],
    full: bool = False,
  ) -> list[list[Evaluation]]:
    """Evaluates the stated replicates of each architecture, each distinct training once.

    Args:
      architectures: In any form. Shape `[K, positions]`.
      replicates: The replicates of each, `K` sequences.
      full: Train the networks, even if the others are scored with shared weights.

    Returns:
      The evaluations of each architecture, in the requested order.
    """
    rows = [
      [Job(self._network(architecture), replicate, full=full) for replicate in wanted]
      for architecture, wanted in zip(architectures, replicates)
    ]
    jobs = list(dict.fromkeys(job for row in rows for job in row))
    found = {(e.key, e.replicate): e for e in self._evaluator(jobs)} if jobs else {}
    return [
      [found[self._space.key(job.architecture), job.replicate] for job in row] for row in rows
    ]

  def scores(
    self,
    architectures: Sequence[Sequence[int]],
    replicates: Sequence[Sequence[int]],
    full: bool = False,
  ) -> list[list[float]]:
    """Like `evaluations`, but returns scores; -inf for a failed training."""
    rows = self.evaluations(architectures, replicates, full)
    return [[self._score(evaluation) for evaluation in row] for row in rows]

  def function(self, replicates: int) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The set function for the host driver: `masks [K, n] -> (values [K], standard errors [K])`.

    A measurement is the mean of the next `replicates` trainings of a network. The function counts
    trainings itself, so a search that runs again asks for the same ones.
    """
    measured: dict[tuple[int, ...], int] = {}

    def value(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
      architectures = self._space.architecture(np.asarray(masks))
      wanted = []
      for network in map(self._network, architectures):
        begin = measured.get(network, 0)
        measured[network] = begin + replicates
        wanted.append(range(begin, begin + replicates))
      scores = self.scores(architectures, wanted)
      return np.array([mean(s) for s in scores]), np.array([standard_error(s) for s in scores])

    return value

  def _network(self, architecture: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(option) for option in self._space.canonical(np.asarray(architecture)))

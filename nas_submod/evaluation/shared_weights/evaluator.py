"""The evaluator that scores networks with shared weights; finalists are trained."""

import time
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from nas_submod import parallel, training
from nas_submod.compilation import CompilationLog, uncounted
from nas_submod.evaluation.evaluator import (
  BESIDE_TRAININGS,
  SHARED_WEIGHTS,
  Evaluation,
  Evaluator,
  Job,
)
from nas_submod.evaluation.shared_weights.score import ScoringData
from nas_submod.networks.search_space import SearchSpace


class SharedWeights:
  """An evaluator that scores networks with shared weights instead of training them.

  Jobs that ask for a full training go to another evaluator. Scores have no noise: all replicates of
  a network have the same score.
  """

  def __init__(
    self,
    evaluator: Evaluator,
    space: SearchSpace,
    metrics: Callable[[ScoringData, jax.Array], training.Metrics],
    held: ScoringData,
    everything: bool = True,
    on_progress: Callable[[float], None] = lambda share: None,
  ):
    """Puts the stores on the devices; compiles nothing yet.

    Args:
      evaluator: Trains networks.
      space: The space.
      metrics: From `score.make_metrics`.
      held: From `score.scoring_data`.
      everything: Whether to score every job that does not ask for a full training; if not, only
        jobs with the replicate `BESIDE_TRAININGS` are scored.
      on_progress: Called with the share of a call's jobs that are scored; 0 before it compiles.
    """
    self._evaluator, self._space, self._metrics = evaluator, space, metrics
    self._everything, self._on_progress = everything, on_progress
    self._held = parallel.copy_to_devices(held)
    self._is_compiled = False

  def __call__(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
    """Scores or trains networks."""
    scored = [job for job in jobs if self._is_scored(job)]
    yield from self._score(scored)
    if rest := [job for job in jobs if not self._is_scored(job)]:
      yield from self._evaluator(rest)

  def _is_scored(self, job: Job) -> bool:
    return job.replicate == BESIDE_TRAININGS or (self._everything and not job.full)

  def _score(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
    replicates: dict[tuple[int, ...], list[int]] = {}
    for job in jobs:
      replicates.setdefault(job.architecture, []).append(job.replicate)
    networks, devices = list(replicates), parallel.device_count()
    # Always one network per device, so that one program serves calls of any size.
    pieces = [networks[first : first + devices] for first in range(0, len(networks), devices)]
    padded = (np.array([*p, *[p[-1]] * (devices - len(p))], np.int32) for p in pieces)
    own = map(parallel.own_part, padded)
    results = parallel.vmap_over_devices(self._metrics, self._held, own)
    if pieces and not self._is_compiled:
      self._on_progress(0.0)
    for number, piece in enumerate(pieces, 1):
      began, compiling = time.perf_counter(), CompilationLog()
      with compiling.counting():
        of_process = next(results)
      self._is_compiled = True
      with uncounted():  # Gathering scores nothing.
        found = parallel.gather(of_process)
      seconds = max(time.perf_counter() - began - compiling.seconds, 0.0) / len(piece)
      for network, correct, loss, examples in zip(
        piece, found.correct.tolist(), found.loss.tolist(), found.examples.tolist()
      ):
        metrics = {"accuracy": correct / examples, "loss": loss / examples}
        for replicate in replicates[network]:
          yield Evaluation(
            key=self._space.key(network),
            replicate=replicate,
            metrics=metrics,
            seconds=seconds / len(replicates[network]),
            method=SHARED_WEIGHTS,
          )
      self._on_progress(number / len(pieces))

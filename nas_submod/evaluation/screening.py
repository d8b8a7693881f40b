"""Screening: many new networks all train briefly, and only the better half trains in full."""

import math
from collections.abc import Sequence

from nas_submod.evaluation.evaluator import Evaluation, Evaluator, Job, Score

LARGE_CALL = 8  # A call with more new networks than this is screened.
_SHORT = -1  # The replicate of a short training.


class Screened:
  """An evaluator that screens large calls.

  This is one rung of successive halving (Jamieson and Talwalkar 2016). The choice depends on the
  jobs of earlier calls, not on the journal. A network that is screened out keeps the score of its
  short training, at most the worst winner's score. This score is usually too low, so the network is
  not chosen, and a lazy search asks for it late or never.
  """

  def __init__(self, evaluator: Evaluator, score: Score, steps: int):
    """Wraps an evaluator; `score` ranks short trainings of `steps` steps."""
    self._evaluator, self._score, self._steps = evaluator, score, steps
    self._asked: set[tuple[int, ...]] = set()
    self._losers: dict[tuple[int, ...], Evaluation] = {}

  def __call__(self, jobs: Sequence[Job]) -> list[Evaluation]:
    """Returns the evaluations of jobs, in order."""
    new = [job for job in jobs if _first(job) and job.architecture not in self._asked]
    self._asked.update(job.architecture for job in new)
    found = self._screen(new) if len(new) > LARGE_CALL else {}
    for job in jobs:
      if _first(job) and job.architecture in self._losers:
        found[job] = self._losers[job.architecture]
    rest = [job for job in jobs if job not in found]
    found |= zip(rest, self._evaluator(rest))
    return [found[job] for job in jobs]

  def _screen(self, jobs: Sequence[Job]) -> dict[Job, Evaluation]:
    """Trains all jobs briefly, and returns the better half trained in full; keeps the losers."""
    short_jobs = [job._replace(replicate=_SHORT, steps=self._steps) for job in jobs]
    short = dict(zip(jobs, self._evaluator(short_jobs)))
    ranked = sorted(jobs, key=lambda job: -self._score(short[job]))
    best_half = set(ranked[: len(jobs) // 2])
    winners = [job for job in jobs if job in best_half]
    found = dict(zip(winners, self._evaluator(winners)))
    finite = [evaluation for evaluation in found.values() if math.isfinite(self._score(evaluation))]
    if not finite:  # Every winner failed: all networks train in full.
      return found
    worst = min(finite, key=self._score)
    for job in jobs:
      if job not in found:
        metrics = min(short[job], worst, key=self._score).metrics
        self._losers[job.architecture] = short[job]._replace(replicate=0, metrics=metrics)
    return found


def _first(job: Job) -> bool:
  return job.replicate == 0 and not job.full

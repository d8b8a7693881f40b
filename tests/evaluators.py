"""Evaluators that train nothing: scores of networks by a formula with noise."""

import numpy as np

from nas_submod.evaluation.evaluator import Evaluation
from nas_submod.evaluation.weights import Weights


def computed(space):
  """Each block adds less than the one before it; a block at the first position adds more."""

  def evaluate(jobs):
    for job in jobs:
      filled = np.array(job.architecture) > 0
      noise = np.random.default_rng([max(job.replicate, 0), *job.architecture]).normal(0, 0.01)
      loss = float(3.0 - np.sqrt(filled.sum()) - 0.2 * filled[0] + noise)
      metrics = {"accuracy": 0.5, "loss": loss, "train_loss": loss}
      yield Evaluation(space.key(job.architecture), job.replicate, metrics, 0.0, job.steps or 1)

  return evaluate


def computed_by_parent(space, journal, noise=0.1, gain_of_steps=1.0, full_steps=12):
  """Scores that depend on the parent and on the steps, as trained ones do."""

  def evaluate(jobs):
    for job in jobs:
      steps, key = job.steps or full_steps, space.key(job.architecture)
      seed = [max(job.replicate, 0), *job.architecture, *map(ord, job.parent or "")]
      loss = 3 - np.sqrt(np.count_nonzero(job.architecture)) + gain_of_steps / steps
      loss += np.random.default_rng(seed).normal(0, noise)
      if job.replicate == 0:
        journal.weights.write(key, Weights({}, []))
      yield Evaluation(key, job.replicate, {"loss": float(loss)}, 0.0, steps, job.parent)

  return evaluate

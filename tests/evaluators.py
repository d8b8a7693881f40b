"""Evaluators that train nothing: scores of networks by a formula with noise."""

import numpy as np

from nas_submod.evaluation.evaluator import Evaluation


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


def computed_by_steps(space, gain_of_steps=1.0, full_steps=12):
  """Scores with more noise that depend on the steps, as trained ones do."""

  def evaluate(jobs):
    for job in jobs:
      steps, seed = job.steps or full_steps, [max(job.replicate, 0), *job.architecture]
      loss = 3 - np.sqrt(np.count_nonzero(job.architecture)) + gain_of_steps / steps
      loss += np.random.default_rng(seed).normal(0, 0.1)
      key = space.key(job.architecture)
      yield Evaluation(key, job.replicate, {"loss": float(loss)}, 0.0, steps)

  return evaluate

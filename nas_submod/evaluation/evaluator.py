"""Jobs, evaluations, and evaluators: functions that turn jobs into evaluations.

`TrainingEvaluator` trains networks on devices. `Journaled` wraps an evaluator and is one itself. A
table of known accuracies is one too.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

TRAINING, SHARED_WEIGHTS = "training", "shared_weights"  # how a network gets its value
METHODS = (TRAINING, SHARED_WEIGHTS)
# The replicate of a shared-weights score of a network that is also trained.
BESIDE_TRAININGS = -2


class EvaluationError(Exception):
  """No network can be evaluated; the message says why in one line."""


class Job(NamedTuple):
  """A request for one training.

  Attributes:
    architecture: Canonical form: an option for every position.
    replicate: Seed of the initial values and of the data order. Equal replicates of different
      networks share both. -2 marks a score with shared weights, which needs its own line in the
      journal beside trainings of the same network.
    full: Train the network, even if the others are scored with shared weights.
  """

  architecture: tuple[int, ...]
  replicate: int
  full: bool = False


class Evaluation(NamedTuple):
  """The result of one training, or a score with shared weights.

  Attributes:
    key: Canonical form as text, from `SearchSpace.key`.
    replicate: As in `Job`.
    metrics: `accuracy`, and `loss` and `train_loss` in nats; None if the training failed.
    seconds: Wall time of the round, without compiling, divided by its number of networks.
    steps: Steps of the training.
    cause: Why the training failed; None if it did not.
    method: One of `METHODS`; a score with shared weights takes no training of its own.
  """

  key: str
  replicate: int
  metrics: Mapping[str, float] | None
  seconds: float
  steps: int = 0
  cause: str | None = None
  method: str = TRAINING


# An evaluator gives one evaluation per job, in any order. If it yields them one by one, each is
# written to the journal before the next is computed.
Evaluator = Callable[[Sequence[Job]], Iterable[Evaluation]]
Score = Callable[[Evaluation], float]

_METRIC: Mapping[str, tuple[str, float]] = {
  "accuracy": ("accuracy", 1),
  "negative_loss": ("loss", -1),
  # The mean over all steps ranks like the sum of training losses (Ru et al. 2021).
  "negative_train_loss": ("train_loss", -1),
}
_LARGEST_LOSS = 1e4  # nats
LARGEST_SCORE: Mapping[str, float] = {"accuracy": 1, "negative_loss": 0, "negative_train_loss": 0}


def has_diverged(metrics: Mapping[str, float]) -> bool:
  """Whether metrics are from a training that diverged.

  A loss is then not finite, or far too large: guessing costs log(classes) nats, and networks before
  their first step usually have at most some tens of nats.
  """
  return not all(math.isfinite(value) and abs(value) < _LARGEST_LOSS for value in metrics.values())


def score_named(name: str) -> Score:
  """The score of an evaluation, by its name in a config; -inf for a failed training.

  Raises:
    ValueError: If there is no such score.
  """
  if name not in _METRIC:
    raise ValueError(f"unknown score {name!r}; allowed: {', '.join(_METRIC)}")
  metric, sign = _METRIC[name]

  def score(found: Evaluation) -> float:
    if found.metrics is None:
      return -math.inf
    if metric not in found.metrics:
      raise ValueError(f"score {name} needs the metric {metric}; given: {', '.join(found.metrics)}")
    return sign * found.metrics[metric]

  return score


def mean(scores: Sequence[float]) -> float:
  """The mean score; -inf if a replicate failed."""
  return float(np.mean(scores))


def standard_error(scores: Sequence[float]) -> float:
  """The standard error of the mean; NaN for a single score or a failed replicate."""
  if len(scores) < 2 or not np.isfinite(scores).all():
    return math.nan
  return float(np.std(scores, ddof=1) / len(scores) ** 0.5)

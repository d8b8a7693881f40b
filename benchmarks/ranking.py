"""How well scores rank networks: rank correlations, the best of the top ten, additive models.

All functions are NumPy code. `N` networks, `T` trainings of each, `R` scores of the same kind, such
as those of several seeds.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

TOP = 10
_DRAWS = 200  # of a bootstrap or a simulation
_BREADTH = 1.5  # standard deviation of the prior of a logarithm of a variance
_FLOOR = 1e-6  # a variance that keeps covariances regular


class Quality(NamedTuple):
  """How well a score ranks networks.

  Attributes:
    all: Rank correlation with the reference.
    best_half: The same among the networks of the better half by the reference.
    top: Largest reference among the `TOP` networks that the score puts first.
  """

  all: float
  best_half: float
  top: float


def spearman(left: np.ndarray, right: np.ndarray) -> float:
  """Rank correlation of `[N]` with `[N]`; 0 if one of them is constant."""
  ranks = [stats.rankdata(values) for values in (left, right)]
  centred = [rank - rank.mean() for rank in ranks]
  norm = np.sqrt(np.prod([rank @ rank for rank in centred]))
  return float(centred[0] @ centred[1] / norm) if norm else 0.0


def quality(score: np.ndarray, reference: np.ndarray) -> Quality:
  """Judges a score `[N]` by a reference `[N]`."""
  half = np.argsort(-reference, kind="stable")[: (len(reference) + 1) // 2]
  first = np.argsort(-score, kind="stable")[:TOP]
  return Quality(
    spearman(score, reference),
    spearman(score[half], reference[half]),
    float(reference[first].max()),
  )


def judged(
  scores: np.ndarray, references: Sequence[np.ndarray], seed: int = 0
) -> tuple[Quality, Quality]:
  """Judges scores of a kind, and estimates the error by the bootstrap.

  A draw of the bootstrap takes networks, and rows of the scores, with replacement.

  Args:
    scores: `[R, N]`.
    references: The reference of each row. R of `[N]`.
    seed: Seed of the bootstrap.

  Returns:
    The mean over the rows, and its standard error.
  """
  rng = np.random.default_rng(seed)
  rows, networks = scores.shape

  def mean(chosen: np.ndarray, sample: np.ndarray | slice) -> np.ndarray:
    return np.mean([quality(scores[r, sample], references[r][sample]) for r in chosen], axis=0)

  drawn = [
    mean(rng.integers(rows, size=rows), rng.integers(networks, size=networks))
    for _ in range(_DRAWS)
  ]
  return Quality(*mean(np.arange(rows), slice(None))), Quality(*np.std(drawn, axis=0, ddof=1))


def random_order(reference: np.ndarray) -> Quality:
  """What a random order of the networks `[N]` gets, in the mean."""
  size, chosen = len(reference), min(TOP, len(reference))
  # All of the chosen ones are among the i smallest if none is among the others.
  chances = np.diff(stats.hypergeom.cdf(0, size, np.arange(size, -1, -1), chosen))
  return Quality(0.0, 0.0, float(np.sort(reference) @ chances))


def reliability(trainings: np.ndarray) -> float:
  """Squared rank correlation of the mean of `[N, T]` with the true values, in expectation.

  The mean rank correlation of two trainings, raised to T trainings by the formula of Spearman and
  Brown; 0 if it is negative.
  """
  count = trainings.shape[1]
  pairs = [spearman(trainings[:, i], trainings[:, j]) for i in range(count) for j in range(i)]
  single = max(float(np.mean(pairs)), 0.0)
  return count * single / (1 + (count - 1) * single)


def deviations(trainings: np.ndarray) -> tuple[float, float]:
  """Standard deviation of one training, and that of the true values, from `[N, T]`."""
  noise = trainings.var(axis=1, ddof=1).mean()
  true = trainings.mean(axis=1).var(ddof=1) - noise / trainings.shape[1]
  return float(np.sqrt(noise)), float(np.sqrt(max(true, 0.0)))


def perfect(trainings: np.ndarray, seed: int = 0) -> Quality:
  """What the true values would get against the mean of `[N, T]`, by simulation.

  The means, shrunk by their noise, stand for the true values. Each draw adds new noise.
  """
  rng = np.random.default_rng(seed)
  noise, true = deviations(trainings)
  means, noise = trainings.mean(axis=1), noise / trainings.shape[1] ** 0.5
  share = true / np.sqrt(true**2 + noise**2)
  values = means.mean() + share * (means - means.mean())
  drawn = [quality(values, values + rng.normal(0, noise, len(values))) for _ in range(_DRAWS)]
  return Quality(*np.mean(drawn, axis=0))


class Additive:
  """A linear model with a Gaussian prior; each block of features has its own variance.

  The variances of the blocks and of the noise maximise the evidence, under a broad prior.
  """

  def __init__(self, blocks: Sequence[np.ndarray]):
    """Takes the features of all N networks, block by block. `[N, d_b]` each."""
    self._blocks = [_standardised(block) for block in blocks]

  def predict(self, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Predicts all networks from values of some.

    Args:
      rows: The measured networks; one may be repeated. `[K]` int.
      values: Their values. `[K]`.

    Returns:
      The posterior means. `[N]`.
    """
    centre, scale = values.mean(), values.std() or 1.0
    targets = (values - centre) / scale
    kernels = [block @ block[rows].T for block in self._blocks]
    own = [kernel[rows] for kernel in kernels]
    start = np.log([*[1 / len(kernels)] * len(kernels), 0.3])
    loss = functools.partial(_evidence, np.array([*own, np.eye(len(rows))]), targets, start)
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B").x
    *variances, noise = np.exp(found)
    covariance = sum(v * k for v, k in zip(variances, own)) + noise * np.eye(len(rows))
    cross = sum(v * k for v, k in zip(variances, kernels))
    return centre + scale * (cross @ np.linalg.solve(covariance, targets))


def _standardised(block: np.ndarray) -> np.ndarray:
  """Columns of mean 0, and rows of mean square norm 1; a constant block becomes 0."""
  centred = block - block.mean(axis=0)
  norm = np.sqrt((centred**2).sum(axis=1).mean())
  return centred / norm if norm > 1e-9 else np.zeros_like(centred)


def _evidence(
  kernels: np.ndarray, targets: np.ndarray, centre: np.ndarray, logs: np.ndarray
) -> tuple[float, np.ndarray]:
  """Negative log posterior density of the logarithms of the variances, and its gradient.

  Args:
    kernels: Those of the blocks, and the identity for the noise. `[B, K, K]`.
    targets: `[K]`.
    centre: Mean of the prior. `[B]`.
    logs: The logarithms. `[B]`.
  """
  parts = np.exp(logs)[:, None, None] * kernels
  covariance = parts.sum(axis=0) + _FLOOR * np.eye(len(targets))
  inverse = np.linalg.inv(covariance)
  pull = inverse @ targets
  steps = (logs - centre) / _BREADTH**2
  density = targets @ pull + np.linalg.slogdet(covariance)[1] + steps @ (logs - centre)
  gradient = np.einsum("bij,ij->b", parts, inverse - np.outer(pull, pull))
  return float(density) / 2, gradient / 2 + steps

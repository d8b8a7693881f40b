"""How far one network is ahead of another, given the noise of a training."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy import stats

from nas_submod.evaluation.evaluator import mean
from nas_submod.report.finished import Finished, deviation


class Noise(NamedTuple):
  """The noise of a training.

  Attributes:
    deviation: Standard deviation between seeds; NaN if unknown.
    freedom: Degrees of freedom of this estimate.
  """

  deviation: float
  freedom: float


def noise_of(*searches: Finished) -> Noise:
  """The noise of searches: the variance between seeds, pooled over all their networks."""
  squares = freedom = 0.0
  for search in searches:
    each = len(search.finalists[0]["scores"])
    own = search.result["signal"]["replicates"] * (each - 1) / each
    if own and math.isfinite(deviation(search)):
      squares, freedom = squares + own * deviation(search) ** 2, freedom + own
  return Noise(math.sqrt(squares / freedom) if freedom else math.nan, freedom)


class Difference(NamedTuple):
  """How far one network is ahead of another.

  Attributes:
    value: Difference of the means.
    error: Its standard error; NaN if unknown.
    certain: Whether it is above 0 beyond the noise.
  """

  value: float
  error: float
  certain: bool


def difference(first: Sequence[float], second: Sequence[float], noise: Noise) -> Difference:
  """How far `first` is ahead of `second`: Student's t, one-sided, at 95%.

  The variance is pooled over many networks, as for the ties of finalists: two networks alone have
  too few scores to estimate it.

  Args:
    first: Scores of a network.
    second: Scores of another one.
    noise: Noise of a single score.
  """
  value = mean(first) - mean(second)
  error = noise.deviation * math.sqrt(1 / len(first) + 1 / len(second))
  if not error > 0:
    return Difference(value, error, error == 0 and value > 0)
  return Difference(value, error, value > stats.t.ppf(0.95, noise.freedom) * error)

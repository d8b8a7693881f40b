"""How far a measured set function is from monotone and submodular, beyond its noise.

A gain that is truly zero is measured below zero half of the time, so counts of negative gains say
little. Here a violation counts if a test against the noise finds it. The level of the test follows
Benjamini and Hochberg (1995): in expectation at most a share `RATE` of the violations found is
false, and if there are none, the probability of finding one is at most `RATE`.
"""

from typing import NamedTuple

import numpy as np
import scipy.stats

from nas_submod.set_functions.measured import WEIGHTS, Measured, covariance, packed

RATE = 0.05  # expected share of false violations among those found
_ROUNDING = 1e-6  # share of the largest value; a smaller difference is 0


class Contrasts(NamedTuple):
  """Differences of values that should not be negative. `[Q]` each.

  Attributes:
    estimates: The differences.
    errors: Their standard errors, 0 if exact.
    freedom: Degrees of freedom of the errors.
  """

  estimates: np.ndarray
  errors: np.ndarray
  freedom: float


class NegativeContrasts(NamedTuple):
  """Contrasts that are negative.

  Attributes:
    checked: Number of contrasts.
    negative: How many are negative, whatever the noise.
    found: How many are negative beyond the noise.
    median: Median size of the violations found; NaN if none.
    detectable: Size at which a violation with the median error is found half of the time.
  """

  checked: int
  negative: int
  found: int
  median: float
  detectable: float


class HeldOut(NamedTuple):
  """Contrasts that are negative in the mean of all measurements but one, tested on that one.

  Attributes:
    selected: Number of these contrasts; mean over the measurements left out.
    negative: Share of them that is negative in the one left out.
    mean: Their mean in the one left out. It is unbiased: above 0, they are not violations on
      average.
    least: The least such mean of one measurement left out.
    most: The largest.
  """

  selected: float
  negative: float
  mean: float
  least: float
  most: float


class Growth(NamedTuple):
  """Means after 0, 1, ... random additions. `[k]` each; `gains` has one entry less.

  Attributes:
    values: Mean values.
    errors: Standard errors of the means from noise.
    deviations: Standard deviation of the values among sets.
    gains: Mean gain of each further addition.
  """

  values: np.ndarray
  errors: np.ndarray
  deviations: np.ndarray
  gains: np.ndarray


def random_additions(of: Measured, after: np.ndarray, start: int = 0) -> Growth:
  """The exact means over random additions to the set `start`.

  Each addition is drawn uniformly from the measured ones of `after [K, n]`. Sets without a further
  addition have no part in the later means.
  """
  possible = (after >= 0).sum(axis=1)
  small, element = np.nonzero(after >= 0)
  large = after[small, element]
  chance = np.zeros(len(after))
  chance[start] = 1
  rows: list[tuple[float, float, float]] = []
  gains: list[float] = []
  while True:
    mean = chance @ of.values
    of_objects = np.bincount(of.objects, chance)[of.objects] * chance
    variance = chance @ (of.values - mean) ** 2
    rows.append((mean, np.sqrt(of_objects @ of.errors**2), np.sqrt(variance)))
    added = chance[small] / possible[small]
    if not (total := added.sum()):
      values, errors, deviations = np.array(rows).T
      return Growth(values, errors, deviations, np.array(gains))
    gains.append(added @ (of.values[large] - of.values[small]) / total)
    chance = np.bincount(large, added, len(after)) / total


def single_gains(after: np.ndarray) -> np.ndarray:
  """Rows of A and A + e for every addition of `after [K, n]`. `[Q, 2]`.

  Their contrast F(A+e) - F(A) is the gain. F is monotone if no gain is negative.
  """
  smaller, element = np.nonzero(after >= 0)
  return np.stack([smaller, after[smaller, element]], axis=1)


def second_differences(after: np.ndarray) -> np.ndarray:
  """Rows of A, A + e, A + f and A + e + f wherever all four are measured. `[Q, 4]`.

  Their contrast F(A+e) + F(A+f) - F(A) - F(A+e+f) is the gain that f loses because e is there. F
  is submodular if and only if no contrast is negative.
  """
  found = [np.empty((0, 4), int)]
  for e, with_any in enumerate(after.T):
    smaller = np.flatnonzero(with_any >= 0)
    with_e = with_any[smaller]
    for f in range(e + 1, after.shape[1]):
      rows = np.stack([smaller, with_e, after[smaller, f], after[with_e, f]], axis=1)
      found.append(rows[(rows >= 0).all(axis=1)])
  return np.concatenate(found)


def contrasts(of: Measured, rows: np.ndarray) -> Contrasts:
  """The contrasts of `single_gains` or `second_differences`; a difference within rounding is 0."""
  estimates = _without_rounding(of, of.values[rows] @ WEIGHTS[rows.shape[1]])
  return Contrasts(estimates, np.sqrt(covariance(of, rows, rows)), of.freedom)


def _without_rounding(of: Measured, estimates: np.ndarray) -> np.ndarray:
  """The estimates, with 0 where the rounding of the values may be all there is."""
  return np.where(np.abs(estimates) > _ROUNDING * np.abs(of.values).max(), estimates, 0.0)


def averaged(of: Measured, rows: np.ndarray) -> Contrasts:
  """The mean contrast of each addition e, or of each pair e and f, over all A of `rows`.

  Means have small errors, so they show violations too small to be found one by one.
  """
  added = packed(of.masks)[rows[:, -1]] ^ packed(of.masks)[rows[:, 0]]
  kinds, kind_of = np.unique(added, axis=0, return_inverse=True)
  order = np.argsort(kind_of, kind="stable")
  ends = np.cumsum(np.bincount(kind_of, minlength=len(kinds)))[:-1]
  weights = WEIGHTS[rows.shape[1]]
  error_of = np.zeros(of.objects.max(initial=0) + 1)
  error_of[of.objects] = of.errors
  estimates, errors = [], []
  for part in np.split(rows[order], ends):
    total = np.bincount(of.objects[part].ravel(), np.tile(weights, len(part)), error_of.size)
    estimates.append((of.values[part] @ weights).mean())
    errors.append(np.sqrt(np.sum((total * error_of) ** 2)) / len(part))
  return Contrasts(_without_rounding(of, np.array(estimates)), np.array(errors), of.freedom)


def violations(found: Contrasts) -> NegativeContrasts:
  """Tests which contrasts are negative, by Student's t on one side."""
  below = beyond_noise(found)
  level = RATE * max(int(below.sum()), 1) / max(below.size, 1)
  error = float(np.median(found.errors)) if below.size else np.nan
  return NegativeContrasts(
    checked=below.size,
    negative=int(np.sum(found.estimates < 0)),
    found=int(below.sum()),
    median=float(np.median(-found.estimates[below])) if below.any() else np.nan,
    detectable=float(scipy.stats.t.isf(level, found.freedom)) * error,
  )


def beyond_noise(found: Contrasts) -> np.ndarray:
  """Which contrasts are negative beyond the noise (Benjamini and Hochberg 1995). `[Q]` bool."""
  estimates, errors, freedom = found
  exact = np.where(estimates < 0, 0.0, 1.0)
  noisy = scipy.stats.t.cdf(estimates / np.where(errors > 0, errors, 1), freedom)
  chances = np.where(errors > 0, noisy, exact)
  if not chances.size:
    return np.zeros(0, bool)
  return scipy.stats.false_discovery_control(chances) <= RATE


def held_out(samples: np.ndarray, rows: np.ndarray) -> HeldOut:
  """Compares contrasts in each measurement of `samples [K, r]` and in the mean of the others."""
  each = samples.T[:, rows] @ WEIGHTS[rows.shape[1]]
  rounding = _ROUNDING * np.abs(samples).max()
  repeats = len(each)
  selected, negative, means = [], [], []
  for left_out in each:
    chosen = left_out[each.sum(axis=0) - left_out < -rounding * (repeats - 1)]
    selected.append(chosen.size)
    negative.append(np.mean(chosen < -rounding) if chosen.size else np.nan)
    means.append(chosen.mean() if chosen.size else np.nan)
  mean = float(np.dot(selected, np.nan_to_num(means)) / max(sum(selected), 1))
  share = float(np.dot(selected, np.nan_to_num(negative)) / max(sum(selected), 1))
  return HeldOut(sum(selected) / repeats, share, mean, float(min(means)), float(max(means)))


def false_positives(
  of: Measured,
  samples: np.ndarray,
  rows: np.ndarray,
  simulations: int,
  rng: np.random.Generator,
) -> float:
  """Share of simulations in which a function without any violation has one beyond the noise.

  The function is constant, so every contrast is zero, the hardest case. Its noise is drawn from
  the residuals of `samples [K, r]` over their errors, not from a normal distribution.
  """
  repeats = samples.shape[1]
  errors = of.errors * np.sqrt(repeats)
  residuals = (samples - samples.mean(axis=1, keepdims=True)) * np.sqrt(repeats / (repeats - 1))
  pool = (residuals / errors[:, None]).ravel()
  count = int(of.objects.max()) + 1
  plain, found = contrasts(of, rows), 0
  for _ in range(simulations):
    noise = rng.choice(pool, (count, repeats)).mean(axis=1)[of.objects] * errors
    drawn = plain._replace(estimates=noise[rows] @ WEIGHTS[rows.shape[1]])
    found += bool(beyond_noise(drawn).any())
  return found / simulations

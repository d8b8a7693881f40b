"""Submodularity ratio and curvature of a measured set function, with confidence intervals.

Both are extremes of ratios of gains. The least of many noisy ratios is far too low, so each ratio
has a confidence interval (Fieller 1954). The intervals hold jointly (Bonferroni), so their least
ends bound the least true ratio.
"""

from typing import NamedTuple

import numpy as np
import scipy.stats

from nas_submod.set_functions.measured import Measured, covariance, packed

CONFIDENCE = 0.95
_ROUNDING = 1e-6  # share of the largest denominator; smaller ones do not count
_PRECISION = 2.0  # A ratio counts if its denominator is this many half-widths of its interval.


class Extreme(NamedTuple):
  """The least of many ratios of gains.

  Attributes:
    value: The least measured ratio; biased downward by noise.
    low: Lower end of the confidence interval.
    high: Upper end.
    median: Median ratio.
    used: Number of ratios whose denominator is known to within a half; only they count.
    checked: Number of ratios.
  """

  value: float
  low: float
  high: float
  median: float
  used: int
  checked: int


def submodularity_ratio(measured: Measured, after: np.ndarray) -> Extreme:
  """The least (sum of single gains) / (gain of all together), Das and Kempe 2011.

  Over all measured A and B where B adds two or more elements to A, each also measured with A alone.
  At least 1 if and only if F is submodular on them.
  """
  masks, values, errors, objects, freedom = measured
  sets, found = packed(masks), [np.empty((0, 5))]
  for small in np.flatnonzero((after >= 0).sum(axis=1) > 1):
    contained = ~(sets[small] & ~sets).any(axis=1)
    larger = np.flatnonzero(contained)
    added = masks[larger] & ~masks[small]
    usable = (added <= (after[small] >= 0)).all(axis=1) & (added.sum(axis=1) > 1)
    larger, added = larger[usable], added[usable].astype(float)
    single = np.where(after[small] >= 0, after[small], small)
    of_single = np.where(after[small] >= 0, errors[single], 0)
    together = np.outer(of_single, of_single) * (objects[single] == objects[single][:, None])
    count = added.sum(axis=1)
    terms = (
      added @ (values[single] - values[small]),
      values[larger] - values[small],
      ((added @ together) * added).sum(axis=1) + (count * errors[small]) ** 2,
      errors[larger] ** 2 + errors[small] ** 2,
      count * errors[small] ** 2,
    )
    found.append(np.stack(terms, axis=1))
  return _least_ratio(np.concatenate(found), freedom)


def curvature(measured: Measured, after: np.ndarray, start: int = 0) -> Extreme:
  """The largest share of an element's gain at the set `start` that it loses at a larger set.

  1 - (gain at a set) / (gain at `start`): 0 if F is additive, 1 if an element may gain nothing,
  above 1 if it may harm. The fields describe the largest share.
  """
  smaller, element = np.nonzero(after >= 0)
  kept = (smaller != start) & (after[start, element] >= 0)
  smaller, element = smaller[kept], element[kept]
  gain = np.stack([smaller, after[smaller, element]], axis=1)
  first = np.stack([np.full_like(smaller, start), after[start, element]], axis=1)
  terms = (
    measured.values[gain] @ (-1, 1),
    measured.values[first] @ (-1, 1),
    covariance(measured, gain, gain),
    covariance(measured, first, first),
    covariance(measured, gain, first),
  )
  least = _least_ratio(np.stack(terms, axis=1), measured.freedom)
  return least._replace(
    value=1 - least.value, low=1 - least.high, high=1 - least.low, median=1 - least.median
  )


def _least_ratio(terms: np.ndarray, freedom: float) -> Extreme:
  """The least of `Q` ratios with its interval.

  The interval is all c with `numerator - c denominator` within its error of 0 (Fieller 1954).

  Args:
    terms: Numerators, denominators, their variances and their covariance. `[Q, 5]`.
    freedom: Degrees of freedom of the variances.
  """
  above, below, of_above, of_below, of_both = terms.T
  checked = above.size
  z = scipy.stats.t.isf((1 - CONFIDENCE) / 2 / max(checked, 1), freedom)
  rounding = _ROUNDING * np.abs(below).max(initial=0)
  square = below**2 - z**2 * of_below
  used = below > np.maximum(_PRECISION * z * np.sqrt(of_below), rounding)
  if not used.any():
    return Extreme(np.nan, np.nan, np.nan, np.nan, 0, checked)
  linear, free = above * below - z**2 * of_both, above**2 - z**2 * of_above
  root = np.sqrt(np.maximum(linear**2 - square * free, 0))[used]
  ratio = (above / np.where(used, below, 1))[used]
  return Extreme(
    value=float(ratio.min()),
    low=float(((linear[used] - root) / square[used]).min()),
    high=float(((linear[used] + root) / square[used]).min()),
    median=float(np.median(ratio)),
    used=int(used.sum()),
    checked=checked,
  )

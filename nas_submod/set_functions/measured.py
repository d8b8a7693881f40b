"""A set function given by noisy measurements: values, errors, and which sets are one object."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Weights of the values at A and A + e, and at A, A + e, A + f and A + e + f.
WEIGHTS = {2: np.array([-1.0, 1.0]), 4: np.array([-1.0, 1.0, 1.0, -1.0])}
_LEAST_FREEDOM = 100  # degrees of freedom of a noise estimate


class Measured(NamedTuple):
  """A set function at `K` sets.

  Attributes:
    masks: The sets, all different. `[K, n]` bool.
    values: Mean value of each. `[K]`.
    errors: Standard error of each mean, 0 if exact. `[K]`.
    objects: Number of the object that a set describes: sets of one object share a measurement.
      `[K]` int.
    freedom: Degrees of freedom of the errors.
  """

  masks: np.ndarray
  values: np.ndarray
  errors: np.ndarray
  objects: np.ndarray
  freedom: float = np.inf


def measured(masks: np.ndarray, samples: np.ndarray, objects: np.ndarray) -> Measured:
  """A set function from `r` measurements of each object; noise is pooled over similar sizes.

  Args:
    masks: The sets, all different. `[K, n]` bool.
    samples: Measurements, equal for sets of one object. If r = 1 they count as exact. `[K, r]`.
    objects: As in `Measured`.
  """
  numbers, first, inverse = np.unique(objects, return_index=True, return_inverse=True)
  errors, freedom = np.zeros(len(numbers)), np.inf
  if samples.shape[1] > 1:
    errors, freedom = pooled_errors(samples[first], masks[first].sum(axis=1))
  return Measured(masks, samples.mean(axis=1), errors[inverse], inverse, freedom)


def pooled_errors(samples: np.ndarray, strata: Sequence[int]) -> tuple[np.ndarray, float]:
  """Standard errors of the means of `samples [K, r]`, from noise pooled over neighbouring strata.

  Args:
    samples: Measurements, one row for each object. r > 1.
    strata: A number for each object, such as its size; objects with close numbers have similar
      noise. `[K]`.

  Returns:
    The errors `[K]`, and the smallest of their degrees of freedom.
  """
  variances, repeats = samples.var(axis=1, ddof=1), samples.shape[1]
  order = np.argsort(strata, kind="stable")
  ends = np.flatnonzero(np.diff(np.asarray(strata)[order], append=np.inf)) + 1
  begin, bounds = 0, [0]
  for end in ends:
    if (end - begin) * (repeats - 1) >= _LEAST_FREEDOM:
      bounds.append(int(end))
      begin = int(end)
  bounds = [*(bounds[:-1] if len(bounds) > 1 else bounds), len(order)]
  errors = np.empty(len(order))
  for first, last in itertools.pairwise(bounds):
    errors[order[first:last]] = np.sqrt(variances[order[first:last]].mean() / repeats)
  return errors, float(np.diff(bounds).min() * (repeats - 1))


def additions(masks: np.ndarray) -> np.ndarray:
  """The row of each set of `masks [K, n]` with each element added, `[K, n]`; -1 if missing."""
  smaller, larger, elements = pairs(masks)
  after = np.full(masks.shape, -1)
  after[smaller, elements] = larger
  return after


def pairs(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Row of a set, row of the set with one element more, and that element, `[P]` each.

  `masks [K, n]` are distinct.

  Sets are looked up by a hash: the sum of random 64-bit codes. With 2^20 additions and 10^4 sets,
  the probability of a collision is 10^-9.
  """
  codes = np.random.default_rng(0).integers(0, 2**64, masks.shape[1], np.uint64)
  hashes = masks @ codes
  order = np.argsort(hashes)
  larger, elements = np.nonzero(masks)
  wanted = hashes[larger] - codes[elements]
  smaller = order[np.minimum(np.searchsorted(hashes, wanted, sorter=order), len(order) - 1)]
  found = hashes[smaller] == wanted
  return smaller[found], larger[found], elements[found]


def covariance(of: Measured, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Covariance of the contrasts of `rows [Q, 2 or 4]` and of `others [Q, 2 or 4]`. `[Q]`."""
  errors, objects = of.errors, of.objects
  total = np.zeros(len(rows))
  for row, weight in zip(rows.T, WEIGHTS[rows.shape[1]]):
    for other, other_weight in zip(others.T, WEIGHTS[others.shape[1]]):
      same = objects[row] == objects[other]
      total += weight * other_weight * same * errors[row] * errors[other]
  return np.maximum(total, 0) if rows is others else total


def packed(masks: np.ndarray) -> np.ndarray:
  """The sets as bytes, element e at bit e. `[K, bytes]`."""
  return np.packbits(masks, axis=1, bitorder="little")

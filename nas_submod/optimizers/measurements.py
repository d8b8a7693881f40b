"""Measurements of a set function on the host: noisy values of the same set are pooled."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nas_submod.optimizers.ties import ROUNDING


class Pooled(NamedTuple):
  """Mean of measurements of one set, and its standard error.

  The standard error is NaN if it is unknown: one measurement without a stated error, or a set that
  could not be measured (value -inf).
  """

  value: float
  standard_error: float


UNKNOWN = Pooled(-np.inf, np.nan)
UNMEASURED = Pooled(-np.inf, np.inf)  # what a round cut by `max_evaluations` did not measure
QUANTILE = 1.645  # of the normal distribution, one-sided 95%


class Measurements:
  """Measurements of each canonical set, in the order they were made.

  A key is the packed canonical mask of a set.

  Attributes:
    total: Number of measurements.
    asked: The key of each set asked, by its packed mask, in the order asked.
  """

  def __init__(self, value: Callable[[np.ndarray], Any]):
    """Starts without measurements.

    Args:
      value: `masks [K, n] -> values [K]` or `(values, standard_errors)`; each row is measured.
    """
    self._value = value
    self._samples: dict[bytes, list[Pooled]] = {}
    self.total = 0
    self.asked: dict[bytes, bytes] = {}

  def measure(
    self, masks: np.ndarray, keys: list[bytes], replicates: np.ndarray, allowance: int
  ) -> bool:
    """Measures each set until it has its replicates, all sets in one call.

    Args:
      masks: Sets, most urgent first. `[K, n]` bool.
      keys: Their keys, equal for sets that are the same object. `[K]`.
      replicates: Measurements that each set needs in total. `[K]` int.
      allowance: The most measurements that may be made.

    Returns:
      Whether the allowance was too small.

    Raises:
      ValueError: If a value is NaN or +inf, or a standard error negative or infinite.
    """
    self.asked.update(zip((mask.tobytes() for mask in np.packbits(masks, axis=1)), keys))
    wanted: dict[bytes, int] = {}
    for key, count in zip(keys, replicates):
      wanted[key] = max(int(count), wanted.get(key, 0))
    first = dict(zip(reversed(keys), reversed(range(len(keys)))))
    missing = [max(count - len(self._samples.get(key, ())), 0) for key, count in wanted.items()]
    rows = np.repeat([first[key] for key in wanted], missing).astype(int)
    cut = rows.size > allowance
    rows = rows[:allowance]
    if rows.size:
      for row, value, error in zip(rows, *self._call(masks[rows])):
        self._samples.setdefault(keys[row], []).append(Pooled(float(value), float(error)))
    self.total += rows.size
    return cut

  def __contains__(self, key: bytes) -> bool:
    return key in self._samples

  def pooled(self, key: bytes, replicates: int | None = None) -> Pooled:
    """Mean and standard error of the first `replicates` measurements of a set; None takes all.

    The standard error comes from the stated errors if every measurement has one, else from the
    scatter of the values.
    """
    samples = self._samples.get(key, [])[:replicates]
    values, errors = np.array(samples).reshape(-1, 2).T
    if not samples or np.isneginf(values).any():
      return UNKNOWN
    if len(samples) == 1:
      return samples[0]
    stated = np.sqrt(np.sum(errors**2)) / len(samples)
    scatter = np.std(values, ddof=1) / np.sqrt(len(samples))
    return Pooled(float(np.mean(values)), float(scatter if np.isnan(stated) else stated))

  def noise(self) -> float:
    """Standard deviation of one measurement, pooled over all sets; 0 if it is unknown."""
    counts = np.array([len(samples) for samples in self._samples.values()])
    errors = np.array([self.pooled(key).standard_error for key in self._samples])
    known = np.isfinite(errors)
    freedom = np.maximum(counts[known] - 1, 1)
    return float(
      np.sqrt(np.sum(freedom * counts[known] * errors[known] ** 2) / max(freedom.sum(), 1))
    )

  def differences_are_lost(self) -> bool:
    """Whether values differ, but by too little for float32 or for the rule of ties."""
    values = np.array([sample.value for row in self._samples.values() for sample in row])
    values = values[np.isfinite(values)]
    if not values.size:
      return False
    largest = np.abs(values).max()
    if np.ptp(values) <= 1e-12 * largest:  # Equal, up to rounding of F itself.
      return False
    return bool(np.ptp(values) <= 2 * ROUNDING * largest or largest < np.finfo(np.float32).tiny)

  def ties(self, key: bytes) -> int | None:
    """Number of other sets that may be better than the set of `key`, given the noise.

    Their mean is higher, or lower by less than 1.645 standard errors of the difference. 0 if values
    are exact, None if the noise is unknown.
    """
    pooled = {other: self.pooled(other) for other in self._samples}
    measured = [found for found in pooled.values() if np.isfinite(found.value)]
    if measured and all(np.isnan(found.standard_error) for found in measured):
      return None
    answer = pooled.get(key, UNKNOWN)
    if not np.isfinite(answer.value):
      return 0
    values, errors = np.array(measured).T
    error, noise = answer.standard_error, self.noise()
    error = noise if np.isnan(error) else error
    errors = np.where(np.isnan(errors), noise, errors)
    margin = QUANTILE * np.hypot(errors, error)
    close = (answer.value - values < margin) & (margin > 0)
    return int(close.sum()) - int(error > 0)  # with noise, the set is close to itself

  def _call(self, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    try:
      answer = self._value(masks)
    except Exception as error:
      if not self._samples:
        error.add_note(
          f"value was called with {len(masks)} sets, `masks [K, n] -> values [K]`; a traceable "
          "function of one set, `mask [n] -> value []`, needs traceable=True"
        )
      raise
    return checked_answer(masks, answer)


def checked_answer(masks: np.ndarray, answer: Any) -> tuple[np.ndarray, np.ndarray]:
  """Values and standard errors, `[K]` each, that a host function returned for `masks [K, n]`.

  Raises:
    ValueError: If a shape is wrong, a value NaN or +inf, or a standard error negative or infinite.
  """
  if isinstance(answer, tuple) and len(answer) != 2:
    raise ValueError(
      f"value returned {len(answer)} arrays; values, or (values, standard_errors), are allowed"
    )
  values, errors = answer if isinstance(answer, tuple) else (answer, np.full(len(masks), np.nan))
  try:
    values, errors = np.asarray(values), np.asarray(errors)
    if any(numbers.dtype.kind not in "biuf" for numbers in (values, errors)):
      raise TypeError("not real numbers")
    values, errors = values.astype(np.float64), errors.astype(np.float64)
  except (TypeError, ValueError) as error:
    raise ValueError(f"value must return real numbers, `[K]`, got {answer!r:.80}") from error
  for name, numbers in ("values", values), ("standard errors", errors):
    if numbers.shape != (len(masks),):
      raise ValueError(
        f"value returned {name} of shape {numbers.shape} for {len(masks)} sets, not "
        f"({len(masks)},); a function on the host takes all sets of a round, `masks [K, n]`"
      )
  beyond = ~np.isneginf(values) & (np.abs(values) > np.finfo(np.float32).max)
  bad_value = np.isnan(values) | beyond
  bad_error = (errors < 0) | (errors == np.inf)
  for name, numbers, bad, allowed in (
    ("values", values, bad_value, "a float32 number or -inf (could not be measured)"),
    ("standard errors", errors, bad_error, "a nonnegative number or NaN (unknown)"),
  ):
    for row in np.flatnonzero(bad)[:1]:
      raise ValueError(
        f"value returned {numbers[row]} among its {name}, for the set of elements "
        f"{np.flatnonzero(masks[row]).tolist()}; {allowed} is allowed"
      )
  return values, errors

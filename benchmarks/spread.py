"""Means with their spread, as the tables print them."""

from collections.abc import Sequence

import numpy as np


def with_deviation(values: Sequence[float], digits: int) -> str:
  """Formats the mean and the standard deviation; one value stands alone."""
  return _pair(values, digits, 1)


def with_error(values: Sequence[float], digits: int) -> str:
  """Formats the mean and its standard error; one value stands alone."""
  return _pair(values, digits, len(values) ** 0.5)


def _pair(values: Sequence[float], digits: int, divisor: float) -> str:
  mean = f"{np.mean(values):.{digits}f}"
  if len(values) < 2:
    return mean
  return f"{mean} ± {np.std(values, ddof=1) / divisor:.{digits}f}"

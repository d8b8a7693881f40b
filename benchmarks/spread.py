"""Means with their spread, as the tables print them."""

from collections.abc import Sequence

import numpy as np


def with_deviation(values: Sequence[float], digits: int) -> str:
  """Formats the mean and the standard deviation; NaN for one value."""
  deviation = np.std(values, ddof=1) if len(values) > 1 else float("nan")
  return f"{np.mean(values):.{digits}f} ± {deviation:.{digits}f}"


def with_error(values: Sequence[float], digits: int) -> str:
  """Formats the mean and its standard error; NaN for one value."""
  error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
  return f"{np.mean(values):.{digits}f} ± {error:.{digits}f}"

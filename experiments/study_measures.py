"""Measures violations of monotonicity and submodularity in measured sets, as plain values."""

from typing import Any

import numpy as np
import scipy.stats

from nas_submod.set_functions import extremes, properties
from nas_submod.set_functions.measured import Measured, additions

SEED = 2019
_TAIL = np.arange(0, 5.01, 0.25)  # standard errors
_SIMULATIONS = 200
_RESAMPLES = 200


def assumption(of: Measured, samples: np.ndarray, start: int) -> dict[str, Any]:
  """Violations, submodularity ratio and curvature.

  Args:
    of: The sets.
    samples: Their trainings. `[K, r]`; with r = 1 the noise is unknown.
    start: The set where searches start.
  """
  after = additions(of.masks)
  found: dict[str, Any] = {
    "sets": len(of.masks),
    "networks": int(of.objects.max()) + 1,
    "trainings": samples.shape[1],
    "noise": [float(of.errors.min()), float(of.errors.max())],  # of a mean
  }
  rows = {
    "monotone": properties.single_gains(after),
    "diminishing": properties.second_differences(after),
  }
  for name, where in rows.items():
    contrasts = properties.contrasts(of, where)
    found[name] = properties.violations(contrasts)._asdict()
    if samples.shape[1] > 1 and len(where):
      ratios = contrasts.estimates / np.maximum(contrasts.errors, 1e-300)
      rng = np.random.default_rng(SEED)
      found[name] |= {
        "held_out": properties.held_out(samples, where)._asdict(),
        "false_positives": properties.false_positives(of, samples, where, _SIMULATIONS, rng),
        "averaged": properties.violations(properties.averaged(of, where))._asdict(),
        "tail": [float(np.mean(ratios < -bound)) for bound in _TAIL],
      }
  found["ratio"] = extremes.submodularity_ratio(of, after)._asdict()
  found["curvature"] = extremes.curvature(of, after, start)._asdict()
  return found


def rank_correlation(left: np.ndarray, right: np.ndarray) -> tuple[float, float]:
  """Spearman's correlation of two scores `[N]`, and its standard error by the bootstrap."""
  rng = np.random.default_rng(SEED)
  draws = rng.integers(0, len(left), (_RESAMPLES, len(left)))
  found = [
    scipy.stats.spearmanr(left[rows], right[rows]).statistic
    for rows in draws
    if np.ptp(left[rows]) and np.ptp(right[rows])  # A constant has no rank correlation.
  ]
  return float(scipy.stats.spearmanr(left, right).statistic), float(np.std(found, ddof=1))

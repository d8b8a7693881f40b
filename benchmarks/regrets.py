"""Regrets of optimizers: means and standard errors."""

from collections.abc import Sequence

import numpy as np
import scipy.stats

from benchmarks.runs import Curves, Suite

Runs = dict[str, list[Curves]]  # curves of each instance, by "exact" and "noisy"
Regrets = dict[str, np.ndarray]  # regrets [instances, seeds, limit + 1] by the same keys


def regrets(suite: Suite, runs: dict[str, Runs]) -> dict[str, Regrets]:
  """Computes the regrets of each optimizer; a run may raise an optimum that is only estimated."""
  scores = {
    name: {kind: np.stack([c.scores for c in curves], dtype=float) for kind, curves in run.items()}
    for name, run in runs.items()
  }
  optimum = np.array([instance.optimum for instance in suite.instances])
  for curve in scores.values():
    for score in curve.values():
      optimum = np.maximum(optimum, score.max(axis=(1, 2)))
  return {
    name: {kind: optimum[:, None, None] - score for kind, score in curve.items()}
    for name, curve in scores.items()
  }


def proxy_note(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> str:
  """Says how well the proxy ranks networks, from `(proxy [N], final score [N])` of each problem."""
  found = sorted(float(scipy.stats.spearmanr(*pair).statistic) for pair in pairs)
  span = f"{found[0]:.2f}" + (f" to {found[-1]:.2f}" if len(found) > 1 else "")
  return f"rank correlation of what is measured with the final score: {span}"


def spread(regret: np.ndarray) -> str:
  """Formats the mean of `regret [I, S]` and, for several seeds, its standard error over seeds."""
  means = regret.mean(axis=0)
  if means.size == 1:
    return f"{means.mean():.3f}"
  return f"{means.mean():.3f} ±{means.std(ddof=1) / np.sqrt(means.size):.3f}"

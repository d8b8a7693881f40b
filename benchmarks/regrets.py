"""Regrets of optimizers: means, standard errors and a CSV file of the raw numbers."""

import csv
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


def write_csv(path: str, suite: Suite, results: dict[str, Regrets], checkpoints: list[int]) -> None:
  """Writes one row for each optimizer, kind, instance, seed and number of measurements."""
  with open(path, "w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file)
    writer.writerow(["suite", "instance", "optimizer", "kind", "seed", "measurements", "regret"])
    for name, curve in results.items():
      for kind, regret in curve.items():
        for i, instance in enumerate(suite.instances):
          for seed in range(regret.shape[1]):
            for t in checkpoints:
              value = f"{regret[i, seed, t]:.6g}"
              writer.writerow([suite.title, instance.name, name, kind, seed, t, value])

"""The answer of a search: finalists trained with fresh seeds, their noise, binding budgets."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from nas_submod import resources
from nas_submod.evaluation.evaluator import SHARED_WEIGHTS, mean, standard_error
from nas_submod.evaluation.objective import Objective
from nas_submod.evaluation.shared_weights.settings import method_of
from nas_submod.search.setup import Setup

# The first fresh seed if networks are scored with shared weights: a workdir may hold scores of
# searches with more replicates, and a journal has one evaluation for each network and replicate.
_AFTER_SCORES = 1_000_000

Row = dict[str, Any]  # A step of the path, or a finalist, as `result.json` holds it.


def choose_finalists(setup: Setup, path: Sequence[Row]) -> list[Row]:
  """The best network of every run, then the best of all others on their paths."""
  # The order of steps of several runs depends on the number of devices.
  by_value = sorted(
    path,
    key=lambda row: (-row["value"], setup.space.key(row["architecture"]), row["run"], row["step"]),
  )
  best_of_run = {row["run"]: row for row in reversed(by_value)}
  chosen: dict[str, Row] = {}
  for row in [*sorted(best_of_run.values(), key=lambda row: -row["value"]), *by_value]:
    if len(chosen) < setup.config["search"]["finalists"]:
      chosen.setdefault(setup.space.key(row["architecture"]), row)
  return list(chosen.values())


def train_again(setup: Setup, objective: Objective, rows: Sequence[Row]) -> list[Row]:
  """Trains networks of the path again, with seeds that the search has not used."""
  search = setup.config["search"]
  seen = search["replicates"] * setup.most_measurements
  if method_of(setup.config) == SHARED_WEIGHTS:
    seen = _AFTER_SCORES
  fresh = range(seen, seen + search["finalist_replicates"])
  architectures = [row["architecture"] for row in rows]
  scores = objective.scores(architectures, [fresh] * len(rows), full=True)
  return [
    {
      "run": row["run"],
      "architecture": row["architecture"],
      "text": setup.space.text(row["architecture"]),
      "resources": row["resources"],
      "search_value": row["value"],
      "value": mean(values),
      "standard_error": standard_error(values),
      "tie": tie,
      "scores": values,
    }
    for row, values, tie in zip(rows, scores, statistical_ties(np.array(scores)))
  ]


def train_references(setup: Setup, objective: Objective) -> list[Row]:
  """Trains the networks that the answer is compared with, with the seeds of the finalists."""
  rows = [
    {
      "run": name,
      "architecture": list(architecture),
      "value": None,
      "resources": resources.network_cost(setup.space, architecture, setup.resources),
    }
    for name, architecture in setup.references.items()
  ]
  if not rows:
    return []
  return [
    {"name": row.pop("run")} | {key: row[key] for key in row if key not in ("search_value", "tie")}
    for row in train_again(setup, objective, rows)
  ]


def statistical_ties(scores: np.ndarray) -> list[bool]:
  """Whether each network may, within noise, be better than the one with the best mean.

  One-sided 95% test of Student's t, with one variance pooled over all networks, as in a race.

  Args:
    scores: Two or more replicates of each network. -inf marks a failed one; its network ties with
      nothing. Shape `[K, R]`.
  """
  finite = np.isfinite(scores).all(axis=1)
  if not finite.any():
    return [False] * len(scores)
  means, count = scores.mean(axis=1), scores.shape[1]
  best = np.argmax(means)
  variance = np.var(scores[finite], axis=1, ddof=1).mean()
  quantile = stats.t.ppf(0.95, finite.sum() * (count - 1))
  close = finite & (means[best] - means <= quantile * math.sqrt(2 * variance / count))
  close[best] = False
  return close.tolist()


def signal_of(
  setup: Setup,
  objective: Objective,
  path: Sequence[Row],
  finalists: Sequence[Row],
) -> dict[str, Any]:
  """Compares the noise of a replicate with the gain of a block, both from fresh seeds.

  The gain is the mean of the first three additions of the first run; None without additions, or if
  a training failed.
  """
  first = [row for row in path if row["run"] == setup.runs[0]] if setup.grows else []
  added = min(3, len(first) - 1)
  ends = train_again(setup, objective, [first[0], first[added]]) if added > 0 else []
  again = {setup.space.key(row["architecture"]): row["scores"] for row in (*finalists, *ends)}
  rows = [scores for scores in again.values() if np.isfinite(scores).all()]
  deviation = float(np.sqrt(np.mean([np.var(row, ddof=1) for row in rows]))) if rows else math.nan
  gain = (ends[1]["value"] - ends[0]["value"]) / added if ends else math.nan
  return {
    "replicate_standard_deviation": deviation,
    "mean_gain_of_first_additions": gain if math.isfinite(gain) else None,
    "additions": max(added, 0),
    "ratio": deviation / gain if 0 < gain < math.inf else None,
    "replicates": sum(len(row) for row in rows),
  }


def binding(setup: Setup, architecture: Sequence[int]) -> list[str]:
  """Names the budgets that leave no room for another block.

  A budget binds if it alone leaves no room for any further block. If no budget does, but
  no block fits all budgets, each budget binds without which some block would fit. If there is no
  such budget either, the budget with the smallest share left binds. A network without a free
  position is bound by `positions`.
  """
  mask = jnp.asarray(setup.space.mask(np.array(architecture)))
  cost, limit = np.asarray(setup.problem.cost(mask)), np.asarray(setup.problem.limit)
  after = jax.vmap(setup.problem.cost)(mask | jnp.eye(setup.problem.n, dtype=bool))
  free = np.array(architecture)[np.asarray(setup.space.groups)] == 0
  if not free.any():
    return ["positions"]
  fits = np.asarray(after)[free] <= limit
  short = ~fits.any(axis=0)
  if not short.any() and not fits.all(axis=1).any():
    short = (~fits & (fits.sum(axis=1, keepdims=True) == fits.shape[1] - 1)).any(axis=0)
  if not short.any() and not fits.all(axis=1).any():
    share_left = (limit - cost) / limit
    short = share_left == share_left.min()
  return [name for name, tight in zip(setup.budget, short) if tight]

"""A certificate of a run: how much better any feasible set could be, if F is what it is taken for.

If F is monotone and submodular, the gain of an element at a measured set A bounds its gain at every
S that contains A. So no feasible T is better than F(S) plus the gains of its elements at S, and the
best such T, relaxed, is a bound: one element of each group; with additive costs also a fractional
(multiple-choice) knapsack of each resource alone, by its Lagrangian dual. The bound is the smallest
over all S that were measured. Sources: Leskovec et al. 2007 for the bound from data, Tang et al.
2021 for knapsacks. Where additions were seen to lower F, only the gains at the required set, which
every T contains, are used: what they give needs no monotonicity.

The same measurements say how far F is from that assumption. Means stand for noisy values: then the
bound is uncertain as they are, and errs low where it is the least of many; a check counts as failed
only where it fails by more than 1.645 standard errors (one-sided 95%).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nas_submod.optimizers.certificate.measured_gains import (
  ROUNDING,
  Gains,
  addable,
  gains_at_ends,
  measured_gains,
)
from nas_submod.optimizers.measurements import QUANTILE, Measurements
from nas_submod.problem import Problem

_CHANCE = 0.05  # of a check that fails beyond this quantile by noise alone
_REFINED = 64  # sets whose bounds are computed precisely
_PRECISE = 1e-9  # of a bound


class Violations(NamedTuple):
  """How far what was measured is from monotone and submodular.

  Attributes:
    monotonicity_failed: Additions that lowered the value.
    monotonicity_checked: Additions measured: pairs of a set and the set with one element more.
    submodularity_failed: Pairs of nested sets where an element gained more at the larger.
    submodularity_checked: Such pairs, for every element measured at both.
    submodularity_ratio: The least of (sum of single gains) / (gain of all) of elements measured
      alone and together (Das and Kempe 2011): 1 or more if submodular; NaN if nothing tells it.
    curvature: 1 - the least (gain at a set) / (gain at the required set) of an element, in 0 to
      1: 0 if additive, 1 if some element gains nothing any more; NaN if nothing tells it.
  """

  monotonicity_failed: int
  monotonicity_checked: int
  submodularity_failed: int
  submodularity_checked: int
  submodularity_ratio: float
  curvature: float


NOTHING_CHECKED = Violations(0, 0, 0, 0, np.nan, np.nan)


def certify_measured(problem: Problem, measurements: Measurements) -> tuple[float, Violations]:
  """The certificate of what was measured on the host.

  Args:
    problem: The problem. Costs that are no sums are taken to be monotone.
    measurements: All of it, the required set first.

  Returns:
    The upper bound, inf if the gains at the required set are not known, and the violations.
  """
  first, key = next(iter(measurements.asked.items()))
  is_required = first == np.packbits(np.asarray(problem.required)).tobytes()
  if not is_required or not np.isfinite(measurements.pooled(key).value):
    return np.inf, NOTHING_CHECKED
  return _certify(problem, measured_gains(problem, measurements))


def certify_at(
  problem: Problem, value: Callable[..., Any], mask: np.ndarray
) -> tuple[float, Violations]:
  """The certificate from the gains at the required set and at `mask [n]`, `value` traceable."""
  measured = gains_at_ends(problem, value, mask)
  if not np.isfinite(measured.values).all():
    return np.inf, NOTHING_CHECKED
  return _certify(problem, measured)


def _certify(problem: Problem, measured: Gains) -> tuple[float, Violations]:
  bounds, violations = _compare_nested(measured)
  weights = np.where(np.asarray(addable(problem)) & ~measured.masks, np.maximum(bounds, 0.0), 0.0)
  bounded = np.isfinite(weights).all(axis=1)
  if _is_not_monotone(measured, violations):
    bounded &= np.arange(measured.values.size) == 0
  if not bounded.any():
    return np.inf, violations
  return _least_bound(problem, measured.values[bounded], weights[bounded]), violations


def _is_not_monotone(measured: Gains, violations: Violations) -> bool:
  """Whether more additions lowered F than noise explains, by three standard deviations."""
  failed, checked = violations.monotonicity_failed, violations.monotonicity_checked
  if not measured.gain_errors[~np.isnan(measured.gains)].any():
    return failed > 0
  return failed > checked * _CHANCE + 3 * np.sqrt(checked * _CHANCE * (1 - _CHANCE))


def _compare_nested(measured: Gains) -> tuple[np.ndarray, Violations]:
  """Bounds of the gains at every set by those at its subsets, `[K, n]`; and all checks."""
  masks, values, gains, errors, gain_errors = measured
  rounding = ROUNDING * np.abs(values).max()
  known = ~np.isnan(gains)
  bounds = np.where(known, gains, np.inf)
  least = bounds.copy()
  failed = checked = 0
  ratio = np.inf
  size = masks.astype(np.float32)
  contained = size @ (1 - size).T == 0  # of [A, S]: no element of A is missing from S
  np.fill_diagonal(contained, False)
  for small in np.flatnonzero(known.any(axis=1)):
    larger = np.flatnonzero(contained[small])
    least[larger] = np.minimum(least[larger], bounds[small])
    both = known[small] & known[larger]
    slack = QUANTILE * np.hypot(gain_errors[larger], gain_errors[small]) + rounding
    failed += int(np.sum(both & (gains[larger] - gains[small] > slack)))
    checked += int(both.sum())
    added = masks[larger] & ~masks[small]
    together = values[larger] - values[small]
    slack = QUANTILE * np.hypot(errors[larger], errors[small]) + rounding
    told = (added <= known[small]).all(axis=1) & (added.sum(axis=1) > 1) & (together > slack)
    alone = added[told] @ np.where(known[small], gains[small], 0.0)
    ratio = min(ratio, np.min(alone / together[told], initial=np.inf))
  slack = QUANTILE * gain_errors + rounding
  rises = known[0] & (gains[0] > slack[0])
  kept = gains[1:, rises] / gains[0, rises]
  return least, Violations(
    monotonicity_failed=int(np.sum(known & (gains < -slack))),
    monotonicity_checked=int(known.sum()),
    submodularity_failed=failed,
    submodularity_checked=checked,
    submodularity_ratio=float(ratio) if np.isfinite(ratio) else np.nan,
    curvature=float(np.clip(1 - np.nanmin(kept), 0, 1)) if np.isfinite(kept).any() else np.nan,
  )


def _least_bound(problem: Problem, values: np.ndarray, weights: np.ndarray) -> float:
  """The least bound over sets of `values [S]` where elements gain at most `weights [S, n]`."""
  groups = np.asarray(problem.groups)
  grouped = bool((groups >= 0).any())
  if grouped:
    labels = np.where(groups < 0, groups.size + np.arange(groups.size), groups)
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    sizes = np.diff(np.append(starts, groups.size))

  def of_groups(worth, cost):
    """The sum of what the best of each group is worth, if anything, and of its cost. `[S]` each."""
    if not grouped:
      return np.maximum(worth, 0).sum(axis=1), (worth > 0) @ cost
    worth, cost = worth[:, order], cost[order]
    best = np.maximum(np.maximum.reduceat(worth, starts, axis=1), 0)
    is_best = (worth > 0) & (worth == np.repeat(best, sizes, axis=1))
    spent = np.minimum.reduceat(np.where(is_best, cost, np.inf), starts, axis=1)
    return best.sum(axis=1), np.where(best > 0, spent, 0).sum(axis=1)

  least = np.min(values + of_groups(weights, np.zeros(groups.size))[0])
  if problem.cost_matrix is None:
    return float(least)
  costs = np.asarray(problem.cost_matrix, np.float64)
  # What is feasible in float32 may use a bit more than its limit.
  budget = np.asarray(problem.limit, np.float64) * (1 + ROUNDING)
  for cost, room in zip(costs.T, budget - costs[np.asarray(problem.required)].sum(axis=0)):
    if np.isfinite(room) and (cost > 0).any():
      room = max(room, 0.0)  # the rounding of what is required may be beyond it
      best = np.arange(len(values))
      if len(best) > _REFINED:
        best = np.argsort(values + _knapsack(weights, cost, room, of_groups, steps=16))[:_REFINED]
      fine = values[best] + _knapsack(weights[best], cost, room, of_groups, steps=45)
      least = min(least, fine.min())
  return float(least)


def _knapsack(
  weights: np.ndarray,
  cost: np.ndarray,
  room: float,
  of_groups: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
  steps: int,
) -> np.ndarray:
  """The fractional multiple-choice knapsack, `[S]`: the least over prices of its dual.

  Any price gives a bound. It is convex in the price: its slope is what is left of the room by the
  cheapest of the best. The least is between a price where that is negative and one where it is
  not; where their tangents meet is the next, until the bound there is no higher than they are.
  """
  ratios = np.divide(weights, cost, out=np.zeros_like(weights), where=cost > 0)

  def bound(price):
    """At `price [S]`: the bound, and its slope."""
    worth, spent = of_groups(weights - price[:, None] * cost, cost)
    return price * room + worth, room - spent

  low, high = np.zeros(len(weights)), ratios.max(axis=1)
  (at_low, falls), (at_high, rises) = bound(low), bound(high)
  least = np.minimum(at_low, at_high)
  for _ in range(steps):
    between = (falls < 0) & (falls < rises)  # else the least is at price 0
    slope = np.where(between, falls - rises, -1)
    meet = ((at_high - rises * high) - (at_low - falls * low)) / slope
    price = np.where(between, np.clip(meet, low, high), low)
    tangent = at_low + falls * (price - low)
    at_price, found = bound(price)
    least = np.minimum(least, at_price)
    if np.all(~between | (at_price - tangent <= _PRECISE * np.abs(at_price))):
      break
    left = found < 0
    low, at_low, falls = (
      np.where(left, new, old) for new, old in ((price, low), (at_price, at_low), (found, falls))
    )
    high, at_high, rises = (
      np.where(left, old, new) for new, old in ((price, high), (at_price, at_high), (found, rises))
    )
  return least

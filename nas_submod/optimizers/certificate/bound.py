"""Certificate of a run: an upper bound on the optimum, and violations of its assumptions.

If F is submodular, the gain of an element at a measured set A bounds its gain at every superset of
A. If F is also monotone, F(T) of every feasible T is at most F(S) plus the gains of the elements of
T at S, for each measured S. The bound relaxes the choice of T to one element of each group; with
additive costs also to a fractional (multiple-choice) knapsack of each resource alone, by its
Lagrangian dual. The result is the smallest bound over all S. Sources: Leskovec et al. 2007 for the
bound from data, Tang et al. 2021 for knapsacks. If additions lowered F, only the gains at the
required set are used. Every T contains that set, so its bound needs no monotonicity.

The same measurements show how far F is from these assumptions. Noisy values enter as means, so the
bound is as uncertain as they are; as the smallest of many bounds it is biased low. A check fails
only beyond 1.645 standard errors (one-sided 95%).
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

_CHANCE = 0.05  # probability that noise alone makes a check fail
_REFINED = 64  # sets whose bounds are computed precisely
_PRECISION = 1e-9  # relative, of a bound


class Violations(NamedTuple):
  """Violations of monotonicity and submodularity among the measurements.

  Attributes:
    monotonicity_failed: Additions that lowered the value.
    monotonicity_checked: Additions measured: pairs of a set and the set with one element more.
    submodularity_failed: Checks where an element gained more at the larger of two nested sets.
    submodularity_checked: Checks: pairs of nested sets and an element measured at both.
  """

  monotonicity_failed: int
  monotonicity_checked: int
  submodularity_failed: int
  submodularity_checked: int


NOTHING_CHECKED = Violations(0, 0, 0, 0)


def certify_measured(problem: Problem, measurements: Measurements) -> tuple[float, Violations]:
  """The certificate from measurements on the host.

  Args:
    problem: The problem. Costs that are not sums must be monotone.
    measurements: All measurements of the run, the required set first.

  Returns:
    The upper bound, inf if gains at the required set are unknown; and the violations.
  """
  first, key = next(iter(measurements.asked.items()))
  is_required = first == np.packbits(np.asarray(problem.required)).tobytes()
  if not is_required or not np.isfinite(measurements.pooled(key).value):
    return np.inf, NOTHING_CHECKED
  return _certify(problem, measured_gains(problem, measurements))


def certify_at(
  problem: Problem, value: Callable[..., Any], mask: np.ndarray
) -> tuple[float, Violations]:
  """The certificate from the gains of a traceable `value` at the required set and at `mask [n]`."""
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
  """Whether additions lowered F more often than noise explains, by three standard deviations."""
  failed, checked = violations.monotonicity_failed, violations.monotonicity_checked
  if not measured.gain_errors[~np.isnan(measured.gains)].any():
    return failed > 0
  return failed > checked * _CHANCE + 3 * np.sqrt(checked * _CHANCE * (1 - _CHANCE))


def _compare_nested(measured: Gains) -> tuple[np.ndarray, Violations]:
  """Bounds on the gains at each set from the gains at its subsets, `[K, n]`; and all checks."""
  masks, gains, gain_errors = measured.masks, measured.gains, measured.gain_errors
  rounding = ROUNDING * np.abs(measured.values).max()
  known = ~np.isnan(gains)
  bounds = np.where(known, gains, np.inf)
  least = bounds.copy()
  failed = checked = 0
  members = masks.astype(np.float32)
  contained = members @ (1 - members).T == 0  # [A, S]: every element of A is in S
  np.fill_diagonal(contained, False)
  for small in np.flatnonzero(known.any(axis=1)):
    larger = np.flatnonzero(contained[small])
    least[larger] = np.minimum(least[larger], bounds[small])
    both = known[small] & known[larger]
    slack = QUANTILE * np.hypot(gain_errors[larger], gain_errors[small]) + rounding
    failed += int(np.sum(both & (gains[larger] - gains[small] > slack)))
    checked += int(both.sum())
  slack = QUANTILE * gain_errors + rounding
  return least, Violations(
    monotonicity_failed=int(np.sum(known & (gains < -slack))),
    monotonicity_checked=int(known.sum()),
    submodularity_failed=failed,
    submodularity_checked=checked,
  )


def _least_bound(problem: Problem, values: np.ndarray, weights: np.ndarray) -> float:
  """The smallest bound over sets of `values [S]`, where elements gain at most `weights [S, n]`."""
  groups = np.asarray(problem.groups)
  grouped = bool((groups >= 0).any())
  if grouped:
    labels = np.where(groups < 0, groups.size + np.arange(groups.size), groups)
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    sizes = np.diff(np.append(starts, groups.size))

  def of_groups(worth, cost):
    """Total worth and total cost of each group's best element, if positive. `[S]` each."""
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
  # Rounding lets a set that is feasible in float32 exceed the limit slightly.
  budget = np.asarray(problem.limit, np.float64) * (1 + ROUNDING)
  for cost, room in zip(costs.T, budget - costs[np.asarray(problem.required)].sum(axis=0)):
    if np.isfinite(room) and (cost > 0).any():
      room = max(room, 0.0)  # rounding may put the required set beyond the limit
      rows = np.arange(len(values))
      if len(rows) > _REFINED:
        rows = np.argsort(values + _knapsack(weights, cost, room, of_groups, steps=16))[:_REFINED]
      refined = values[rows] + _knapsack(weights[rows], cost, room, of_groups, steps=45)
      least = min(least, refined.min())
  return float(least)


def _knapsack(
  weights: np.ndarray,
  cost: np.ndarray,
  room: float,
  of_groups: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
  steps: int,
) -> np.ndarray:
  """Bounds of the fractional multiple-choice knapsack by its Lagrangian dual, `[S]`.

  Every price gives a bound. The bound is convex in the price, and its slope is the room that the
  cheapest best elements leave. The minimum lies between a price of negative slope and one of
  nonnegative slope. The next price is where their tangents meet; the search ends when the bound
  there lies on the tangents.
  """
  ratios = np.divide(weights, cost, out=np.zeros_like(weights), where=cost > 0)

  def bound(price):
    """The bound at `price [S]`, and its slope."""
    worth, spent = of_groups(weights - price[:, None] * cost, cost)
    return price * room + worth, room - spent

  low, high = np.zeros(len(weights)), ratios.max(axis=1)
  (at_low, slope_low), (at_high, slope_high) = bound(low), bound(high)
  least = np.minimum(at_low, at_high)
  for _ in range(steps):
    between = (slope_low < 0) & (slope_low < slope_high)  # else the minimum is at price 0
    difference = np.where(between, slope_low - slope_high, -1)
    meet = ((at_high - slope_high * high) - (at_low - slope_low * low)) / difference
    price = np.where(between, np.clip(meet, low, high), low)
    tangent = at_low + slope_low * (price - low)
    at_price, slope = bound(price)
    least = np.minimum(least, at_price)
    if np.all(~between | (at_price - tangent <= _PRECISION * np.abs(at_price))):
      break
    falls = slope < 0
    low, at_low, slope_low = (
      np.where(falls, new, old)
      for new, old in ((price, low), (at_price, at_low), (slope, slope_low))
    )
    high, at_high, slope_high = (
      np.where(falls, old, new)
      for new, old in ((price, high), (at_price, at_high), (slope, slope_high))
    )
  return least

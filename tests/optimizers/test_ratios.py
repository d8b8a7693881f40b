"""Every stated share of the optimum against brute force, on problems made to refute it."""

import math
from typing import NamedTuple

import hard_instances
import instances
import numpy as np
import pytest
from conformance import ENTRIES
from hypothesis import example, given, settings
from hypothesis import strategies as st

import nas_submod as ns
from nas_submod.optimizers import (
  Optimizer,
  greedy,
  greedy_plus_max,
  partial_enumeration,
  stochastic_greedy,
)

DENSITY = greedy("density:0", batch=None)
UNIT = greedy("unit", batch=None)
PLUS = greedy_plus_max("density:0", batch=None)


class Claim(NamedTuple):
  """A claim for one knapsack without groups.

  Attributes:
    optimizers: The best of these has the share.
    promised: The share.
    hard: The adversary must find a share below it, or the promise was never in danger.
    singleton: Whether the best single element counts too.
  """

  optimizers: tuple[Optimizer, ...]
  promised: float
  hard: float
  singleton: bool = False

  def shares(self, batch):
    """Shares of the optimum. `[K]`."""
    best = batch.best_share(self.optimizers)
    if not self.singleton:
      return best
    fits = np.asarray(batch.problems.cost_matrix)[:, :, 0] <= 1
    values = batch.tables[:, 1 << np.arange(hard_instances.N)]
    return np.maximum(best, np.where(fits, values, 0).max(axis=1) / batch.optima)


CLAIMS = {
  "density or best singleton": Claim((DENSITY,), 0.427, 0.6, singleton=True),
  "density or unit": Claim((DENSITY, UNIT), 0.427, 0.75),
  "greedy plus max": Claim((PLUS,), 0.5, 0.6),
  "depth 1 of density": Claim((partial_enumeration(DENSITY, 1),), 0.5, 0.617),
  "depth 1 of plus max": Claim((partial_enumeration(PLUS, 1),), 0.617, 0.85),
  "depth 2 of density": Claim((partial_enumeration(DENSITY, 2),), 1 - 1 / math.e, 0.95),
}
FAMILIES = st.sampled_from(hard_instances.FAMILIES)
SEEDS = st.integers(0, 2**32 - 1)
once = settings(deadline=None, derandomize=True, database=None, max_examples=8)


@once
@given(FAMILIES, st.sampled_from(hard_instances.COSTS), SEEDS)
@example("traps", "near_ties", 0)
@pytest.mark.slow
def test_shares_on_random_knapsacks(family, kind, seed):
  batch = hard_instances.knapsacks(family, kind, seed)
  for name, claim in CLAIMS.items():
    shares = claim.shares(batch)
    assert shares.min() >= claim.promised - 1e-6, (name, int(shares.argmin()))
    assert shares.max() <= 1 + 1e-6, name


def test_random_knapsacks_are_hard_for_plain_density_greedy():
  shares, _ = hard_instances.knapsacks("traps", "near_ties", 0).solve(DENSITY)
  assert shares.min() < 0.427


@pytest.mark.parametrize(
  "name",
  [pytest.param(n, marks=pytest.mark.slow if n.startswith("depth 2") else ()) for n in CLAIMS],
)
def test_shares_on_knapsacks_bred_to_be_hard(name):
  claim = CLAIMS[name]
  worst = hard_instances.adversary(claim.shares, np.random.default_rng(0))
  assert claim.promised - 1e-6 <= worst < claim.hard


def tight_for_a_cardinality(k, useless=0):
  """Coverage where greedy has 1 - (1 - 1/k)^k of the optimum, and not more (Feige 1998).

  The second k sets are the optimum: each covers 1/k of everything, in k + 1 cells. Each of the
  first k sets covers 1/k of what is left, evenly, and a little more. Other sets cover nothing.
  """
  left = (1 - 1 / k) ** np.arange(k)
  cells = np.append(left / k, left[-1] * (1 - 1 / k)) / k
  part, taker = np.divmod(np.arange(k * (k + 1)), k + 1)
  covers = np.concatenate([taker == np.arange(k)[:, None], part == np.arange(k)[:, None]])
  covers = np.concatenate([covers, np.eye(2 * k, k, dtype=bool)], axis=1)
  covers = np.pad(covers, ((0, useless), (0, 0)))
  weights = np.append(np.tile(cells, k), np.full(k, 1e-4))
  n = 2 * k + useless
  return ns.Problem(-np.ones(n, int), np.ones(n), k), ns.set_functions.coverage(covers, weights)


@pytest.mark.parametrize("k", [2, 4])
def test_unit_greedy_has_its_share_under_a_cardinality_and_no_more(k):
  problem, function = tight_for_a_cardinality(k)
  share = ns.maximize(problem, function, UNIT, traceable=True).value
  assert share == pytest.approx(1 - (1 - 1 / k) ** k, abs=1e-3)
  assert float(function(np.arange(2 * k) >= k)) == pytest.approx(1, abs=1e-6)
  cardinality = ns.Problem(-np.ones(8, int), np.ones(8), k)
  masks = instances.every_mask(8)
  for seed in range(10):
    function = instances.facility_location(seed)
    optimum = ns.set_functions.on_host(function)(masks[masks.sum(1) == k]).max()
    found = ns.maximize(cardinality, function, UNIT, traceable=True).value
    assert (1 - (1 - 1 / k) ** k - 1e-6) * optimum <= found <= optimum * (1 + 1e-6)


def test_stochastic_greedy_has_its_share_under_a_cardinality_in_expectation():
  problem, function = tight_for_a_cardinality(4, useless=8)

  def shares(sample):
    optimizer = stochastic_greedy(sample=sample)
    runs = (ns.maximize(problem, function, optimizer, seed=s, traceable=True) for s in range(100))
    found = np.array([run.value for run in runs])
    return found.mean(), found.std() / 10

  promised = 1 - 1 / math.e - math.exp(-12 * 4 / problem.n)
  share, error = shares(12)
  assert share - 3 * error >= promised
  of_random_sets, _ = shares(1)
  assert of_random_sets < promised  # else the promise was never in danger


def test_depth_1_of_density_greedy_is_no_better_than_a_half():
  """A light item of slightly higher density blocks the second of two that fill the budget."""
  table = instances.every_mask(hard_instances.N)[:, :3] @ [1.0, 1.0, 0.03]
  cost = np.full((1, hard_instances.N), 2.0)
  cost[0, :3] = 0.5, 0.5, 0.01
  # With as many problems as in other tests, nothing compiles again.
  batch = hard_instances.batch(np.tile(table, (64, 1)), np.tile(cost, (64, 1)))
  assert CLAIMS["depth 1 of density"].shares(batch)[0] == pytest.approx(1.03 / 2)
  assert CLAIMS["depth 1 of plus max"].shares(batch)[0] == 1


def test_depth_3_of_density_greedy_has_its_share():
  batch, promised = hard_instances.knapsacks("traps", "near_ties", 0, count=8), 1 - 1 / math.e
  assert batch.best_share([DENSITY]).min() < promised
  assert batch.best_share([partial_enumeration(DENSITY, 3)]).min() >= promised - 1e-6


@once
@given(FAMILIES, SEEDS)
def test_unit_greedy_has_half_of_the_optimum_with_groups_alone(family, seed):
  shares, _ = hard_instances.groups_alone(family, seed).solve(UNIT)
  assert 0.5 - 1e-6 <= shares.min() <= shares.max() <= 1 + 1e-6


def test_unit_greedy_has_no_more_than_half_with_groups():
  table = instances.every_mask(hard_instances.N)[:, :3] @ np.eye(3, dtype=int)
  covered = np.stack([table[:, 0], table[:, 1] | table[:, 2]]).sum(axis=0) + 0.001 * table[:, 1]
  labels = np.concatenate([[0, 0, 1], np.full(hard_instances.N - 3, 1)])
  batch = hard_instances.batch(np.tile(covered, (32, 1)), groups=np.tile(labels, (32, 1)))
  shares, _ = batch.solve(UNIT)
  assert shares[0] == pytest.approx(0.5, abs=0.001)


TRAPPED = [entry for entry in ENTRIES if entry.ratio]


@pytest.mark.parametrize("entry", TRAPPED, ids=lambda entry: entry.name)
def test_every_optimizer_that_claims_a_ratio_solves_the_ratio_trap(entry):
  """A gain of 1 for 0.01 of the budget blocks a gain of 100 for all of it."""
  service = np.zeros((8, 10))
  service[0, 0], service[1, 1] = 1.0, 100.0
  function = ns.set_functions.facility_location(service)
  problem = ns.Problem(-np.ones(8, int), [0.01, 1.0] + 6 * [2.0], 1.0)
  assert ns.maximize(problem, function, greedy("density:0"), traceable=True).value == 1
  assert ns.maximize(problem, function, entry.optimizer, traceable=True).value == 100

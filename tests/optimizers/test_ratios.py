"""Every stated share of the optimum against brute force, on problems made to refute it."""

import math

import hard_instances
import instances
import jax.numpy as jnp
import numpy as np
import pytest
from conformance import ENTRIES
from hypothesis import example, given, settings
from hypothesis import strategies as st

import nas_submod as ns
from nas_submod.optimizers import (
  best_singleton,
  greedy,
  greedy_plus_max,
  partial_enumeration,
  stochastic_greedy,
)

DENSITY = greedy("density:0", batch=None)
UNIT = greedy("unit", batch=None)
PLUS = greedy_plus_max("density:0", batch=None)

# One knapsack, no groups: the better of some optimizers, the share promised, and how low a share
# the adversary must find, so that the promise was in danger.
CLAIMS = {
  "density or best singleton": ((DENSITY, best_singleton(batch=None)), 0.427, 0.6),
  "density or unit": ((DENSITY, UNIT), 0.427, 0.75),
  "greedy plus max": ((PLUS,), 0.5, 0.6),
  "depth 1 of density": ((partial_enumeration(DENSITY, 1),), 0.5, 0.617),
  "depth 1 of plus max": ((partial_enumeration(PLUS, 1),), 0.617, 0.85),
  "depth 2 of density": ((partial_enumeration(DENSITY, 2),), 1 - 1 / math.e, 0.95),
  "depth 3 of density": ((partial_enumeration(DENSITY, 3),), 1 - 1 / math.e, 0.99),
}
FAMILIES = st.sampled_from(hard_instances.FAMILIES)
SEEDS = st.integers(0, 2**32 - 1)
once = settings(deadline=None, derandomize=True, database=None, max_examples=12)


@once
@given(FAMILIES, st.sampled_from(hard_instances.COSTS), SEEDS)
@example("traps", "near_ties", 0)
def test_shares_on_random_knapsacks(family, kind, seed):
  batch = hard_instances.knapsacks(family, kind, seed)
  for name, (optimizers, promised, _) in CLAIMS.items():
    shares = batch.best_share(optimizers)
    assert shares.min() >= promised - 1e-6, (name, int(shares.argmin()))
    assert shares.max() <= 1 + 1e-6, name


def test_random_knapsacks_are_hard_for_plain_density_greedy():
  shares, _ = hard_instances.knapsacks("traps", "near_ties", 0).solve(DENSITY)
  assert shares.min() < 0.427


@pytest.mark.parametrize("claim", CLAIMS)
def test_shares_on_knapsacks_bred_to_be_hard(claim):
  optimizers, promised, hard = CLAIMS[claim]
  rng = np.random.default_rng(0)
  worst = hard_instances.adversary(lambda batch: batch.best_share(optimizers), rng)
  assert promised - 1e-6 <= worst < hard


def tight_for_a_cardinality(k, useless=0):
  """Coverage where greedy has 1 - (1 - 1/k)^k of the optimum, and not more (Feige 1998).

  The second k sets are the optimum: a k-th of everything each, in k + 1 cells. The first k take a
  k-th of what is left, evenly, and a trifle more. Others cover nothing.
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
def test_unit_greedy_has_its_share_of_a_cardinality_and_no_more(k):
  problem, function = tight_for_a_cardinality(k)
  share = ns.maximize(problem, function, UNIT, traceable=True).value
  assert share == pytest.approx(1 - (1 - 1 / k) ** k, abs=1e-3)
  assert float(function(np.arange(2 * k) >= k)) == pytest.approx(1, abs=1e-6)
  cardinality = ns.Problem(-np.ones(8, int), np.ones(8), k)
  masks = instances.every_mask(8)
  for seed in range(30):
    function = instances.facility_location(seed)
    optimum = ns.set_functions.on_host(function)(masks[masks.sum(1) == k]).max()
    found = ns.maximize(cardinality, function, UNIT, traceable=True).value
    assert (1 - (1 - 1 / k) ** k - 1e-6) * optimum <= found <= optimum * (1 + 1e-6)


def test_stochastic_greedy_has_its_share_of_a_cardinality_in_expectation():
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
  assert of_random_sets < promised  # so that the promise was in danger


def test_depth_1_of_density_greedy_is_no_better_than_a_half():
  """A light item that is a little denser blocks the second of two that fill the budget."""
  table = instances.every_mask(hard_instances.N)[:, :3] @ [1.0, 1.0, 0.03]
  cost = np.full((1, hard_instances.N), 2.0)
  cost[0, :3] = 0.5, 0.5, 0.01
  batch = hard_instances.batch(table[None], cost)
  assert batch.best_share(CLAIMS["depth 1 of density"][0]) == pytest.approx(1.03 / 2)
  assert batch.best_share(CLAIMS["depth 1 of plus max"][0]) == 1


@once
@given(FAMILIES, SEEDS)
def test_unit_greedy_has_half_of_the_optimum_of_groups_alone(family, seed):
  shares, _ = hard_instances.groups_alone(family, seed).solve(UNIT)
  assert 0.5 - 1e-6 <= shares.min() <= shares.max() <= 1 + 1e-6


def test_half_is_all_that_unit_greedy_has_with_groups():
  table = instances.every_mask(hard_instances.N)[:, :3] @ np.eye(3, dtype=int)
  covered = np.stack([table[:, 0], table[:, 1] | table[:, 2]]).sum(axis=0) + 0.001 * table[:, 1]
  labels = np.concatenate([[0, 0, 1], np.full(hard_instances.N - 3, 1)])
  shares, _ = hard_instances.batch(covered[None], groups=labels[None]).solve(UNIT)
  assert shares[0] == pytest.approx(0.5, abs=0.001)


@once
@given(SEEDS)
def test_lazy_is_eager_ties_included(seed):
  """Whole numbers, so that sums are exact and ties abound."""
  batch = hard_instances.knapsacks("coverage", "whole", seed)
  _, eager = batch.solve(DENSITY)
  for size in (1, 3):
    _, lazy = batch.solve(greedy("density:0", lazy=True, batch=size))
    np.testing.assert_array_equal(lazy, eager)


@once
@given(st.integers(0, 2**8 - 1), st.integers(0, 99))
def test_sets_of_one_canonical_form_cost_the_same_and_have_one_value(bits, seed):
  problem, mask = instances.sequences(seed), jnp.asarray(instances.every_mask(8)[bits])
  canonical = problem.canonical_form(mask)
  np.testing.assert_array_equal(problem.canonical_form(canonical), canonical)
  np.testing.assert_array_equal(problem.cost(canonical), problem.cost(mask))
  assert instances.sequence_function(canonical) == instances.sequence_function(mask)


TRAPPED = [entry for entry in ENTRIES if entry.ratio]


@pytest.mark.parametrize("entry", TRAPPED, ids=lambda entry: entry.name)
def test_the_ratio_trap_is_solved_by_all_that_claim_a_ratio(entry):
  """Gain 1 for 0.01 of the budget blocks gain 100 for all of it."""
  service = np.zeros((8, 10))
  service[0, 0], service[1, 1] = 1.0, 100.0
  function = ns.set_functions.facility_location(service)
  problem = ns.Problem(-np.ones(8, int), [0.01, 1.0] + 6 * [2.0], 1.0)
  assert ns.maximize(problem, function, greedy("density:0"), traceable=True).value == 1
  assert ns.maximize(problem, function, entry.optimizer, traceable=True).value == 100

"""The largest sets against brute force."""

import instances
import jax
import numpy as np
import pytest

import nas_submod as ns
from nas_submod.optimizers.largest_sets import largest_sets

largest = jax.jit(largest_sets)
PROBLEMS = {
  "two_knapsacks": instances.two_knapsacks,
  "one_knapsack": instances.one_knapsack,
  "sequences": instances.sequences,
  "stacks": instances.stacks,
}


def criteria(problem, masks):
  """Number of elements of the canonical sets, costs and sums of shares. `[K, m + 2]`."""
  elements = np.asarray(jax.vmap(problem.canonical_form)(masks)).sum(1)
  costs = np.asarray(jax.vmap(problem.cost)(masks), float)
  bounded = np.isfinite(np.asarray(problem.budget, float))
  joint = (costs / np.where(bounded, problem.budget, np.inf)).sum(1)
  return np.column_stack([elements, costs, joint])


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_sets_are_the_largest_or_nearly_so_by_brute_force(name):
  for seed in range(5):
    problem = PROBLEMS[name](seed)
    every = instances.every_mask(problem.n)
    feasible = every[np.asarray(instances.every_feasible(problem, every))]
    masks = np.asarray(largest(problem))
    assert instances.every_feasible(problem, masks).all()
    found, most = np.diagonal(criteria(problem, masks)), criteria(problem, feasible).max(0)
    assert found[0] == most[0] and (found <= most * (1 + 1e-6)).all()
    assert (found >= 0.995 * most).all(), (found, most)


def test_an_infinite_budget_has_no_part_in_the_joint_size():
  cost = np.array([[1, 9], [2, 0], [4, 0], [6, 0]])
  masks = largest(ns.Problem([-1] * 4, cost, [6, np.inf]))
  np.testing.assert_array_equal(masks @ cost[:, 0], [6, 6, 5, 6])

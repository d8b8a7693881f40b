"""Theorem 1 of the RCAS paper fails with two budgets; the joint rule finds the optimum there."""

import jax.numpy as jnp
import numpy as np
import pytest

import nas_submod as ns


@pytest.mark.parametrize(("k", "share"), [(4, 0.27), (16, 0.07)])
def test_the_three_rules_of_the_paper_get_one_kth_of_the_optimum(k, share):
  """k items of value 1 cost 1/k of both budgets. Each rule first adds an item that blocks them."""
  value = jnp.array([1.0] * k + [1.0, 1.0, 1.01])
  cost = np.array([[1 / k, 1 / k]] * k + [[1e-3, 1.0], [1.0, 1e-3], [1.0, 1.0]])
  problem = ns.Problem(-np.ones(k + 3, int), cost, [1.0, 1.0])

  def worth(mask):
    return value @ mask

  rules = [ns.optimizers.greedy(rule) for rule in ("unit", "density:0", "density:1")]
  found = [ns.maximize(problem, worth, rule, traceable=True).value for rule in rules]
  assert max(found) < share * k
  rcas = ns.maximize(problem, worth, ns.optimizers.rcas(), traceable=True)
  assert rcas.value == k

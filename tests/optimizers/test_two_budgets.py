"""Two budgets: where the rules of the RCAS paper fail, and one that is a peak, not a sum."""

import jax
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


COSTS, PEAKS = jnp.array([1.0, 2.0, 3.0, 1.0]), jnp.array([2.0, 1.0, 3.0, 9.0])


def sum_and_peak(mask):
  return jnp.stack([COSTS @ mask, (PEAKS * mask).max()])


@pytest.mark.slow
def test_a_resource_without_a_price_only_limits():
  """Element 3 has too high a peak. Others whose peak is reached cost none of it."""
  value = jnp.array([1.0, 3.0, 4.0, 9.0])
  problem = ns.Problem(-np.ones(4, int), sum_and_peak, [4.0, 5.0], priced=[True, False])

  def best(optimizer):
    return ns.maximize(problem, lambda mask: value @ mask, optimizer, traceable=True)

  by_cost = best(ns.optimizers.greedy("density:0"))
  assert by_cost.mask.tolist() == [True, True, False, False]
  assert best(ns.optimizers.greedy("joint")).mask.tolist() == by_cost.mask.tolist()
  assert best(ns.optimizers.greedy("unit")).mask.tolist() == [True, False, True, False]
  state = ns.optimizers.rcas().init(problem, jax.random.key(0))
  np.testing.assert_array_equal(state.rules, [[1, 0, 0], [0, 1, 0], [0, 0.25, 0]])
  exact = best(ns.optimizers.brute_force()).value
  assert exact == 5
  for optimizer in (
    ns.optimizers.rcas(),
    ns.optimizers.exchange(ns.optimizers.rcas()),
    ns.optimizers.partial_enumeration(ns.optimizers.greedy("joint"), depth=1),
    ns.optimizers.surrogate(evaluations=8),
  ):
    result = best(optimizer)
    assert result.value == exact <= result.upper_bound and result.cost[1] <= 5


def test_without_prices_only_the_rule_unit_is_left():
  problem = ns.Problem(-np.ones(4, int), sum_and_peak, [9.0, 5.0], priced=[False, False])
  for optimizer in (ns.optimizers.rcas(), ns.optimizers.greedy("joint")):
    state = optimizer.init(problem, jax.random.key(0))
    np.testing.assert_array_equal(state.rules, [[1, 0, 0]])
  with pytest.raises(ValueError, match=r"resource 0 is no sum .* allowed: unit, joint"):
    ns.optimizers.greedy("density:0").init(problem, jax.random.key(0))
  with pytest.raises(ValueError, match="priced has 1 entries, budget has 2"):
    ns.Problem(-np.ones(4, int), sum_and_peak, [9.0, 5.0], priced=[True])

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nas_submod as ns
from nas_submod.equal_sets import first_of_equal


def problem(**changes):
  fields = {"groups": [0, 0, 1, -1, -1], "cost": np.arange(10).reshape(5, 2), "budget": [10, 12]}
  return ns.Problem(**{**fields, **changes})


def mask(*elements, n=5):
  return np.isin(np.arange(n), elements)


def fails(mask):
  raise ZeroDivisionError  # without a message


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"groups": [[0, 1]]}, "groups must be a nonempty vector of ints"),
    ({"groups": []}, "groups must be a nonempty vector of ints"),
    ({"groups": [0.5] * 5}, "groups must be a nonempty vector of ints"),
    ({"cost": np.ones((4, 2))}, r"groups has 5 elements, cost \[n, m\] has 4"),
    ({"cost": np.ones((5, 2, 1))}, r"cost must be numbers .*, got shape \(5, 2, 1\)"),
    ({"cost": [[1, 1]] * 4 + [[1]]}, r"cost must be numbers of shape \[n, m\] or \[n\], or a func"),
    ({"cost": [["1", "1"]] * 5}, r"cost must be numbers .*, got \[\['1', '1'\]"),
    ({"cost": np.full((5, 2), -1.0)}, r"cost\[0, 0\] is -1.0, must be finite and nonnegative"),
    ({"cost": [[1, 1]] * 4 + [[1, np.nan]]}, r"cost\[4, 1\] is nan"),
    ({"cost": [[1, 1]] * 4 + [[1, np.inf]]}, r"cost\[4, 1\] is inf"),
    (
      {"cost": np.full((5, 2), 1e300)},
      r"costs of a resource sum to 5e\+300, float32 holds up to 3",
    ),
    ({"cost": np.full((5, 2), 1e-39)}, "a cost is 1e-39; allowed: 0, or from 1e-20 on"),
    ({"cost": np.full((5, 2), 1e38)}, r"costs of a resource sum to 5e\+38"),
    ({"cost": np.full((5, 2), 1e308)}, "costs of a resource sum to inf"),
    ({"budget": [1, -1]}, "budget must be a vector of nonnegative numbers"),
    ({"budget": [1, np.nan]}, "budget must be a vector of nonnegative numbers"),
    ({"budget": {"a": 1}}, "budget must be a vector of nonnegative numbers, got {'a': 1}"),
    ({"budget": "10"}, "budget must be a vector of nonnegative numbers, got '10'"),
    ({"budget": 1.0}, r"budget has 1 resource, cost \[n, m\] has 2"),
    ({"budget": [1, 1, 1]}, r"budget has 3 resources, cost \[n, m\] has 2"),
    (
      {"groups": [[1], [1, 2]]},
      r"groups must be a nonempty vector of ints, got \[\[1\], \[1, 2\]\]",
    ),
    ({"required": [[True], []]}, r"required must be bool of shape \(5,\), got \[\[True"),
    ({"required": [True]}, r"required must be bool of shape \(5,\)"),
    ({"required": mask(0, 1)}, "required holds two elements of one group"),
    ({"required": mask(3, 4)}, r"required costs \[14, 16\], over the budget \[10.0, 12.0\]"),
    ({"cost": lambda m: jnp.zeros(3)}, r"cost of a set has shape \(3,\), budget has \(2,\)"),
    ({"cost": lambda m: -jnp.ones(2)}, r"cost\(required\) must be nonnegative"),
    ({"cost": lambda m: jnp.full(2, jnp.nan)}, r"cost\(required\) must be .*, got \[nan, nan\]"),
    ({"cost": lambda m: m[:2]}, "cost of a set must be signed ints or floats, got bool"),
    (
      {"cost": lambda m: m.astype(jnp.uint32)[:2]},
      "cost of a set must be signed ints or floats, got uint32",
    ),
    ({"cost": lambda m: [m.sum(), m.sum()]}, r"cost must return an array \[m\] .*, got list"),
    (
      {"cost": lambda m: np.ones(2) * float(m[0])},
      r"cost must be a traceable function `mask \[n\] -> \[m\] of ints or floats`: \S+",
    ),
    ({"cost": fails}, "cost must be a traceable function .*: ZeroDivisionError"),
    ({"priced": True}, "priced must be 2 bools, got True"),
    ({"canonical": 3}, "canonical must be None or a function, got 3"),
    (
      {"canonical": lambda m: m[:2]},
      r"canonical must return bool of shape \(5,\), got bool \(2,\)",
    ),
    ({"canonical": lambda m: m * 1}, r"canonical must return bool .*, got int32 \(5,\)"),
    ({"canonical": lambda m: m[m]}, "canonical must be a traceable function"),
  ],
)
def test_bad_arguments_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    problem(**changes)


def test_feasible_needs_required_groups_and_every_budget():
  p = problem(required=mask(2))
  assert p.feasible(mask(0, 2))
  assert not p.feasible(mask(0)), "required element missing"
  assert not p.feasible(mask(0, 1, 2)), "two of a group"
  assert not p.feasible(mask(2, 4)), "over the first budget by 2"
  assert p.feasible(mask(2, 3)), "both budgets met exactly: 4 + 6, 5 + 7"
  assert not problem(required=mask(2), budget=[10, 11]).feasible(mask(2, 3))


def test_unrestricted_elements_share_no_group():
  assert problem(budget=[100, 100]).feasible(mask(0, 2, 3, 4))
  scattered = ns.Problem([7, -1, 7, -5, 90], np.zeros((5, 1)), [0])
  assert scattered.feasible(mask(1, 2, 3, 4))
  assert not scattered.feasible(mask(0, 2))


def test_additions_are_the_feasible_ones():
  rng = np.random.default_rng(0)
  for seed in range(20):
    p = ns.Problem(rng.integers(-1, 3, 6), rng.integers(0, 4, (6, 2)), rng.integers(0, 9, 2))
    start = rng.random(6) < 0.3
    if not p.feasible(start):
      continue
    additions = p.additions(start)
    for element in range(6):
      added = start | (np.arange(6) == element)
      expected = bool(p.feasible(added)) and not start[element]
      assert additions.fits[element] == expected, (seed, element)
      if expected:
        np.testing.assert_array_equal(additions.cost[element], p.cost(added) - p.cost(start))


def test_whole_numbers_are_exact_beyond_float32():
  big = 2**24
  p = ns.Problem([-1, -1], [[big], [1]], [big])
  assert p.feasible([True, False])
  assert not p.feasible([True, True]), "over by one part in 16 million"
  by_function = ns.Problem([-1, -1], lambda m: jnp.sum(m * jnp.array([big, 1]))[None], [big])
  assert not by_function.feasible(jnp.array([True, True]))


def test_whole_numbers_are_exact_if_each_resource_sums_to_less_than_two_to_31():
  big = 2**30
  exact = ns.Problem([-1, -1], [[big, 1], [1, big]], [big, big])
  assert exact.cost_matrix.dtype == jnp.int32
  assert not exact.feasible([True, True]), "over by one part in a billion"
  assert ns.Problem([-1, -1], [[big, 1], [big, 1]], [big, 2]).cost_matrix.dtype == jnp.float32
  assert ns.Problem([-1, -1], [[1, 1], [1, 0.5]], [2, 2]).cost_matrix.dtype == jnp.float32


@pytest.mark.parametrize("by_function", [False, True])
def test_additions_that_fit_are_feasible_at_the_edge_of_the_tolerance(by_function):
  looks = jax.jit(lambda p, m: (p.additions(m).fits, p.feasible(m | True)))
  rng = np.random.default_rng(0)
  seen = set()
  for _ in range(2 if by_function else 20):
    costs = rng.random(400)
    vector = jnp.asarray(costs, jnp.float32)

    def sum_of(m, vector=vector):
      return jnp.sum(jnp.where(m, vector, 0))[None]

    p = ns.Problem(-np.ones(400, int), sum_of if by_function else costs, 1.0)
    for excess in np.linspace(0.8e-6, 1.2e-6, 25):
      at_border = p.replace(budget=jnp.float32([costs.sum() / (1 + excess)]))
      element = rng.integers(400)
      fits, feasible = looks(at_border, np.arange(400) != element)
      feasible = feasible and at_border.feasible(np.ones(400, bool))
      assert feasible or not fits[element], excess
      seen.add(bool(fits[element]))
  assert seen == {False, True}


def test_the_bound_holds_for_sets_that_use_the_whole_tolerance():
  p = ns.Problem([-1, -1], [1.0000015, 0.5], 1.0)
  assert p.feasible([True, False]) and not p.additions([False, False]).fits[0]
  function = ns.set_functions.coverage(np.eye(2, dtype=bool), np.array([3.0, 1.0]))
  on_host = ns.set_functions.on_host(function)
  optimum = ns.maximize(p, on_host, ns.optimizers.brute_force()).value
  assert optimum == 3
  greedy = ns.optimizers.greedy("unit")
  assert ns.maximize(p, on_host, greedy).upper_bound >= optimum
  assert ns.maximize(p, function, greedy, traceable=True).upper_bound >= optimum


def test_rounded_fractions_meet_the_budget():
  p = ns.Problem([-1] * 10, [0.1] * 10, 1.0)
  assert p.feasible(np.ones(10, bool))
  assert not ns.Problem([-1] * 10, [0.1] * 10, 0.9999).feasible(np.ones(10, bool))


def test_infinite_and_zero_budgets():
  p = ns.Problem([-1] * 3, [[1, 0], [2, 0], [3, 1]], [np.inf, 0])
  assert p.feasible(np.array([True, True, False]))
  assert not p.feasible(np.array([False, False, True]))


def test_a_budget_beyond_float32_is_infinite():
  p = ns.Problem([-1, -1], [0.5, 1e30], 1e300)
  assert p.feasible([True, True]) and np.isinf(p.budget)
  assert ns.Problem([-1], lambda m: m.sum(dtype=jnp.int8)[None], 1e300).budget == 127


def test_replace_changes_only_budget_and_required():
  p = problem()
  np.testing.assert_array_equal(p.replace(required=mask(2)).required, mask(2))
  assert not p.replace(budget=jnp.array([3, 12])).feasible(mask(2)) and p.feasible(mask(2))
  for name in ("budgets", "cost", "groups"):
    with pytest.raises(TypeError, match=name):
      p.replace(**{name: p.groups})


def test_the_representative_is_the_lowest_element_of_the_same_object():
  p = ns.Problem([0, 1, 2], np.zeros((3, 1)), [0], canonical=lambda m: jnp.sort(m)[::-1])
  np.testing.assert_array_equal(p.additions(np.zeros(3, bool)).representative, [0, 0, 0])
  np.testing.assert_array_equal(p.additions(mask(0, n=3)).representative, [0, 1, 1])


def test_first_of_equal_compares_whole_rows():
  rows = jnp.array([[1, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], bool)
  valid = jnp.array([True, False, True, True, True])
  np.testing.assert_array_equal(first_of_equal(rows, valid), [0, 4, 0, 3, 4])


def test_a_problem_passes_through_jit_and_vmap_without_recompiling():
  traces = []

  @jax.jit
  def cost(p, m):
    traces.append(1)
    return p.cost(m)

  np.testing.assert_array_equal(cost(problem(), mask(1, 2)), [6, 8])
  np.testing.assert_array_equal(cost(problem(budget=[50, 50]), mask(4)), [8, 9])
  assert len(traces) == 1
  seeds = jnp.eye(5, dtype=bool)
  costs = jax.vmap(lambda p, r: p.replace(required=r).cost(r), in_axes=(None, 0))(problem(), seeds)
  np.testing.assert_array_equal(costs, np.arange(10).reshape(5, 2))


def test_repr_states_sizes_and_budgets():
  problem = ns.Problem([0, 0, -1], np.ones((3, 2)), [2, 1.5], [False, False, True])
  assert repr(problem) == "Problem(n=3, groups=1, budget=[2, 1], required=[2])"
  seen = []
  jax.jit(lambda problem: seen.append(repr(problem)))(problem)
  batched = jax.tree.map(lambda leaf: leaf[None], problem)
  for other in (jax.tree.map(lambda leaf: None, problem), batched):
    seen.append(repr(other))
  assert set(seen) == {"Problem(...)"}

"""The certificate, checked by brute force, closed forms, and counts from the definitions."""

import itertools

import instances
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

import nas_submod as ns
from nas_submod import set_functions
from nas_submod.optimizers import brute_force, greedy, random_search, rcas
from nas_submod.optimizers.certificate import bound
from nas_submod.optimizers.certificate.measured_gains import Gains

MASKS = instances.every_mask(8)


def optimum(problem, function):
  masks = instances.every_mask(problem.n)
  return set_functions.on_host(function)(masks)[
    np.asarray(instances.every_feasible(problem, masks))
  ].max()


def groups_alone(seed, n=8):
  return ns.Problem(np.arange(n) // 2, np.ones((n, 2)), [n, n])


@pytest.mark.parametrize("traceable", [False, True])
@pytest.mark.parametrize(
  ("make_problem", "make_function", "factor"),
  [
    (instances.two_knapsacks, instances.integer_coverage, 1.2),
    (instances.one_knapsack, instances.facility_location, 1.3),
    (groups_alone, instances.integer_coverage, 1.6),
  ],
)
def test_the_bound_is_above_every_feasible_set_and_tight(
  make_problem, make_function, factor, traceable
):
  ratios = []
  for seed in range(20):
    problem, function = make_problem(seed), make_function(seed)
    value = function if traceable else set_functions.on_host(function)
    result = ns.maximize(problem, value, rcas(), traceable=traceable)
    best = optimum(problem, function)
    assert result.upper_bound >= best * (1 - 1e-6), seed
    assert result.upper_bound >= result.value
    assert result.violations.monotonicity_failed == result.violations.submodularity_failed == 0
    ratios.append(result.upper_bound / best)
  assert np.mean(ratios) < factor


def fractional_knapsack(weights, cost, budget):
  value = 0.0
  for element in sorted(range(len(cost)), key=lambda e: -weights[e] / cost[e]):
    part = min(1.0, budget / cost[element])
    value, budget = value + part * weights[element], budget - part * cost[element]
  return value


@pytest.mark.parametrize("traceable", [False, True])
def test_additive_functions_get_the_fractional_knapsack(traceable):
  for seed in range(20):
    rng = np.random.default_rng(seed)
    weights, problem = rng.uniform(0.1, 1, 8).astype(np.float32), instances.one_knapsack(seed)
    function = set_functions.modular(weights)
    value = function if traceable else set_functions.on_host(function)
    result = ns.maximize(problem, value, greedy("density:0"), traceable=traceable)
    expected = fractional_knapsack(
      weights, np.asarray(problem.cost_matrix)[:, 0], float(problem.budget[0])
    )
    fits = np.asarray(problem.additions(problem.required).fits)
    if fits.all():
      np.testing.assert_allclose(result.upper_bound, expected, rtol=1e-5)
    assert expected * (1 + 1e-5) >= result.upper_bound >= result.value


def test_additive_functions_of_groups_get_the_multiple_choice_knapsack():
  # Each group has a cheap and an expensive element; a fraction of the upgrade may be bought.
  problem = ns.Problem([0, 0, 1, 1, 2, 2], [1, 3, 1, 3, 1, 3], 5)
  value = set_functions.on_host(set_functions.modular([4, 10, 4, 7, 4, 5]))
  result = ns.maximize(problem, value, rcas())
  # 4 + 4 + 4 for 3 units, then 6 more for 2 units.
  assert result.value == 18 and result.upper_bound == pytest.approx(18, rel=1e-5)


def test_costs_that_are_not_sums_and_sets_that_are_the_same_object():
  for seed in range(5):
    problem, function = instances.sequences(seed), instances.sequence_function
    for result in (
      ns.maximize(problem, set_functions.on_host(function), rcas()),
      ns.maximize(problem, function, rcas(), traceable=True),
    ):
      assert optimum(problem, function) * (1 - 1e-6) <= result.upper_bound < np.inf
      assert result.violations.submodularity_failed == 0 < result.violations.submodularity_checked


def test_additive_functions_of_networks_have_no_violations():
  """Two options at one position are no set, even though they have a canonical form."""
  for seed in range(5):
    problem = instances.stacks(seed)
    function = set_functions.modular(np.tile(np.random.default_rng(seed).uniform(1, 3, 3), 3))
    for optimizer in (rcas(), greedy()):
      result = ns.maximize(problem, set_functions.on_host(function), optimizer)
      assert result.upper_bound >= optimum(problem, function) * (1 - 1e-6), seed
      assert result.violations.monotonicity_failed == 0 < result.violations.monotonicity_checked
      assert result.violations.submodularity_failed == 0


def test_a_function_undefined_beyond_the_budgets_gets_no_false_bound():
  problem = ns.Problem([-1, -1], [0.01, 1.0], 1.0)

  def value(mask):
    return jnp.where(problem.feasible(mask), jnp.array([1.0, 100.0]) @ mask, 0.0)

  result = ns.maximize(problem, value, greedy("density:0"), traceable=True)
  assert result.value == 1 and result.upper_bound >= 100


def count_violations(values, feasible, n=8):
  """Gains and pairs of nested gains, by their definitions."""
  gains = {
    (s, e): values[s | 1 << e] - values[s]
    for s, e in itertools.product(np.flatnonzero(feasible), range(n))
    if not s >> e & 1 and feasible[s | 1 << e]
  }
  nested = [
    (gains[a, e], gains[b, e])
    for (a, e), b in itertools.product(gains, np.flatnonzero(feasible))
    if a != b and a & b == a and (b, e) in gains
  ]
  return gains, nested


def test_violations_match_the_definitions():
  failed = 0
  for seed in range(6):
    problem, function = instances.one_knapsack(seed), instances.noisy_table(seed)
    feasible = np.asarray(instances.every_feasible(problem, MASKS))
    values = set_functions.on_host(function)(MASKS)
    gains, nested = count_violations(values, feasible)
    found = ns.maximize(problem, set_functions.on_host(function), brute_force(64)).violations
    assert found.monotonicity_checked == len(gains)
    assert found.monotonicity_failed == sum(gain < -1e-3 for gain in gains.values())
    assert found.submodularity_checked == len(nested)
    assert found.submodularity_failed == sum(b - a > 1e-3 for a, b in nested)
    failed += found.monotonicity_failed + found.submodularity_failed
  assert failed > 100


def test_checks_fail_only_beyond_the_noise():
  problem, weights = ns.Problem([-1] * 6, np.ones(6), 6), np.array([5.0, 4, 3, 2, 1, 0.1])
  rng = np.random.default_rng(0)

  def noisy(masks):
    return masks @ weights + rng.normal(0, 0.5, len(masks))

  def stated(masks):
    return noisy(masks), np.full(len(masks), 0.5)

  def share(value):
    found = ns.maximize(problem, value, greedy()).violations
    return found.submodularity_failed / found.submodularity_checked

  assert share(noisy) > 0.3
  assert share(stated) < 0.15


@pytest.mark.parametrize(
  ("noisy", "failed", "expected"),
  [
    (False, 0, False),
    (False, 1, True),
    (True, 11, False),
    (True, 12, True),  # 100 / 20 + 3 sqrt(100 / 20 (1 - 1 / 20)) = 11.5
  ],
)
def test_a_function_is_not_monotone_if_checks_fail_more_often_than_noise_explains(
  noisy, failed, expected
):
  gains = np.zeros((1, 2))
  measured = Gains(np.zeros((1, 2), bool), np.zeros(1), gains, gains + noisy)
  violations = bound.Violations(failed, 100, 0, 0)
  assert bound._is_not_monotone(measured, violations) == expected


@pytest.mark.parametrize("kind", [jnp.int8, jnp.int32, jnp.float32])
def test_gains_of_small_integers_do_not_overflow(kind):
  problem = ns.Problem([-1, -1], [1, 10], 10)
  value = lambda mask: jnp.where(mask[1], 50, jnp.where(mask[0], -80, -100)).astype(kind)  # noqa: E731
  result = ns.maximize(problem, value, greedy("density:0"), traceable=True)
  assert (result.value, result.upper_bound) == (-80, 50)


def test_differences_of_large_integers_are_exact():
  problem = ns.Problem([-1] * 10, [1] * 10, 10)
  value = lambda mask: 20_000_000 + mask.astype(jnp.int32).sum()  # noqa: E731
  result = ns.maximize(problem, value, greedy(), traceable=True)
  assert result.upper_bound >= 20_000_010


def test_without_gains_at_the_required_set_the_bound_is_infinite():
  problem, function = instances.two_knapsacks(0), instances.integer_coverage(0)
  value = set_functions.on_host(function)
  few = ns.maximize(problem, value, random_search(evaluations=3))
  assert few.upper_bound == np.inf
  failed = ns.maximize(problem, lambda masks: np.full(len(masks), -np.inf), greedy())
  assert failed.upper_bound == np.inf and failed.violations.monotonicity_checked == 0


@pytest.mark.parametrize("traceable", [False, True])
@pytest.mark.parametrize("make", [rcas, lambda: random_search(60), brute_force])
def test_cut_functions_are_not_monotone_but_bounded(make, traceable):
  loose = 0
  for seed in range(10):
    rng = np.random.default_rng(seed)
    weights = np.triu(rng.random((8, 8)) ** 3, 1)
    inside = MASKS[:, :, None] != MASKS[:, None, :]
    function = set_functions.table((weights * inside).sum(axis=(1, 2)))
    problem = ns.Problem(-np.ones(8, int), np.ones(8), 4.0)
    value = function if traceable else set_functions.on_host(function)
    result = ns.maximize(problem, value, make(), traceable=traceable)
    assert result.upper_bound >= optimum(problem, function) * (1 - 1e-6), seed
    loose += result.violations.monotonicity_failed > 0
  assert traceable or loose


def test_among_many_sets_the_smallest_bounds_are_refined():
  rng = np.random.default_rng(0)
  problem = ns.Problem(-np.ones(6, int), rng.uniform(0.2, 1, 6), 1.5)
  values, weights = rng.random(300), rng.random((300, 6))
  alone = [
    bound._least_bound(problem, values[row : row + 1], weights[row : row + 1]) for row in range(300)
  ]
  assert bound._least_bound(problem, values, weights) == pytest.approx(min(alone), rel=1e-6)


def test_the_knapsack_bound_of_one_resource_is_that_of_linear_programming():
  for seed in range(20):
    rng = np.random.default_rng(seed)
    n = rng.integers(2, 25)
    groups = np.where(rng.random(n) < 0.5 * (seed % 2), rng.integers(0, 5, n), -1)
    cost = rng.random(n) * 10 ** rng.uniform(-6, 6) * (rng.random(n) < 0.9)
    room = rng.choice([0.0, cost.sum() * rng.random()])
    problem = ns.Problem(groups, cost, room)
    weights = rng.random((2, n)) * 10 ** rng.uniform(-3, 3) * (rng.random((2, n)) < 0.9)
    found = bound._least_bound(problem, np.zeros(2), weights)
    one_of_a_group = [groups == group for group in np.unique(groups[groups >= 0])]
    costs = np.asarray(problem.cost_matrix, float)[:, 0]
    limit = float(problem.limit[0]) * (1 + bound.ROUNDING)
    unit, worth = max(costs.max(), 1e-30), max(weights.max(), 1e-30)
    bounds = [limit / unit] + [1.0] * len(one_of_a_group)
    left = np.array([costs / unit, *one_of_a_group], float)
    programs = [linprog(-row / worth, left, bounds, bounds=(0, 1)) for row in weights]
    expected = min(-program.fun for program in programs) * worth
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9 * worth)

"""Greedy by values: paths against a NumPy reference, ties, batches, and what cannot be measured."""

import dataclasses
import functools

import instances
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nas_submod as ns
from nas_submod import set_functions
from nas_submod.optimizers import greedy, greedy_plus_max, rcas, stochastic_greedy
from nas_submod.optimizers.greedy_family.path import densities

feasible = jax.jit(lambda problem, mask: problem.feasible(mask))
cost_of = jax.jit(lambda problem, mask: problem.cost(mask))
sequence_value = set_functions.on_host(instances.sequence_function)
GAINS = ("init", "gains", "add", "gain")
RULES = ("unit", "density:0", "density:1", "joint")


def plain_greedy(problem, value, rule):
  """Greedy in plain NumPy: the sets on its path, and their values."""
  mask = np.array(problem.required)
  path, values = [mask], [float(value(mask[None])[0])]
  while True:
    keys = []
    for element in np.flatnonzero(~mask):
      added = mask | (np.arange(problem.n) == element)
      if not feasible(problem, added):
        continue
      gain = np.float32(value(added[None])[0]) - np.float32(values[-1])
      cost = np.float32(cost_of(problem, added) - cost_of(problem, mask))
      shares = cost[problem.budget > 0] / np.asarray(problem.budget)[problem.budget > 0]
      price = {"unit": 1.0, "density:0": cost[0], "density:1": cost[-1], "joint": shares.sum()}
      density = np.inf if price[rule] <= 0 else gain / np.float32(price[rule])
      keys.append((density if gain > 0 else gain, gain, -element))
    if not keys:
      return path, values
    best = max(keys, key=lambda key: (key[0], key[1] if np.isinf(key[0]) else 0, key[2]))
    mask = mask | (np.arange(problem.n) == -best[2])
    path.append(mask)
    values.append(float(value(mask[None])[0]))


def path_of(result):
  return [step.mask.tolist() for step in result.trace]


@pytest.mark.parametrize("rule", RULES)
def test_greedy_takes_the_path_of_plain_greedy(rule):
  for seed in range(6):
    for value in (instances.integer_coverage(seed), instances.noisy_table(seed)):
      problem = instances.two_knapsacks(seed)
      value = set_functions.on_host(value)
      path, values = plain_greedy(problem, value, rule)
      result = ns.maximize(problem, value, greedy(rule, batch=None))
      assert path_of(result) == [mask.tolist() for mask in path], seed
      assert result.value == max(values)


def test_greedy_with_costs_that_are_no_sums():
  for seed in range(5):
    problem = instances.sequences(seed)
    path, _ = plain_greedy(problem, sequence_value, "density:0")
    result = ns.maximize(problem, sequence_value, greedy("density:0"))
    assert path_of(result) == [mask.tolist() for mask in path], seed


@pytest.mark.parametrize("rule", RULES)
def test_lazy_takes_the_eager_path_even_if_rounding_splits_ties(rule):
  saved = 0
  for seed in range(8):
    problem = instances.two_knapsacks(seed)
    exact, rounded = (instances.integer_coverage(seed, unit=unit) for unit in (1, 0.1))
    expected = ns.maximize(problem, set_functions.on_host(exact), greedy(rule))
    path = path_of(expected)
    on_host = set_functions.on_host(rounded)
    by_values = dataclasses.replace(rounded, **dict.fromkeys(GAINS))
    for optimizer in (greedy(rule), greedy(rule, lazy=True), greedy(rule, lazy=True, batch=3)):
      host = ns.maximize(problem, on_host, optimizer)
      assert path_of(host) == path, seed
      saved += expected.evaluations - host.evaluations
      for function in (rounded, by_values):
        found = ns.maximize(problem, function, optimizer, traceable=True)
        assert found.mask.tolist() in path, seed
        assert found.value == pytest.approx(on_host(np.array(path)).max())
  assert saved > 0


def cancelling(family, seed, unit):
  """A table of submodular values that shrink or vanish along a path; multiples of a unit."""
  rng, masks = np.random.default_rng(seed), instances.every_mask(8)
  values = 3 * set_functions.on_host(instances.integer_coverage(seed))(masks).astype(int)
  if family == "heavy":  # one element takes F from -10,000 to about 0
    values += 10_000 * (masks[:, rng.integers(8)].astype(int) - 1)
  else:
    values -= masks @ rng.integers(0, 8, 8)
  return set_functions.table(unit * values)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("family", ["heavy", "costly"])
def test_rounding_of_gains_is_relative_to_the_largest_value_of_the_path(family, rule):
  for seed in range(10):
    problem = instances.two_knapsacks(seed)
    exact, rounded = (cancelling(family, seed, unit) for unit in (1, 0.1))
    expected = ns.maximize(problem, set_functions.on_host(exact), greedy(rule))
    for optimizer in (greedy(rule), greedy(rule, lazy=True, batch=3)):
      found = ns.maximize(problem, set_functions.on_host(rounded), optimizer)
      assert path_of(found) == path_of(expected), seed
      np.testing.assert_array_equal(found.mask, expected.mask)
      device = ns.maximize(problem, rounded, optimizer, traceable=True)
      np.testing.assert_array_equal(device.mask, expected.mask)


@pytest.mark.parametrize("batch", [2, 8])
def test_decisions_do_not_depend_on_the_batch_even_if_f_is_not_submodular(batch):
  for seed in range(12):
    problem, value = instances.two_knapsacks(seed), instances.noisy_table(seed)
    value = set_functions.on_host(value)
    one, many = (ns.maximize(problem, value, rcas(batch=b)) for b in (1, batch))
    for run in range(4):
      steps = [[s.mask.tolist() for s in r.trace if s.run == run] for r in (one, many)]
      assert steps[0] == steps[1], (seed, run)
    assert many.value == one.value
    assert many.rounds <= one.rounds


WIDE = {
  "eager": functools.partial(greedy, "density:0"),
  "lazy, by three": functools.partial(greedy, "joint", lazy=True, batch=3),
  "rcas": rcas,
  "greedy_plus_max": greedy_plus_max,
}


@pytest.mark.parametrize("make", WIDE.values(), ids=WIDE)
def test_a_wide_start_saves_rounds_and_changes_nothing_else(make):
  rounds = np.zeros(2, int)
  for seed in range(6):
    problem, value = instances.two_knapsacks(seed), instances.noisy_table(seed)
    value = set_functions.on_host(value)
    narrow, wide = (ns.maximize(problem, value, make(wide_start=wide)) for wide in (False, True))
    for run in range(4):
      steps = [
        [(s.mask.tolist(), s.value) for s in r.trace if s.run == run] for r in (narrow, wide)
      ]
      assert steps[0] == steps[1]
    np.testing.assert_array_equal(wide.mask, narrow.mask)
    assert wide.value == narrow.value and wide.evaluations == narrow.evaluations
    rounds += [narrow.rounds, wide.rounds]
  assert rounds[1] < rounds[0]
  limited = ns.maximize(problem, value, make(wide_start=True), max_evaluations=3)
  first = np.flatnonzero(problem.additions(problem.required).fits)[:2]
  asked = value(np.asarray(problem.required) | np.eye(problem.n, dtype=bool)[first])
  assert limited.evaluations == 3 and limited.value == max(value(problem.required[None])[0], *asked)


def test_rcas_is_the_best_of_its_rules_and_shares_their_evaluations():
  for seed in range(10):
    problem = instances.two_knapsacks(seed)
    value = set_functions.on_host(instances.integer_coverage(seed))
    alone = [ns.maximize(problem, value, greedy(rule, lazy=True)) for rule in RULES]
    together = ns.maximize(problem, value, rcas())
    assert together.value == max(result.value for result in alone)
    assert together.evaluations < sum(result.evaluations for result in alone)
    assert together.rounds == max(result.rounds for result in alone)


def test_free_elements_come_first_in_order_of_gain():
  problem = ns.Problem([-1] * 4, [1, 0, 0, 1], 1)
  value = set_functions.on_host(set_functions.modular([9, 1, 2, 8]))
  result = ns.maximize(problem, value, greedy("density:0"))
  assert [np.flatnonzero(step.mask).tolist() for step in result.trace] == [
    [], [2], [1, 2], [0, 1, 2],
  ]  # fmt: skip


@pytest.mark.parametrize("lazy", [False, True])
def test_a_free_element_whose_gain_is_rounding_does_not_come_first(lazy):
  problem = ns.Problem([0, 0], [0.0, 1.0], 1.0)
  noise = np.float32(0.1) + np.float32(0.2) + np.float32(0.4) - np.float32(0.7)
  assert noise > 0
  table = set_functions.table([0, noise, 0.5, 0.5])
  for traceable, value in ((False, set_functions.on_host(table)), (True, table)):
    result = ns.maximize(problem, value, greedy("density:0", lazy=lazy), traceable=traceable)
    assert result.mask.tolist() == [False, True]


def test_a_set_that_could_not_be_measured_is_never_chosen():
  problem = ns.Problem([-1] * 4, [1, 1, 1, 1], 3)

  def value(masks):
    return np.where(masks[:, 1], -np.inf, masks @ np.array([1.0, 9.0, 2.0, 3.0]))

  for lazy in (False, True):
    result = ns.maximize(problem, value, greedy(lazy=lazy, batch=2))
    assert np.flatnonzero(result.mask).tolist() == [0, 2, 3]
  everything = ns.maximize(problem, lambda masks: np.full(len(masks), -np.inf), greedy())
  assert not everything.mask.any() and everything.value == -np.inf


def test_the_best_value_wins_if_the_required_set_could_not_be_measured():
  problem = ns.Problem([-1] * 3, [1, 1, 1], 1)

  def value(masks):
    return np.where(masks.any(1), masks @ np.array([1.0, 5.0, 2.0]), -np.inf)

  for optimizer in (greedy(), greedy("joint", lazy=True), rcas(race=(1, 3))):
    assert ns.maximize(problem, value, optimizer).value == 5


def test_elements_that_lose_are_added_last_and_not_returned():
  problem = ns.Problem([-1] * 3, [1, 1, 1], 3)
  value = set_functions.on_host(lambda mask: (mask * np.array([2.0, -1.0, -3.0])).sum())
  result = ns.maximize(problem, value, greedy())
  assert [np.flatnonzero(step.mask).tolist() for step in result.trace] == [
    [], [0], [0, 1], [0, 1, 2],
  ]  # fmt: skip
  assert np.flatnonzero(result.mask).tolist() == [0] and result.value == 2


@pytest.mark.parametrize("rule", ["density", "cost", "density:-1", ""])
def test_unknown_rules_are_refused(rule):
  with pytest.raises(ValueError, match='rule is "unit", "joint" or "density:i"'):
    greedy(rule)


def test_a_rule_needs_its_resource():
  with pytest.raises(ValueError, match="the problem has 1 resources"):
    ns.maximize(instances.one_knapsack(0), sequence_value, greedy("density:1"))


def test_an_empty_batch_is_refused():
  with pytest.raises(ValueError, match="batch must be at least 1"):
    greedy(batch=0)


def test_a_sample_without_gain_does_not_end_the_path():
  weights = np.array([0.0] * 20 + [1.0] * 20)
  problem = ns.Problem(-np.ones(40, int), np.ones(40), 20.0)
  for seed in range(8):
    found = [
      ns.maximize(
        problem, set_functions.modular(weights), stochastic_greedy(2, lazy=lazy),
        seed=seed, traceable=True,
      ).mask.sum()
      for lazy in (False, True)
    ]  # fmt: skip
    assert found[0] == found[1] >= 12


@pytest.mark.parametrize("traceable", [False, True])
def test_a_sample_that_could_not_be_measured_is_drawn_again(traceable):
  problem = ns.Problem(-np.ones(10, int), np.ones(10), 5.0)

  def value(mask):
    return jax.numpy.where(mask[0], -jax.numpy.inf, mask.sum())

  function = value if traceable else set_functions.on_host(value)
  for seed in range(12):
    optimizer = stochastic_greedy(1)
    result = ns.maximize(problem, function, optimizer, seed=seed, traceable=traceable)
    assert result.mask.sum() == 5 and not result.mask[0]
  all_fail = ns.maximize(
    problem, lambda masks: np.where(masks.any(axis=1), -np.inf, 0.0), stochastic_greedy(3)
  )
  assert not all_fail.mask.any()
  assert all_fail.evaluations == 11


@pytest.mark.parametrize(
  ("groups", "cost", "gains", "best"),
  [
    ([0, 0], [0.0, 0.0], [1e19, 5e19], 1),  # Gain per price would overflow.
    ([-1, -1], [3e9, 2e9], [1e-30, 9e-30], 1),  # It would be rounded to 0.
  ],
)
def test_densities_may_be_as_large_or_small_as_gains_and_prices_make_them(
  groups, cost, gains, best
):
  problem = ns.Problem(groups, cost, max(*cost, 1.0))
  result = ns.maximize(problem, lambda masks: masks @ np.array(gains), greedy("density:0"))
  assert np.flatnonzero(result.mask).tolist() == [best]


@pytest.mark.parametrize("traceable", [False, True])
def test_small_values_beside_a_set_that_cannot_be_measured_are_compared(traceable):
  problem = ns.Problem([-1] * 3, [1, 1, 1], 2)

  def value(mask):
    return jnp.where(mask[..., 0], -jnp.inf, 1e-8 * (mask @ jnp.array([0.0, 1.0, 2.0])))

  given = value if traceable else lambda masks: np.asarray(value(masks))
  result = ns.maximize(problem, given, greedy("density:0"), traceable=traceable)
  assert np.flatnonzero(result.mask).tolist() == [1, 2]


def test_densities_stay_finite_where_a_gain_is_far_above_the_scale():
  found = densities(jnp.array([1e25, 1e-20, np.inf, np.nan]), jnp.ones(4), jnp.float32(1e-20))
  assert np.isfinite(found.lower[:2]).all() and found.computed[0] > found.computed[1]
  assert found.computed[2] == np.inf and np.isnan(found.computed[3])

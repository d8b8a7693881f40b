"""Greedy by gains, also with more elements than are measured together."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import nas_submod as ns
from nas_submod import set_functions
from nas_submod.optimizers import greedy, rcas

N = 150


def counted_one_by_one(function):
  """The function with gains of single elements; without them a lazy path measures all."""
  return dataclasses.replace(function, gain=Partial(gain_of_one, function.gains))


def gain_of_one(gains, state, element):
  return gains(state)[element]


def copies():
  """A hundred copies of a set of ten items, then fifty sets of two or three other items each."""
  covers = np.zeros((N, 160), bool)
  covers[:100, :10] = True
  for place in range(50):
    begin = 10 + 3 * place
    covers[100 + place, begin : begin + 2 + place % 2] = True
  return counted_one_by_one(set_functions.coverage(covers))


def random_function(name, seed):
  rng = np.random.default_rng(seed)
  if name == "coverage":  # of few items: ties abound
    covers = rng.random((N, 40)) < rng.uniform(0, 0.2, (N, 1))
    return counted_one_by_one(set_functions.coverage(covers))
  if name == "weighted coverage":
    return set_functions.coverage(rng.random((N, 40)) < 0.1, 0.1 * rng.integers(1, 4, 40))
  service = np.exp(-5 * (rng.random((N, 1)) - rng.random(30)) ** 2)
  return set_functions.facility_location(service)


def random_problem(seed):
  rng = np.random.default_rng(seed)
  required = np.arange(N) == rng.integers(N)
  groups = np.where(rng.random(N) < 0.3, rng.integers(0, 10, N), -1)
  return ns.Problem(groups, rng.integers(0, 5, (N, 2)), [16.0, 20.0], required)


def test_all_are_measured_if_the_most_promising_do_not_decide():
  problem = ns.Problem([-1] * N, np.ones(N), 3.0)
  found = ns.maximize(problem, copies(), greedy(lazy=True), traceable=True)
  assert np.flatnonzero(found.mask).tolist() == [0, 101, 103] and found.value == 16
  # The required set; all; 64 copies and then all that is left; the 64 best of those.
  assert found.evaluations == 1 + N + (64 + N - 1) + 64
  assert found.rounds == 1 + 3


def test_lazy_is_eager_if_one_gain_costs_as_much_as_all():
  problem = ns.Problem([-1] * N, np.ones(N), 3.0)
  function = set_functions.coverage(np.random.default_rng(0).random((N, 40)) < 0.1)
  assert not function.selective and counted_one_by_one(function).selective
  assert not jax.tree.map(lambda leaf: leaf, function).selective
  for some in (
    function,
    dataclasses.replace(set_functions.facility_location(np.eye(N)), gain=None),
  ):
    lazy = ns.maximize(problem, some, greedy(lazy=True), traceable=True)
    assert lazy.evaluations == 1 + N + (N - 1) + (N - 2)


def test_options_that_change_rounds_alone_share_a_program_by_gains(compilations):
  problem, function = random_problem(0), random_function("facility", 0)
  found = ns.maximize(problem, function, rcas(), traceable=True)
  before = compilations()
  for optimizer in (rcas(batch=2), rcas(wide_start=True)):
    other = ns.maximize(problem, function, optimizer, traceable=True)
    np.testing.assert_array_equal(other.mask, found.mask)
  assert compilations() == before


def test_no_round_is_played_if_nothing_fits():
  problem = ns.Problem([-1] * N, np.full(N, 2.0), 1.0)
  for lazy in (False, True):
    found = ns.maximize(problem, copies(), greedy(lazy=lazy), traceable=True)
    assert (found.evaluations, found.rounds, found.value) == (1, 1, 0)


@pytest.mark.parametrize("rule", ["unit", "density:0"])
@pytest.mark.parametrize("name", ["coverage", "weighted coverage", "facility"])
def test_lazy_is_eager_and_measures_less(name, rule):
  fewer = []
  for seed in range(10):
    problem, function = random_problem(seed), random_function(name, seed)
    lazy, eager = (
      ns.maximize(problem, function, greedy(rule, lazy=lazy), traceable=True)
      for lazy in (True, False)
    )
    np.testing.assert_array_equal(lazy.mask, eager.mask)
    assert lazy.value == eager.value and lazy.rounds == eager.rounds
    fewer.append(lazy.evaluations < eager.evaluations)
    if seed < 1:
      host = ns.maximize(problem, set_functions.on_host(function), greedy(rule, batch=None))
      np.testing.assert_array_equal(lazy.mask, host.mask)
  assert sum(fewer) > 7  # none is saved if all promising elements are nearly the same


def test_elements_that_cannot_be_measured_end_the_path():
  weights = jnp.where(jnp.arange(N) < 5, 1.0, -jnp.inf)
  function = set_functions.SetFunction(
    value=lambda mask: jnp.sum(jnp.where(mask, weights, 0)),
    init=lambda mask: mask,
    gains=lambda mask: jnp.where(mask, 0, weights),
    add=lambda mask, element: mask.at[element].set(True),
  )
  problem = ns.Problem([-1] * N, np.ones(N), 10.0)
  function = counted_one_by_one(function)
  for lazy in (False, True):
    found = ns.maximize(problem, function, greedy(lazy=lazy), traceable=True)
    assert np.flatnonzero(found.mask).tolist() == [0, 1, 2, 3, 4] and found.value == 5
    assert found.rounds == 1 + 5 + 1  # the last adds nothing


@pytest.mark.parametrize("lazy", [False, True])
def test_values_near_the_end_of_float32(lazy):
  problem, optimizer = ns.Problem([-1] * 3, np.ones(3), 1.0), greedy(lazy=lazy)
  function = set_functions.modular([1e30, 3e38, 1.0])
  for run in (function, set_functions.on_host(function)):
    found = ns.maximize(problem, run, optimizer, traceable=run is function)
    assert found.mask.tolist() == [False, True, False]
  weights = jnp.array([1.0, jnp.inf, 2.0])
  function = dataclasses.replace(function, value=lambda mask: jnp.where(mask, weights, 0).sum())
  function = dataclasses.replace(function, gains=lambda mask: jnp.where(mask, 0, weights))
  with pytest.raises(ValueError, match="value or a gain returned NaN or infinity"):
    ns.maximize(problem, function, optimizer, traceable=True)


@pytest.mark.parametrize("nothing", [jnp.nan, -jnp.inf])
def test_a_gain_measured_before_the_element_fitted_is_no_bound(nothing):
  """Element 1 fits once element 0 is in, and has no gain before that."""

  def cost(mask):
    return (jnp.sum(mask[2:]) + 50 * (mask[1] & ~mask[0]))[None].astype(jnp.int32)

  def gains(mask):
    of_one = jnp.where(mask[0], 50.0, nothing)
    return jnp.where(mask, 0, jnp.where(jnp.arange(N) == 1, of_one, 3.0).at[0].set(4.0))

  def value(mask):
    of_one = jnp.where(mask[1], jnp.where(mask[0], 50.0, nothing), 0)
    return 3.0 * jnp.sum(mask[2:]) + 4.0 * mask[0] + of_one

  function = set_functions.SetFunction(
    value=value,
    init=lambda mask: mask,
    gains=gains,
    add=lambda mask, element: mask.at[element].set(True),
  )
  problem, function = ns.Problem([-1] * N, cost, 3), counted_one_by_one(function)
  for lazy in (False, True):
    found = ns.maximize(problem, function, greedy(lazy=lazy), traceable=True)
    assert found.value == 4 + 50 + 3 * 3


@pytest.mark.parametrize("lazy", [False, True])
def test_rounding_is_relative_to_the_largest_first_gain_in_both_drivers(lazy):
  # Float32 rounds 1,000 by more than 1e-4, so the densities 1 and 1.0001 tie.
  function = set_functions.modular([1_000.0, 1.0001])
  problem = ns.Problem([-1, -1], [1_000.0, 1.0], 1_000.0)
  optimizer = greedy("density:0", lazy=lazy)
  host = ns.maximize(problem, set_functions.on_host(function), optimizer)
  device = ns.maximize(problem, function, optimizer, traceable=True)
  assert host.mask.tolist() == device.mask.tolist() == [True, False]


@pytest.mark.parametrize("lazy", [False, True])
def test_a_gain_that_is_nan_is_an_error(lazy):
  function = set_functions.modular([1.0, 2.0, 3.0])
  nan = jax.tree.map(lambda weights: weights.at[1].set(np.nan), function)
  broken = dataclasses.replace(function, gains=nan.gains, gain=nan.gain)
  problem = ns.Problem(-np.ones(3, int), np.ones(3), 2.0)
  with pytest.raises(ValueError, match=r"value or a gain returned NaN .*check\(\)"):
    ns.maximize(problem, broken, greedy("unit", lazy=lazy), traceable=True)


def free_and_tiny(seed):
  """Weights of a modular function: some elements are free, and some gain almost nothing."""
  rng = np.random.default_rng(seed)
  weights = rng.choice([0.0, 1e-8, 1e-4, 0.9, 1.0, 2.0], 23)
  cost = rng.choice([0.0, 1e-9, 1.0, 20.0], 23, p=[0.15, 0.15, 0.6, 0.1])
  return ns.Problem(-np.ones(23, int), cost, 20.0), weights


@pytest.mark.parametrize("rule", ["unit", "density:0"])
def test_lazy_by_gains_goes_on_after_a_gain_that_rounds_away(rule):
  for seed in range(10):
    problem, weights = free_and_tiny(seed)
    function = set_functions.modular(weights)
    masks = [
      ns.maximize(problem, function, greedy(rule, lazy=lazy), traceable=True).mask @ weights
      for lazy in (True, False)
    ]
    assert masks[0] == pytest.approx(masks[1], abs=1e-6), seed


def test_a_free_element_of_tiny_gain_does_not_end_rcas():
  weights = np.array([1.0, 1e-8, *[0.9] * 20, 2.0])
  cost = np.array([0.0, 0.0, *[1.0] * 20, 20.0])
  problem = ns.Problem(-np.ones(23, int), cost, 20.0)
  result = ns.maximize(problem, set_functions.modular(weights), rcas(), traceable=True)
  assert result.value == pytest.approx(19.0)


def test_the_value_comes_from_the_set_not_from_the_sum_of_gains():
  function = set_functions.modular(np.full(2000, 0.1))
  problem = ns.Problem(-np.ones(2000, int), np.zeros(2000), 1.0)
  for lazy in (False, True):
    result = ns.maximize(problem, function, greedy(lazy=lazy), traceable=True)
    assert result.value == function(result.mask)
    assert result.upper_bound == pytest.approx(200, abs=1e-3)

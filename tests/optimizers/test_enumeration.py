"""Partial enumeration: against the inner optimizer alone, on both drivers and any devices."""

import itertools
import json
import pathlib
import subprocess
import sys

import instances
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nas_submod as ns
from nas_submod import set_functions
from nas_submod.optimizers import (
  exchange,
  greedy,
  partial_enumeration,
  rcas,
  stochastic_greedy,
)

feasible = jax.jit(lambda problem, mask: problem.feasible(mask))


def seeds_of(problem, depth):
  """Every feasible set of at most `depth` added elements, smaller ones first."""
  free = np.flatnonzero(~np.asarray(problem.required))
  for size in range(depth + 1):
    for elements in itertools.combinations(free, size):
      seed = np.asarray(problem.required) | np.isin(np.arange(problem.n), elements)
      if feasible(problem, seed):
        yield seed


@pytest.mark.parametrize(("depth", "chunk"), [(0, None), (1, 3), (3, 16)])
def test_the_answer_is_the_best_of_the_inner_optimizer_from_every_seed(depth, chunk):
  inner = greedy("density:0", batch=None)
  optimizer = partial_enumeration(inner, depth, chunk)
  for seed in range(1 if depth == 3 else 3):
    problem, function = instances.two_knapsacks(seed), instances.integer_coverage(seed)
    value = set_functions.on_host(function)
    starts = [problem.replace(required=start) for start in seeds_of(problem, depth)]
    alone = [ns.maximize(start, value, inner) for start in starts]
    device = ns.maximize(problem, function, optimizer, traceable=True)
    assert device.value == max(result.value for result in alone)
    if depth == 1:
      host = ns.maximize(problem, value, optimizer)
      assert host.evaluations <= sum(r.evaluations for r in alone), "seeds share measurements"
      assert host.rounds >= device.rounds
      np.testing.assert_array_equal(host.mask, device.mask)


def answers():
  """Results of enumeration by gains, by values, and with random numbers, on the devices here."""
  found = []
  for inner, by_gains in ((greedy("density:0"), 1), (rcas(batch=2), 0), (stochastic_greedy(2), 1)):
    problem, function = instances.one_knapsack(0), instances.facility_location(0)
    value = function if by_gains else function.value
    optimizer = partial_enumeration(inner, 2, chunk=5)
    result = ns.maximize(problem, value, optimizer, seed=1, traceable=True)
    found.append([result.mask.tolist(), result.value, result.evaluations, result.upper_bound])
  return found


@pytest.mark.slow
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="compares one CPU device with eight")
def test_a_process_of_one_device_finds_what_eight_find():
  code = (
    "import jax, json; jax.config.update('jax_platforms', 'cpu'); "
    "jax.config.update('jax_num_cpu_devices', 1); assert jax.device_count() == 1; "
    "import test_enumeration; print(json.dumps(test_enumeration.answers()))"
  )
  here = pathlib.Path(__file__).parent
  done = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert jax.local_device_count() == 8
  assert json.loads(done.stdout) == answers()


@pytest.mark.parametrize("inner", [stochastic_greedy(2), rcas()])
def test_chunk_and_driver_change_nothing_even_if_the_inner_optimizer_is_random(inner):
  problem, function = instances.two_knapsacks(3), instances.facility_location(3)
  device = ns.maximize(problem, function, partial_enumeration(inner, 1), seed=7, traceable=True)
  value = set_functions.on_host(function)
  host = ns.maximize(problem, value, partial_enumeration(inner, 1, 5), seed=7)
  np.testing.assert_array_equal(device.mask, host.mask)
  np.testing.assert_allclose(device.value, host.value, rtol=1e-6)


def test_a_set_that_cannot_be_measured_is_not_chosen_and_harms_no_other_seed():
  problem = ns.Problem([-1] * 4, [1, 1, 1, 1], 2)
  weights = np.array([1.0, 9.0, 2.0, 3.0])

  def value(masks):
    return np.where(masks[:, 1], -np.inf, masks @ weights)

  optimizer = partial_enumeration(greedy(), 1, 3)
  assert np.flatnonzero(ns.maximize(problem, value, optimizer).mask).tolist() == [2, 3]
  nothing = ns.maximize(problem, lambda masks: np.full(len(masks), -np.inf), optimizer)
  assert not nothing.mask.any() and nothing.value == -np.inf


def test_only_feasible_seeds_are_started():
  cost = np.array([1, 1, 9, 1])
  problem = ns.Problem([0, 0, -1, -1], cost, 3, required=np.arange(4) == 3)
  asked = []

  def value(masks):
    asked.extend(np.flatnonzero(mask).tolist() for mask in masks)
    return masks.sum(1)

  ns.maximize(problem, value, partial_enumeration(greedy(), 3))
  assert asked == [[3], [0, 3], [1, 3]]


def test_the_inner_optimizer_sets_the_replicates():
  plain, calls = greedy(), []
  inner = plain._replace(
    tell=lambda state, values, standard_errors: plain.tell(state, values),
    replicates=lambda state: 2 * np.ones(1, np.int32),
  )
  problem = instances.one_knapsack(0)

  def value(masks):
    calls.extend(mask.tobytes() for mask in masks)
    return masks.sum(1)

  result = ns.maximize(problem, value, partial_enumeration(inner, 1))
  assert result.evaluations == len(calls) == 2 * len(set(calls))


@pytest.mark.slow
def test_enumeration_can_be_inside_enumeration_and_exchange():
  problem, function = instances.one_knapsack(1), instances.integer_coverage(1)

  def solve(optimizer):
    return ns.maximize(problem, function, optimizer, traceable=True).value

  nested = partial_enumeration(partial_enumeration(greedy(), 1), 1)
  assert solve(nested) == solve(partial_enumeration(greedy(), 2))
  depth_1 = partial_enumeration(greedy(), 1)
  assert solve(exchange(depth_1)) >= solve(depth_1)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ((-1,), "depth is 0 to 3, got -1"),
    ((4,), "depth is 0 to 3, got 4"),
    ((1, 0), "chunk must be at least 1, got 0"),
  ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    partial_enumeration(greedy(), *arguments)


def test_too_many_seeds_are_refused_before_any_work():
  problem = ns.Problem([-1] * 300, np.ones(300), 5)
  with pytest.raises(ValueError, match=r"depth 3 of 300 elements makes 4500251 seeds"):
    ns.maximize(problem, lambda mask: mask.sum(), partial_enumeration(greedy(), 3), traceable=True)


def test_an_error_in_one_seed_is_reported():
  problem = ns.Problem(-np.ones(4, int), np.ones(4), 3)
  weights = jnp.arange(1.0, 5.0)

  def not_a_number(mask):
    return jnp.where(mask[0] & mask[1] & mask[2], jnp.nan, weights @ mask)

  with pytest.raises(ValueError, match="returned NaN"):
    ns.maximize(problem, not_a_number, partial_enumeration(greedy(), 2), traceable=True)

  careless = greedy()

  def ask(state):  # over budget for the seed that holds the first element
    masks, valid = careless.ask(state)
    return jnp.where(state.problem.required[0], masks | jnp.ones(4, bool), masks), valid

  optimizer = partial_enumeration(careless._replace(ask=ask, solve=None), 1)
  for value, traceable in ((lambda mask: weights @ mask, True), (lambda m: m @ weights, False)):
    with pytest.raises(ValueError, match="asked for a set that is not feasible"):
      ns.maximize(problem, value, optimizer, traceable=traceable)


def test_rounds_are_the_sum_of_the_longest_seeds_of_all_chunks():
  problem, weights = ns.Problem(-np.ones(5, int), np.ones(5), 3), np.arange(1.0, 6.0)
  optimizer = partial_enumeration(greedy(batch=None), 1, chunk=2)
  by_gains = ns.maximize(problem, set_functions.modular(weights), optimizer, traceable=True)
  by_values = ns.maximize(problem, lambda mask: weights @ mask, optimizer, traceable=True)
  # Chunks: the empty seed and one element, two elements, two elements. A seed takes one round, and
  # so does each addition.
  assert by_gains.rounds == by_values.rounds == (1 + 3) + (1 + 2) + (1 + 2)

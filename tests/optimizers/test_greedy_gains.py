"""Greedy by the gains of a set function with more elements than a lazy run measures together."""

import jax.numpy as jnp
import numpy as np
import pytest

import nas_submod as ns
from nas_submod import set_functions
from nas_submod.optimizers import greedy

N = 150


def copies():
  """A hundred copies of a set of ten items, then fifty sets of two or three of their own."""
  covers = np.zeros((N, 160), bool)
  covers[:100, :10] = True
  for place in range(50):
    begin = 10 + 3 * place
    covers[100 + place, begin : begin + 2 + place % 2] = True
  return set_functions.coverage(covers)


def random_function(name, seed):
  rng = np.random.default_rng(seed)
  if name == "coverage":  # of few items: ties abound
    return set_functions.coverage(rng.random((N, 40)) < rng.uniform(0, 0.2, (N, 1)))
  if name == "weighted coverage":
    return set_functions.coverage(rng.random((N, 40)) < 0.1, 0.1 * rng.integers(1, 4, 40))
  service = np.exp(-5 * (rng.random((N, 1)) - rng.random(30)) ** 2)
  return set_functions.facility_location(service)


def random_problem(seed):
  rng = np.random.default_rng(seed)
  required = np.arange(N) == rng.integers(N)
  groups = np.where(rng.random(N) < 0.3, rng.integers(0, 10, N), -1)
  return ns.Problem(groups, rng.integers(0, 5, (N, 2)), [16.0, 20.0], required)


def test_where_the_most_promising_do_not_decide_all_are_measured():
  problem = ns.Problem([-1] * N, np.ones(N), 3.0)
  found = ns.maximize(problem, copies(), greedy(lazy=True), traceable=True)
  assert np.flatnonzero(found.mask).tolist() == [0, 101, 103] and found.value == 16
  # The required set; all; 64 copies and then all that is left; the 64 best of those.
  assert found.evaluations == 1 + N + (64 + N - 1) + 64
  assert found.rounds == 1 + 3


def test_where_nothing_fits_no_round_is_played():
  problem = ns.Problem([-1] * N, np.full(N, 2.0), 1.0)
  for lazy in (False, True):
    found = ns.maximize(problem, copies(), greedy(lazy=lazy), traceable=True)
    assert (found.evaluations, found.rounds, found.value) == (1, 1, 0)


@pytest.mark.parametrize("rule", ["unit", "density:0", "joint"])
@pytest.mark.parametrize("name", ["coverage", "weighted coverage", "facility"])
def test_lazy_is_eager_and_measures_less(name, rule):
  fewer = []
  for seed in range(25):
    problem, function = random_problem(seed), random_function(name, seed)
    lazy, eager = (
      ns.maximize(problem, function, greedy(rule, lazy=lazy), traceable=True)
      for lazy in (True, False)
    )
    np.testing.assert_array_equal(lazy.mask, eager.mask)
    assert lazy.value == eager.value and lazy.rounds == eager.rounds
    fewer.append(lazy.evaluations < eager.evaluations)
    if seed < 3:
      host = ns.maximize(problem, set_functions.on_host(function), greedy(rule, batch=None))
      np.testing.assert_array_equal(lazy.mask, host.mask)
  assert sum(fewer) > 20  # not where all of what is promising is nearly the same


def test_what_could_not_be_measured_ends_a_lazy_run():
  weights = jnp.where(jnp.arange(N) < 5, 1.0, -jnp.inf)
  function = set_functions.SetFunction(
    value=lambda mask: jnp.sum(jnp.where(mask, weights, 0)),
    init=lambda mask: mask,
    marginals=lambda mask: jnp.where(mask, 0, weights),
    commit=lambda mask, element: mask.at[element].set(True),
  )
  problem = ns.Problem([-1] * N, np.ones(N), 10.0)
  for lazy in (False, True):
    found = ns.maximize(problem, function, greedy(lazy=lazy), traceable=True)
    assert np.flatnonzero(found.mask).tolist() == [0, 1, 2, 3, 4] and found.value == 5

"""Exchange ends at a local optimum, checked against an enumeration of all small exchanges."""

import itertools

import instances
import numpy as np
import pytest

import nas_submod as ns
from nas_submod import set_functions
from nas_submod.optimizers import exchange, rcas

N, GROUPS = 8, np.array([0, 0, 1, 1, 2, 2, -1, -1])
INDEX = 1 << np.arange(N)
INNER = rcas()
OPTIMIZER = exchange(INNER, batch=4)  # all tests share its compiled programs

both_drivers = pytest.mark.parametrize("traceable", [True, False])


def maximize(optimizer, traceable, values, cost, required=None, seed=0):
  problem = ns.Problem(GROUPS, cost, [14, 14], np.zeros(N, bool) if required is None else required)
  function = set_functions.table(values)
  value = function if traceable else set_functions.on_host(function)
  return problem, ns.maximize(problem, value, optimizer, traceable=traceable, seed=seed)


def neighbours(mask):
  """All sets that differ by an element, by one for another, or by the choices of two groups."""
  for e in range(N):
    yield mask ^ (np.arange(N) == e)
    for other in np.flatnonzero(~mask):
      if mask[e]:
        yield mask ^ (np.arange(N) == e) ^ (np.arange(N) == other)
  for one, two in itertools.combinations(range(3), 2):
    swapped = mask.copy()
    swapped[one * 2 : one * 2 + 2] = mask[two * 2 : two * 2 + 2]
    swapped[two * 2 : two * 2 + 2] = mask[one * 2 : one * 2 + 2]
    if mask[one * 2 : one * 2 + 2].any() and mask[two * 2 : two * 2 + 2].any():
      yield swapped


@both_drivers
def test_no_small_exchange_improves_the_answer(traceable):
  improved = 0
  for seed in range(15):
    rng = np.random.default_rng(seed)
    values = rng.random(2**N).astype(np.float32)
    required = (np.arange(N) == 0) & (seed % 2 == 0)
    arguments = traceable, values, rng.integers(1, 6, (N, 2)), required, seed
    problem, result = maximize(OPTIMIZER, *arguments)
    _, alone = maximize(INNER, *arguments)
    feasible = np.asarray(instances.every_feasible(problem, instances.every_mask(N)))
    near = np.array(list(neighbours(np.asarray(result.mask)))) @ INDEX
    assert result.value >= max(values[near[feasible[near]]].max(), alone.value), seed
    improved += result.value > alone.value
  assert improved >= 3


@both_drivers
def test_two_groups_swap_their_choices_if_nothing_else_improves(traceable):
  values = np.zeros(2**N)
  values[[0b0001, 0b1000, 0b1001, 0b0110]] = 0.9, 0.5, 1.0, 2.0
  cost = np.where(np.arange(N) < 4, 7, 20)[:, None] * np.ones(2, int)
  _, result = maximize(OPTIMIZER, traceable, values, cost)
  assert np.flatnonzero(result.mask).tolist() == [1, 2] and result.value == 2


@both_drivers
def test_a_gain_within_rounding_is_no_improvement(traceable):
  values = np.zeros(2**N, np.float32)
  values[1], values[2] = 0.3, np.nextafter(np.float32(0.3), 1)
  cost = np.where(np.arange(N) < 2, 14, 20)[:, None] * np.ones(2, int)
  _, result = maximize(OPTIMIZER, traceable, values, cost)
  assert np.flatnonzero(result.mask).tolist() == [0]

"""Exchange ends where no small exchange improves, found by looking at all of them."""

import itertools

import instances
import numpy as np
import pytest

import nas_submod as ns
from nas_submod import set_functions
from nas_submod.optimizers import best_singleton, exchange, rcas

N, GROUPS = 8, np.array([0, 0, 1, 1, 2, 2, -1, -1])
INDEX = 1 << np.arange(N)


def neighbours(mask):
  """All sets that differ by an element, by one for another, or by what two groups hold."""
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


@pytest.mark.parametrize(("inner", "traceable"), [(best_singleton(), True), (rcas(), False)])
def test_no_small_exchange_improves_the_answer(inner, traceable):
  optimizer, improved = exchange(inner, batch=4), 0
  for seed in range(30):
    rng = np.random.default_rng(seed)
    values = rng.random(2**N).astype(np.float32)
    required = (np.arange(N) == 0) & (seed % 2 == 0)
    problem = ns.Problem(GROUPS, rng.integers(1, 6, (N, 2)), [14, 14], required)
    function = set_functions.table(values)
    value = function if traceable else set_functions.on_host(function)
    result = ns.maximize(problem, value, optimizer, traceable=traceable, seed=seed)
    alone = ns.maximize(problem, value, inner, traceable=traceable, seed=seed)
    feasible = np.asarray(instances.every_feasible(problem, instances.every_mask(N)))
    near = np.array(list(neighbours(np.asarray(result.mask)))) @ INDEX
    assert result.value >= max(values[near[feasible[near]]].max(), alone.value), seed
    improved += result.value > alone.value
  assert improved > 5


def test_what_two_groups_hold_is_swapped_where_nothing_else_improves():
  values = np.zeros(16)
  values[[0b0001, 0b1000, 0b1001, 0b0110]] = 0.9, 0.5, 1.0, 2.0
  problem = ns.Problem([0, 0, 1, 1], np.ones(4), 2)
  result = ns.maximize(problem, set_functions.table(values), exchange(rcas()), traceable=True)
  assert result.mask.tolist() == [False, True, True, False] and result.value == 2


@pytest.mark.parametrize("traceable", [False, True])
def test_a_move_that_gains_but_rounding_is_not_taken(traceable):
  problem = ns.Problem([0, 0], [1, 1], 1)
  table = set_functions.table([0, 0.3, np.nextafter(np.float32(0.3), 1), 0])
  assert table(np.array([False, True])) > table(np.array([True, False]))
  value = table if traceable else set_functions.on_host(table)
  result = ns.maximize(problem, value, exchange(best_singleton()), traceable=traceable)
  assert result.mask.tolist() == [True, False]

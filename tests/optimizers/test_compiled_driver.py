"""Runs with a traceable set function: callbacks, errors, counts and limits."""

import instances
import jax.numpy as jnp
import numpy as np
import pytest

import nas_submod as ns
from nas_submod import set_functions
from nas_submod.optimizers import Info, Optimizer
from nas_submod.set_functions.base import SetFunction

WEIGHTS = np.array([3.0, 1.0, 2.0, 4.0])
PROBLEM = ns.Problem([-1] * 4, np.ones(4), 2)
NOTHING, FIRST, ALL = ([-1], True), ([0], True), ([0, 1, 2, 3], True)


@pytest.mark.parametrize(
  ("name", "limit"), [("greedy", None), ("greedy", 7), ("partial_enumeration", None)]
)
def test_a_callback_sees_every_round_of_a_compiled_run(name, limit, compilations):
  problem = ns.Problem(-np.ones(6, int), np.linspace(1, 2, 6), 4.0)
  function = set_functions.coverage(np.random.default_rng(0).random((6, 20)) < 0.3)
  inner = ns.optimizers.greedy()
  optimizer = inner if name == "greedy" else ns.optimizers.partial_enumeration(inner, 1, chunk=3)
  rounds, reached = [], []

  def watch(number, info, state):
    rounds.append(number)
    reached.append(float(optimizer.best(state)[1]))
    assert info.masks.shape[1] == 6

  def solve(callback):
    return ns.maximize(problem, function, optimizer, limit, traceable=True, callback=callback)

  watched = solve(watch)
  whole = ns.maximize(problem, function, optimizer._replace(solve=None), limit, traceable=True)
  assert watched.value == whole.value and watched.evaluations == whole.evaluations
  np.testing.assert_array_equal(watched.mask, whole.mask)
  assert rounds == list(range(watched.rounds)) and len(rounds) > 1
  assert reached == sorted(reached) and reached[-1] == watched.value
  before = compilations()
  solve(lambda *_: None)
  assert compilations() == before


@pytest.mark.parametrize(
  "optimizer",
  [ns.optimizers.greedy(), ns.optimizers.greedy(lazy=True), ns.optimizers.stochastic_greedy(4)],
)
def test_values_replace_gains_if_the_required_set_has_no_value(optimizer):
  weights = jnp.asarray(WEIGHTS)

  def value(mask):
    return jnp.where(mask.any(), weights @ mask, -jnp.inf)

  function = SetFunction(
    value=value,
    init=lambda mask: mask,
    gains=lambda mask: jnp.where(mask.any(), weights * ~mask, jnp.inf),
    add=lambda mask, element: mask.at[element].set(True),
    n=4,
  )
  result = ns.maximize(PROBLEM, function, optimizer, traceable=True)
  assert np.flatnonzero(result.mask).tolist() == [0, 3] and result.value == 7


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6])
def test_the_answer_is_the_best_of_the_sets_within_the_limit(limit):
  weights, seen = np.array([1.0, 2.0, 3.0, 4.0]), []

  def value(masks):
    seen.extend(weights @ mask for mask in masks)
    return masks @ weights

  host = ns.maximize(PROBLEM, value, ns.optimizers.greedy(batch=None), limit)
  device = ns.maximize(
    PROBLEM, lambda m: weights @ m, ns.optimizers.greedy(batch=None), limit, traceable=True
  )
  assert host.evaluations == device.evaluations == len(seen) == limit
  assert host.value == device.value == max(seen)


def played(*rounds):
  """An optimizer that asks `rounds` of (elements, valid) and answers the empty set of value 0."""
  masks = jnp.stack(
    [jnp.stack([jnp.isin(jnp.arange(4), jnp.array(e)) for e, _ in r]) for r in rounds]
  )
  valid = jnp.array([[valid for _, valid in r] for r in rounds])

  def ask(state):
    return masks[state], valid[state]

  def tell(state, values):
    return state + 1, Info(jnp.ones(1, bool), masks[state][:1], values[:1])

  return Optimizer(
    lambda problem, rng: jnp.int32(0),
    ask,
    tell,
    lambda state: state >= len(rounds),
    lambda state: (jnp.zeros(4, bool), jnp.float32(0)),
  )


@pytest.mark.parametrize(
  ("optimizer", "of_first", "words"),
  [
    (played([ALL], [NOTHING]), 3.0, r"asked for a set that is not feasible, of elements \[0, 1, 2"),
    (played([NOTHING], [ALL], [FIRST]), jnp.nan, r"not feasible, of elements \[0, 1, 2"),
    (played([FIRST], [([1, 2, 3], True)]), jnp.nan, r"not feasible, of elements \[1, 2, 3\]"),
    (played([FIRST, ALL], [NOTHING, NOTHING]), jnp.nan, r"not feasible, of elements \[0, 1, 2"),
    (played([FIRST], [NOTHING]), jnp.nan, r"NaN or infinity for a feasible set, of elements \[0\]"),
    (played([NOTHING], [FIRST], [NOTHING]), jnp.inf, r"NaN or infinity .* of elements \[0\];"),
    (played([NOTHING], [FIRST], [NOTHING]), -jnp.inf, None),
    (played([NOTHING, ([0], False)], [NOTHING, ([0, 1, 2, 3], False)]), jnp.nan, None),
  ],
)
def test_the_first_bad_set_of_a_compiled_run_is_reported(optimizer, of_first, words):
  def value(mask):
    return jnp.where(mask[0], of_first, jnp.asarray(WEIGHTS) @ mask)

  def solve():
    return ns.maximize(PROBLEM, value, optimizer, traceable=True)

  if words:
    with pytest.raises(ValueError, match=words):
      solve()
  else:
    assert solve().value == 0


def test_a_bad_answer_that_was_never_asked_is_reported():
  def value(mask):
    return jnp.where(mask[0], jnp.nan, jnp.asarray(WEIGHTS) @ mask)

  for chosen, words in (
    ([0], r"NaN .* of elements \[0\];"),
    ([0, 1, 2], "answered a set that is not"),
  ):
    mask = jnp.zeros(4, bool).at[jnp.array(chosen)].set(True)
    optimizer = played([NOTHING])._replace(best=lambda state, mask=mask: (mask, jnp.float32(0)))
    with pytest.raises(ValueError, match=words):
      ns.maximize(PROBLEM, value, optimizer, traceable=True)


@pytest.mark.parametrize(
  ("depth", "pair"), [(0, [2, 3]), (1, [0, 1])]
)  # only some seeds reach [0, 1]
def test_enumeration_reports_the_set_whose_value_is_nan(depth, pair):
  def value(mask):
    return jnp.where(mask[jnp.array(pair)].all(), jnp.nan, jnp.asarray(WEIGHTS) @ mask)

  optimizer = ns.optimizers.partial_enumeration(ns.optimizers.greedy(), depth)
  with pytest.raises(ValueError, match=rf"NaN .* of elements \[{pair[0]}, {pair[1]}\];"):
    ns.maximize(PROBLEM, value, optimizer, traceable=True)


@pytest.mark.parametrize("function", [set_functions.modular(WEIGHTS), lambda m: WEIGHTS @ m])
def test_evaluations_count_the_elements_that_fit_in_each_step(function):
  problem = ns.Problem([-1] * 4, [1.0, 1.0, 1.0, 2.0], 2.0)
  result = ns.maximize(problem, function, ns.optimizers.greedy(batch=None), traceable=True)
  # The empty set, then all four elements; nothing fits beside the last one.
  assert (result.evaluations, result.value) == (1 + 4, 4)
  result = ns.maximize(
    problem, function, ns.optimizers.greedy("density:0", batch=None), traceable=True
  )
  assert (result.evaluations, result.value) == (1 + 4 + 2, 5)


@pytest.mark.parametrize("lazy", [False, True])
def test_values_replace_gains_if_a_seed_of_enumeration_has_no_value(lazy):
  worth = {(): 0.0, (0,): 1.0, (3,): 3.0, (0, 3): 4.0, (1, 2): 100.0}
  sets = [tuple(np.flatnonzero(mask)) for mask in instances.every_mask(4)]
  values = jnp.asarray([worth.get(elements, -np.inf) for elements in sets], jnp.float32)
  table = set_functions.table(values)

  def gains(mask):
    return jnp.stack([table(mask.at[element].set(True)) for element in range(4)]) - table(mask)

  function = SetFunction(
    table.value, lambda mask: mask, gains, lambda mask, e: mask.at[e].set(True), n=4
  )
  optimizer = ns.optimizers.partial_enumeration(ns.optimizers.greedy(lazy=lazy), 1)
  result = ns.maximize(PROBLEM, function, optimizer, traceable=True)
  assert np.flatnonzero(result.mask).tolist() == [1, 2] and result.value == 100


def test_without_a_value_of_the_required_set_there_is_no_bound():
  function = set_functions.table([-np.inf, 3.0, 3.0, 1.0])
  problem = ns.Problem([-1, -1], np.ones(2), 2)
  result = ns.maximize(problem, function, ns.optimizers.greedy(), traceable=True)
  assert result.value == 3 and result.upper_bound == np.inf


@pytest.mark.parametrize("optimizer", [ns.optimizers.brute_force(512), ns.optimizers.surrogate(16)])
def test_sets_at_the_tolerance_are_feasible_in_every_program(optimizer):
  for seed in (4, 13):
    rng = np.random.default_rng(seed)
    jitter = rng.integers(-1, 2, 14) * np.float32(1.5e-8) * rng.integers(0, 2)
    cost = np.float32((1 + 2e-6) / 7) + jitter
    problem = ns.Problem([-1] * 14, cost, 1.0)
    function = set_functions.modular(rng.random(14))
    ns.maximize(problem, function, optimizer, traceable=True, seed=seed)

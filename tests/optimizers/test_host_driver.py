"""The host driver: it measures, pools and counts replicates, and states how sure the answer is."""

import functools
from typing import Any, NamedTuple

import instances
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import nas_submod as ns
from nas_submod import set_functions
from nas_submod.optimizers import Info, Optimizer
from nas_submod.optimizers.drivers.compiled import drive
from nas_submod.set_functions.base import SetFunction

WEIGHTS = np.array([3.0, 1.0, 2.0, 4.0])


class Replayed(NamedTuple):
  """State of an optimizer that asks the sets of a script, and keeps all answers."""

  problem: ns.Problem
  round: Any
  values: Any
  errors: Any


@functools.cache  # the same object for the same script, so that nothing compiles twice
def scripted(script):
  """An optimizer that asks `script`: pairs of elements and replicates for each round."""
  width = max(len(asked) for asked in script)
  sets = np.zeros((len(script), width, 4), bool)
  counts = np.ones((len(script), width), np.int32)
  valid = np.zeros((len(script), width), bool)
  for i, asked in enumerate(script):
    for j, (elements, count) in enumerate(asked):
      sets[i, j, list(elements)], counts[i, j], valid[i, j] = True, count, True

  def init(problem, rng):
    return Replayed(problem, jnp.int32(0), jnp.zeros(valid.shape), jnp.zeros(valid.shape))

  def tell(state, values, errors):
    info = Info(jnp.array([True]), jnp.asarray(sets)[state.round, :1], values[:1])
    state = state._replace(
      round=state.round + 1,
      values=state.values.at[state.round].set(values),
      errors=state.errors.at[state.round].set(errors),
    )
    return state, info

  return Optimizer(
    init=init,
    ask=lambda state: (jnp.asarray(sets)[state.round], jnp.asarray(valid)[state.round]),
    tell=tell,
    done=lambda state: state.round >= len(script),
    best=lambda state: (jnp.asarray(sets)[1, 0], state.values[1, 0]),
    replicates=lambda state: jnp.asarray(counts)[state.round],
  )


class Noisy:
  """A modular function with noise; each measurement of a set draws other noise."""

  def __init__(self, stated=None):
    self.stated, self.samples, self.calls = stated, {}, []

  def __call__(self, masks):
    values = []
    for mask in masks:
      of_set = self.samples.setdefault(tuple(np.flatnonzero(mask)), [])
      rng = np.random.default_rng([len(of_set), *np.flatnonzero(mask)])
      of_set.append(WEIGHTS @ mask + rng.normal())
      values.append(of_set[-1])
    self.calls.append([tuple(np.flatnonzero(mask)) for mask in masks])
    return values if self.stated is None else (values, np.full(len(masks), self.stated))


PROBLEM = ns.Problem([-1] * 4, np.ones(4), 2)
SCRIPT = (
  (((), 1),),
  (((0,), 3), ((1,), 1), ((0,), 2)),  # the same set twice in one round
  (((0,), 5), ((1,), 4), ((0, 1), 2)),
)


def run(value, script=SCRIPT, problem=PROBLEM, **options):
  states = []
  result = ns.maximize(
    problem, value, scripted(script), callback=lambda i, info, s: states.append(s), **options
  )
  return result, np.asarray(states[-1].values), np.asarray(states[-1].errors)


def mean_and_error(samples):
  return np.mean(samples), np.std(samples, ddof=1) / np.sqrt(len(samples))


def test_missing_replicates_are_measured_in_one_call_a_round_and_pooled():
  noisy = Noisy()
  result, values, errors = run(noisy)
  assert noisy.calls == [[()], [(0,)] * 3 + [(1,)], [(0,)] * 2 + [(1,)] * 3 + [(0, 1)] * 2]
  zero, one, both = (noisy.samples[key] for key in ((0,), (1,), (0, 1)))
  for place, samples in {
    (1, 0): zero[:3], (1, 2): zero[:2], (2, 0): zero, (2, 1): one, (2, 2): both,
  }.items():  # fmt: skip
    np.testing.assert_allclose((values[place], errors[place]), mean_and_error(samples), rtol=1e-6)
  assert values[0, 0] == np.float32(noisy.samples[()][0]) and np.isnan(errors[0, 0])
  assert values[1, 1] == np.float32(one[0]) and np.isnan(errors[1, 1])
  assert values[0, 1] == -np.inf
  assert result.evaluations == 12 and [s.evaluations for s in result.trace] == [1, 5, 12]
  np.testing.assert_allclose((result.value, result.standard_error), mean_and_error(zero))


def test_stated_standard_errors_are_pooled():
  _, values, errors = run(Noisy(stated=0.6))
  np.testing.assert_allclose(errors[:, 0], 0.6 / np.sqrt([1, 3, 5]), rtol=1e-6)
  result, values, errors = run(lambda masks: (masks @ WEIGHTS, np.zeros(len(masks))))
  assert (errors[0, 0], errors[1, 0], result.standard_error) == (0, 0, 0)
  # A single training states NaN: the scatter of the values decides.
  noisy = Noisy(stated=np.nan)
  _, values, errors = run(noisy)
  np.testing.assert_allclose((values[2, 0], errors[2, 0]), mean_and_error(noisy.samples[(0,)]))


def test_the_limit_counts_measurements_and_may_cut_replicates():
  for limit in range(1, 13):
    noisy = Noisy()
    result, values, _ = run(noisy, max_evaluations=limit)
    assert result.evaluations == sum(map(len, noisy.calls)) == limit
  noisy = Noisy()
  _, values, errors = run(noisy, max_evaluations=3)
  np.testing.assert_allclose((values[1, 0], errors[1, 0]), mean_and_error(noisy.samples[(0,)]))
  assert len(noisy.samples[(0,)]) == 2
  assert values[1, 1] == -np.inf and errors[1, 1] == np.inf


def test_sets_that_are_the_same_object_share_their_measurements():
  problem = ns.Problem([-1] * 4, np.ones(4), 4, canonical=lambda mask: mask.at[2].set(False))
  noisy = Noisy()
  result, values, _ = run(noisy, ((((), 1),), (((0,), 2), ((0, 2), 3))), problem)
  assert noisy.calls == [[()], [(0,)] * 3] and result.evaluations == 4
  np.testing.assert_allclose(values[1, 1], np.mean(noisy.samples[(0,)]), rtol=1e-6)


def test_a_set_with_a_failed_measurement_has_no_value():
  def value(masks):
    return np.where(masks[:, 0], [-np.inf if i % 2 else 1.0 for i in range(len(masks))], 0.0)

  result, values, errors = run(value)
  assert values[1, 0] == -np.inf and np.isnan(errors[1, 0])
  assert result.value == -np.inf and np.isnan(result.standard_error)


@pytest.mark.parametrize(
  ("answer", "words"),
  [
    (lambda k: np.full(k, np.nan), "nan among its values, for the set of elements"),
    (lambda k: np.full(k, np.inf), "inf among its values"),
    (lambda k: (np.zeros(k), np.full(k, -1.0)), "-1.0 among its standard errors"),
    (lambda k: (np.zeros(k), np.full(k, np.inf)), "inf among its standard errors"),
    (lambda k: np.zeros(k + 1), r"values of shape \(2,\) for 1 sets"),
    (lambda k: (np.zeros(k), np.zeros((k, 1))), r"standard errors of shape \(1, 1\)"),
  ],
)
def test_answers_that_are_refused(answer, words):
  with pytest.raises(ValueError, match=words):
    run(lambda masks: answer(len(masks)))


def test_the_same_values_give_the_same_answer():
  first, values, errors = run(Noisy())
  again, values_again, errors_again = run(Noisy())
  np.testing.assert_array_equal(values, values_again)
  np.testing.assert_array_equal(errors, errors_again)
  assert (first.value, first.standard_error) == (again.value, again.standard_error)


def test_a_traceable_function_is_exact_and_measured_once():
  function = set_functions.modular(WEIGHTS)
  result = ns.maximize(PROBLEM, function, scripted(SCRIPT), traceable=True)
  assert (result.value, result.standard_error) == (3.0, 0.0)
  assert result.evaluations == 7


def test_random_search_measures_the_same_sets_with_every_batch():
  """Most of the 64 sets are drawn again; the batch must not change when the search gives up."""
  problem, weights = ns.Problem(-np.ones(6, int), np.ones(6), 6), jnp.asarray(2.0 ** np.arange(6))
  value, keys = Partial(jnp.dot, weights), jax.vmap(jax.random.key)(jnp.arange(20))
  found = []
  for batch in (1, 8, 250):  # The last batch holds new sets before the draws that end the search.
    optimizer = ns.optimizers.random_search(evaluations=100, batch=batch)
    outcome = jax.vmap(lambda key, run=optimizer: drive(run, problem, value, key))(keys)
    found.append(np.stack([outcome.evaluations, outcome.value]))
  np.testing.assert_array_equal(found[0], found[1])
  np.testing.assert_array_equal(found[0], found[2])
  made = found[0][0]
  assert len(set(made)) > 1 and made.max() <= 64


def test_gain_is_optional_and_gains_are_not():
  whole = instances.facility_location(0)
  members = {name: getattr(whole, name) for name in ("value", "init", "gains", "add")}
  for lazy in (False, True):
    greedy = ns.optimizers.greedy("density:0", lazy=lazy)
    case = instances.one_knapsack(0), greedy
    expected = ns.maximize(case[0], whole, case[1], traceable=True)
    found = ns.maximize(case[0], SetFunction(**members, n=8), case[1], traceable=True)
    np.testing.assert_array_equal(found.mask, expected.mask)
    assert (found.value, found.evaluations) == (expected.value, expected.evaluations)
  del members["gains"]
  with pytest.raises(ValueError, match="gains need init, gains, add; missing: gains"):
    SetFunction(**members)


@pytest.mark.parametrize(
  ("errors", "ties"), [([0, 0, 0], 0), ([1, 1, 1], 1), ([2.5, 1, 1], 2), ([np.nan] * 3, None)]
)
def test_ties_of_the_answer_are_counted(errors, ties):
  # The answer is 5.0, the others are 4 and 1 below it. Less than 1.645 standard errors are a tie.
  values = np.array([5.0, 1.0, 4.0, -np.inf])

  def value(masks):
    which = [int(np.flatnonzero(mask)[0]) if mask.any() else -1 for mask in masks]
    return values[which], np.array([*errors, np.nan, np.nan])[which]

  result = ns.maximize(ns.Problem([-1] * 4, np.ones(4), 1), value, ns.optimizers.greedy())
  assert result.value == 5 and result.ties == ties


def test_a_result_states_its_answer_its_noise_and_whether_it_was_cut():
  def value(masks):
    return masks @ np.array([3.0, 1.0, 2.0, 4.0])[: masks.shape[1]], np.full(len(masks), 0.5)

  whole = ns.maximize(PROBLEM, value, ns.optimizers.greedy())
  assert whole.done
  lines = str(whole).splitlines()
  chosen = np.flatnonzero(whole.mask).tolist()
  assert lines[0] == f"elements    {chosen}" and f"{whole.value:g} ± 0.5" in lines[2]
  assert lines[-1] == f"found by    {whole.evaluations} evaluations in {whole.rounds} rounds"
  on_device = ns.maximize(
    PROBLEM, lambda mask: 1.0 * mask.sum(), ns.optimizers.greedy(), traceable=True
  )
  assert on_device.done and "±" not in str(on_device)
  exact = ns.maximize(PROBLEM, lambda masks: masks.sum(1), ns.optimizers.greedy(), 3)
  assert not exact.done and str(exact).endswith("rounds, cut by max_evaluations")
  assert "of unknown noise" in str(exact) and "nothing bounds it" in str(exact)
  for limit in (1, 3, 1_000):
    host, device = (
      ns.maximize(PROBLEM, function, ns.optimizers.greedy(), limit, traceable=traceable)
      for traceable, function in ((False, lambda m: m.sum(1)), (True, lambda m: 1.0 * m.sum()))
    )
    assert host.done == device.done == (limit == 1_000)
    assert host.rounds == device.rounds


@pytest.mark.parametrize("change", [lambda values: values + 1e9, lambda values: values * 1e-300])
def test_values_that_float32_cannot_tell_apart_are_no_silent_answer(change):
  with pytest.warns(UserWarning, match="subtract a constant from F, or scale it"):
    ns.maximize(PROBLEM, lambda masks: change(masks @ WEIGHTS), ns.optimizers.greedy())
  ns.maximize(PROBLEM, lambda masks: np.full(len(masks), 1e9), ns.optimizers.greedy())

"""Racing: exact values change nothing; noise costs replicates only for choices in doubt."""

import functools

import instances
import jax
import numpy as np
import pytest

import nas_submod as ns
from nas_submod import set_functions
from nas_submod.optimizers import Optimizer, greedy, rcas
from nas_submod.optimizers.greedy_family import racing
from nas_submod.optimizers.greedy_family.path import is_open

RACE = (1, 3, 6)


class Noisy:
  """A function on the host plus Gaussian noise that depends on the set and the replicate."""

  def __init__(self, value, deviation, seed):
    self.value, self.deviation, self.seed = value, deviation, seed
    self.counts = {}

  def __call__(self, masks):
    noise = []
    for mask in masks:
      key = tuple(np.flatnonzero(mask))
      self.counts[key] = self.counts.get(key, 0) + 1
      noise.append(np.random.default_rng([self.seed, self.counts[key], len(key), *key]).normal())
    return np.asarray(self.value(masks), float) + self.deviation * np.array(noise)


def weighted(*weights):
  return lambda masks: masks @ np.array(weights, float)


def exactly(value):
  return lambda masks: (value(masks), np.zeros(len(masks)))


def path_of(result, run=0):
  return [step.mask.tolist() for step in result.trace if step.run == run]


@pytest.mark.parametrize(
  "make",
  [functools.partial(greedy, batch=None), functools.partial(rcas, batch=3)],
  ids=["eager", "lazy, all rules"],
)
def test_exact_values_give_the_paths_of_plain_greedy_and_no_second_measurement(make):
  for seed in range(8):
    rounded = instances.integer_coverage(seed, unit=0.1)  # ties that rounding splits
    for function in (rounded, instances.noisy_table(seed)):
      problem, value = instances.two_knapsacks(seed), set_functions.on_host(function)
      plain = ns.maximize(problem, value, make())
      raced = ns.maximize(problem, exactly(value), make(race=RACE))
      for run in range(4):
        assert path_of(raced, run) == path_of(plain, run), (seed, run)
      np.testing.assert_array_equal(raced.mask, plain.mask)
      assert raced.evaluations == plain.evaluations and raced.rounds == plain.rounds
      assert not any(step.tie for step in raced.trace)


ONE_OF_MANY = ns.Problem([-1] * 32, np.ones(32), 1)
BEST_FIRST = weighted(5.0, *[3.5] * 5, *[0.0] * 26)


def mean_of(noisy, replicates, masks):
  return np.mean([noisy(masks) for _ in range(replicates)], axis=0)


def choices(optimizer, value, deviation, replicates=1, seeds=100):
  """Share of runs that choose element 0, mean number of measurements, and share of ties."""
  rows = []
  for seed in range(seeds):
    noisy = Noisy(value, deviation, seed)
    averaged = functools.partial(mean_of, noisy, replicates)
    result = ns.maximize(ONE_OF_MANY, averaged, optimizer)
    last = result.trace[-1]
    rows.append((last.mask[0], sum(noisy.counts.values()), last.tie))
  return np.mean(np.array(rows, float), axis=0)


def test_racing_finds_the_best_more_often_with_fewer_measurements():
  right_once, _, _ = choices(greedy(batch=None), BEST_FIRST, 1.0)
  right_twice, measured_twice, _ = choices(greedy(batch=None), BEST_FIRST, 1.0, replicates=2)
  right_raced, measured_raced, _ = choices(greedy(batch=None, race=RACE), BEST_FIRST, 1.0)
  assert right_once < right_twice < 0.85 and right_raced > 0.93
  assert measured_raced < measured_twice


def test_a_choice_in_doubt_is_reported_as_a_tie():
  raced: Optimizer = greedy(batch=None, race=RACE)
  far, measured_far, ties_far = choices(raced, weighted(30.0, *[0.0] * 31), 1.0, seeds=50)
  assert far == 1 and ties_far == 0
  # Nothing is in doubt: one replicate each, and two more of the answer for its standard error.
  assert measured_far == 6 + 32 + 2
  # Two equal elements are a tie unless chance separates them, one time in ten on the last rung.
  chosen, _, ties = choices(raced, weighted(9.0, 9.0, *[0.0] * 30), 1.0, seeds=60)
  assert 0.3 < chosen < 0.7 and ties > 0.7


def test_contenders_reach_the_second_rung_and_three_the_last():
  noisy = Noisy(weighted(*[5.0] * 8, *[0.0] * 24), 0.5, seed=1)
  ns.maximize(ONE_OF_MANY, noisy, greedy(batch=None, race=RACE))
  numbers = [noisy.counts[(e,)] for e in range(32)]
  assert noisy.counts[()] == 6  # the noise is not known before
  assert sorted(numbers[:8])[-5:] == [3, 3, 6, 6, 6] and numbers[8:] == [1] * 24
  noisy.counts.clear()
  stated = lambda masks: (noisy(masks), np.full(len(masks), 0.5))  # noqa: E731
  ns.maximize(ONE_OF_MANY, stated, greedy(batch=None, race=RACE))
  assert noisy.counts[()] == 1 and max(noisy.counts.values()) == 6


def test_decisions_depend_neither_on_the_batch_nor_on_a_wide_start():
  optimizers = [
    rcas(race=RACE, batch=b, wide_start=wide) for b, wide in ((1, False), (4, False), (1, True))
  ]
  ties, rounds = 0, np.zeros(len(optimizers), int)
  for seed in range(8):
    problem = instances.two_knapsacks(seed)
    value = set_functions.on_host(instances.noisy_table(seed))
    one, *others = (ns.maximize(problem, Noisy(value, 0.4, seed), each) for each in optimizers)
    for run in range(4):
      expected, *steps = (
        [(s.mask.tolist(), s.value, s.tie) for s in found.trace if s.run == run]
        for found in (one, *others)
      )
      assert all(found == expected for found in steps), (seed, run)
    assert others[-1].evaluations == one.evaluations
    rounds += [one.rounds, *(found.rounds for found in others)]
    ties += sum(step.tie for step in one.trace)
  assert ties > 0 and (rounds[1:] < rounds[0]).all()


def test_a_lazy_race_saves_if_noise_is_small_and_measures_all_if_it_is_large():
  problem, elements = ns.Problem([-1] * 12, np.ones(12), 4), weighted(*range(12, 0, -1))
  counts = {}
  for deviation in (0.01, 100.0):
    for lazy in (False, True):
      noisy = Noisy(elements, deviation, seed=0)
      result = ns.maximize(problem, noisy, greedy("unit", lazy, 1, RACE))
      assert result.evaluations == sum(noisy.counts.values())
      counts[deviation, lazy] = len(noisy.counts)
  assert counts[0.01, False] == counts[100.0, False] == 1 + 12 + 11 + 10 + 9
  assert counts[0.01, True] == 1 + 12 + 3  # F is additive, so bounds are exact up to noise
  assert counts[100.0, True] > 30


# Element 0 alone is worth 50, the others together 56. Their path may measure them only once.
ONE_OR_TWO = ns.Problem([-1] * 3, [1.0, 0.5, 0.5], 1)
TWO_ARE_BETTER = weighted(50.0, 30.0, 26.0)


def test_the_answer_among_the_rules_is_raced():
  optimizer = rcas(batch=None, race=RACE)
  results = [
    ns.maximize(ONE_OR_TWO, Noisy(TWO_ARE_BETTER, 4.0, seed), optimizer) for seed in range(60)
  ]
  assert np.mean([result.mask.tolist() == [False, True, True] for result in results]) > 0.95
  assert np.isfinite([result.standard_error for result in results]).all()


def test_the_answer_for_a_monotone_function_is_mostly_the_end_of_the_path():
  problem, elements = ns.Problem([-1] * 6, np.ones(6), 6), weighted(*range(6, 0, -1))
  optimizer = greedy(batch=None, race=RACE)
  results = [ns.maximize(problem, Noisy(elements, 1.0, seed), optimizer) for seed in range(60)]
  assert np.mean([result.mask.all() for result in results]) > 0.92
  assert np.isfinite([result.standard_error for result in results]).all()


def test_finalists_are_asked_once_and_close_ones_reach_the_last_rung():
  optimizer, asked = rcas(batch=None, race=RACE), []
  question = jax.jit(lambda state: (*optimizer.ask(state), optimizer.replicates(state)))

  def watch(number, info, state):
    del number, info
    masks, valid, wanted = map(np.asarray, question(state))
    if valid.any() and not np.asarray(is_open(state.races.path)).any():
      asked[-1].append((masks[valid], set(wanted[valid])))

  for seed in range(8):
    noisy = Noisy(set_functions.on_host(instances.sequence_function), 2.0, seed)
    asked.append([])
    ns.maximize(instances.sequences(seed), noisy, optimizer, callback=watch)
  for first, *second in asked:
    rounds = [first, *second]
    networks = [
      {tuple(instances.pushed_left(mask).tolist()) for mask in masks} for masks, _ in rounds
    ]
    assert [len(found) for found in networks] == [len(masks) for masks, _ in rounds]
    assert [wanted for _, wanted in rounds] == [{3}, {6}][: len(rounds)]
    assert all(len(close) > 1 and close <= networks[0] for close in networks[1:])
  assert 0 < sum(len(rounds) == 2 for rounds in asked) < 8


def test_finalists_that_fail_and_runs_that_a_limit_cuts():
  optimizer = rcas(batch=None, race=RACE)

  def fails_later(masks):
    values = noisy(masks)
    counts = np.array([noisy.counts[tuple(np.flatnonzero(mask))] for mask in masks])
    return np.where(masks[:, 2] & (counts > 1), -np.inf, values)

  noisy = Noisy(TWO_ARE_BETTER, 0.1, seed=0)
  assert ns.maximize(ONE_OR_TWO, noisy, optimizer).mask.tolist() == [False, True, True]
  noisy.counts.clear()
  failed = ns.maximize(ONE_OR_TWO, fails_later, optimizer)
  assert failed.mask.tolist() == [True, False, False] and np.isfinite(failed.standard_error)
  noisy.counts.clear()
  whole = ns.maximize(ONE_OR_TWO, noisy, optimizer).evaluations
  for limit in range(1, whole + 1):
    noisy.counts.clear()
    result = ns.maximize(ONE_OR_TWO, noisy, optimizer, max_evaluations=limit)
    assert result.evaluations == limit
    assert limit < whole - 4 or result.mask.tolist() == [False, True, True]


@pytest.mark.parametrize(("gap", "measured_again"), [(0.99, True), (1.01, False)])
def test_finalists_are_measured_again_if_their_difference_is_within_the_margin(gap, measured_again):
  values = np.array([1.0, 1.0 - gap * 0.7 * np.sqrt(1 / 3 + 1 / 3)], np.float32)
  finalists = racing.Finalists(np.eye(2, dtype=bool), values, np.ones(2, bool), np.int32(1))
  found = racing._compare(finalists, values, noise=np.float32(0.7), replicates_per_rung=RACE)
  assert found.contenders.tolist() == [measured_again] * 2


def test_a_gain_of_an_earlier_set_has_the_noise_of_both_values():
  problem = ns.Problem([-1] * 3, np.ones(3), 3.0)
  optimizer = greedy("unit", lazy=True, batch=None, race=(2, 5))
  ask, tell, replicates = map(jax.jit, (optimizer.ask, optimizer.tell, optimizer.replicates))
  state = optimizer.init(problem, jax.random.key(0))
  while state.races.path.steps[0] < 1:
    masks, _ = ask(state)
    values = np.asarray(masks) @ np.array([9.0, 5.0, 1.0])
    errors = 0.1 / np.sqrt(np.asarray(replicates(state)))
    state, _ = tell(state, np.float32(values), np.float32(errors))
  of_required = 2  # replicates of the required set and of every single element
  np.testing.assert_allclose(state.races.gain_variance[0, 1:], 1 / 2 + 1 / of_required)


def test_sets_that_could_not_be_measured_are_never_chosen():
  problem = ns.Problem([-1] * 4, np.ones(4), 3)

  def value(masks):
    return np.where(masks[:, 1], -np.inf, masks @ np.array([1.0, 9.0, 2.0, 3.0]))

  result = ns.maximize(problem, Noisy(value, 0.01, 0), greedy(lazy=True, batch=2, race=RACE))
  assert np.flatnonzero(result.mask).tolist() == [0, 2, 3]
  nothing = ns.maximize(problem, lambda masks: np.full(len(masks), -np.inf), greedy(race=RACE))
  assert not nothing.mask.any() and nothing.value == -np.inf


@pytest.mark.parametrize("race", [(), (1,), (0, 2), (3, 3), (3, 1)])
def test_replicates_that_do_not_increase_are_refused(race):
  with pytest.raises(ValueError, match="race must be two or more increasing numbers"):
    greedy(race=race)

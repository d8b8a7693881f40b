"""Violations, submodularity ratio and curvature: closed forms, brute force, and under noise."""

import itertools

import numpy as np
import pytest

from nas_submod import set_functions
from nas_submod.set_functions.extremes import curvature, submodularity_ratio
from nas_submod.set_functions.measured import Measured, additions, pooled_errors
from nas_submod.set_functions.properties import (
  Contrasts,
  averaged,
  beyond_noise,
  contrasts,
  false_positives,
  held_out,
  random_additions,
  second_differences,
  single_gains,
  violations,
)

MASKS = (np.arange(64)[:, None] >> np.arange(6)) % 2 == 1
AFTER = additions(MASKS)
RNG = np.random.default_rng(0)
SERVICE = RNG.random((6, 4))
WEIGHTS = np.arange(1.0, 7)


def exactly(values):
  return Measured(MASKS, np.asarray(values, float), np.zeros(64), np.arange(64))


def measured(function):
  return exactly(set_functions.on_host(function)(MASKS))


def violated(of, rows):
  return violations(contrasts(of, rows)).found


MODULAR = measured(set_functions.modular(WEIGHTS))
TENTHS = exactly(MASKS @ (WEIGHTS / 10))  # Their sums are rounded.
COVERAGE = measured(set_functions.coverage(RNG.random((6, 20)) < 0.3))
FACILITY = measured(set_functions.facility_location(SERVICE))
ROOT = exactly(np.sqrt(MASKS.sum(axis=1)))
SQUARE = exactly(MASKS.sum(axis=1) ** 2)


def test_every_addition_and_every_square_of_the_lattice_is_found():
  assert len(single_gains(AFTER)) == 6 * 32 and len(second_differences(AFTER)) == 15 * 16
  for small, large in single_gains(AFTER):
    assert (MASKS[small] <= MASKS[large]).all() and MASKS[large].sum() == MASKS[small].sum() + 1
  some = additions(MASKS[[0, 1, 3]])
  assert some.tolist() == [[1] + [-1] * 5, [-1, 2] + [-1] * 4, [-1] * 6]


@pytest.mark.parametrize("of", [MODULAR, TENTHS, COVERAGE, FACILITY, ROOT])
def test_monotone_submodular_functions_have_no_violation(of):
  for rows in (single_gains(AFTER), second_differences(AFTER)):
    assert violations(contrasts(of, rows)).negative == violations(averaged(of, rows)).negative == 0
  assert submodularity_ratio(of, AFTER).value >= 1 - 1e-5  # values are float32


def test_every_square_of_a_supermodular_function_is_a_violation():
  found = violations(contrasts(SQUARE, second_differences(AFTER)))
  assert found.found == found.negative == found.checked == 240
  assert found.median == pytest.approx(2)
  assert violated(exactly(-MASKS.sum(axis=1)), single_gains(AFTER)) == 6 * 32


@pytest.mark.parametrize(
  ("of", "ratio", "curved"),
  [
    (MODULAR, 1, 0),
    # Of two elements added to four: 2 (root 5 - root 4) / (root 6 - root 4).
    (ROOT, 2 * (np.sqrt(5) - 2) / (np.sqrt(6) - 2), 1 - np.sqrt(6) + np.sqrt(5)),
    (SQUARE, 1 / 6, 1 - 3),  # six elements gain 1 each alone, 36 together
  ],
)
def test_ratio_and_curvature_have_their_closed_forms(of, ratio, curved):
  assert submodularity_ratio(of, AFTER)[:3] == pytest.approx([ratio] * 3)
  assert curvature(of, AFTER)[:3] == pytest.approx([curved] * 3)


def test_ratio_and_curvature_agree_with_brute_force():
  values = np.random.default_rng(1).random(64).cumsum()  # monotone, not submodular
  of, ratios, kept = exactly(values), [], []
  index = {mask.tobytes(): row for row, mask in enumerate(MASKS)}
  for mask, row in zip(MASKS, range(64)):
    outside = np.flatnonzero(~mask)
    for count in range(2, len(outside) + 1):
      for added in itertools.combinations(outside, count):
        single = [index[(mask | (np.arange(6) == e)).tobytes()] for e in added]
        together = index[(mask | np.isin(np.arange(6), added)).tobytes()]
        ratios.append((values[single] - values[row]).sum() / (values[together] - values[row]))
    kept += [
      (values[row | 1 << e] - values[row]) / (values[1 << e] - values[0])
      for e in outside
      if row > 0
    ]
  found = submodularity_ratio(of, AFTER)
  assert (found.value, found.median) == pytest.approx((min(ratios), np.median(ratios)))
  assert found.used == found.checked == len(ratios)
  assert curvature(of, AFTER).value == pytest.approx(1 - min(kept))


def test_a_set_of_the_same_object_shares_its_noise():
  # {0} and {1} are one object: 2 F({0}) - F({}) - F({0, 1}) has the variance 4 + 1 + 1.
  of = Measured(MASKS[:4], np.zeros(4), np.ones(4), np.array([0, 1, 1, 2]))
  assert contrasts(of, second_differences(additions(of.masks))).errors == pytest.approx(
    [np.sqrt(6)]
  )


def test_the_level_of_the_test_is_that_of_benjamini_and_hochberg():
  # One-sided chances 0.001, 0.01, 0.04 and 0.5 of four: 0.01 <= 2/4 0.05, 0.04 > 3/4 0.05.
  found = Contrasts(np.array([-3.0902, -2.3263, -1.7507, 0]), np.ones(4), np.inf)
  assert beyond_noise(found).tolist() == [True, True, False, False]
  assert violations(found).detectable == pytest.approx(1.96, abs=0.01)  # the level is 2/4 0.05


def noisy(of, noise, repeats, rng):
  samples = of.values[:, None] + rng.normal(0, noise, (64, repeats))
  errors, freedom = pooled_errors(samples, np.zeros(64, int))
  return samples, of._replace(values=samples.mean(axis=1), errors=errors, freedom=freedom)


def test_noise_alone_is_no_violation_and_a_real_one_is_found():
  rng = np.random.default_rng(2)
  samples, of = noisy(MODULAR, 0.1, 3, rng)
  rows = second_differences(AFTER)
  plain = violations(contrasts(of, rows))
  assert plain.negative > 90 and plain.found == 0  # about half of 240
  assert 0 < false_positives(of, samples, rows, 400, rng) < 0.1  # nominally 0.05
  broken = of._replace(values=of.values + 2.0 * (np.arange(64) == 5))
  found = beyond_noise(contrasts(broken, rows))
  assert (found == (rows[:, 3] == 5) | (rows[:, 0] == 5)).all() and found.sum() > 1


def test_a_violation_too_small_to_be_found_once_is_found_in_the_mean():
  both = MASKS[:, 0] & MASKS[:, 1]  # They gain 0.2 more together, at every set.
  rng, rows = np.random.default_rng(6), second_differences(AFTER)
  once, in_mean, false = [], [], []
  for _ in range(40):
    of = noisy(exactly(MODULAR.values + 0.2 * both), 0.1, 3, rng)[1]
    once.append(violations(contrasts(of, rows)).found)
    found = beyond_noise(averaged(of, rows))
    in_mean.append(found[0])
    false.append(found[1:].any())
  assert np.mean(once) < 1 and all(in_mean) and np.mean(false) < 0.2
  # A mean is of 16 squares of four values each, none of them in two.
  np.testing.assert_allclose(averaged(of, rows).errors, of.errors[0] * 2 / np.sqrt(16))
  one = averaged(of._replace(objects=np.zeros(64, int)), single_gains(AFTER))
  np.testing.assert_allclose(one.errors, 0, atol=1e-9)  # The noise of one object cancels.


def test_a_measurement_left_out_tells_noise_from_violations():
  rng, rows = np.random.default_rng(3), second_differences(AFTER)
  of_noise = held_out(noisy(FACILITY, 0.3, 3, rng)[0], rows)
  of_violations = held_out(noisy(SQUARE, 0.3, 3, rng)[0], rows)
  assert of_noise.mean > 0 and of_noise.least <= of_noise.mean <= of_noise.most
  assert of_violations.mean == pytest.approx(-2, abs=0.1) and of_violations.negative > 0.95


def test_intervals_hold_the_true_extremes():
  rng, held = np.random.default_rng(4), []
  of = exactly(10 * ROOT.values + FACILITY.values)
  for _ in range(40):
    drawn = noisy(of, 0.05, 3, rng)[1]
    for measure in (submodularity_ratio, curvature):
      truth, found = measure(of, AFTER), measure(drawn, AFTER)
      held.append(found.low <= truth.value <= found.high)
      assert found.low <= found.value <= found.high and found.high - found.low < 1
  assert np.mean(held) >= 0.95


def test_noise_is_pooled_over_sizes_near_each_other():
  samples = np.random.default_rng(5).normal(0, 1, (400, 3))
  strata = np.repeat([1, 2, 5, 9], 100)
  samples[strata == 9] *= 10
  samples[strata == 1] *= 3
  samples[strata == 2] *= 3
  errors, freedom = pooled_errors(samples, strata)
  assert freedom == 200
  for size, deviation in ((1, 3), (2, 3), (5, 1), (9, 10)):
    np.testing.assert_allclose(errors[strata == size] * np.sqrt(3), deviation, rtol=0.1)
  few, freedom = pooled_errors(samples[:40], strata[:40])
  assert freedom == 80 and len(set(few)) == 1


def test_random_additions_have_the_means_of_all_orders():
  of = FACILITY._replace(errors=np.full(64, 0.1), objects=np.arange(64) // 64)
  found = random_additions(of, AFTER)
  orders = [np.cumsum([0, *(1 << e for e in order)]) for order in itertools.permutations(range(6))]
  values = of.values[np.array(orders)]
  np.testing.assert_allclose(found.values, values.mean(axis=0))
  np.testing.assert_allclose(found.deviations, values.std(axis=0), atol=1e-7)
  np.testing.assert_allclose(found.gains, np.diff(values).mean(axis=0))
  np.testing.assert_allclose(found.errors, 0.1)  # one object: its noise does not average out
  apart = random_additions(of._replace(objects=np.arange(64)), AFTER)
  np.testing.assert_allclose(apart.errors, 0.1 / np.sqrt([1, 6, 15, 20, 15, 6, 1]))

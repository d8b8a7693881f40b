import re

import jax
import numpy as np
import pytest

from benchmarks import synthetic


def test_a_suite_has_the_wanted_number_of_problems(monkeypatch):
  monkeypatch.setattr(synthetic, "brute_force", lambda problem, value: 95.0)
  few, many = synthetic.load("proxy", 2).instances, synthetic.load("proxy", 4).instances
  assert [instance.name for instance in many] == ["0: 0.3", "1: 0.5", "2: 0.7", "3: 0.3"]
  weights = [np.asarray(jax.tree.leaves(instance.case.mean)[0]) for instance in many]
  assert len({w.tobytes() for w in weights}) == 4
  for first, again in zip(few, many):
    jax.tree.map(np.testing.assert_array_equal, first.case, again.case)


@pytest.mark.parametrize("name", synthetic.NAMES)
def test_synthetic_values_are_scaled_like_accuracies(monkeypatch, name):
  monkeypatch.setattr(synthetic, "anneal", lambda problem, value: 95.0)
  monkeypatch.setattr(synthetic, "brute_force", lambda problem, value: 95.0)
  suite = synthetic.load(name, 2)
  shapes = {"widths": 50, "cells": 180, "layers": 300, "sensors": 40, "proxy": 24}
  for instance in suite.instances:
    case = instance.case
    assert case.problem.n == shapes[name]
    assert (np.asarray(case.problem.groups) < 0).all() == (name == "sensors")
    assert case.judge(case.problem.required) < 85
    sets = synthetic._random_sets(case.problem, jax.random.key(7))
    values = np.asarray(synthetic._values(case.judge, sets))
    assert 93 < np.median(values) < 94.5 and values.max() < 95
  keys = jax.random.split(jax.random.key(0), 500)
  draws = np.asarray(jax.jit(jax.vmap(case.draw, in_axes=(None, 0)))(sets[0], keys))
  assert np.std(draws) == pytest.approx(synthetic.NOISE, rel=0.15)
  assert np.mean(draws) == pytest.approx(float(case.mean(sets[0])), abs=0.03)
  if name == "proxy":
    correlations = re.findall(r"-?\d+\.\d+", suite.note)
    assert correlations and all(0.7 < float(c) < 0.9 for c in correlations)


def test_annealing_finds_what_brute_force_finds(monkeypatch):
  monkeypatch.setattr(synthetic, "brute_force", lambda problem, value: 95.0)
  case = synthetic.load("proxy").instances[0].case
  monkeypatch.undo()
  known = synthetic.brute_force(case.problem, case.judge)
  found = synthetic.anneal(case.problem, case.judge, chains=8, steps=1_000)
  assert known - 0.05 < found <= known + 1e-5

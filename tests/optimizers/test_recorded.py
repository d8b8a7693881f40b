"""The log of a run, from which it resumes."""

import json

import numpy as np
import pytest

import nas_submod as ns
from nas_submod import optimizers as o

WEIGHTS = np.array([3.0, 1.0, 2.0, 4.0])
PROBLEM = ns.Problem(-np.ones(4, int), [0.5] * 4, 1.0)


def weigh(masks):
  return masks @ WEIGHTS


@pytest.mark.parametrize(
  ("optimizer", "repeats", "torn"),
  [
    (o.greedy(batch=4), False, False),
    (o.greedy(batch=4), False, True),
    pytest.param(
      o.surrogate(evaluations=12, batch=2, design=4), True, True, marks=pytest.mark.slow
    ),
  ],
  ids=["greedy", "torn", "random"],
)
def test_a_recorded_run_resumes_where_it_stopped(tmp_path, optimizer, repeats, torn):
  problem = ns.Problem(np.arange(12) // 3, np.linspace(1, 2, 12), 4.0)
  weights = np.random.default_rng(0).random(12)
  calls = []

  def value(masks):
    if len(calls) == stop:
      raise RuntimeError("power failure")
    calls.append(len(masks))
    return masks @ weights, np.full(len(masks), 0.3)

  stop = None
  whole = ns.maximize(problem, value, optimizer)
  path, rounds = tmp_path / "run.jsonl", len(calls)
  calls, stop = [], 3
  with pytest.raises(RuntimeError):
    ns.maximize(problem, o.recorded(value, path), optimizer)
  if torn:
    path.write_bytes(path.read_bytes()[:-9])
  calls, stop = [], None
  result = ns.maximize(problem, o.recorded(value, path), optimizer)
  assert len(calls) == rounds - 3 + torn
  np.testing.assert_equal(result._asdict(), whole._asdict())
  sets = [tuple(json.loads(line)["set"]) for line in path.read_text().splitlines()]
  assert len(sets) == whole.evaluations and (len(set(sets)) < len(sets)) == repeats


def test_logs_that_are_refused(tmp_path):
  path = tmp_path / "run.jsonl"
  path.write_text('{"set": [1], "value": 2.0, "standard_error": 0.1}\n')
  with pytest.raises(ValueError, match=r"run.jsonl belongs to another run: it has the set \[1\]"):
    ns.maximize(PROBLEM, o.recorded(weigh, path), o.greedy())
  path.write_text("[]\n")
  with pytest.raises(ValueError, match="line 1, is not a measurement"):
    o.recorded(weigh, path)
  with pytest.raises(ValueError, match="cannot be written: No such file"):
    o.recorded(weigh, tmp_path / "missing" / "run.jsonl")
  with pytest.raises(ValueError, match="value must be a function, got 3"):
    o.recorded(3, tmp_path / "new.jsonl")

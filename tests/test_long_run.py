"""The benchmark of long searches: its table, and an evaluator that looks values up."""

import numpy as np

from benchmarks import long_run
from nas_submod.evaluation.evaluator import Job
from nas_submod.networks import spaces


def test_the_table_has_what_was_measured():
  seconds = np.concatenate([np.arange(500) * 0.002, 1 + np.arange(501) * 0.004])
  memory = np.linspace(300, 400, 1_001)
  table = long_run.table_of(seconds, memory, np.array([1.0, 2.0, 3.0]))
  names, each, used = ([*column.cells] for column in table.columns)
  assert names[0].startswith("51 to ") and names[3].endswith("1,001")
  assert (each[0], each[3]) == ("2.00", "4.00") and used[3] == "400.0"
  assert each[4].startswith("2.00 ")


def test_more_blocks_are_worth_more_and_calls_are_noted():
  space = spaces.get("digits")
  evaluator = long_run.TableEvaluator(space)
  one, two = space.start, (1, *space.start[1:])
  found = list(evaluator([Job(one, 0), Job(two, 0), Job(one, 1)]))
  losses = [evaluation.metrics["loss"] for evaluation in found]
  assert losses[1] < losses[0] < losses[2]
  assert len(evaluator.calls) == 1 and len(evaluator.marks) == 3

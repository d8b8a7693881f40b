"""The speed comparison: the same networks for all, each method in a process of its own."""

import io
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from rich.console import Console

from benchmarks import evaluation, workload
from configs import digits, mlperf_tiny
from nas_submod import resources
from nas_submod.evaluation.evaluator import Evaluation
from nas_submod.evaluation.journal import Journal
from nas_submod.networks import spaces
from tests.start_sets import contains_start

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def parsed_flags():
  if not flags.FLAGS.is_parsed():
    flags.FLAGS(["test"])


def run(*arguments):
  command = [sys.executable, "-m", "benchmarks.evaluation", *arguments]
  environment = os.environ | {"JAX_PLATFORMS": "cpu"}
  return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_networks_of_every_size_that_fit_the_budgets():
  space, budget = (
    spaces.get("digits"),
    resources.check_budget(spaces.get("digits"), digits.get_config().budget),
  )
  found = workload.choose_architectures(space, budget, 5)
  assert found[0] == list(space.start)
  used = []
  for architecture in found:
    assert contains_start(space, architecture)
    cost = resources.network_cost(space, architecture)
    used.append(max(cost[name] / budget[name] for name in budget))
  assert used[0] < 0.3
  assert 0.7 < max(used) <= 1


def test_the_trainings_of_a_search_replicates_included(tmp_path):
  space = spaces.get("digits")
  architecture = tuple(int(option) for option in space.canonical(space.start))
  found = Journal(tmp_path / "evaluations.jsonl")
  metrics = {"accuracy": 0.5, "loss": 1.0, "train_loss": 1.0}
  found.add(Evaluation(space.key(architecture), r, metrics, 1.0, 900) for r in (0, 5))
  found.add([Evaluation(space.key(architecture), 6, None, 1.0, cause="diverged")])
  assert workload.searched(space, str(tmp_path / "evaluations.jsonl")) == [architecture] * 2
  done = run(f"--journal={tmp_path}/none.jsonl")
  assert done.returncode == 2
  assert done.stderr.splitlines()[-1].startswith(f"error: no journal {tmp_path}/none.jsonl")


def test_a_method_trains_and_counts_compiling_apart():
  done = run("--child=jit", "--networks=1", "--steps=3", "--config.train.batch_size=8")
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout.splitlines()[-1])
  assert 0 < found["train"] < found["compile"]
  assert abs(found["losses"][0] - np.log(10)) < 0.5  # Hardly trained: chance level of ten classes.
  assert found["peak"] > 1e8


def test_medians_speeds_and_what_failed():
  runs = {
    "ours": [
      {"compile": c, "train": t, "peak": 2e9, "losses": [1.0, 2.0]}
      for c, t in ((30, 30), (20, 10), (1, 300))
    ],
    "torch": "absent: no module torch",
  }
  console = Console(width=200, record=True, file=io.StringIO())
  console.print(evaluation.table(runs, 2, 100, "title"))
  [row] = [line for line in console.export_text().splitlines() if "ours" in line]
  # Medians of 30, 20, 1; of 30, 10, 300; of 120 / 60, 120 / 30, 120 / 301; of 200 / 30.
  assert row.replace("│", " ").split()[-6:] == ["20.0", "30.0", "2.00", "7", "2.00", "1.5000"]
  assert "absent: no module torch" in [*evaluation.table(runs, 2, 100, "title").columns[1].cells]


def test_one_run_of_each_in_turn_and_caches_filled_first(monkeypatch):
  order = []

  def fake(name, cache):
    order.append(name)
    if name == "torch_compile":
      raise ValueError("no compiler")
    return {"compile": 0.0, "train": 1.0, "peak": 1, "losses": [1.0]}

  monkeypatch.setattr(evaluation, "in_a_process", fake)
  monkeypatch.setattr(evaluation.util, "find_spec", lambda name: True)
  names = ["ours", "jit_cached", "torch_compile"]
  runs = evaluation.all_runs(names, 2, lambda line: None)
  assert order == ["jit_cached", *names, "ours", "jit_cached"]
  assert [len(runs[name]) for name in names[:2]] == [2, 2]
  assert runs["torch_compile"] == "failed: no compiler"


@pytest.mark.parametrize("config", [digits, mlperf_tiny])
def test_pytorch_networks_are_the_same_networks(config):
  pytest.importorskip("torch")
  with flagsaver.flagsaver(networks=3, steps=2, noise_images=True):
    # Compares the numbers of parameters first.
    found = evaluation.measure_torch(config.get_config(), "torch")
  assert len(found["losses"]) == 3


def test_an_unknown_method_is_refused():
  done = run("--methods=theirs")
  assert done.returncode == 2
  assert "unknown method 'theirs'; allowed: ours" in done.stderr

"""Candidates that fail, and two commands at once in one workdir."""

import json
import os
import random
import signal
import subprocess

import numpy as np
import pytest

from nas_submod import search
from nas_submod.evaluation.journal import Journal
from nas_submod.evaluation.training_evaluator import TrainingEvaluator
from nas_submod.report import finished, page, text
from tests import tiny_config
from tests.test_experiments import ROOT, command, outcome, trainings

pytestmark = pytest.mark.faults


def of_search(result):
  volatile = ("seconds", "evaluations", "compilations")
  return {name: value for name, value in result.items() if name not in volatile}


def test_a_tenth_of_the_candidates_fails(tmp_path):
  """Which ones fail is drawn by their architecture; another tenth fails at the first try alone."""
  config = tiny_config.get_config()
  config.budget.params, config.budget.madds = 4_000, 50_000
  setup = search.make_setup(config)
  journal = Journal(tmp_path / "evaluations.jsonl")
  evaluator = TrainingEvaluator(setup.space, setup.data, setup.config)
  train, tried = evaluator._trainer.train, set()
  start = tuple(int(option) for option in setup.space.canonical(np.array(setup.space.start)))

  def draw(job):
    return random.Random(repr(job.architecture)).random() if job.architecture != start else 1.0

  def failing(jobs, steps):
    again = all(job in tried for job in jobs)
    tried.update(jobs)
    if any(draw(job) < (0.1 if again else 0.2) for job in jobs):
      raise RuntimeError("a fault\nof this network")
    return train(jobs, steps)

  train([evaluator_job(setup)], 1)  # Compiles.
  evaluator._trainer.train = failing
  result = search.run(setup, evaluator, journal)
  assert np.isfinite(result["value"])
  assert all(result["resources"][name] <= limit for name, limit in result["budget"].items())
  failed = {e.key for e in journal if e.metrics is None}
  wrong = {e.key for e in journal if draw_of(setup, e.key, start) < 0.1}
  assert failed == wrong and failed
  assert not failed & {setup.space.key(row["architecture"]) for row in result["path"]}
  shown = finished.make("run", config, result, journal)
  cause = "RuntimeError: a fault (test_failures.py line "
  assert f"x {cause}" in text.summary(shown) and cause in page.page(shown)

  evaluator._trainer.train = None  # Nothing is trained again, what failed neither.
  again = search.run(setup, evaluator, Journal(tmp_path / "evaluations.jsonl"))
  assert of_search(again) == of_search(result) and again["evaluations"]["trained"] == 0


def evaluator_job(setup):
  from nas_submod.evaluation.evaluator import Job

  return Job(tuple(map(int, setup.space.canonical(np.array(setup.space.start)))), 0)


def draw_of(setup, key, start):
  architecture = tuple(int(option) for option in setup.space.from_key(key))
  return random.Random(repr(architecture)).random() if architecture != start else 1.0


def test_two_commands_at_once(tmp_path):
  """The second is refused with the name of the first; the first has the answer of one alone."""
  flags = "--cpu_devices=1", "--config.search.finalists=1"
  alone = command("search", *flags, f"--workdir={tmp_path / 'alone'}")
  subprocess.run(alone, cwd=ROOT, check=True, capture_output=True)
  both = command("search", *flags, f"--workdir={tmp_path / 'both'}")
  started = [
    subprocess.Popen(both, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(2)
  ]
  ended = [(process.communicate(timeout=300), process.returncode) for process in started]
  [(_, said)] = [out for out, code in ended if code == 2]
  first = next(p.pid for p, (_, code) in zip(started, ended) if code == 0)
  assert f"is in use by process {first} of " in said and said.count("\n") == 1
  assert outcome(tmp_path / "both") == outcome(tmp_path / "alone")
  assert trainings(tmp_path / "both") == trainings(tmp_path / "alone")
  assert json.loads((tmp_path / "both" / "result.json").read_text())["evaluations"]["failed"] == 0


_NO_PORT = "--distributed", "--coordinator_address=localhost", "--num_processes=2", "--process_id=0"


@pytest.mark.parametrize(
  ("flags", "environment", "words"),
  [
    ((), {"JAX_PLATFORMS": "cuda"}, "JAX finds no device with JAX_PLATFORMS=cuda"),
    (_NO_PORT, {}, "--coordinator_address is 'localhost'; allowed: host:port"),
  ],
)
def test_a_machine_that_cannot_start_says_so_in_one_line(flags, environment, words, tmp_path):
  search = command("search", *flags, f"--workdir={tmp_path / 'run'}")
  done = subprocess.run(
    search, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=100
  )
  assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1
  assert not (tmp_path / "run").exists()


def started(workdir):
  """A search that has printed its first line: nothing is trained yet."""
  process = subprocess.Popen(
    command("search", f"--workdir={workdir}", "--cpu_devices=1"),
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    # A shell starts what runs in the background with SIGINT ignored.
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
  )
  assert process.stdout.readline()
  return process


def test_a_closed_pipe_ends_silently(tmp_path):
  process = started(tmp_path)
  process.stdout.close()
  with process.stderr:
    assert process.stderr.read() == ""
  assert process.wait(timeout=300) in (1, 141)  # rich ends with 1 by itself.


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_search_that_is_stopped_says_so_in_one_line(number, code, tmp_path):
  process = started(tmp_path)
  process.send_signal(number)
  _, said = process.communicate(timeout=300)
  assert process.returncode == code and said.startswith("stopped; the same command continues")
  assert said.count("\n") == 1

"""The user's path: config file, command line, workdir, resume, report."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = "--config=tests/tiny_config.py"


def command(module, *flags):
  return [sys.executable, "-W", "error::UserWarning", "-m", f"experiments.{module}", CONFIG, *flags]


def call(module, *flags, expect=0):
  done = subprocess.run(command(module, *flags), cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == expect, done.stderr + done.stdout
  return done.stdout if expect == 0 else done.stderr


def outcome(workdir):
  """The parts of a result on which two runs of one search must agree."""
  result = json.loads((workdir / "result.json").read_text())
  for step in result["path"]:
    del step["evaluations"]
  names = ("architecture", "value", "standard_error", "path", "finalists", "signal", "binding")
  return {name: result[name] for name in names}


def trainings(workdir):
  lines = (workdir / "evaluations.jsonl").read_text().splitlines()
  return [(e["key"], e["replicate"]) for e in map(json.loads, lines)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A whole search on one device: its workdir, what it printed, and JAX's compilation log."""
  workdir = tmp_path_factory.mktemp("search")
  done = subprocess.run(
    command("search", f"--workdir={workdir}", "--cpu_devices=1", "--verbose"),
    cwd=ROOT,
    capture_output=True,
    text=True,
    env=os.environ | {"JAX_LOG_COMPILES": "1"},
  )
  assert done.returncode == 0, done.stderr
  return workdir, done.stdout, done.stderr


def test_search_finds_a_network_within_budgets_and_says_why(finished):
  workdir, printed, _ = finished
  result = json.loads((workdir / "result.json").read_text())
  assert all(result["resources"][name] <= limit for name, limit in result["budget"].items())
  for name in ("architecture", "canonical", "optimizer", "seconds", "path", "standard_error"):
    assert name in result
  assert len({step["run"] for step in result["path"]}) == 4
  assert result["evaluations"]["trained"] == len(trainings(workdir))
  for part in ("stage 2", "params", "madds", "signal", "training programs compiled", str(workdir)):
    assert part in printed
  page = (workdir / "report.html").read_text()
  assert page.count("<svg") == 7
  assert json.loads((workdir / "config.json").read_text())["seed"] == 0


def test_three_programs_train_every_candidate(finished):
  workdir, _, log = finished
  # JAX names every pmapped program alike, and only the training programs are pmapped.
  compiled = re.findall(r"Finished XLA compilation of jit\(_fun\)", log)
  result = json.loads((workdir / "result.json").read_text())
  assert len(compiled) == result["compilations"] == 3
  assert result["evaluations"]["trained"] > 10


@pytest.mark.slow
def test_four_devices_decide_as_one_whatever_the_environment_says(finished, tmp_path, monkeypatch):
  for name, value in (("ENABLE_X64", "1"), ("DEFAULT_PRNG_IMPL", "rbg"), ("DEBUG_NANS", "1")):
    monkeypatch.setenv(f"JAX_{name}", value)
  call("search", f"--workdir={tmp_path}", "--cpu_devices=4")
  assert outcome(tmp_path) == outcome(finished[0])
  assert len(set(trainings(tmp_path))) == len(trainings(tmp_path))


def test_ended_and_run_again_gives_the_same_answer_and_trains_nothing_twice(finished, tmp_path):
  flags = f"--workdir={tmp_path}", "--cpu_devices=1"
  process = subprocess.Popen(
    command("search", *flags),
    cwd=ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )
  journal = tmp_path / "evaluations.jsonl"
  while not (journal.exists() and journal.read_bytes().count(b"\n") >= 8):
    assert process.poll() is None, "the search ended before it could be killed"
    time.sleep(0.02)
  os.kill(process.pid, signal.SIGTERM)
  _, said = process.communicate()
  assert process.returncode == 143
  kept = len(trainings(tmp_path))
  stopped = re.search(
    r"^stopped; the same command continues \(trainings kept: (\d+)\)\n\Z", said, re.M
  )
  assert stopped and kept - int(stopped[1]) in (0, 1)  # One may just have been written.
  assert not (tmp_path / "result.json").exists()
  assert f"(and {kept} known before)" in call("search", *flags, "--verbose")
  assert outcome(tmp_path) == outcome(finished[0])
  assert sorted(trainings(tmp_path)) == sorted(trainings(finished[0]))
  result = json.loads((tmp_path / "result.json").read_text())
  assert result["evaluations"]["trained"] == len(trainings(tmp_path)) - kept


def test_other_config_in_the_same_workdir_is_refused_by_name(finished):
  error = call("search", f"--workdir={finished[0]}", "--config.train.steps=13", expect=2)
  assert error.count("\n") == 1
  assert "train.steps is 12 there and 13 here" in error


def test_a_finished_search_goes_on_with_what_decides_no_value(finished, tmp_path):
  workdir = shutil.copytree(finished[0], tmp_path / "run")
  before = trainings(workdir)
  changes = "--config.search.finalists=1", "--config.final.epochs=9", "--config.budget.params=990"
  call("search", f"--workdir={workdir}", "--cpu_devices=1", *changes)
  result = json.loads((workdir / "result.json").read_text())
  assert len(result["finalists"]) == 1 and result["evaluations"]["trained"] == 0
  assert trainings(workdir) == before
  assert json.loads((workdir / "config.json").read_text())["final"]["epochs"] == 9


def test_train_uses_all_images_tests_and_resumes(finished):
  workdir, _, _ = finished
  flags = f"--workdir={workdir}", f"--architecture={workdir}/result.json", "--cpu_devices=2"
  printed = call("train", *flags)
  metrics = json.loads((workdir / "train" / "metrics.json").read_text())
  assert metrics["train_images"] == 300
  assert metrics["steps"] == 300 // 16
  assert metrics["test"]["images"] == 360
  assert "test accuracy" in printed
  again = json.loads((workdir / "train" / "metrics.json").read_text())
  call("train", *flags)
  resumed = json.loads((workdir / "train" / "metrics.json").read_text())
  assert resumed["resumed_from_step"] == 18
  assert resumed["test"] == again["test"]


def test_dry_run_says_what_would_be_done_and_trains_nothing(tmp_path):
  flags = f"--workdir={tmp_path / 'none'}", "--dry_run", "--config.budget.params=1000.5"
  printed = call("search", *flags)
  assert "  1,000.5\n" in printed  # A budget may be a fraction.
  for part in ("4 positions, 2 options", "distinct networks", "estimate", "params", "first step"):
    assert part in printed
  assert not (tmp_path / "none").exists()


def test_a_sweep_prints_one_command_a_search(tmp_path):
  flags = "--cpu_devices=1", "--config.budget.params=900"
  first, second = call("sweep", f"--workdir={tmp_path}", *flags).splitlines()
  for command, entry in ((first, "seed=1"), (second, "seed=2_search.optimizer=random_search")):
    assert f"experiments.search {CONFIG} {' '.join(flags)} --config.seed=" in command
    assert command.endswith(f" --workdir={tmp_path}/{entry}")


@pytest.mark.slow
def test_random_search_by_a_flag(tmp_path):
  call(
    "search",
    f"--workdir={tmp_path}",
    "--config.search.optimizer=random_search",
    "--config.search.max_evaluations=6",
  )
  result = json.loads((tmp_path / "result.json").read_text())
  assert result["optimizer"] == "random_search"
  assert len([t for t in trainings(tmp_path) if t[1] == 0]) <= 6


@pytest.mark.slow
def test_an_optimizer_of_ones_own_searches(tmp_path):
  own = "examples.new_optimizer:simulated_annealing"
  flags = f"--config.search.optimizer={own}", '--config.search.options={"evaluations": 6}'
  printed = call("search", *flags, "--dry_run")
  assert f"optimizer  {own}\n" in printed and "first step" not in printed
  assert "at most 6 trainings in the search besides the start network, at most 4" in printed
  call("search", *flags, f"--workdir={tmp_path}")
  result = json.loads((tmp_path / "result.json").read_text())
  assert result["optimizer"] == own
  assert {step["run"] for step in result["path"]} == {"simulated_annealing"}


def test_wrong_input_ends_with_one_line_before_any_work(tmp_path):
  error = call("search", f"--workdir={tmp_path / 'run'}", "--config.search.finalists=0", expect=2)
  assert error.startswith("error: ") and error.count("\n") == 1
  assert "finalists is 0" in error
  assert not (tmp_path / "run").exists()


def test_a_workdir_that_cannot_be_written_is_refused_before_the_plan():
  error = call("search", "--workdir=/dev/null/here", "--dry_run", expect=2)
  assert error.startswith("error: ") and error.count("\n") == 1
  assert "/dev/null/here cannot be written: Not a dir" in error


def test_a_refused_training_leaves_no_workdir(tmp_path):
  flags = f"--workdir={tmp_path / 'run'}", "--architecture=. | e2 e2"
  error = call("train", *flags, "--config.data.image_size=10", expect=2)
  assert error.startswith("error: ") and error.count("\n") == 1
  assert "config.data.image_size is 10, config.space.image_shape is (8, 8, 1): set one" in error
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  ("flag", "words"),
  [
    ("--config.search.optimiser=rcas", 'no field optimiser. Did you mean "optimizer"'),
    ("--config.budget.joules=100", "no field joules. config.budget has flash, latency_ms, madds, "),
    ("--config.seed.x=1", "no field x. config.seed is a single value"),
    ("--config=configs/digits.py:smok", ": unknown mode 'smok'"),
    ("--config.seed=x", "invalid literal for int"),
    ("--config.search.options=race", "parse 'race'; allowed is a dict such as '{\"depth\": 1}'"),
  ],
)
def test_a_wrong_flag_ends_with_one_line(flag, words):
  command = [sys.executable, "-m", "experiments.search", flag, "--dry_run"]
  ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
  assert ended.returncode == 2 and ended.stdout == ""
  assert ended.stderr.startswith("error: ") and words in ended.stderr
  assert ended.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_training_writes_lines_into_a_log(tmp_path):
  code = "import experiments.train as t; t.LOG_EVERY = 0.0; t.common.run(t.main)"
  words = [
    sys.executable,
    "-c",
    code,
    CONFIG,
    "--architecture=e2 . | e2 .",
    f"--workdir={tmp_path}",
  ]
  done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert re.search(
    r"^0:\d\d training: step 9 of 18, training loss \d.*; 0:\d\d left$", done.stdout, re.M
  )

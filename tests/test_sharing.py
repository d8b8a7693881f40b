"""Searches by shared weights: the command line, a pool for the surrogate, stops and devices."""

import functools
import json
import re
import signal
import subprocess
import time

import jax
import numpy as np
import pytest

from nas_submod import networks, search
from nas_submod.evaluation.evaluator import BESIDE_TRAININGS, Evaluation
from nas_submod.evaluation.journal import Journal
from nas_submod.report import dry_run
from nas_submod.report import finished as finished_searches
from nas_submod.search import sharing
from tests.evaluators import computed
from tests.test_distributed import finish, start  # noqa: F401 (a fixture)
from tests.test_experiments import ROOT, call, command, outcome, trainings
from tests.test_shared_weights import config_of

FIELDS = {
  "method": "shared_weights",
  "statistics_images": 64,
  "least_share": 0.0,
  "store.steps": 96,
  "store.warmup_steps": 4,
  "store.steps_per_call": 16,
  "store.checkpoint_every": 16,
}
FLAGS = [f"--config.evaluation.{name}={value}" for name, value in FIELDS.items()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("shared")
  return workdir, call("search", f"--workdir={workdir}", "--cpu_devices=1", "--verbose", *FLAGS)


def methods(workdir):
  lines = (workdir / "evaluations.jsonl").read_text().splitlines()
  return [json.loads(line)["method"] for line in lines]


@pytest.mark.slow
def test_networks_are_scored_and_finalists_are_trained(finished):
  workdir, printed = finished
  result = json.loads((workdir / "result.json").read_text())
  counts, made = result["evaluations"], methods(workdir)
  assert counts["scored"] == made.count("shared_weights") > 3
  assert counts["trained"] == made.count("training") > 3
  assert counts["steps"] == 12 * counts["trained"]
  assert result["upper_bound"] is None
  assert result["seconds"]["shared_weights"] > 0 < result["seconds"]["score"]
  assert re.search(r"^seconds \d+ shared weights, \d+ compile, ", printed, re.M)
  assert "bound   none: scores with shared weights give no bound" in printed
  page = (workdir / "report.html").read_text()
  assert f"trained {counts['trained']}, scored {counts['scored']} with shared weights" in page
  assert "shared weights: step 96 of 96" in printed
  assert f"scored {counts['scored']} with shared weights" in printed
  assert all(result["resources"][name] <= limit for name, limit in result["budget"].items())
  assert finished_searches.read(workdir).uses_shared_weights


@pytest.mark.slow
def test_stopped_while_they_train_and_continued_on_four_devices_decides_the_same(
  finished, tmp_path
):
  flags = f"--workdir={tmp_path}", *FLAGS
  process = subprocess.Popen(
    command("search", *flags, "--cpu_devices=1"), cwd=ROOT, stderr=subprocess.PIPE, text=True
  )
  store_folder = tmp_path / sharing.FOLDER / "0"
  while not (store_folder.exists() and any(f.name.isdecimal() for f in store_folder.iterdir())):
    assert process.poll() is None, "the search ended before it could be stopped"
    time.sleep(0.01)
  process.send_signal(signal.SIGTERM)
  _, said = process.communicate()
  # 75 while the weights train, 143 if that just ended.
  assert process.returncode in (75, 143), said
  assert "the same command continues" in said
  call("search", *flags, "--cpu_devices=4")
  found, expected = outcome(tmp_path), outcome(finished[0])
  assert [step["architecture"] for step in found["path"]] == [
    step["architecture"] for step in expected["path"]
  ]
  assert found["architecture"] == expected["architecture"]
  assert found["finalists"][0]["scores"] == expected["finalists"][0]["scores"]
  assert sorted(trainings(tmp_path)) == sorted(trainings(finished[0]))


@pytest.mark.slow
def test_two_processes_decide_as_one(finished, start, tmp_path):  # noqa: F811
  flags = [*FLAGS, "--config.data.train_size=200", "--config.data.validation_size=100"]
  one, two = tmp_path / "one", tmp_path / "two"
  finish(start(one, 1, 1, *flags, module="search"), one)
  finish(start(two, 2, 2, *flags, module="search"), two)
  assert outcome(two)["architecture"] == outcome(one)["architecture"]
  assert sorted(trainings(two)) == sorted(trainings(one))


@pytest.mark.slow
def test_a_final_training_starts_from_them(finished, tmp_path):
  workdir, _ = finished
  result = json.loads((workdir / "result.json").read_text())
  setup = search.make_setup(config_of(steps=96, warmup_steps=4))
  found = sharing.variables_of(setup, workdir, result["architecture"])
  own = networks.build(setup.space, result["architecture"])
  expected = own.init(jax.random.key(0))
  assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, expected)
  with pytest.raises(ValueError, match=r"0 does not exist.*needs the --workdir of a search"):
    sharing.variables_of(setup, tmp_path, result["architecture"])
  longer = search.make_setup(config_of(steps=97, warmup_steps=4))
  with pytest.raises(ValueError, match=r"evaluation.store.steps is 96 there and 97 here"):
    sharing.variables_of(longer, workdir, result["architecture"])
  flags = f"--workdir={workdir}", f"--architecture={workdir}/result.json", *FLAGS
  printed = call("train", *flags, "--config.final.from_shared_weights=True", "--cpu_devices=1")
  assert "test accuracy" in printed


def guided_config(**options):
  config = config_of()
  config.evaluation.method = "training"
  config.search.optimizer = "surrogate"
  config.search.options = {"evaluations": 8, "features": "shared_weights", **options}
  return config


@pytest.mark.slow
def test_the_surrogate_chooses_what_to_train_from_a_scored_pool(tmp_path):
  setup = search.make_setup(guided_config())
  scores = {}

  def evaluate(jobs):
    """Scores stand for shared weights, and are those of the trainings without noise."""
    for job in jobs:
      if job.replicate == BESIDE_TRAININGS:
        loss = float(3 - np.sqrt(np.count_nonzero(job.architecture)))
        scores[setup.space.key(job.architecture)] = loss
        yield Evaluation(
          setup.space.key(job.architecture), -2, {"loss": loss}, 0.0, method="shared_weights"
        )
      else:
        yield from computed(setup.space)([job])

  journal = Journal(tmp_path / "evaluations.jsonl")
  result = search.run(setup, evaluate, journal)
  of_search = {e.key for e in journal if e.replicate == 0}
  assert of_search <= set(scores) | {setup.space.key(setup.space.start)}
  # The whole space is small: the pool holds all of its networks that fit, or its limit.
  assert len(scores) <= 12
  assert result["measured"] == 8
  assert result["evaluations"]["scored"] == len(scores)
  again = search.run(setup, lambda jobs: pytest.fail(f"evaluates {jobs}"), Journal(journal._path))
  assert again["architecture"] == result["architecture"]
  assert again["path"] == result["path"]


@pytest.mark.parametrize("size", [5])
def test_a_pool_holds_as_many_networks_as_asked(size):
  config = guided_config(evaluations=size)
  config.evaluation.pool = size
  setup = search.make_setup(config)
  objective, counts = search.objective_for(setup, computed(setup.space), Journal(None))
  pool, scores = sharing.scored_pool(setup, objective)
  assert pool.shape == (size, setup.problem.n) and scores.shape == (size,)
  assert all(setup.problem.feasible(mask) for mask in pool)
  assert counts.needed == 0


def test_a_config_without_evaluation_trains_and_cannot_share():
  config = guided_config()
  del config.evaluation
  with pytest.raises(ValueError, match=r"shared weights need config.evaluation.store"):
    search.make_setup(config)
  config.search.options = {"evaluations": 8}
  assert not search.make_setup(config).shares


def test_the_plan_says_what_is_shared():
  plan = dry_run.describe(search.make_setup(config_of()))
  assert "shared     24 steps of weights that all networks share, as long as 2 trainings" in plan
  assert re.search(r"2 trainings; about [1-9]\d* scores\n", plan)
  assert "no trainings in the search" in plan
  plan = dry_run.describe(search.make_setup(guided_config()))
  assert "a pool of 12 networks" in plan
  assert "at most 8 trainings in the search" in plan


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"evaluation.method": "magic"}, "config.evaluation.method is 'magic'; allowed: training, sh"),
    ({"evaluation.least_share": 1.5}, "config.evaluation.least_share is 1.5; allowed: 0 to 1"),
    (
      {"evaluation": {"methd": "shared_weights"}},
      'unknown field config.evaluation.methd. Did you mean "method"\\? Allowed: method, store, ',
    ),
    (
      {"evaluation.store": {"learning_rat": 0.1}},
      'unknown field config.evaluation.store.learning_rat. Did you mean "learning_rate"\\?',
    ),
    ({"evaluation": "shared_weights"}, "config.evaluation is 'shared_weights'; allowed: fields m"),
    ({"evaluation.store": None}, "shared weights need config.evaluation.store; configs/digits.py"),
    ({"evaluation.store.warmup_steps": 24}, "warmup_steps is 24; allowed: 0 .off. to below 24"),
    ({"evaluation.store.batch_size": 201}, "config.evaluation.store: batch_size 201 is not poss"),
    ({"evaluation.stores": 0}, "config.evaluation.stores is 0; allowed: whole numbers from 1"),
    ({"evaluation.statistics_images": 201}, "statistics_images is 201; allowed: up to the 200"),
    ({"evaluation.store.epochs": 1.0}, "config.evaluation.store: set exactly one of steps"),
    ({"score": "negative_train_loss"}, "config.score must be negative_loss or accuracy"),
    (
      {"search.optimizer": "surrogate", "search.options": {"features": "builtins:repr"}},
      "features 'builtins:repr' returned str; allowed: a function space -> ",
    ),
    (
      {"search.optimizer": "surrogate", "search.options": {"features": "tests.tiny_config:sweep"}},
      "features 'tests.tiny_config:sweep': too many positional arguments; allowed: a function sp",
    ),
    (
      {"search.optimizer": "surrogate", "search.options": {"features": "shared_weights"}},
      "features=shared_weights needs config.evaluation.method=training",
    ),
    (
      {
        "evaluation.method": "training",
        "search.optimizer": "surrogate",
        "search.options": {"features": "shared_weights", "pool": [[True]]},
      },
      "remove config.search.options.pool; config.evaluation.pool is its size",
    ),
    (
      {
        "evaluation.method": "training",
        "search.optimizer": "surrogate",
        "search.options": {"features": "shared_weights", "evaluations": 13},
      },
      "config.evaluation.pool is 12; allowed: 13 or more, the number of networks that surrogate t",
    ),
    (
      {"evaluation.method": "training", "search.options": {"features": "shared_weights"}},
      "config.search.options.features needs the optimizer surrogate, not rcas",
    ),
  ],
)
def test_impossible_settings_are_refused(changes, message):
  config = config_of()
  for name, value in changes.items():
    *path, field = name.split(".")
    section = functools.reduce(getattr, path, config)
    with section.ignore_type():
      setattr(section, field, value)
  with pytest.raises(ValueError, match=message):
    search.make_setup(config)

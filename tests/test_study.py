"""The study: its design, tables, ablations, text and figures."""

import itertools
import json
import pathlib
import subprocess
import sys
import xml.etree.ElementTree

import jax
import numpy as np
import pytest

import nas_submod as ns
from benchmarks import ablations, study_table, tables
from benchmarks.runs import Curves
from configs import mlperf_tiny
from experiments import study_figures, study_measures, study_search, study_text
from nas_submod.evaluation.evaluator import Evaluation
from nas_submod.files import finite
from nas_submod.search.setup import make_setup
from nas_submod.set_functions.measured import additions, measured
from nas_submod.set_functions.properties import second_differences, single_gains
from tests import tiny_config, tiny_data
from tests.tiny_table import tiny_rows, write

ROOT = pathlib.Path(__file__).parent.parent
MASKS = (np.arange(32)[:, None] >> np.arange(5)) % 2 == 1


@pytest.fixture(scope="module")
def table(tmp_path_factory):
  return tables.Table(write(tmp_path_factory.mktemp("table") / "tiny.csv", tiny_rows()))


@pytest.fixture(scope="module")
def instances(table):
  return table.instances(tables.diagonal(2))


def as_read(found):
  return json.loads(json.dumps(finite(found)))


def test_all_sets_of_a_table_are_its_rows_and_equal_networks_one_object(table, instances):
  masks, rows, objects = ablations.all_sets(table, instances[0].case.problem)
  assert sorted(rows.tolist()) == list(range(18)) and len(np.unique(masks, axis=0)) == 18
  found = {row["canonical"] for row in tiny_rows()}
  assert len(set(objects.tolist())) == len(found) < 18
  by_canonical = {}
  for row, number in zip(rows, objects):
    assert by_canonical.setdefault(tiny_rows()[row]["canonical"], number) == number


def test_measurements_needed_are_the_first_below_the_threshold():
  regrets = np.array([[5.0, 3.0, 1.0, 0.0], [5.0, 3.0, 3.0, 0.0]])
  assert ablations.needed(regrets, 4)[0] == 1 and ablations.needed(regrets, 4)[1] == 0
  assert ablations.needed(regrets, 2)[0] == 2  # the mean, not each run
  value, error = ablations.needed(regrets, -1)
  assert value == np.inf and np.isnan(error)


def test_regret_is_the_mean_over_instances(instances):
  curves = [Curves(np.full((2, 3), i.optimum - k), np.zeros(2)) for k, i in enumerate(instances)]
  expected = np.mean(np.arange(len(instances)))
  np.testing.assert_allclose(ablations.regret(instances, curves), expected, atol=1e-4)


def test_the_best_of_one_type_is_found_by_brute_force(table, instances):
  masks, rows, _ = ablations.all_sets(table, instances[0].case.problem)
  found = ablations.one_type_only(instances, masks, table.final[rows])
  expected = {1: [], 2: []}
  for instance in instances:
    problem, regrets = instance.case.problem, {1: np.inf, 2: np.inf}
    for architecture in itertools.product(range(3), range(2), range(3)):
      mask = np.array(
        [a == o for a, o in zip(np.take(architecture, table.groups), (1, 2, 1, 1, 2))]
      )
      if problem.feasible(mask):
        value = float(table.final[int(table.row(mask))])
        for kind in regrets:
          if set(architecture) <= {0, kind}:
            regrets[kind] = min(regrets[kind], instance.optimum - value)
    for kind, regret in regrets.items():
      expected[kind].append(regret)
  assert found == {k: pytest.approx(np.mean(r), abs=1e-4) for k, r in expected.items()}


def test_a_design_holds_the_squares_of_its_chains():
  setup = make_setup(tiny_config.get_config())
  design = study_search.draw(setup, 6)
  assert (study_search.draw(setup, 9).masks[: len(design.masks)] == design.masks).all()
  assert (design.masks[0] == setup.space.required).all()
  assert len(np.unique(design.masks, axis=0)) == len(design.masks)
  after = additions(design.masks)
  gains = {tuple(row) for row in single_gains(after).tolist()}
  found = {frozenset(row) for row in second_differences(after).tolist()}
  for chain in design.chains:
    masks = design.masks[chain]
    assert not np.asarray(setup.problem.additions(masks[-1]).fits).any()
    for k in range(1, len(chain)):
      assert (chain[k - 1], chain[k]) in gains
      if k > 1:
        assert any({chain[k - 2], chain[k - 1], chain[k]} < square for square in found)


@pytest.mark.slow
def test_a_design_is_feasible_where_a_larger_network_may_need_less(tmp_path):
  config = mlperf_tiny.get_config("half")  # A block on small images spares one on large ones.
  arrays = tiny_data.arrays(train=40, test=10, classes=10, shape=(16, 16, 3))
  config.data.update({"source": tiny_data.save(tmp_path, **arrays), "validation_size": 10})
  config.train.batch_size = 16
  setup = make_setup(config)
  masks = study_search.draw(setup, 3).masks
  assert jax.vmap(setup.problem.feasible)(masks).all()


def test_growth_of_chains_is_a_mean_over_those_that_reach_so_far():
  found = study_search.growth([[1, 3, 4], [1, 5]], 0.5)
  assert found["chains"] == [2, 2, 1]
  assert found["values"] == [1, 4, 4] and found["gains"] == [3, 1]
  assert found["errors"][:2] == [0.5, 1] and np.isnan(found["errors"][2])
  assert found["gain_errors"][0] == pytest.approx(np.hypot(1, 0.5))


def test_a_longer_training_keeps_the_shape_of_its_schedule():
  config = tiny_config.get_config()
  config.train.update({"milestones": (4, 8), "warmup_steps": 3})
  found = study_search.with_longer(config, 4).train
  assert (found.steps, found.milestones, found.warmup_steps) == (48, (16, 32), 12)
  config.train.update({"steps": 0, "epochs": 1.5})
  assert study_search.with_longer(config, 4).train.epochs == 6 and config.train.epochs == 1.5
  for name in ("milestones", "warmup_steps", "steps"):  # Fields that may be missing.
    del config.train[name]
  assert study_search.with_longer(config, 4).train.epochs == 6


def trained_at_once(calls):
  """A stand-in for training: a submodular score with noise, and one network that fails."""

  class Evaluator:
    def __init__(self, space, data, config, weights=None, on_progress=None):
      self.space = space

    def __call__(self, jobs):
      for job in jobs:
        calls.append(job)
        size = np.count_nonzero(job.architecture)
        noise = np.random.default_rng(job.replicate).normal(0, 0.01)
        metrics = {"loss": 1 / size + noise} if job.architecture != (2, 2, 1, 0) else None
        yield Evaluation(self.space.key(job.architecture), job.replicate, metrics, 0.0)

  return Evaluator


def test_a_config_is_studied_and_resumed_from_its_journal(tmp_path, monkeypatch):
  calls, told = [], []
  monkeypatch.setattr(study_search, "TrainingEvaluator", trained_at_once(calls))
  asked = study_search.Sizes(6, 2), study_search.Longer(2, 6), tmp_path, told.append
  found = as_read(study_search.study(tiny_config.get_config(), *asked))
  made = len(calls)
  assert len({job.replicate for job in calls}) > 6  # Each network has seeds of its own.
  assert as_read(study_search.study(tiny_config.get_config(), *asked)) == found
  assert len(calls) == made and told[-1].endswith(" 0 to be made")
  assert found["trainings"] == 2 and found["diminishing"]["found"] == 0
  assert found["growth"]["values"][0] == pytest.approx(-1, abs=0.05)
  assert found["growth"]["gains"][0] == pytest.approx(0.5, abs=0.05)
  assert found["ranked"] == 6 and found["rank_correlation_of_means"][0] > 0.5
  text = study_text.describe(found)
  assert "submodularity ratio" in text and "2 times as long (6 networks)" in text


@pytest.mark.slow
def test_a_table_is_studied(instances, tmp_path, monkeypatch):
  every_set = ns.optimizers.brute_force()
  parts = {name: every_set for name in ("all", "all" + ablations.NO_DEDUPLICATION)}
  monkeypatch.setattr(ablations, "ablated", lambda resources, canonical: parts)
  monkeypatch.setattr(ablations, "rivals", lambda limit: {})
  path, told = write(tmp_path / "tiny.csv", tiny_rows()), []
  settings = study_table.Settings(path, seeds=2, measurements=40)
  found = as_read(study_table.study(settings, [], tmp_path / "study", told.append))
  assert found["sets"] == 18 and found["growth"]["values"][0] == pytest.approx(50)
  assert found["monotone"]["found"] == found["diminishing"]["found"] == 0
  apart, alone = (found["optimizers"][name]["exact"] for name in reversed(parts))
  assert apart["regret"][-1] == pytest.approx(0, abs=1e-3)
  fits = [np.asarray(jax.vmap(i.case.problem.feasible)(MASKS)).sum() for i in instances]
  assert apart["made"] == pytest.approx(np.mean(fits)) and alone["made"] < apart["made"]
  changed = found["changed"]
  anew, more = changed["last blocks at random"], changed["one more random block"]
  assert max(anew["change"]) <= 1e-4 and np.max(anew["costs"]) <= 1 + 1e-6  # It was the optimum.
  for change, costs in zip(more["change"], more["costs"]):
    assert change > 0 and max(costs) > 1  # F is monotone, and the answer was maximal.
  text = study_text.describe(found)
  assert "all, no deduplication" in text and "one more random block" in text
  for path in (paths := study_figures.write(found, tmp_path)):
    assert xml.etree.ElementTree.parse(path).getroot().tag.endswith("svg")
  assert len(paths) == 3 and len(told) == 2


def test_means_over_additions_need_a_complete_table(tmp_path):
  path = write(tmp_path / "part.csv", tiny_rows()[:-3])
  found = as_read(study_table.study(study_table.Settings(path, seeds=0), [], tmp_path / "s", print))
  text = study_text.describe(found)
  assert text.startswith("part: 15 sets of 18, ") and "random additions: not shown" in text
  assert [path.name for path in study_figures.write(found, tmp_path)] == ["noise.svg"]


def test_what_is_not_known_is_written_as_such(tmp_path):
  rows = [row | {"acc0": row["acc0"]} for row in tiny_rows(trainings=("acc0",))]
  table = tables.Table(write(tmp_path / "one.csv", rows))
  [instance] = table.instances([(0.8, 0.8)])
  masks, at, objects = ablations.all_sets(table, instance.case.problem)
  samples = table.scores[at]
  of = measured(masks, samples, objects)
  found = study_measures.assumption(of, samples, 0) | {"space": "one", "growth": {}}
  found["growth"] = study_search.growth([[1.0, 2.0]], 0.0)
  text = study_text.describe(found)
  assert "noise   unknown" in text and "the noise is unknown" in text and "interval" not in text
  assert [path.name for path in study_figures.write(found, tmp_path)] == ["growth.svg"]


def test_what_is_unknown_is_refused_before_any_work(tmp_path):
  settings = study_table.Settings("none.csv")
  with pytest.raises(ValueError, match="--rivals: unknown 'luck'; allowed: racing rcas, "):
    study_table.study(settings, ["luck"], tmp_path, print)
  with pytest.raises(ValueError, match=r"no such file|No such file"):
    study_table.study(settings, [], tmp_path, print)
  without_start = write(tmp_path / "t.csv", tiny_rows()[1:])
  with pytest.raises(ValueError, match=r"has no network without blocks, where a study begins"):
    study_table.study(study_table.Settings(without_start), [], tmp_path / "study", print)
  assert not (tmp_path / "study").exists()


def test_the_command_prints_the_study_of_a_table_and_keeps_it(tmp_path):
  path = write(tmp_path / "tiny.csv", tiny_rows())
  line = [sys.executable, "-m", "experiments.study", f"--table={path}", "--seeds=0"]
  done = subprocess.run(
    [*line, f"--workdir={tmp_path}/study"], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0 and done.stderr == ""
  assert "18 sets, 15 networks" in done.stdout and "best network of one type" in done.stdout
  kept = json.loads((tmp_path / "study" / "study.json").read_text())
  assert kept["sets"] == 18 and "optimizers" not in kept
  assert (tmp_path / "study" / "noise.svg").exists()

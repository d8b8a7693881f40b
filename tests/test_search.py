"""The search with a score that is computed, not trained: every optimizer, racing, replay."""

import numpy as np
import pytest

from nas_submod import journal, report, search, search_setup
from nas_submod.journal import Evaluation, Journal
from nas_submod.objective import ProxyObjective
from tests import tiny_config


class Computed(ProxyObjective):
  """Scores of networks by a formula with noise, in the journal like trainings."""

  def _train_round(self, jobs):
    results = []
    for job in jobs:
      filled = np.array(job.architecture) > 0
      noise = np.random.default_rng([job.replicate, *job.architecture]).normal(0, 0.01)
      loss = 3.0 - np.sqrt(filled.sum()) - 0.2 * filled[0] + noise
      metrics = {"accuracy": 0.5, "loss": float(loss), "train_loss": float(loss)}
      results.append(Evaluation(self._space.key(job.architecture), job.replicate, metrics, 0.0, 1))
    self._journal.add(results)
    self.trained += len(results)


@pytest.fixture
def computed(monkeypatch):
  monkeypatch.setattr(search, "ProxyObjective", Computed)


def config_of(optimizer, **options):
  config = tiny_config.get_config()
  config.search.optimizer = optimizer
  config.search.options = options
  return config


SEARCHES = {
  "rcas": {"race": [1, 3, 6]},
  "exchange": {"inner": "greedy", "rule": "joint"},
  "partial_enumeration": {"depth": 1, "inner": "greedy", "race": (1, 2)},
  "surrogate": {"evaluations": 15},
}


def outcome(result):
  volatile = ("seconds", "evaluations", "compilations")
  path = [{k: v for k, v in step.items() if k != "evaluations"} for step in result["path"]]
  return {k: v for k, v in result.items() if k not in volatile} | {"path": path}


@pytest.mark.parametrize("optimizer", SEARCHES)
def test_a_search_is_reported_and_its_journal_replays(optimizer, computed, tmp_path):
  setup = search_setup.prepare(config_of(optimizer, **SEARCHES[optimizer]))
  log, shown = Journal(None), []
  result = search.run(setup, log, search.Display(shown.append))
  assert all(result["resources"][name] <= limit for name, limit in result["budget"].items())
  assert result["upper_bound"] is None or result["upper_bound"] >= result["path"][0]["value"]
  assert result["violations"]["monotonicity_checked"] > 0
  assert [(s["run"], s["tie"]) for s in result["path"]] == [(s.run, s.tie) for s in shown]
  assert {step.run for step in shown} <= set(setup.runs)
  ties = any(step.tie for step in shown)
  assert ties or optimizer != "rcas"
  assert not ties or "race" in SEARCHES[optimizer]

  printed = report.summary(setup, result, tmp_path)
  assert "bound   " in printed and "added blocks lowered it" in printed
  assert ("ties    " in printed) == ties
  report.write_page(setup, result, log, tmp_path / "report.html")
  assert "added blocks lowered it" in (tmp_path / "report.html").read_text()
  journal.write_json(tmp_path / "result.json", result)
  assert "NaN" not in (tmp_path / "result.json").read_text()
  assert report.plan(setup)

  measured: dict[str, list[int]] = {}
  for evaluation in log:
    measured.setdefault(evaluation.key, []).append(evaluation.replicate)
  fresh = setup.most_measurements
  for replicates in measured.values():
    searched = [r for r in replicates if r < fresh]
    assert searched == list(range(len(searched)))  # in order, none twice, none left out
    assert replicates[len(searched) :] in ([], [fresh, fresh + 1])

  again = search.run(setup, log)
  assert outcome(again) == outcome(result) and again["evaluations"]["trained"] == 0
  half = Journal(None)
  half.add(list(log)[: len(log) // 2])
  continued = search.run(setup, half)
  assert outcome(continued) == outcome(result)
  assert continued["evaluations"]["trained"] == len(log) - len(log) // 2


@pytest.mark.parametrize(
  ("optimizer", "options", "words"),
  [
    ("magic", {}, "unknown optimizer 'magic'; allowed: rcas, greedy"),
    ("exchange", {"inner": "magic"}, "unknown optimizer 'magic'"),
    ("exchange", {"inner": "rcas", "race": (1, 3)}, "takes no inner optimizer with replicates"),
    ("partial_enumeration", {}, "partial_enumeration.* 'depth'"),
    ("rcas", {"race": (3, 1)}, "race must be two or more increasing numbers"),
    ("rcas", {"rule": "unit"}, "config.search.options of rcas"),
  ],
)
def test_wrong_options_are_refused_in_one_line(optimizer, options, words):
  with pytest.raises(ValueError, match=words) as error:
    search_setup.prepare(config_of(optimizer, **options))
  assert "\n" not in str(error.value)

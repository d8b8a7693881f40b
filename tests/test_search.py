"""The search with a score that is computed, not trained: every optimizer, racing, replay."""

import re

import numpy as np
import pytest

from configs import digits
from nas_submod import files, parallel, resources, search
from nas_submod.evaluation.journal import Journal
from nas_submod.report import dry_run, finished, markup, page, text
from nas_submod.search.setup import make_setup
from tests import tiny_config
from tests.evaluators import computed

EXAMPLE = "examples.new_optimizer:simulated_annealing"


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
  "greedy_plus_max": {},
  "brute_force": {},
  EXAMPLE: {"evaluations": 15},
}
SLOW = ("exchange", "greedy_plus_max", "brute_force")


def summary(setup, result):
  return text.summary(finished.make("run", setup.config, result, ()), verbose=True)


def outcome(result):
  volatile = ("seconds", "evaluations", "compilations")
  return {k: v for k, v in result.items() if k not in volatile}


@pytest.mark.parametrize(
  "optimizer",
  [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in SEARCHES],
)
def test_a_search_is_reported_and_its_journal_replays(optimizer, tmp_path):
  setup = make_setup(config_of(optimizer, **SEARCHES[optimizer]))
  log, shown = Journal(None), []
  result = search.run(setup, computed(setup.space), log, search.Display(shown.append))
  assert all(result["resources"][name] <= limit for name, limit in result["budget"].items())
  assert result["upper_bound"] is None or result["upper_bound"] >= result["path"][0]["value"]
  # The surrogate does not measure the required set, from which the checks start.
  assert (result["violations"]["monotonicity_checked"] > 0) == (optimizer != "surrogate")
  assert result["path"] == shown
  assert {step["run"] for step in shown} <= {*setup.runs, "answer"}
  ties = any(step["tie"] for step in shown)
  assert ties or optimizer != "rcas"
  assert not ties or "race" in SEARCHES[optimizer]

  printed = summary(setup, result)
  assert "bound   " in printed
  assert ("ties    " in printed) == ties
  shown = page.page(finished.make("run", setup.config, result, log))
  assert markup.with_error(result["value"], result["standard_error"]) in shown
  files.write_json(tmp_path / "result.json", result)
  assert "NaN" not in (tmp_path / "result.json").read_text()

  measured: dict[str, list[int]] = {}
  for evaluation in log:
    measured.setdefault(evaluation.key, []).append(evaluation.replicate)
  fresh = setup.most_measurements
  for replicates in measured.values():
    searched = [r for r in replicates if r < fresh]
    assert searched == list(range(len(searched)))  # in order, none twice, none left out
    assert replicates[len(searched) :] in ([], [fresh, fresh + 1])

  again = search.run(setup, computed(setup.space), log)
  assert outcome(again) == outcome(result) and again["evaluations"]["trained"] == 0
  half = Journal(None)
  half.add(list(log)[: len(log) // 2])
  continued = search.run(setup, computed(setup.space), half)
  assert outcome(continued) == outcome(result)
  assert continued["evaluations"]["trained"] == len(log) - len(log) // 2


def test_the_path_has_only_networks_that_were_measured():
  config = config_of("partial_enumeration", depth=1, inner="greedy", rule="joint")
  config.search.max_evaluations = 3
  setup = make_setup(config)
  log = Journal(None)
  result = search.run(setup, computed(setup.space), log)
  measured = {e.key for e in log if e.replicate == 0}
  assert result["path"]
  assert all(setup.space.key(row["architecture"]) in measured for row in result["path"])


def test_a_bound_below_the_answer_is_none():
  setup = make_setup(config_of("greedy"))
  result = search.run(setup, computed(setup.space), Journal(None)) | {
    "value": -0.5,
    "score": "negative_loss",
  }
  for bound, words in (
    (-0.4, "bound   -0.4000: no network"),
    (-0.6, "bound   none: with fresh seeds the answer"),
  ):
    assert words in summary(setup, result | {"upper_bound": bound})


def test_brute_force_of_too_many_elements_is_refused_before_any_training():
  config = digits.get_config()
  config.search.optimizer = "brute_force"
  with pytest.raises(ValueError, match="brute_force takes at most 24 elements, got"):
    make_setup(config)


ENERGY = resources.Resource("energy", "mJ", lambda space: lambda mask: 0.37 * mask.sum(-1))


def test_a_resource_of_ones_own_in_fractions_limits_a_search():
  config = config_of("greedy", rule="joint")
  config.resources.energy = f"{__name__}:ENERGY"
  config.budget = resources.budgets(energy=1.2)
  setup = make_setup(config)
  log = Journal(None)
  result = search.run(setup, computed(setup.space), log)
  assert np.count_nonzero(result["architecture"]) == 3  # 1.11 mJ; a fourth block takes 1.48.
  np.testing.assert_allclose(result["resources"]["energy"], 3 * 0.37)
  assert result["budget"] == {"energy": 1.2} and result["binding"] == ["energy"]
  assert "1.11 of           1.2" in summary(setup, result)
  assert "1.11" in page.page(finished.make("run", setup.config, result, log))


def test_five_budgets_limit_at_once_and_less_memory_alone_changes_the_answer():
  config = config_of("rcas")
  config.resources.energy = f"{__name__}:ENERGY"
  found = []
  for memory in (600, 300):
    limits = {"params": 2e3, "madds": 9_000.5, "flash": 2.5e3, "memory": memory, "energy": 1.5}
    config.budget = resources.budgets(**limits)
    setup = make_setup(config)
    assert setup.runs == ("unit", "energy", "flash", "madds", "params", "joint")
    result = search.run(setup, computed(setup.space))
    costs = resources.network_cost(setup.space, result["architecture"], setup.resources)
    assert result["resources"] == costs and result["budget"] == limits
    assert all(costs[name] <= limit for name, limit in limits.items())
    found.append((result["text"], result["binding"], dry_run.describe(setup)))
  (text, binding, plan), (less_text, less_binding, less_plan) = found
  assert (text, binding) == ("e2 e2 | e2 e2", ["positions"])
  assert (less_text, less_binding) == (". . | e2 e2", ["memory"])
  assert "never " not in plan and plan.startswith("budgets ")
  assert "\nno limit   memory: no network has more than 600\n" in plan
  assert re.search(r"\nenergy +0.37 +~0.37 +[\d.]+ +~1.48 +1.5\n", plan)
  assert re.search(r"\nmemory +192 +192 +320 x +592 x +300\n", less_plan)
  assert "never      memory rules out e2 in stage 1; e4g2se in stages 1, 2\n" in less_plan


def test_there_is_no_bound_where_an_option_fits_beside_others_only():
  config = config_of("greedy")
  config.space.update({"name": "narrow", "stages": ((8, 2, 1), (16, 2, 2), (4, 2, 1))})
  config.space.start = ". | e2 | ."
  config.budget = resources.budgets(params=2_500)
  setup = make_setup(config)
  # Behind another block of the last stage, a block has fewer input channels.
  assert (
    "no bound   params allows e4g2se later in stage 3 only together with other blocks"
    in dry_run.describe(setup)
  )
  result = search.run(setup, computed(setup.space))
  assert result["upper_bound"] is None and result["violations"]["monotonicity_checked"] > 0
  assert "bound   none: not every block was measured" in summary(setup, result)


def failing(space, replicates):
  """Fails the trainings of some replicates."""
  evaluate = computed(space)

  def fail(jobs):
    for found in evaluate(jobs):
      failed = found.replicate in replicates
      yield found._replace(metrics=None, cause="out of memory: 9 GB") if failed else found

  return fail


@pytest.mark.parametrize(
  ("replicates", "words"),
  [
    ([0], "the start network cannot be trained: out of memory: 9 GB"),
    ([1, 2], "trainings of all finalists failed"),
  ],
)
def test_a_search_without_an_answer_says_why(replicates, words):
  setup = make_setup(config_of("greedy"))
  with pytest.raises(search.SearchFailedError, match=words) as error:
    search.run(setup, failing(setup.space, replicates))
  assert "\n" not in str(error.value)


def test_failures_are_counted_from_the_journal_and_are_no_answer():
  setup, log = make_setup(config_of("greedy")), Journal(None)

  def fail_large(jobs):
    """Networks of three blocks or more have a loss that is not finite."""
    for job, found in zip(jobs, computed(setup.space)(jobs)):
      large = np.count_nonzero(job.architecture) > 2
      yield found._replace(metrics={"loss": np.nan, "accuracy": 0.1}) if large else found

  results = [search.run(setup, fail_large, log) for _ in range(2)]
  assert np.count_nonzero(results[0]["architecture"]) == 2 and np.isfinite(results[0]["value"])
  failed = sum(evaluation.metrics is None for evaluation in log)
  printed = text.summary(finished.make("run", setup.config, results[1], log))
  assert f"\nfailed  {failed} x diverged; these networks are never chosen\n" in printed
  assert failed and [r["evaluations"]["failed"] for r in results] == [failed] * 2
  assert results[1]["evaluations"]["trained"] == 0


@pytest.mark.parametrize(
  ("value", "words"),
  [
    (12345678901, "12,345,678,901"),
    (12000.0, "12,000"),
    (12000.9, "12,000.9"),
    (12345678901.25, "12,345,678,901.25"),
    (0.000123456, "0.000123"),
    (1e-5, "0.00001"),
    (2.0000001, "2"),
    (0, "0"),
    (float("inf"), "inf"),
  ],
)
def test_numbers_have_separators_and_no_exponent(value, words):
  assert text.number(value) == words


def test_what_is_asked_a_round_depends_on_the_devices_only_where_the_answer_does_not(monkeypatch):
  """Speculative sets count against a limit, so their number must not depend on the devices."""

  def optimizers(config):
    found = []
    for devices in (1, 8):
      monkeypatch.setattr(parallel, "device_count", lambda devices=devices: devices)
      found.append(make_setup(config).optimizer)
    return found

  config = tiny_config.get_config()
  one, eight = optimizers(config)
  assert one is not eight
  config.search.max_evaluations = 10
  one, eight = optimizers(config)
  assert one is eight


def test_a_search_that_a_limit_ended_says_so():
  config = tiny_config.get_config()
  config.search.max_evaluations = 5
  setup = make_setup(config)
  result = search.run(setup, computed(setup.space))
  assert result["measured"] == 5
  assert "ended at config.search.max_evaluations=5" in summary(setup, result)
  assert "ended at" not in summary(setup, result | {"measured": 4})


def test_a_search_whose_trainings_all_fail_says_so():
  setup = make_setup(config_of("surrogate", evaluations=2))
  evaluate = computed(setup.space)

  def failing(jobs):
    for job, found in zip(jobs, evaluate(jobs)):
      is_start = list(job.architecture) == list(setup.space.start)
      yield found if is_start else found._replace(metrics=None, cause="took too long")

  with pytest.raises(search.SearchFailedError, match="all trainings of the search failed"):
    search.run(setup, failing)

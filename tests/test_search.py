"""The search with a score that is computed, not trained: every optimizer, racing, replay."""

import re
import types

import numpy as np
import pytest

from configs import digits
from examples.new_optimizer import simulated_annealing
from nas_submod import files, parallel, search
from nas_submod.evaluation import screening
from nas_submod.evaluation.journal import Journal
from nas_submod.report import dry_run, live, page, text
from nas_submod.search import estimate
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


def outcome(result):
  volatile = ("seconds", "evaluations", "compilations")
  return {k: v for k, v in result.items() if k not in volatile}


@pytest.mark.parametrize("optimizer", SEARCHES)
def test_a_search_is_reported_and_its_journal_replays(optimizer, tmp_path):
  setup = make_setup(config_of(optimizer, **SEARCHES[optimizer]))
  log, shown = Journal(None), []
  result = search.run(setup, computed(setup.space), log, search.Display(shown.append))
  assert all(result["resources"][name] <= limit for name, limit in result["budget"].items())
  assert result["upper_bound"] is None or result["upper_bound"] >= result["path"][0]["value"]
  assert result["violations"]["monotonicity_checked"] > 0
  assert result["path"] == shown
  assert {step["run"] for step in shown} <= {*setup.runs, "answer"}
  ties = any(step["tie"] for step in shown)
  assert ties or optimizer != "rcas"
  assert not ties or "race" in SEARCHES[optimizer]

  printed = text.summary(setup, result, tmp_path)
  assert "bound   " in printed and "added blocks lowered it" in printed
  assert ("ties    " in printed) == ties
  page.write_page(setup, result, log, tmp_path / "report.html")
  assert "added blocks lowered it" in (tmp_path / "report.html").read_text()
  files.write_json(tmp_path / "result.json", result)
  assert "NaN" not in (tmp_path / "result.json").read_text()
  assert dry_run.describe(setup)

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


@pytest.mark.parametrize(
  ("optimizer", "options", "words"),
  [
    ("magic", {}, "unknown optimizer 'magic'; allowed: rcas, greedy.*or module:function"),
    ("no.module:magic", {}, "no.module cannot be imported .*No module named 'no'; allowed: rcas"),
    ("examples.new_optimizer:NAME", {}, "no function 'NAME'; its functions: simulated_annealing"),
    ("tests.tiny_config:get_config", {}, "returned ConfigDict; allowed: an? .*Optimizer"),
    (EXAMPLE, {"patience": 3}, "config.search.options of examples.*'patience'"),
    ("exchange", {"inner": "no.module:magic"}, "no.module cannot be imported"),
    ("stochastic_greedy", {}, "stochastic_greedy.* 'sample'"),
    ("greedy", {"rule": "density:2"}, "the problem has 2 resources"),
    ("exchange", {"inner": "magic"}, "unknown optimizer 'magic'"),
    (
      "exchange",
      {"inner": "rcas", "race": (1, 3)},
      "cannot improve an inner optimizer that asks",
    ),
    ("partial_enumeration", {}, "partial_enumeration.* 'depth'"),
    ("rcas", {"race": (3, 1)}, "race must be two or more increasing numbers"),
    ("rcas", {"rule": "unit"}, "config.search.options of rcas"),
  ],
)
def test_wrong_options_are_refused_in_one_line(optimizer, options, words):
  with pytest.raises(ValueError, match=words) as error:
    make_setup(config_of(optimizer, **options))
  assert "\n" not in str(error.value)


def test_a_negative_seed_is_refused():
  config = tiny_config.get_config()
  config.seed = -1
  with pytest.raises(ValueError, match=r"config\.seed must be from 0 to"):
    make_setup(config)


def test_a_bound_below_the_answer_is_none(tmp_path):
  setup = make_setup(config_of("greedy"))
  result = search.run(setup, computed(setup.space), Journal(None)) | {
    "value": -0.5,
    "score": "negative_loss",
  }
  for bound, words in (
    (-0.4, "bound   -0.4000: no network"),
    (-0.6, "bound   none: the answer scores above it"),
  ):
    assert words in text.summary(setup, result | {"upper_bound": bound}, tmp_path)


def test_brute_force_of_too_many_elements_is_refused_before_any_training():
  config = digits.get_config()
  config.search.optimizer = "brute_force"
  with pytest.raises(ValueError, match="brute_force takes at most 24 elements, got"):
    make_setup(config)


@pytest.mark.parametrize("shortened", ["screen_steps", "inherit_steps"])
def test_values_of_shorter_trainings_bound_nothing_and_violate_nothing(
  shortened, tmp_path, monkeypatch
):
  monkeypatch.setattr(screening, "LARGE_CALL", 3)
  config = config_of("greedy")
  config.budget = {"params": 3_000, "madds": 20_000}
  config.train[shortened] = 4
  setup = make_setup(config)
  log = Journal(None)
  result = search.run(setup, computed(setup.space), log)
  assert any(e.steps == 4 for e in log)
  assert result["upper_bound"] is None and result["violations"] is None
  assert "bound   none: shortened trainings give no bound" in text.summary(setup, result, tmp_path)


PLANS = {
  "rcas": {},
  "greedy_plus_max": {},
  "stochastic_greedy": {"sample": 2},
  "exchange": {},
  "regularized_evolution": {},
  EXAMPLE: {},
  "brute_force": {},
}


@pytest.mark.parametrize("optimizer", PLANS)
def test_no_search_trains_more_than_its_plan_allows(optimizer):
  config = config_of(optimizer, **PLANS[optimizer])
  if optimizer != "brute_force":
    config.space = {"name": "digits"}
    config.budget = {"params": 12_000, "madds": 150_000}
  config.search.max_evaluations = 12
  config.search.finalists = 4
  setup = make_setup(config)
  expected, log = estimate.estimate(setup), Journal(None)
  search.run(setup, computed(setup.space), log)
  in_search = sum(evaluation.replicate < setup.most_measurements for evaluation in log)
  assert expected.search <= expected.most == 12
  assert in_search <= expected.most and len(log) - in_search <= expected.final
  plan = dry_run.describe(setup)
  greedy = optimizer in ("rcas", "greedy_plus_max")
  assert ("first step 15 distinct candidates, 11 of them within the limit" in plan) == greedy
  assert f"at most {12 if greedy else 8} for finalists" in plan
  assert ("finalists and signal" in plan) == greedy
  if optimizer == "regularized_evolution":
    assert "optimizer  regularized_evolution\n" in plan
    assert "at most 12 trainings in the search, at most 8 for finalists\n" in plan
    assert in_search == 12 and len(log) <= 20


@pytest.mark.parametrize(
  ("optimizer", "options"),
  [("rcas", {}), ("greedy_plus_max", {}), ("exchange", {}), (EXAMPLE, {"evaluations": 40})],
)
def test_the_estimate_is_of_the_right_size(optimizer, options, monkeypatch):
  monkeypatch.setattr(estimate, "_NOISE", 0.05)  # as little as Computed's, beside its gains
  config = config_of(optimizer, **options)
  config.space = {"name": "digits"}
  config.budget = {"params": 12_000, "madds": 150_000}
  setup, log = make_setup(config), Journal(None)
  expected = estimate.estimate(setup).search
  search.run(setup, computed(setup.space), log)
  in_search = sum(evaluation.replicate < setup.most_measurements for evaluation in log)
  assert 2 / 3 < in_search / expected < 3 / 2


def test_brute_force_says_how_many_networks_there_are():
  setup = make_setup(config_of("brute_force"))
  assert estimate.estimate(setup).search == setup.space.distinct()


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
  [([0], "the start network cannot be trained: out of memory: 9 GB"), ([1, 2], "all finalists")],
)
def test_a_search_without_an_answer_says_why(replicates, words):
  setup = make_setup(config_of("greedy"))
  with pytest.raises(search.SearchFailedError, match=words) as error:
    search.run(setup, failing(setup.space, replicates))
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("value", "words"),
  [
    (12345678901, "12,345,678,901"),
    (12000.0, "12,000"),
    (12000.9, "12,000.9"),
    (12345678901.25, "12,345,678,901.25"),
    (0.000123456, "0.000123"),
  ],
)
def test_numbers_have_separators_and_no_exponent(value, words):
  assert text.number(value) == words


def test_an_estimate_ends_where_the_search_is_long(monkeypatch):
  monkeypatch.setattr(estimate, "_MOST_TRIED", 5)
  setup = make_setup(config_of("partial_enumeration", depth=1))
  assert estimate.estimate(setup).search is None


def test_the_stand_in_is_a_function_of_networks(monkeypatch):
  monkeypatch.setattr(estimate, "_NOISE", 0.0)
  config = digits.get_config()
  config.search.replicates = 4
  setup = make_setup(config)
  values, errors = estimate._stand_in(setup)(
    setup.space.mask(np.array([[0, 2, 0, 0] * 3, [2, 0, 0, 0] * 3, [2, 2, 0, 0] * 3]))
  )
  assert values[0] == values[1] < values[2] < 2 * values[1]
  np.testing.assert_array_equal(errors, 0)


def test_the_plan_counts_short_trainings_apart():
  config = digits.get_config()
  config.search.options = {"batch": 1}  # else as devices are, and four where some are short
  config.train.screen_steps = 100
  plan = dry_run.describe(make_setup(config))
  full = int(re.search(r"about (\d+) trainings in full in the search after 15 short ones", plan)[1])
  config.train.screen_steps = 0
  plan = dry_run.describe(make_setup(config))
  assert f"about {full + 8} trainings in the search" in plan
  config.train.screen_steps, config.search.optimizer = 100, "random_search"
  config.search.options = {}
  plan = dry_run.describe(make_setup(config))
  assert "in full in the search (short ones of large calls apart)" in plan


def test_a_search_of_ones_own_optimizer_without_an_end_says_so(monkeypatch):
  endless = lambda: simulated_annealing(10**6)  # noqa: E731
  monkeypatch.setattr("examples.new_optimizer.endless", endless, raising=False)
  config = config_of("examples.new_optimizer:endless")
  plan = dry_run.describe(make_setup(config))
  assert "more than 1,000 trainings in the search" in plan
  assert "set config.search.max_evaluations to limit it" in plan
  config.search.max_evaluations = 7
  assert "at most 7 trainings in the search" in dry_run.describe(make_setup(config))


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


def test_the_time_left_falls_with_the_finalists_and_counts_steps():
  watch = live._Watch(make_setup(tiny_config.get_config()))
  final = watch.expected.final
  done = types.SimpleNamespace(trained=20, steps=60, reused=0, failed={}, seconds=30.0)
  watch.working(done, "finalists")  # 12 steps each, of half a second
  assert f"{live.duration(6 * final)} of training left" in watch.line
  done.trained, done.steps = 20 + final - 1, 60 + 12 * (final - 1)
  done.seconds += 6.0 * (final - 1)
  watch.working(done, "signal")
  watch.progress(0.5)
  assert "0:06 of training left" in watch.line
  assert len(watch.status()) < 80


def test_the_time_left_is_the_estimate_until_the_budgets_tell_more():
  watch = live._Watch(make_setup(tiny_config.get_config()))
  full, expected = watch.full_steps, watch.expected
  counts = types.SimpleNamespace(trained=6, steps=6 * full, reused=0, failed={}, seconds=6.0)
  row = {"run": "unit", "step": 1, "value": 0.0, "tie": False}
  watch.accepted(
    row | {"resources": {name: limit / 2 for name, limit in watch.setup.budget.items()}}
  )
  watch.working(counts, "greedy")
  left = expected.search - 6 + expected.final  # One second each.
  assert f"{live.duration(left)} of training left" in watch.line
  counts.trained, counts.steps, counts.seconds = 16, 16 * full, 16.0
  watch.progress(0.0)
  share = watch._share_used(watch.rows["unit"])
  left = 10 * (1 - share) / share + expected.final
  assert f"{live.duration(left)} of training left" in watch.line


def test_a_search_that_a_limit_ended_says_so():
  config = tiny_config.get_config()
  config.search.max_evaluations = 10
  setup = make_setup(config)
  assert text.limit_lines(setup, {"measured": 9}) == []
  [line] = text.limit_lines(setup, {"measured": 10})
  assert "config.search.max_evaluations=10" in line
  unlimited = make_setup(tiny_config.get_config())
  assert text.limit_lines(unlimited, {"measured": 10}) == []

"""Plans: the estimate of a search, its dry run, and the time that is left."""

import io
import types

import jax
import numpy as np
import pytest
from rich.console import Console

from configs import digits
from examples.new_optimizer import simulated_annealing
from nas_submod import optimizers, parallel, search
from nas_submod.evaluation.journal import Journal
from nas_submod.report import dry_run, live
from nas_submod.search import estimate
from nas_submod.search.setup import make_setup
from tests import tiny_config
from tests.evaluators import computed
from tests.test_search import EXAMPLE, config_of

PLANS = {
  "rcas": {},
  "greedy_plus_max": {},
  "stochastic_greedy": {"sample": 2},
  "exchange": {},
  "regularized_evolution": {},
  EXAMPLE: {},
  "brute_force": {},
}


@pytest.mark.parametrize(
  "optimizer",
  [
    pytest.param(name, marks=pytest.mark.slow if name in ("exchange", "brute_force") else ())
    for name in PLANS
  ],
)
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
    assert "at most 12 trainings in the search besides the start network, at most 8 for" in plan
    assert in_search == 12 and len(log) <= 20


@pytest.mark.parametrize(
  ("optimizer", "options"),
  [
    ("rcas", {}),
    ("greedy_plus_max", {}),
    pytest.param("exchange", {}, marks=pytest.mark.slow),
    (EXAMPLE, {"evaluations": 40}),
  ],
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


def test_an_estimate_ends_where_the_search_is_long(monkeypatch):
  monkeypatch.setattr(estimate, "_MOST_TRIED", 5)
  setup = make_setup(config_of("partial_enumeration", depth=1))
  assert estimate.estimate(setup).search is None


def test_a_long_search_with_a_limit_has_rounds_for_all_its_trainings(monkeypatch):
  monkeypatch.setattr(estimate, "_MOST_TRIED", 5)
  config = config_of("partial_enumeration", depth=1)
  config.search.max_evaluations = 50
  found = estimate.estimate(make_setup(config))
  devices = jax.device_count()
  assert found.rounds == -(-found.search // devices) - (-found.final // devices)
  assert found.search > 5


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


@pytest.mark.parametrize(("optimizer", "share"), [("random_search", 1), ("rcas", 0.5)])
def test_the_guess_of_the_time_has_networks_of_every_size_if_the_search_grows(
  optimizer, share, monkeypatch
):
  monkeypatch.setattr(dry_run, "_typical_madds", lambda setup: 10e6)
  monkeypatch.setattr(dry_run, "_madds_per_second", lambda: 1e6)
  monkeypatch.setattr(dry_run, "network_cost", lambda *_: {"madds": 0.0})
  setup = make_setup(config_of(optimizer))
  expected, train = estimate.estimate(setup), setup.config["train"]
  images = expected.rounds * train["steps"] * train["batch_size"]  # of a device
  seconds = 4 * images * share * 10e6 / 1e6
  assert f"{live.duration(seconds)} (a rough guess" in dry_run.describe(setup)


@pytest.mark.parametrize("devices", [1, 8])
def test_a_round_that_leaves_devices_idle_takes_as_long_as_a_full_one(devices, monkeypatch):
  monkeypatch.setattr(parallel, "device_count", lambda: devices)
  setup = make_setup(config_of("rcas"))
  stand_in, rounds = estimate._stand_in(setup), 0

  def value(masks):
    nonlocal rounds
    rounds += -(-len(masks) // devices)
    return stand_in(masks)

  optimizers.maximize(setup.problem, value, setup.optimizer, seed=setup.config["seed"])
  expected = estimate.estimate(setup)
  assert expected.rounds == rounds + -(-expected.final // devices)
  if devices == 1:
    assert expected.rounds == expected.search + expected.final
  else:
    assert expected.rounds > -(-expected.search // devices) + -(-expected.final // devices)


@pytest.mark.parametrize(
  ("optimizer", "rounds"), [("local_search", 10), ("surrogate", 3), ("random_search", 3)]
)
def test_rounds_are_as_wide_as_the_optimizer_asks(optimizer, rounds, monkeypatch):
  monkeypatch.setattr(parallel, "device_count", lambda: 8)
  expected = estimate.estimate(make_setup(config_of(optimizer, evaluations=10)))
  assert expected.rounds == rounds + -(-expected.final // 8)


def test_a_search_of_ones_own_optimizer_without_an_end_says_so(monkeypatch):
  endless = lambda: simulated_annealing(10**6)  # noqa: E731
  monkeypatch.setattr("examples.new_optimizer.endless", endless, raising=False)
  config = config_of("examples.new_optimizer:endless")
  plan = dry_run.describe(make_setup(config))
  assert "more than 1,000 trainings in the search" in plan
  assert "set config.search.max_evaluations to limit it" in plan
  config.search.max_evaluations = 7
  assert "at most 7 trainings in the search" in dry_run.describe(make_setup(config))


def test_the_time_left_falls_with_the_finalists_and_counts_steps():
  watch = live._Watch(make_setup(tiny_config.get_config()))
  final = watch.expected.final
  done = types.SimpleNamespace(
    trained=20, scored=0, needed=20, steps=60, reused=0, failed={}, seconds=30.0
  )
  watch.working(done, "finalists")  # 12 steps each, of half a second
  assert f"{live.duration(6 * final)} of training left" in watch.line
  done.trained, done.reused, done.steps = 20 + final - 3, 2, 60 + 12 * (final - 3)
  done.seconds += 6.0 * (final - 3)
  watch.working(done, "signal")
  watch.progress(0.5)
  assert watch.line.endswith("round 50%; 0:06 of training left")
  done.reused = 3
  watch.working(done, "signal")
  assert "left" not in watch.line
  assert len(watch.status()) < 80


def test_the_time_left_is_the_estimate_until_the_budgets_tell_more():
  watch = live._Watch(make_setup(tiny_config.get_config()))
  full, expected = watch.full_steps, watch.expected
  counts = types.SimpleNamespace(
    trained=6,
    scored=0,
    needed=watch.expected.search - 2,
    steps=6 * full,
    reused=0,
    failed={},
    seconds=6.0,
  )
  row = {"run": "unit", "step": 1, "value": 0.0, "tie": False}
  watch.accepted(
    row | {"resources": {name: limit / 2 for name, limit in watch.setup.budget.items()}}
  )
  watch.working(counts, "greedy")
  left = 2 + expected.final  # One second each.
  assert f"{live.duration(left)} of training left" in watch.line
  counts.trained, counts.steps, counts.seconds = 16, 16 * full, 16.0
  counts.needed += 10  # As many as after a resume, where the journal held some.
  watch.working(counts, "greedy")
  share = watch._share_used(watch.rows["unit"])
  left = 10 * (1 - share) / share + expected.final
  assert f"{live.duration(left)} of training left" in watch.line


def test_the_start_network_alone_says_nothing_about_the_time_left():
  watch = live._Watch(make_setup(tiny_config.get_config()))
  counts = types.SimpleNamespace(
    trained=1, scored=0, needed=1, steps=12, reused=0, failed={}, seconds=1.0
  )
  watch.working(counts, "greedy")
  assert watch.line == "greedy: trained 1, reused 0, failed 0"
  counts.trained = 2
  watch.working(counts, "greedy")
  assert "of training left" in watch.line


def test_a_log_gets_a_line_a_minute_while_trainings_run(monkeypatch):
  now, out = [0.0], io.StringIO()
  monkeypatch.setattr(live, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
  counts = types.SimpleNamespace(
    trained=6, scored=0, needed=6, steps=72, reused=0, failed={}, seconds=6.0
  )
  with live.live(make_setup(tiny_config.get_config()), Console(file=out)) as display:
    display.working(counts, "greedy")
    for second in range(10, 150, 10):
      now[0] = float(second)
      display.progress(second / 150)
  said = [line.split()[0] for line in out.getvalue().splitlines()[1:]]
  assert said == ["0:00", "1:00", "2:00"]


def test_a_log_says_at_once_that_a_program_is_compiled_and_only_then():
  out = io.StringIO()
  counts = types.SimpleNamespace(
    trained=0, scored=0, needed=4, steps=0, reused=4, failed={}, seconds=0.0
  )
  with live.live(make_setup(tiny_config.get_config()), Console(file=out, width=200)) as display:
    display.working(counts, "greedy")
    assert out.getvalue().endswith("greedy: trained 0, reused 4, failed 0\n")
    display.progress(0.0)
  assert out.getvalue().count("greedy: compiling one program for all networks") == 1


def test_a_narrow_terminal_folds_numbers():
  """A number that is cut short is another number."""
  config = tiny_config.get_config()
  config.space.name = "mine [/v2]"  # no markup
  watch = live._Watch(make_setup(config))
  row = {"run": "madds", "step": 10, "value": -2.2345, "tie": False}
  watch.accepted(row | {"resources": {"params": 117_184, "madds": 117_184}})
  out = io.StringIO()
  Console(file=out, width=40).print(watch.table())
  printed = out.getvalue()
  assert "…" not in printed and "mine [/v2]" in printed
  rows = [line.split("│") for line in printed.splitlines() if "│" in line]
  values, costs = ("".join(row[place].strip() for row in rows) for place in (3, 4))
  assert values == "-2.2345" and costs.startswith("117,184")

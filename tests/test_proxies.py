"""The comparison of ways to train less: chains of networks, what each way changes, a small run."""

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from benchmarks import proxies, searches
from configs import cifar100, digits
from nas_submod import resources, training
from nas_submod.evaluation.evaluator import Evaluation
from nas_submod.evaluation.objective import Objective
from nas_submod.search.setup import first_additions, make_setup
from tests import tiny_config


def test_chains_are_distinct_fit_and_each_network_has_a_parent():
  setup = make_setup(digits.get_config())
  found = proxies.random_chains(setup, 16)
  assert len(set(found)) == 16 and found[0] == setup.space.start
  assert len({np.count_nonzero(network) for network in found}) > 3
  keys = {setup.space.key(network) for network in found}
  for network in found[1:]:
    cost = resources.network_cost(setup.space, network)
    assert all(cost[name] <= limit for name, limit in setup.budget.items())
    smaller = [[*network[:i], 0, *network[i + 1 :]] for i in np.flatnonzero(network) if i != 8]
    assert keys & {setup.space.key(s) for s in smaller}


@pytest.mark.parametrize("config", [digits.get_config(), cifar100.get_config()])
def test_the_short_way_is_a_third_in_all(config):
  setup = make_setup(digits.get_config())
  steps = training.recipe(config.train, setup.data).steps
  for name, changes in proxies.ways(config, steps).items():
    changed = searches.changed(config, 7, changes)
    assert changed.seed == 7 and config.seed == 0
    training.recipe(changed.train, setup.data)  # Raises if it is not possible.
    if name == "short":
      short = training.recipe(changed.train, setup.data)
      full = training.recipe(config.train, setup.data)
      assert abs(short.steps - full.steps / 3) < 1
      for share in (0.1, 0.5, 0.8):
        rates = [r.learning_rate(int(share * r.steps)) for r in (short, full)]
        np.testing.assert_allclose(*rates, rtol=1e-2)


def test_the_first_step_of_a_race_means_replicates_of_what_is_close_and_goes_no_further():
  config = tiny_config.get_config()
  config.search.options = {"race": [1, 3, 6]}
  setup = make_setup(config)
  networks = [setup.space.canonical(a) for a in first_additions(setup)]
  networks = [tuple(network.tolist()) for network in networks]
  rng = np.random.default_rng(0)
  asked = {}

  def noisy(jobs):
    for job in jobs:
      mean = 100 if job.architecture in networks[1:3] else 0
      known = asked.setdefault(job.architecture, {})
      known[job.replicate] = rng.normal(mean)
      metrics = {"loss": -known[job.replicate]}
      yield Evaluation(setup.space.key(job.architecture), job.replicate, metrics, 0.0)

  objective = Objective(setup.space, noisy, setup.score)
  values = proxies.race_first_step(setup, objective, networks)
  assert set(asked) == set(networks)
  start_and_close = networks[:3]
  assert all(len(known) == (6 if n in start_and_close else 1) for n, known in asked.items())
  np.testing.assert_allclose(values, [np.mean(list(asked[n].values())) for n in networks])


@pytest.mark.slow
def test_rankings_and_searches_of_a_tiny_space(tmp_path):
  if not flags.FLAGS.is_parsed():
    flags.FLAGS(["test"])
  with flagsaver.flagsaver(ranked=9, runs=1, references=2):
    table = proxies.rank(tiny_config.get_config(), tmp_path / "rank")
    assert table.row_count == 3
    with flagsaver.flagsaver(first_additions=True):
      assert proxies.rank(tiny_config.get_config(), tmp_path / "first").row_count == 4
    table = proxies.search_all(
      tiny_config.get_config(), tmp_path / "search", proxies.Console(quiet=True)
    )
    assert table.row_count == 5


def test_ways_are_chosen_by_name():
  config = tiny_config.get_config()
  if not flags.FLAGS.is_parsed():
    flags.FLAGS(["test"])
  with flagsaver.flagsaver(ways=["short", "race"]):
    assert list(proxies.chosen_ways(config, 20)) == ["short", "race"]
  with flagsaver.flagsaver(ways=["long"]), pytest.raises(ValueError, match="unknown way 'long'"):
    proxies.chosen_ways(config, 20)

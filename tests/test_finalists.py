"""Networks trained again with fresh seeds: which they are, and which noise leaves open."""

import numpy as np
import pytest
from scipy import stats

from configs import digits
from nas_submod import search
from nas_submod.evaluation.journal import Journal
from nas_submod.search.setup import prepare
from tests.test_search import Computed, config_of


@pytest.fixture
def computed(monkeypatch):
  monkeypatch.setattr(search.loop, "ProxyObjective", Computed)


def test_the_answer_is_a_finalist_where_no_run_went_there(computed):
  config = config_of("greedy_plus_max", rule="density:0")
  config.budget = {"params": 1_000}
  setup = prepare(config)
  result = search.run(setup, Journal(None))
  [step] = [step for step in result["path"] if step["run"] == "answer"]
  assert step["value"] > max(s["value"] for s in result["path"] if s is not step)
  assert "answer" in [finalist["run"] for finalist in result["finalists"]]


@pytest.mark.parametrize(("gap", "tie"), [(0.99, True), (1.01, False)])
def test_the_noise_of_all_finalists_is_one_and_a_difference_has_it_twice(gap, tie):
  # Variances 1, 4 and 1/4; the 95% quantile of Student's t with 6 degrees of freedom is 1.943.
  margin = 1.943 * np.sqrt((1 + 4 + 0.25) / 3 * (1 / 3 + 1 / 3))
  noise = np.outer([1, 2, 0.5], [-1, 0, 1])
  means = np.array([[10], [0], [10 - gap * margin]])
  assert search.statistical_ties(means + noise) == [False, False, tie]


def test_no_network_is_a_finalist_twice(computed):
  config = digits.get_config()
  config.search.optimizer = "partial_enumeration"
  config.search.options = {"depth": 1, "inner": "greedy", "chunk": 8}
  config.search.finalists = 4
  setup = prepare(config)
  finalists = search.run(setup, Journal(None))["finalists"]
  assert len({setup.space.key(f["architecture"]) for f in finalists}) == 4


def test_two_finalists_tie_unless_a_t_test_tells_them_apart():
  rng = np.random.default_rng(0)
  found = []
  for ahead in np.linspace(0, 3, 60):
    scores = rng.normal([[ahead], [0]], size=(2, 4))
    scores = scores[np.argsort(-scores.mean(axis=1))]
    significant = stats.ttest_ind(*scores, alternative="greater").pvalue < 0.05
    found.append(search.statistical_ties(scores)[1])
    assert found[-1] == (not significant)
  assert len(set(found)) == 2


@pytest.mark.parametrize(
  ("scores", "ties"),
  [
    ([[1, 1.1], [0.95, 1.1], [-np.inf, 2], [0, 0.1]], [False, True, False, False]),
    ([[1.0, 1.0], [1.0, 1.0]], [False, False]),  # Not better, without noise.
    ([[-np.inf, 0.0]], [False]),
  ],
)
def test_finalists_that_tie_with_the_best(scores, ties):
  assert search.statistical_ties(np.array(scores)) == ties

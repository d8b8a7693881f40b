"""Networks trained again with fresh seeds: which they are, and which noise leaves open."""

import numpy as np
import pytest
from scipy import stats

from configs import digits
from nas_submod import search
from nas_submod.evaluation.evaluator import Evaluation
from nas_submod.evaluation.journal import Journal
from nas_submod.problem import Problem
from nas_submod.search.finalists import binding, statistical_ties
from nas_submod.search.setup import make_setup
from tests.evaluators import computed
from tests.test_search import config_of


def test_the_answer_is_a_finalist_where_no_run_went_there():
  config = config_of("greedy_plus_max", rule="density:0")
  config.budget = {"params": 1_000}
  setup = make_setup(config)
  result = search.run(setup, computed(setup.space))
  [step] = [step for step in result["path"] if step["run"] == "answer"]
  assert step["value"] > max(s["value"] for s in result["path"] if s is not step)
  assert "answer" in [finalist["run"] for finalist in result["finalists"]]


@pytest.mark.parametrize(("gap", "tie"), [(0.99, True), (1.01, False)])
def test_the_noise_of_all_finalists_is_one_and_a_difference_has_it_twice(gap, tie):
  # Variances 1, 4 and 1/4; the 95% quantile of Student's t with 6 degrees of freedom is 1.943.
  margin = 1.943 * np.sqrt((1 + 4 + 0.25) / 3 * (1 / 3 + 1 / 3))
  noise = np.outer([1, 2, 0.5], [-1, 0, 1])
  means = np.array([[10], [0], [10 - gap * margin]])
  assert statistical_ties(means + noise) == [False, False, tie]


@pytest.mark.slow
def test_no_network_is_a_finalist_twice():
  config = digits.get_config()
  config.search.optimizer = "partial_enumeration"
  config.search.options = {"depth": 1, "inner": "greedy", "chunk": 8}
  config.search.finalists = 4
  setup = make_setup(config)
  finalists = search.run(setup, computed(setup.space))["finalists"]
  assert len({setup.space.key(f["architecture"]) for f in finalists}) == 4


def test_two_finalists_tie_unless_a_t_test_tells_them_apart():
  rng = np.random.default_rng(0)
  found = []
  for ahead in np.linspace(0, 3, 60):
    scores = rng.normal([[ahead], [0]], size=(2, 4))
    scores = scores[np.argsort(-scores.mean(axis=1))]
    significant = stats.ttest_ind(*scores, alternative="greater").pvalue < 0.05
    found.append(statistical_ties(scores)[1])
    assert found[-1] == (not significant)
  assert len(set(found)) == 2


@pytest.mark.parametrize(
  ("scores", "ties"),
  [
    ([[1, 1.1], [0.95, 1.1], [-np.inf, 2], [0, 0.1]], [False, True, False, False]),
    ([[1.0, 1.0], [1.0, 1.0]], [False, True]),  # Equal, without noise.
    ([[-np.inf, 0.0]], [False]),
  ],
)
def test_finalists_that_tie_with_the_best(scores, ties):
  assert statistical_ties(np.array(scores)) == ties


def alternating(space):
  """A loss that falls by 0.3, 0.2 and 0.1 with the first blocks; replicates vary by 0.1."""
  losses = (2.0, 1.7, 1.5, 1.4, 1.3)

  def evaluate(jobs):
    for job in jobs:
      blocks = np.count_nonzero(job.architecture) - 1
      loss = losses[blocks] + 0.1 * (-1) ** job.replicate
      yield Evaluation(space.key(job.architecture), job.replicate, {"loss": loss}, 0.0)

  return evaluate


def test_the_signal_compares_replicates_with_the_first_three_gains():
  config = config_of("greedy")
  config.budget = {"params": 10_000}
  config.search.finalist_replicates = 4
  setup = make_setup(config)
  signal = search.run(setup, alternating(setup.space))["signal"]
  deviation = np.std([1, -1, 1, -1], ddof=1) * 0.1
  assert signal["additions"] == 3
  np.testing.assert_allclose(signal["mean_gain_of_first_additions"], (0.3 + 0.2 + 0.1) / 3)
  np.testing.assert_allclose(signal["replicate_standard_deviation"], deviation)
  np.testing.assert_allclose(signal["ratio"], deviation / 0.2)
  assert signal["replicates"] == 4 * 3  # Two finalists and the start; the best was added third.


def test_a_failed_training_of_the_start_network_leaves_no_gain():
  config = config_of("greedy")
  config.budget = {"params": 10_000}
  setup = make_setup(config)
  evaluate = alternating(setup.space)

  def failing(jobs):
    for job, evaluation in zip(jobs, evaluate(jobs)):
      fails = list(job.architecture) == list(setup.space.start) and job.replicate > 0
      yield evaluation._replace(metrics=None, cause="diverged") if fails else evaluation

  signal = search.run(setup, failing)["signal"]
  assert signal["mean_gain_of_first_additions"] is None and signal["ratio"] is None


def test_finalists_are_trained_where_the_journal_has_scores_of_more_replicates():
  log = Journal(None)
  for replicates in (2, 1):
    config = config_of("random_search", evaluations=5)
    config.evaluation.update({"method": "shared_weights", "statistics_images": 8})
    config.search.replicates = replicates
    setup = make_setup(config)
    evaluate = alternating(setup.space)

    def scored(jobs, evaluate=evaluate):
      for job, evaluation in zip(jobs, evaluate(jobs)):
        loss = {"loss": evaluation.metrics["loss"] + 100}
        score = evaluation._replace(metrics=loss, method="shared_weights")
        yield evaluation if job.full else score

    result = search.run(setup, scored, log)
    assert min(result["finalists"][0]["scores"]) > -100


def test_a_search_that_does_not_grow_has_no_gain_in_its_signal():
  setup = make_setup(config_of("random_search", evaluations=5))
  signal = search.run(setup, alternating(setup.space))["signal"]
  assert signal["mean_gain_of_first_additions"] is None and signal["ratio"] is None
  assert signal["replicate_standard_deviation"] > 0


# Costs of (position, option) elements: two free positions with two options each, and one taken.
@pytest.mark.parametrize(
  ("costs", "budget", "expected"),
  [
    ([[5, 1], [9, 1], [5, 1], [9, 1]], [12, 100], ["a"]),  # 10 is used, the cheapest needs 5.
    ([[5, 1], [9, 1], [5, 1], [9, 1]], [15, 100], []),
    ([[5, 9], [9, 9], [5, 9], [9, 9]], [12, 12], ["a", "b"]),
    ([[5, 1], [5, 1], [1, 5], [1, 5]], [14, 13], ["a", "b"]),  # Each fits one budget.
    ([[1, 9, 1], [9, 1, 9], [1, 9, 1], [9, 1, 9]], [14, 14, 14], ["b"]),  # More b alone would do.
    ([[5, 5, 1], [1, 5, 5], [5, 1, 5], [5, 5, 1]], [14, 13, 14], ["b"]),  # b is the tightest.
  ],
)
def test_a_budget_binds_where_it_leaves_no_room_for_a_block(costs, budget, expected):
  setup = make_setup(config_of("greedy"))
  groups = np.asarray(setup.space.groups)
  cost = np.zeros((setup.space.elements, len(budget)))
  cost[(groups == 0) | (groups == 1)] = costs
  cost[(groups == 2) | (groups == 3)] = 100
  architecture = [0, 0, 1, 1]
  cost[np.flatnonzero(setup.space.mask(np.array(architecture)))] = 5
  problem = Problem(groups=groups, cost=cost, budget=budget)
  setup = setup._replace(problem=problem, budget=dict(zip("abc", budget)))
  assert binding(setup, architecture) == expected
  assert binding(setup, [1, 1, 1, 1]) == ["positions"]

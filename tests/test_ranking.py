"""The benchmark of shared weights: its statistics, its models, and its tables with known scores."""

import functools
import itertools

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from scipy import optimize, stats

from benchmarks import pool_searches, ranking, scored_networks, shared_weights, tables
from benchmarks.scored_networks import Scores
from configs import digits
from nas_submod import resources, training
from nas_submod.evaluation.evaluator import Evaluation
from nas_submod.evaluation.journal import Journal
from nas_submod.evaluation.shared_weights import score, store
from nas_submod.networks import build_universal
from nas_submod.search.setup import make_setup
from tests import tiny_config, tiny_table


@pytest.fixture(scope="module", autouse=True)
def flags_have_their_defaults():
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope="module")
def setup():
  return make_setup(digits.get_config())


def test_the_rank_correlation_is_that_of_scipy_and_0_for_a_constant():
  rng = np.random.default_rng(0)
  left, right = rng.integers(0, 9, (2, 40)).astype(float)  # with ties
  assert ranking.spearman(left, right) == pytest.approx(stats.spearmanr(left, right).statistic)
  assert ranking.spearman(left, np.ones(40)) == 0


def test_the_quality_of_a_score_by_hand(monkeypatch):
  monkeypatch.setattr(ranking, "TOP", 2)
  reference = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
  score = np.array([1.0, 2.0, 6.0, 5.0, 4.0, 3.0])
  found = ranking.quality(score, reference)
  # Squared differences of the ranks are 0, 0, 9, 1, 1, 9.
  assert found.all == pytest.approx(1 - 6 * 20 / (6 * 35))
  assert found.best_half == pytest.approx(-1)  # of 4, 5 and 6
  assert found.top == 4  # of the references 3 and 4


def test_the_best_of_a_random_order_is_that_of_all_choices(monkeypatch):
  monkeypatch.setattr(ranking, "TOP", 3)
  reference = np.random.default_rng(1).normal(size=7)
  best = [max(chosen) for chosen in itertools.combinations(reference, 3)]
  assert ranking.random_order(reference).top == pytest.approx(np.mean(best))


def test_deviations_and_reliability_are_those_that_the_trainings_were_drawn_with():
  rng = np.random.default_rng(0)
  true = rng.normal(0, 2, 4_000)
  trainings = true[:, None] + rng.normal(0, 3, (4_000, 4))
  assert ranking.deviations(trainings) == pytest.approx((3, 2), rel=0.05)
  means = trainings.mean(axis=1)
  reliability = ranking.reliability(trainings)
  assert reliability == pytest.approx(2**2 / (2**2 + 3**2 / 4), abs=0.03)
  # The square root is what the true values get, and the simulation does not know them.
  assert ranking.spearman(true, means) == pytest.approx(reliability**0.5, abs=0.02)
  known = ranking.quality(true, means)
  simulated = ranking.perfect(trainings[:400])
  assert simulated.all == pytest.approx(known.all, abs=0.05)
  assert simulated.best_half == pytest.approx(known.best_half, abs=0.07)


def test_errors_are_those_of_repeated_experiments():
  rng = np.random.default_rng(0)
  pairs = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], (200, 60))
  found = [ranking.spearman(*pair.T) for pair in pairs]
  stated = [ranking.judged(pair[:, :1].T, [pair[:, 1]])[1].all for pair in pairs[:5]]
  assert np.mean(stated) == pytest.approx(np.std(found), rel=0.25)


def test_an_additive_model_predicts_what_its_blocks_explain():
  rng = np.random.default_rng(0)
  elements, depth = rng.random((200, 30)) < 0.5, rng.normal(size=(200, 1))
  noise = rng.normal(size=(200, 1))
  rows = np.arange(12)
  values = 3 + 0.1 * depth[:, 0]
  with_depth = ranking.Additive([elements.astype(float), noise, depth]).predict(rows, values[rows])
  assert stats.spearmanr(with_depth[12:], values[12:]).statistic > 0.9
  without = ranking.Additive([elements.astype(float), noise]).predict(rows, values[rows])
  assert stats.spearmanr(without[12:], values[12:]).statistic < 0.5
  # Equal values say nothing, and are predicted.
  assert ranking.Additive([depth]).predict(rows, np.ones(12)) == pytest.approx(np.ones(200))


def test_the_gradient_of_the_evidence_is_that_of_differences():
  rng = np.random.default_rng(0)
  blocks = rng.normal(size=(2, 6, 3))
  kernels = np.array([*(block @ block.T for block in blocks), np.eye(6)])
  targets, centre, logs = rng.normal(size=6), rng.normal(size=3), rng.normal(size=3)
  density = functools.partial(ranking._evidence, kernels, targets, centre)
  found = optimize.approx_fprime(logs, lambda logs: density(logs)[0], 1e-6)
  np.testing.assert_allclose(density(logs)[1], found, rtol=1e-4)
  covariance = np.einsum("b,bij->ij", np.exp(logs), kernels) + ranking._FLOOR * np.eye(6)
  likelihood = stats.multivariate_normal(np.zeros(6), covariance).logpdf(targets)
  prior = stats.norm(centre, ranking._BREADTH).logpdf(logs).sum()
  other = stats.norm(0, ranking._BREADTH).logpdf(0) * 3 - 3 * np.log(2 * np.pi)
  assert -density(logs)[0] == pytest.approx(likelihood + prior - other)


def test_networks_are_distinct_and_near_a_budget(setup, monkeypatch):
  networks = scored_networks.random_networks(setup, 40)
  assert len(set(networks)) == 40 and networks[:9] == scored_networks.random_networks(setup, 9)
  for network in networks:
    cost = resources.network_cost(setup.space, network)
    shares = [cost[name] / limit for name, limit in setup.budget.items()]
    assert 0.8 <= max(shares) <= 1
  monkeypatch.setattr(scored_networks, "_ROUNDS", 2)
  tight = make_setup(digits.get_config("smoke"))
  tight = tight._replace(problem=tight.problem.replace(budget=tight.problem.budget * 100))
  with pytest.raises(
    ValueError, match="only 0 networks that use 80% of a budget were found, 5 are"
  ):
    scored_networks.random_networks(tight, 5)


@pytest.mark.slow
def test_scores_are_those_of_each_store_and_are_kept(tmp_path, monkeypatch):
  config = tiny_config.get_config()
  config.evaluation.update({"stores": 2, "statistics_images": 64})
  setup = make_setup(config)
  network = build_universal(setup.space)
  stores = [store.start(network, jax.random.key(number)) for number in range(2)]
  monkeypatch.setattr(scored_networks.Shared, "_trained", lambda self, number: stores[number])
  chosen = [setup.space.parse(text) for text in (". | e2", "e2 | e2", "e2 e2 | e2")]
  found = scored_networks.Shared(setup, tmp_path).scores(chosen, 64)
  metrics = score.make_metrics(setup.space, training.recipe(config.train, setup.data))
  for number, row in enumerate(found.loss):
    value = score.value(setup.space, metrics, score.scoring_data([stores[number]], setup.data, 64))
    for architecture, own in zip(chosen, row):
      assert value(setup.space.mask(architecture)) == pytest.approx(own, rel=1e-4)
  assert found.feature[:, 0] == pytest.approx(found.loss.mean(axis=0))
  assert found.seconds > 0 and len(set(found.loss.ravel().tolist())) == 6

  def fails(*_):
    raise AssertionError("scored again")

  monkeypatch.setattr(scored_networks, "SharedWeights", lambda *_: fails)
  again = scored_networks.Shared(setup, tmp_path).scores(chosen, 64)
  np.testing.assert_array_equal(again.loss, found.loss)
  np.testing.assert_array_equal(again.accuracy, found.accuracy)


def test_the_model_of_the_surrogate_learns_what_a_score_says(setup, monkeypatch):
  networks = scored_networks.random_networks(setup, 70)
  masks = setup.space.mask(np.array(networks))
  values = np.random.default_rng(0).normal(size=70)  # which nothing explains
  rows = np.arange(20)
  with_score, without = (
    scored_networks.Surrogate(setup.problem, masks, score) for score in (values[:, None], None)
  )
  predicted = with_score.predict(rows, values[rows])
  assert ranking.spearman(predicted[20:], values[20:]) > 0.8
  assert abs(ranking.spearman(without.predict(rows, values[rows])[20:], values[20:])) < 0.4
  monkeypatch.setattr(scored_networks, "_ROOM", 20)  # No row is filled up.
  # 200 steps of Adam amplify float32 rounding; values have a standard deviation of 1.
  np.testing.assert_allclose(with_score.predict(rows, values[rows]), predicted, atol=0.01)


def depth_of(network):
  return np.count_nonzero(network)


def known_parts(monkeypatch, trainings, scores):
  """Replaces trainings by depth with noise, and shared weights by known scores."""

  class Trainer:
    def __init__(self, space, data, config):
      self._space, self._steps = space, config["train"]["steps"]

    def __call__(self, jobs):
      for job in jobs:
        trainings.append((job, self._steps))
        noise = np.random.default_rng([job.replicate, *job.architecture]).normal(0, 0.5)
        metrics = {"loss": 20 - depth_of(job.architecture) + noise, "accuracy": 0.0}
        yield Evaluation(self._space.key(job.architecture), job.replicate, metrics, 0.0)

  class Shared(scored_networks.Shared):
    def _trained(self, number):
      return number

    def scores(self, networks, images):
      found = np.array([[float(depth_of(network)) for network in networks]])
      scores.append(images)
      return Scores(found, -found, 0.5)

  monkeypatch.setattr(shared_weights, "TrainingEvaluator", Trainer)
  monkeypatch.setattr(shared_weights, "Shared", Shared)


def row_of(tables, name):
  cells = [list(column.cells) for column in tables[0].columns]
  return [cell[cells[0].index(name)] for cell in cells[1:]]


@pytest.mark.slow
def test_known_scores_have_known_rows(setup, monkeypatch, tmp_path):
  trainings, scores = [], []
  known_parts(monkeypatch, trainings, scores)
  with flagsaver.flagsaver(judged=12, trainings=16, fits=2, statistics=["128", "896"]):
    tables = shared_weights.rank(setup, tmp_path)
  # 16,000 steps are 17.8 trainings of 900: models are fitted to 10 and to 18.
  assert len(trainings) == 12 * 16 + 12 + 2 * 18
  short = {job.replicate for job, steps in trainings if steps == 300}
  assert short == {shared_weights._SHORT}
  assert {steps for job, steps in trainings if job.replicate not in short} == {900}
  assert scores == [896, 128, 896]
  assert row_of(tables, "shared weights, loss")[1:] == row_of(tables, "depth")[1:]
  assert float(row_of(tables, "depth")[1].split()[0]) > 0.9
  assert float(row_of(tables, "shared weights, accuracy")[1].split()[0]) < -0.9
  prices = {
    "one training, against the others": "12",
    "a third of a training": "4",
    "depth": "0",
    "additive, 10 trainings": "10",
    "additive, 18 trainings": "18",
    "shared weights, loss": "18",
    "additive, shared weights, 18 trainings": "36",
    "surrogate, 10 trainings": "10",
  }
  assert {name: row_of(tables, name)[0] for name in prices} == prices
  assert row_of(tables, "the best network")[1:3] == ["1.00", "1.00"]


def test_a_failed_training_is_named(setup):
  def failing(jobs):
    for job in jobs:
      yield Evaluation(setup.space.key(job.architecture), 0, None, 0.0, cause="diverged")

  job = scored_networks.Job(setup.space.start, 0)
  with pytest.raises(ValueError, match=r"trainings: network 0.* failed: diverged"):
    scored_networks.evaluated(failing, setup, Journal(None), [job], "trainings")


def test_a_search_by_a_model_that_is_right_finds_the_best():
  rng = np.random.default_rng(0)
  size, score = rng.normal(size=(2, 80))
  accuracies = (90 + score)[:, None] + rng.normal(0, 0.01, (80, 3))
  model = ranking.Additive([size[:, None], score[:, None]])
  answers = pool_searches.additive_search(model, size, score, accuracies, rng)
  assert answers == [int(np.argmax(score))] * len(pool_searches.TRAININGS)


@pytest.fixture(scope="module")
def table_setup():
  """A space of 49 networks without a start set, whose largest network is within the budgets."""
  config = tiny_config.get_config()
  config.space.update({"stages": ((4, 2, 1), (8, 2, 1)), "start": ". | ."})
  config.budget = resources.budgets(params=1e6, madds=1e6)
  config.evaluation.statistics_images = 64
  return make_setup(config)


@pytest.fixture(scope="module")
def table(table_setup, tmp_path_factory):
  """Trainings of all networks: twice the first stage's blocks and the others', with noise."""
  space, rows = table_setup.space, []
  for network in itertools.product(range(3), repeat=4):
    canonical = space.canonical(network)
    cost = resources.network_cost(space, network)
    noise = np.random.default_rng(canonical).normal(0, 0.01, 2)
    accuracy = 50 + 2 * depth_of(network[:2]) + depth_of(network[2:])
    rows.append(
      {
        "arch": "".join(map(str, network)),
        "canonical": "".join(map(str, canonical)),
        "acc0": accuracy + noise[0],
        "acc1": accuracy + noise[1],
        "params": cost["params"],
        "flops": cost["madds"],
      }
    )
  return tables.Table(tiny_table.write(tmp_path_factory.mktemp("table") / "own.csv", rows))


def test_networks_of_a_table_are_all_distinct_ones(table_setup, table, setup):
  networks = shared_weights.networks_of(table_setup, table)
  space = table_setup.space
  assert len({space.key(network) for network in networks}) == len(networks) == space.distinct()
  with flagsaver.flagsaver(judged=5):
    np.testing.assert_array_equal(shared_weights.networks_of(table_setup, table), networks[:5])
  with pytest.raises(ValueError, match="is not of the space digits, or"):
    shared_weights.networks_of(setup, table)


@pytest.mark.slow
def test_a_table_ranks_and_searches_by_known_scores(table_setup, table, monkeypatch, tmp_path):
  known_parts(monkeypatch, [], [])
  monkeypatch.setattr(pool_searches, "TRAININGS", (2, 4))
  monkeypatch.setattr(pool_searches, "SEEDS", 3)
  monkeypatch.setattr(shared_weights, "_FOLLOWING", (5, 20))
  asked = []

  def surrogate(instance, masks, features):
    asked.append((len(masks), features is None))
    return np.zeros((3, 2))

  monkeypatch.setattr(pool_searches, "_surrogate", surrogate)
  found = shared_weights.on_a_table(table_setup, tmp_path, table)
  assert row_of(found, "depth") == row_of(found, "shared weights, loss")
  assert float(row_of(found, "additive, 20 trainings")[0].split()[0]) > 0.9
  # All budgets have the same arrays, so that they share a program.
  assert asked == [(49, True), (49, False)] * 6
  sizes = []
  for share in (0.3, 0.8):
    limit = share * table.costs.max(axis=0)
    networks = shared_weights.networks_of(table_setup, table)
    costs = [table.costs[int(table.row(table_setup.space.mask(network)))] for network in networks]
    sizes.append(sum((cost <= limit).all() for cost in costs))
  assert "pools of {} to {} networks".format(*sizes) in found[1].title
  random, scored = (
    float(row_of(found[1:], name)[1].split()[0]) for name in ("random", "best scores")
  )
  assert 0 <= scored < random


@pytest.mark.parametrize(
  ("wrong", "words"),
  [
    ({"statistics": ["128", "x"]}, "--statistics holds 'x'; allowed: whole numbers from 1"),
    ({"against": "absent.csv"}, "absent.csv: no such file"),
  ],
)
def test_a_wrong_flag_is_refused_before_any_work(wrong, words, capsys, monkeypatch):
  monkeypatch.setattr(shared_weights, "make_setup", None)
  with flagsaver.flagsaver(**wrong), pytest.raises(SystemExit):
    shared_weights.main(digits.get_config())
  assert words in capsys.readouterr().err

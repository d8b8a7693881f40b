"""Shared weights: what a step trains, which networks are trained, scores against other programs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import nas_submod as ns
from nas_submod import networks, parallel, search, training
from nas_submod.evaluation.evaluator import BESIDE_TRAININGS, Evaluation, Job
from nas_submod.evaluation.shared_weights import sampling, score, settings, store, train
from nas_submod.evaluation.shared_weights.evaluator import SharedWeights
from nas_submod.networks.search_space import SearchSpace, Stage
from tests import tiny_config

STEPS = 24


def config_of(**store_fields):
  config = tiny_config.get_config()
  config.evaluation.method = "shared_weights"
  config.evaluation.update({"statistics_images": 64, "pool": 12, "least_share": 0.0})
  fields = {"steps": STEPS, "warmup_steps": 2, "steps_per_call": 16, "checkpoint_every": 16}
  config.evaluation.store.update(fields | store_fields)
  return config


@pytest.fixture(scope="module")
def setup():
  return search.make_setup(config_of())


def trained(setup, folder=None, on_progress=lambda step, steps: None, number=0):
  arguments = setup.space, setup.problem, setup.data, setup.config
  return train.train(*arguments, folder, number, on_progress)


@pytest.fixture(scope="module")
def stored(setup):
  return trained(setup)


@pytest.fixture(scope="module")
def metrics(setup):
  recipe = training.recipe(setup.config["train"], setup.data)
  return score.make_metrics(setup.space, recipe)


@pytest.fixture(scope="module")
def held(setup, stored):
  return score.scoring_data([stored], setup.data, 64)


def feasible_networks(setup):
  """All distinct networks within the budgets, by brute force."""
  options = np.indices((3,) * setup.space.positions).reshape(setup.space.positions, -1).T
  masks = jnp.asarray(setup.space.mask(options))
  fits = np.asarray(jax.vmap(setup.problem.feasible)(masks))
  return np.unique(setup.space.canonical(options[fits]), axis=0)


def test_a_network_is_taken_and_put_back_and_no_other_block_changes(setup):
  network = networks.build_universal(setup.space)
  before = store.start(network, jax.random.key(0))
  one, other = jnp.array([1, 2, 2, 0]), jnp.array([1, 0, 1, 0])
  rows = store.where(network, one)
  taken = store.take(before, rows)
  expected = network.init(jax.random.key(0), one).params
  assert jax.tree.map(jnp.shape, taken) == jax.tree.map(jnp.shape, expected)
  after = store.put(before, rows, jax.tree.map(lambda leaf: leaf + 1, taken))
  jax.tree.map(
    np.testing.assert_array_equal,
    store.take(after, rows),
    jax.tree.map(lambda leaf: leaf + 1, taken),
  )
  changed = [int((a != b).any(-1).sum()) for a, b in zip(after[1:], before[1:], strict=True)]
  assert changed == [1, 1, 1, 1, 1]
  # Both have the same first block, the empty position at the end and the head, and no more.
  rows = store.where(network, other)
  moved, still = store.take(after, rows)[1:], store.take(before, rows)[1:]
  assert [bool((a != b).any()) for a, b in zip(moved, still)] == [True, False, False, True, True]


def test_blocks_of_other_inputs_are_other_layers():
  """Stage 2 has 4 input channels behind the empty stage 1, and 6 behind a block of it."""
  space = SearchSpace(
    name="widths",
    image_shape=(8, 8, 1),
    classes=3,
    stem_channels=4,
    stages=(Stage(6, 1), Stage(8, 1)),
    options=(ns.blocks.option(expansion=2),),
  )
  network = networks.build_universal(space)
  rows = [store.where(network, jnp.array(a)) for a in ([0, 1], [1, 1])]
  second_opening = 3
  assert rows[0][second_opening] != rows[1][second_opening]


@pytest.mark.slow
def test_training_one_network_is_ordinary_training(setup, monkeypatch):
  """The budgets allow the start set alone, so every step trains it."""
  start = setup.problem.cost(setup.problem.required)
  problem = setup.problem.replace(budget=start)
  recipe = settings.from_config(setup.config, setup.data).recipe
  found = train.train(setup.space, problem, setup.data, setup.config)

  network = networks.build_universal(setup.space)
  architecture = jnp.array(setup.space.start)
  _, start_key, train_key = jax.random.split(jax.random.fold_in(jax.random.key(0), 0), 3)
  rows = store.where(network, architecture)
  params = store.take(store.start(network, start_key), rows)
  state = training.start(
    networks.Variables(params, store.zero_statistics(network)), recipe.transformation
  )
  order = training.batch_order((0, 0), 200, recipe.batch_size, STEPS)

  @jax.jit
  def step(state, images, labels):
    def apply(params, state, x, train):
      return network.apply(params, state, architecture, x, train)

    return training.train_step(recipe, apply, state, train_key, images, labels)[0]

  for batch in order:
    state = step(state, setup.data.train.images[batch], setup.data.train.labels[batch])
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5),
    store.take(found, rows),
    state.params,
  )


@pytest.mark.slow
def test_sampled_networks_fit_and_options_are_trained_equally_often(setup):
  problem, rounds = setup.problem, 40
  ends = sampling.ends(problem)

  @jax.jit
  def draw(rng):
    def one(counts, key):
      return sampling.next_round(problem, ends, counts, key, 0.0)

    zero = jnp.zeros(problem.n, jnp.int32)
    return jax.lax.scan(one, zero, jax.random.split(rng, rounds))

  counts, masks = draw(jax.random.key(1))
  masks = np.asarray(masks)
  assert jax.vmap(jax.vmap(problem.feasible))(masks).all()
  np.testing.assert_array_equal(counts, masks.sum((0, 1)))
  for end in np.asarray(ends):
    assert (masks == end).all(-1).any(-1).all()  # in every round
  # Where both options fit, no option lags behind the other.
  free = problem.replace(budget=jnp.full_like(problem.budget, 10**6))
  every = jnp.float32(1)
  total = jnp.zeros(problem.n, jnp.int32)
  grow = jax.jit(sampling.grow)
  for number in range(30):
    total += grow(free, total, jax.random.key(number), every)
  first, second = np.asarray(total).reshape(-1, 2).T
  assert (first + second == 30)[:3].all()  # The start set holds an option of the last stage.
  assert np.abs(first - second)[[0, 1, 3]].max() <= 1


def test_shares_of_the_budgets_limit_what_is_sampled(setup):
  problem = setup.problem
  none = jnp.zeros(problem.n, jnp.int32)
  used = np.asarray(problem.cost(problem.required))
  grow = jax.jit(sampling.grow)
  for share in (0.0, 0.4, 0.7):
    limit = used + share * (np.asarray(problem.budget) - used)
    for number in range(5):
      mask = grow(problem, none, jax.random.key(number), jnp.float32(share))
      assert (np.asarray(problem.cost(mask)) <= limit).all()
      assert share or (mask == problem.required).all()


def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(setup, stored, tmp_path):
  class Stopped(Exception):
    pass

  def stop(step, steps):
    assert steps == STEPS
    if step > 16:
      raise Stopped

  with pytest.raises(Stopped):
    trained(setup, tmp_path, stop)
  reported = []
  again = trained(setup, tmp_path, lambda step, _: reported.append(step))
  assert reported == [STEPS]
  jax.tree.map(np.testing.assert_array_equal, again, stored)
  assert trained(setup, tmp_path, lambda *_: pytest.fail("trained again")) is not None


@pytest.mark.slow
def test_one_device_and_eight_train_the_same_store(setup, stored, monkeypatch):
  monkeypatch.setattr(parallel, "devices_for", lambda batch_size: 1)
  alone = trained(setup)
  # The order of sums differs.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4), alone, stored)


@pytest.mark.slow
def test_other_stores_have_other_values(setup, stored):
  other = trained(setup, number=1)
  assert all(
    (a != b).any() for a, b in zip(jax.tree.leaves(other), jax.tree.leaves(stored)) if a.any()
  )


@pytest.mark.slow
def test_a_diverged_training_says_so(setup):
  config = config_of(learning_rate=1e20, clip_norm=0.0, warmup_steps=0)
  with pytest.raises(FloatingPointError, match=r"lower config.evaluation.store.learning_rate"):
    train.train(setup.space, setup.problem, setup.data, config)


def test_the_score_is_that_of_the_network_alone(setup, stored, metrics, held):
  """A program of the network's own, with batch norm on exactly those images."""
  architecture = [1, 2, 2, 0]
  found = jax.jit(metrics)(held, jnp.array(architecture))
  universal, own = networks.build_universal(setup.space), networks.build(setup.space, architecture)
  params = store.take(stored, store.where(universal, jnp.array(architecture)))
  variables = networks.Variables(params, store.zero_statistics(universal))
  variables = universal.specialize(variables, architecture)
  recipe = training.recipe(setup.config["train"], setup.data)
  assert len(held.statistics) == 1
  images = recipe.preprocess(jax.random.key(0), held.statistics[0], True)
  _, moved = own.apply(variables.params, variables.state, images, True)
  state = jax.tree.map(lambda average: 10 * average, moved)
  validation = recipe.preprocess(jax.random.key(0), setup.data.validation.images, False)
  logits, _ = own.apply(variables.params, state, validation, False)
  labels = setup.data.validation.labels
  loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).sum()
  assert int(found.examples) == len(labels)
  np.testing.assert_allclose(found.loss, loss, rtol=1e-4)
  assert int(found.correct) == int((logits.argmax(-1) == labels).sum())


@pytest.mark.slow
def test_scores_of_stores_are_averaged(setup, stored, metrics, held):
  other = trained(setup, number=1)
  both = score.scoring_data([stored, other], setup.data, 64)
  architecture = jnp.array([1, 2, 2, 0])
  alone = [
    jax.jit(metrics)(one, architecture)
    for one in (held, score.scoring_data([other], setup.data, 64))
  ]
  together = jax.jit(metrics)(both, architecture)
  np.testing.assert_allclose(together.loss, alone[0].loss + alone[1].loss, rtol=1e-5)
  assert int(together.examples) == 200


@pytest.mark.slow
@pytest.mark.parametrize(
  "optimizer",
  [ns.optimizers.greedy("joint"), ns.optimizers.partial_enumeration(ns.optimizers.greedy(), 1)],
)
def test_a_search_is_one_program_and_finds_what_the_host_finds(
  setup, metrics, held, optimizer, compilations
):
  value = score.value(setup.space, metrics, held)
  one = ns.maximize(setup.problem, value, optimizer, traceable=True)
  before = compilations()
  ns.maximize(setup.problem, score.value(setup.space, metrics, held), optimizer, traceable=True)
  assert compilations() == before
  many = jax.jit(jax.vmap(value))
  on_host = ns.maximize(
    setup.problem, lambda masks: np.asarray(many(jnp.asarray(masks))), optimizer
  )
  np.testing.assert_array_equal(one.mask, on_host.mask)
  np.testing.assert_allclose(one.value, on_host.value, rtol=1e-5)


def test_jobs_are_scored_or_trained(setup, metrics, held):
  def trainings(jobs):
    return [
      Evaluation(setup.space.key(j.architecture), j.replicate, {"loss": 1.0}, 0) for j in jobs
    ]

  one, other = (1, 0, 1, 0), (0, 0, 1, 0)
  jobs = [Job(one, 0), Job(one, 1), Job(other, 0), Job(one, 5, full=True)]
  found = list(SharedWeights(trainings, setup.space, metrics, held)(jobs))
  assert [(e.key, e.replicate, e.method) for e in found] == [
    ("1.0|1.0", 0, "shared_weights"),
    ("1.0|1.0", 1, "shared_weights"),
    ("0.0|1.0", 0, "shared_weights"),
    ("1.0|1.0", 5, "training"),
  ]
  assert found[0].metrics == found[1].metrics != found[2].metrics
  beside = SharedWeights(trainings, setup.space, metrics, held, everything=False)
  found = beside([Job(one, BESIDE_TRAININGS), Job(one, 0)])
  assert [e.method for e in found] == ["shared_weights", "training"]


def test_one_program_scores_few_and_many_networks(setup, metrics, held, compilations):
  evaluator = SharedWeights(lambda jobs: [], setup.space, metrics, held)
  jobs = [Job(tuple(network), 0) for network in feasible_networks(setup).tolist()]
  [first] = evaluator(jobs[:1])
  before = compilations()
  found = list(evaluator(jobs))
  assert compilations() == before
  assert [e.key for e in found] == [setup.space.key(job.architecture) for job in jobs]
  assert found[0].metrics == first.metrics

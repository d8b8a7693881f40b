"""Schedules, training steps and evaluation steps against closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_submod import training
from nas_submod.data.loading import Data, Split
from nas_submod.networks import layers
from nas_submod.training import schedules

CONFIG = {
  "steps": 20,
  "epochs": 0,
  "batch_size": 8,
  "learning_rate": 0.1,
  "schedule": "constant",
  "milestones": (),
  "decay": 0.1,
  "warmup_steps": 0,
  "momentum": 0.9,
  "weight_decay": 0.0,
  "label_smoothing": 0.0,
  "crop_padding": 0,
  "flip": False,
}


def make_data(count=32):
  labels = np.arange(count, dtype=np.int32) % 2
  noise = np.random.default_rng(0).integers(0, 50, (count, 4, 4, 1))
  split = Split((noise + 150 * labels[:, None, None, None]).astype(np.uint8), labels)
  pixels = split.images.astype(np.float32)
  return Data(split, split, split, 2, pixels.mean((0, 1, 2)), pixels.std((0, 1, 2)))


NETWORK = layers.serial(layers.conv(1, 4, 3), layers.relu(), layers.global_average_pool())
NETWORK = layers.serial(NETWORK, layers.dense(4, 2))


def first_state(recipe):
  return training.start(jax.jit(NETWORK.init)(jax.random.key(0)), recipe.transformation)


@pytest.mark.parametrize(
  ("changes", "step", "expected"),
  [
    ({}, 7, 0.1),
    ({"schedule": "multistep", "milestones": (5, 10)}, 4, 0.1),
    ({"schedule": "multistep", "milestones": (5, 10)}, 6, 0.01),
    ({"schedule": "multistep", "milestones": (5, 10)}, 11, 0.001),
    ({"schedule": "multistep", "milestones": (1, 2), "steps": 0, "epochs": 3}, 5, 0.01),
    ({"schedule": "multistep", "milestones": (1.9, 2.2)}, 3, 0.001),
    ({"schedule": "cosine"}, 10, 0.05),
    ({"schedule": "cosine"}, 20, 0.0),
    ({"schedule": "cosine", "warmup_steps": 4}, 2, 0.05),
    ({"schedule": "cosine", "warmup_steps": 4}, 12, 0.05),
  ],
)
def test_schedules(changes, step, expected):
  config = CONFIG | changes
  steps = schedules.total_steps(config, 32)
  assert steps == (12 if config["epochs"] else 20)
  rate = schedules.learning_rate(config, steps, 32)(step)
  np.testing.assert_allclose(rate, expected, atol=1e-6)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"epochs": 3}, "exactly one of steps"),
    ({"steps": 0}, "exactly one of steps"),
    ({"batch_size": 33}, "batch_size 33 is not possible with 32 training images"),
    ({"schedule": "multistep", "decay": None}, "the schedule multistep needs decay"),
    ({"mixup": 0.2, "batch_size": 5}, "batch_size is 5; allowed with mixup: even numbers"),
    ({"warmup_steps": 20}, "warmup_steps is 20; allowed: 0 .off. to below 20"),
  ],
)
def test_wrong_recipes(changes, message):
  with pytest.raises(ValueError, match=message):
    training.recipe(CONFIG | changes, make_data())


def test_batch_order_is_a_permutation_in_each_epoch():
  order = training.batch_order((0, 1), 34, 8, 10)
  assert order.shape == (10, 8)
  for epoch in (order[:4], order[4:8]):
    assert len(set(epoch.ravel().tolist())) == 32
  assert not np.array_equal(order[:4], order[4:8])
  np.testing.assert_array_equal(order[:6], training.batch_order((0, 1), 34, 8, 6))
  assert not np.array_equal(order, training.batch_order((0, 2), 34, 8, 10))


def test_loss_falls_and_a_step_is_sgd():
  data = make_data()
  recipe = training.recipe(CONFIG | {"momentum": 0.0, "weight_decay": 0.01}, data)
  state = first_state(recipe)
  batch = data.train.images[:8], data.train.labels[:8]
  step = jax.jit(
    lambda s: training.train_step(recipe, NETWORK.apply, s, jax.random.key(0), *batch)[0]
  )
  moved = step(state)

  def loss(params):
    inputs = recipe.preprocess(jax.random.key(0), jnp.asarray(batch[0]), False)
    logits = NETWORK.apply(params, state.state, inputs, True)[0]
    return training.cross_entropy(logits, batch[1]).mean()

  gradients = jax.grad(loss)(state.params)
  expected = jax.tree.map(lambda p, g: p - 0.1 * (g + 0.01 * p), state.params, gradients)
  jax.tree.map(
    lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-7), moved.params, expected
  )
  for _ in range(30):
    moved = step(moved)
  assert loss(moved.params) < 0.5 * loss(state.params)
  assert int(moved.step) == 31
  assert step._cache_size() == 1


def test_eval_step_counts_like_numpy_and_ignores_padding():
  data = make_data(30)
  recipe = training.recipe(CONFIG, data)
  state = first_state(recipe)
  batches = training.batches(data.validation, 8)
  assert batches.images.shape == (4, 8, 4, 4, 1)
  totals = np.zeros(4)
  for images, labels in zip(*batches):
    step = training.eval_step(recipe, NETWORK.apply, state.params, state.state, images, labels)
    totals += np.array([float(part) for part in step])
  inputs = recipe.preprocess(jax.random.key(0), jnp.asarray(data.validation.images), False)
  logits = np.asarray(NETWORK.apply(state.params, state.state, inputs, False)[0], np.float64)
  labels = data.validation.labels
  log_sum = np.log(np.exp(logits).sum(1))
  loss = (log_sum - logits[np.arange(30), labels]).sum()
  np.testing.assert_allclose(totals, [(logits.argmax(1) == labels).sum(), 30, loss, 30], rtol=1e-5)


def test_label_smoothing_by_hand():
  logits = jnp.log(jnp.array([[0.7, 0.2, 0.1]]))
  expected = -(0.9 + 0.1 / 3) * np.log(0.7) - 0.1 / 3 * (np.log(0.2) + np.log(0.1))
  found = training.cross_entropy(logits, jnp.array([0]), 0.1)
  np.testing.assert_allclose(found, [expected], rtol=1e-5)


def test_bfloat16_is_used_only_from_images_to_logits():
  data = make_data()
  batch = data.train.images[:8], data.train.labels[:8]
  network = layers.serial(layers.conv(1, 4, 3), layers.batch_norm(4), layers.relu())
  network = layers.serial(network, layers.global_average_pool(), layers.dense(4, 2))
  found = {}
  for dtype in ("float32", "bfloat16"):
    recipe = training.recipe(CONFIG | {"dtype": dtype, "momentum": 0.0}, data)
    seen = []

    def apply(params, state, x, train, seen=seen):
      seen.append(x.dtype)
      return network.apply(params, state, x, train)

    state = training.start(network.init(jax.random.key(0)), recipe.transformation)
    step = jax.jit(functools.partial(training.train_step, recipe, apply))
    state, metrics = step(state, jax.random.key(0), *batch)
    training.eval_step(recipe, apply, state.params, state.state, *batch)
    assert seen == [dtype, "float32"]
    floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert {leaf.dtype for leaf in floats} == {jnp.dtype("float32")}
    found[dtype] = metrics.loss
  np.testing.assert_allclose(found["bfloat16"], found["float32"], rtol=0.01)
  assert found["bfloat16"] != found["float32"]


def test_clipping_decay_of_kernels_and_average():
  data = make_data()
  batch = data.train.images[:8], data.train.labels[:8]
  base = CONFIG | {"momentum": 0.0, "learning_rate": 1.0}

  def moved(**changes):
    recipe = training.recipe(base | changes, data)
    variables = NETWORK.init(jax.random.key(0))
    variables = variables._replace(params=jax.tree.map(lambda x: x + 0.1, variables.params))
    state = training.start(variables, recipe.transformation, recipe.average > 0)
    after, metrics = training.train_step(recipe, NETWORK.apply, state, jax.random.key(0), *batch)
    return state, after, metrics

  before, plain, metrics = moved()
  change = jax.tree.map(jnp.subtract, plain.params, before.params)
  norm = np.sqrt(sum(float(jnp.square(leaf).sum()) for leaf in jax.tree.leaves(change)))
  np.testing.assert_allclose(metrics.gradient_norm, norm, rtol=1e-5)
  _, clipped, _ = moved(clip_norm=0.01)
  for part, whole, start in zip(*map(jax.tree.leaves, (clipped.params, change, before.params))):
    np.testing.assert_allclose(part, start + whole * 0.01 / norm, rtol=1e-4, atol=1e-6)
  _, decayed, _ = moved(weight_decay=0.5, decay_kernels=True)
  for part, whole, start in zip(
    *map(jax.tree.leaves, (decayed.params, plain.params, before.params))
  ):
    expected = whole - 0.5 * start if start.ndim > 1 else whole
    np.testing.assert_allclose(part, expected, rtol=1e-4, atol=1e-6)
  _, averaged, _ = moved(average=0.9)
  # The decay of the first step is 1/10 for every setting.
  for part, whole, start in zip(
    *map(jax.tree.leaves, (averaged.evaluated_variables.params, plain.params, before.params))
  ):
    np.testing.assert_allclose(part, 0.1 * start + 0.9 * whole, rtol=1e-5, atol=1e-6)
  assert plain.evaluated_variables.params is plain.params


def test_examples_with_nan_logits_are_counted_as_wrong():
  recipe = training.recipe(CONFIG, make_data())
  images, labels = np.zeros((3, 4, 4, 1), np.uint8), np.zeros(3, np.int32)
  logits = jnp.array([[1.0, 0.0], [jnp.nan, 0.0], [1.0, jnp.nan]])
  metrics = training.eval_step(recipe, lambda p, s, x, train: (logits, s), (), (), images, labels)
  assert (int(metrics.correct), int(metrics.correct_top5), int(metrics.examples)) == (1, 1, 3)
  assert np.isnan(metrics.loss)


def test_equal_logits_are_ranked_as_by_argmax():
  recipe = training.recipe(CONFIG, make_data())
  images, labels = np.zeros((7, 4, 4, 1), np.uint8), np.arange(7, dtype=np.int32)

  def constant(params, state, x, train):
    return jnp.zeros((len(x), 7)), state

  metrics = training.eval_step(recipe, constant, (), (), images, labels)
  assert (int(metrics.correct), int(metrics.correct_top5)) == (1, 5)

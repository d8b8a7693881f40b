"""The universal network agrees with the network of each set."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_submod import networks, training
from nas_submod.networks import blocks, convolution, normalization, spaces, universal
from nas_submod.networks.search_space import SearchSpace, Stage

# Float32 sums in another order. The gradient is compared as a whole, because biases before a batch
# norm have a true gradient of zero, and only rounding errors.
TOLERANCE = 2e-5
# Deep networks are compared in float64. A rounding error of float32 changes the sign of some number
# before a ReLU, and the gradient jumps: in rcnet_cifar100, images that change by 1e-6 change
# the gradient by 1.7e-3 of its norm, 230 times its slope, and the logits by their slope alone. In
# float64 the two networks differ by 3e-16.
TOLERANCE_OF_DOUBLES = 1e-9


def small_space():
  """Channels shrink, then grow; two stages may be empty, and the second passes on a stride.

  One option has groups and a gate.
  """
  option = blocks.option
  grouped = option(expansion=2, kernel=5, expand_groups=2, project_groups=2, squeeze_excite=True)
  return SearchSpace(
    name="small",
    image_shape=(6, 6, 2),
    classes=3,
    stem_channels=8,
    stages=(Stage(4, 3), Stage(6, 2, 2), Stage(8, 2, 2)),
    options=(option(expansion=2), grouped),
    start=(0, 0, 0, 0, 0, 1, 0),
    head_channels=5,
  )


def residual_space():
  """Residual and depthwise-separable blocks; the second stage begins with a projection if empty."""
  return SearchSpace(
    name="residual",
    image_shape=(6, 6, 2),
    classes=3,
    stem_channels=4,
    stages=(Stage(4, 2), Stage(6, 2, 2, projection=True)),
    options=(
      blocks.option("residual"),
      blocks.option("depthwise_separable", kernel=5, squeeze_excite=True),
    ),
  )


def one_pixel_space():
  """Images become one pixel, which a stride no longer changes; an empty stage passes it on."""
  return SearchSpace(
    name="one_pixel",
    image_shape=(4, 4, 1),
    classes=3,
    stem_channels=4,
    stages=(Stage(8, 1, 2), Stage(8, 1, 2), Stage(8, 1, 2), Stage(8, 1)),
    options=(blocks.option("residual"), blocks.option(expansion=2)),
    start=(2, 0, 0, 0),
  )


SPACES = {
  "small": small_space(),
  "residual": residual_space(),
  "one_pixel": one_pixel_space(),
  "digits": spaces.get("digits"),
  "nas_bench_macro": spaces.get("nas_bench_macro"),
}


def random_architecture(space, rng):
  architecture = np.where(rng.random(space.positions) < 0.5, 0, 1)
  architecture *= rng.integers(1, len(space.options) + 1, space.positions)
  return np.where(space.start, space.start, architecture).astype(np.int32)


def loss_and_gradient(apply, variables, x, y):
  def loss(params):
    logits, state = apply(params, variables.state, x)
    return training.cross_entropy(logits, y).mean(), (logits, state)

  return jax.value_and_grad(loss, has_aux=True)(variables.params)


def assert_close(actual, expected, tolerance):
  """Compares two trees up to the tolerance times the norm of the second."""
  chex.assert_trees_all_equal_shapes(actual, expected)
  norm = np.sqrt(sum(float(jnp.square(leaf).sum()) for leaf in jax.tree.leaves(expected)))
  for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)):
    np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * norm)


@functools.cache
def universal_program(space, batch):
  """The universal network, its jitted init, its jitted loss and gradient, images and labels."""
  network = networks.build_universal(space)
  x = jax.random.normal(jax.random.key(1), (batch, *space.image_shape))
  y = jnp.arange(batch) % space.classes

  @jax.jit
  def program(variables, architecture):
    return loss_and_gradient(
      lambda p, s, x: network.apply(p, s, architecture, x, True), variables, x, y
    )

  return network, jax.jit(network.init), program, x, y


def check_agreement(space, architectures, batch, tolerance=TOLERANCE):
  network, init, universal, x, y = universal_program(space, batch)
  for architecture in architectures:
    variables = init(jax.random.key(2), architecture)
    (loss, (logits, state)), gradient = universal(variables, architecture)
    own = network.specialize(variables, architecture)
    apply = networks.build(space, architecture).apply
    (own_loss, (own_logits, own_state)), own_gradient = jax.jit(
      lambda v, apply=apply: loss_and_gradient(lambda p, s, x: apply(p, s, x, True), v, x, y)
    )(own)
    found = network.specialize(networks.Variables(gradient, state), architecture)
    np.testing.assert_allclose(loss, own_loss, rtol=tolerance)
    assert_close(logits, own_logits, tolerance)
    assert_close(found.state, own_state, tolerance)
    assert_close(found.params, own_gradient, tolerance)
  assert universal._cache_size() == 1  # One program for every set.


@pytest.mark.slow
def test_universal_network_is_the_dedicated_network():
  # Each of the first two stages is empty once; both options open a stage and follow in one.
  architectures = np.array([[0, 2, 1, 0, 0, 1, 2], [0, 0, 0, 1, 2, 1, 0]], np.int32)
  check_agreement(SPACES["small"], architectures, 4)


@pytest.mark.slow
def test_universal_network_of_residual_and_separable_blocks_is_the_dedicated_network():
  # The residual block follows another block, and opens the stage that changes the shape.
  check_agreement(SPACES["residual"], np.array([[2, 1, 1, 2]], np.int32), 4)


class Doubles:
  """`jax.numpy` whose float32 is float64."""

  def __getattr__(self, name):
    return jnp.float64 if name == "float32" else getattr(jnp, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", "nas_bench_macro", "mlperf_tiny", "rcnet_cifar100"])
def test_known_universal_networks_are_the_dedicated_networks(name, monkeypatch):
  for module in (convolution, normalization, training.step):
    monkeypatch.setattr(module, "jnp", Doubles())
  space = spaces.get(name)
  architecture = random_architecture(space, np.random.default_rng(1))
  with jax.enable_x64(True):
    check_agreement(space, [architecture], 2, TOLERANCE_OF_DOUBLES)


@pytest.mark.parametrize("name", SPACES)
def test_specialized_parameters_have_the_dedicated_shapes(name):
  space = SPACES[name]
  architecture = random_architecture(space, np.random.default_rng(3))
  if name == "one_pixel":  # The third stage has stride 2 after the second, and 1 after the first.
    architecture = np.array([2, 2, 0, 1], np.int32)
  own = jax.eval_shape(networks.build(space, architecture).init, jax.random.key(0))
  network = networks.build_universal(space)

  def specialized(rng):
    return network.specialize(network.init(rng, architecture), architecture)

  found = jax.eval_shape(specialized, jax.random.key(0))
  assert jax.tree.structure(found) == jax.tree.structure(own)
  assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, own)


@pytest.mark.parametrize("name", SPACES)
def test_walk_finds_the_same_predecessors_for_numpy_jax_and_build(name):
  space, rng = SPACES[name], np.random.default_rng(4)
  architectures = np.stack([random_architecture(space, rng) for _ in range(20)])
  steps = networks.walk(space, architectures)
  for step, traced in zip(steps, networks.walk(space, jnp.asarray(architectures)), strict=True):
    assert isinstance(traced.predecessor, jax.Array)
    chex.assert_trees_all_equal(tuple(traced), tuple(step))
    for architecture, predecessor in zip(architectures, step.predecessor):
      filled = [
        index + 1
        for index, (stage, where) in enumerate(zip(space.stages, space.stage_slices))
        if index < step.stage and (stage.projection or architecture[where].any())
      ]
      assert predecessor == max(filled, default=0)
      assert predecessor in networks.predecessors(space, step.stage)


def test_openings_of_equal_input_are_one_branch():
  index = universal._stage(SPACES["digits"], 2, "cpu").opening_index
  # Behind the stem and behind stage 0 there are 8 channels, behind stage 1 there are 16.
  np.testing.assert_array_equal(index[0], index[1])
  np.testing.assert_array_equal(np.sort(index[[0, 2], 1:], axis=None), np.arange(12))
  index = universal._stage(SPACES["small"], 1, "cpu").opening_index
  assert index[0, 0] == index[1, 0]  # An empty stage reads nothing.
  assert set(index[0, 1:]).isdisjoint(index[1, 1:])


def test_canonical_forms_give_the_same_outputs():
  _, init, program, _, _ = universal_program(SPACES["small"], 4)
  scattered = np.array([0, 2, 1, 0, 1, 1, 0], np.int32)
  pushed = np.array([2, 1, 0, 1, 0, 1, 0], np.int32)
  found = [program(init(jax.random.key(0), a), a)[0][1][0] for a in (scattered, pushed)]
  np.testing.assert_array_equal(*found)
  assert jnp.abs(found[0]).max() > 0


def test_empty_positions_neither_learn_nor_move():
  _, init, universal, _, _ = universal_program(SPACES["small"], 4)
  architecture = np.array([1, 2, 0, 0, 0, 1, 0], np.int32)
  params, state = init(jax.random.key(0), architecture)
  part, slot = 2, 0  # The second block of the first stage; that stage has no other.
  params = (*params[:part], params[part].at[slot + 1 :].set(jnp.nan), *params[part + 1 :])
  variables = networks.Variables(params, state)
  (value, (_, moved)), gradient = universal(variables, architecture)
  assert jnp.isfinite(value)
  assert jnp.abs(gradient[part][slot]).max() > 0
  np.testing.assert_array_equal(gradient[part][slot + 1 :], 0)
  before, after = (np.asarray(of[part]) for of in (state, moved))
  np.testing.assert_array_equal(after[slot + 1 :], before[slot + 1 :])
  assert np.abs(after[slot] - before[slot]).max() > 0


def test_candidates_share_the_initial_values_of_their_common_layers():
  space = SPACES["small"]
  network, init, *_ = universal_program(space, 4)
  one, other = np.array([[1, 2, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 1, 0]], np.int32)
  first, second = (network.specialize(init(jax.random.key(0), a), a).params for a in (one, other))
  chex.assert_trees_all_equal(first[0], second[0])
  chex.assert_trees_all_equal(first[1][0][0], second[1][0][0])
  chex.assert_trees_all_equal(first[1][2], second[1][2])
  third = network.specialize(init(jax.random.key(1), one), one).params
  with pytest.raises(AssertionError):
    chex.assert_trees_all_equal(first[1][0][0], third[1][0][0])

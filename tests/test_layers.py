"""Layers against references, and their declared costs against their parameters and shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_submod import networks
from nas_submod.networks import blocks, convolution, layers

LAYERS = {
  "conv": layers.conv(4, 6, 3, 2, groups=2),
  "conv_bias": layers.conv(4, 6, bias=True),
  "depthwise": layers.conv(4, 4, 5, 2, groups=4),
  "batch_norm": layers.batch_norm(4),
  "relu": layers.relu(),
  "shuffled": layers.conv(4, 6, groups=2, shuffle=True),
  "pool": layers.global_average_pool(),
  "squeeze_excite": layers.squeeze_excite(4),
  "serial": layers.serial(layers.conv(4, 8), layers.batch_norm(8), layers.relu()),
  "head": layers.serial(layers.global_average_pool(), layers.dense(4, 3)),
  "block": blocks.inverted_residual(4, 4, 1, expansion=3),
  "wider_block": blocks.inverted_residual(4, 6, 1, expansion=2, project_groups=2),
  "strided_block": blocks.inverted_residual(4, 6, 2, expansion=2, squeeze_excite=True),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("size", [4, 5])
def test_declared_shape_and_params_are_the_real_ones(name, size):
  layer = LAYERS[name]
  variables = jax.eval_shape(layer.init, jax.random.key(0))
  x = jax.ShapeDtypeStruct((2, size, size, 4), jnp.float32)
  for train in (True, False):
    y, state = jax.eval_shape(lambda v, x, t=train: layer.apply(*v, x, t), variables, x)
    assert jax.tree.structure(state) == jax.tree.structure(variables.state)
    shape, cost = layer.cost((size, size, 4))
    assert y.shape == (2, *shape)
  assert cost["params"] == sum(leaf.size for leaf in jax.tree.leaves(variables.params))


@pytest.mark.parametrize(
  ("kernel", "stride", "groups", "channels"),
  [
    *((k, stride, groups, 6) for k in (1, 3) for stride in (1, 2, 4) for groups in (1, 2)),
    (5, 2, 2, 6),
    (3, 2, 9, 18),  # More groups than have a product each.
  ],
)
def test_products_are_convolutions(kernel, stride, groups, channels):
  x = jax.random.normal(jax.random.key(0), (2, 7, 6, channels))
  weights = jax.random.normal(jax.random.key(1), (kernel, kernel, channels // groups, channels))
  expected = convolution.convolve_by_primitive(x, weights, stride, groups)
  actual = convolution.convolve_by_products(x, weights, stride, groups)
  # Sums of at most 150 products of size one, in another order.
  np.testing.assert_allclose(actual, expected, atol=2e-5)
  gradient = jax.random.normal(jax.random.key(2), expected.shape)
  gradients = [
    jax.vjp(lambda x, w: convolve(x, w, stride, groups), x, weights)[1](gradient)  # noqa: B023
    for convolve in (convolution.convolve_by_products, convolution.convolve_by_primitive)
  ]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), *gradients)


@pytest.mark.parametrize(
  ("platform", "kernel", "primitives"),
  [("cpu", 3, 0), ("cuda", 3, 3), ("tpu", 3, 3), ("tpu", 1, 0)],
)
def test_a_program_has_the_convolutions_of_the_platform_it_is_lowered_for(
  platform, kernel, primitives
):
  def with_gradients(x, w, y):
    found, transpose = jax.vjp(lambda x, w: convolution.convolve(x, w, 1, 2), x, w)
    return found, transpose(y)

  x, weights = jnp.ones((2, 4, 4, 6)), jnp.ones((kernel, kernel, 3, 8))
  traced = jax.jit(with_gradients).trace(x, weights, jnp.ones((2, 4, 4, 8)))
  text = traced.lower(lowering_platforms=(platform,)).as_text()
  assert text.count("stablehlo.convolution(") == primitives


@pytest.mark.parametrize(
  ("kernel", "stride", "block"),  # Blocks of single rows, several images, everything.
  [(3, 1, 1), (3, 2, 1), (3, 1, 900), (3, 2, 900), (5, 2, 900), (3, 4, 900), (5, 1, 1 << 18)],
)
def test_depthwise_gradients_are_those_of_the_convolution(kernel, stride, block, monkeypatch):
  monkeypatch.setattr(convolution, "_BLOCK", block)
  x = jax.random.normal(jax.random.key(0), (6, 4, 5, 3))
  weights = jax.random.normal(jax.random.key(1), (kernel, kernel, 1, 3))
  expected, transposed = jax.vjp(
    lambda x, w: convolution.convolve_by_primitive(x, w, stride, 3), x, weights
  )
  actual, ours = jax.vjp(lambda x, w: convolution.convolve_by_products(x, w, stride, 3), x, weights)
  np.testing.assert_allclose(actual, expected, atol=1e-5)
  gradient = jax.random.normal(jax.random.key(2), expected.shape)
  for a, e in zip(ours(gradient), transposed(gradient)):
    np.testing.assert_allclose(a, e, atol=3e-5)  # At most 120 products of size one.


def test_madds_by_hand():
  assert layers.conv(4, 6, 3, 2, groups=2).cost((8, 8, 4))[1] == {
    "params": 9 * 2 * 6,
    "madds": 9 * 2 * 6 * 16,
  }
  assert layers.dense(4, 3).cost((4,))[1] == {"params": 15, "madds": 0}


def test_shuffle_interleaves_groups():
  x = jnp.arange(6.0).reshape(1, 1, 1, 6)
  assert convolution.shuffle_channels(x, 2).ravel().tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_kernel_without_groups_convolves_alike(shuffle):
  x = jax.random.normal(jax.random.key(0), (2, 3, 3, 12))
  kernel = jax.random.normal(jax.random.key(1), (1, 1, 4, 6))
  merged = convolution.kernel_without_groups(kernel, 3, shuffle)
  assert (merged != 0).sum() == kernel.size
  shuffled = convolution.shuffle_channels(x, 3) if shuffle else x
  expected = convolution.convolve_by_primitive(shuffled, kernel, 1, 3)
  np.testing.assert_allclose(convolution.convolve_by_primitive(x, merged), expected, atol=1e-5)


def test_a_block_without_groups_computes_alike():
  settings = {"expansion": 2, "expand_groups": 2, "project_groups": 4, "squeeze_excite": True}
  block = blocks.inverted_residual(4, 8, 1, **settings)
  params, state = block.init(jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (3, 5, 5, 4))
  expected = block.apply(params, state, x, True)
  on_a_tpu = networks.for_platform(block, "tpu")
  assert on_a_tpu.apply is not block.apply
  found = on_a_tpu.apply(params, state, x, True)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)
  same = blocks.inverted_residual(4, 8, 1, expansion=2, squeeze_excite=True)
  assert block.ungrouped[0].trace((5, 5, 4)) == same.trace((5, 5, 4))
  assert same.ungrouped is None and networks.for_platform(block, "cpu") is block


def test_batch_norm_statistics():
  x = 3 + 2 * jax.random.normal(jax.random.key(0), (8, 4, 4, 2))
  layer = layers.batch_norm(2)
  params, state = layer.init(jax.random.key(0))
  y, moved = layer.apply(params, state, x, True)
  np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-5)
  np.testing.assert_allclose(y.var((0, 1, 2)), 1, atol=1e-4)
  np.testing.assert_allclose(moved["mean"], 0.1 * x.mean((0, 1, 2)), rtol=1e-5)
  np.testing.assert_allclose(moved["var"], 0.9 + 0.1 * x.var((0, 1, 2)), rtol=1e-5)
  z, same = layer.apply(params, moved, x, False)
  expected = (x - moved["mean"]) / jnp.sqrt(moved["var"] + 1e-5)
  np.testing.assert_allclose(z, expected, atol=1e-5)
  assert same is moved


def plain_batch_norm(x, scale, bias):
  """Batch norm in two passes, differentiated by JAX."""
  axes = tuple(range(x.ndim - 1))
  mean = x.mean(axes)
  var = jnp.square(x - mean).mean(axes)
  return scale * (x - mean) / jnp.sqrt(var + 1e-5) + bias


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("shape", [(8, 4, 4, 3), (8, 3)])
def test_batch_norm_and_its_gradient_are_the_plain_ones(offset, shards, shape):
  draws = jax.random.split(jax.random.key(0), 4)
  x = offset + jnp.array([1.0, 2.0, 0.0]) * jax.random.normal(draws[0], shape)  # one is constant
  scale, bias = (jax.random.normal(draw, (3,)) for draw in draws[1:3])
  gradient = jax.random.normal(draws[3], shape)
  layer = layers.batch_norm(3)
  state = layer.init(draws[0]).state

  def in_shards(x, gradient):
    def apply(x, scale, bias):
      return layer.apply({"scale": scale, "bias": bias}, state, x, "shards")[0]

    y, transpose = jax.vjp(apply, x, scale, bias)
    return y, *transpose(gradient)

  y, of_x, of_scale, of_bias = jax.vmap(in_shards, axis_name="shards")(
    *(array.reshape(shards, -1, *shape[1:]) for array in (x, gradient))
  )
  expected, transpose = jax.vjp(plain_batch_norm, x, scale, bias)
  sums = of_scale.sum(0), of_bias.sum(0)
  tolerance = 2e-4 + 1e-6 * offset
  np.testing.assert_allclose(y.reshape(shape)[..., :2], expected[..., :2], atol=tolerance)
  np.testing.assert_allclose(y.reshape(shape)[..., 2], bias[2], atol=1e-3 + 1e-4 * offset)
  found, wanted = (of_x.reshape(shape), *sums), transpose(gradient)
  # About three times what was measured. Far from zero, rounding of the inputs counts most in the
  # gradient of the scale.
  for actual, right, share in zip(found, wanted, (1.5e-7, 7e-6, 0.0)):
    atol = 2e-5 + share * offset
    np.testing.assert_allclose(actual[..., :2], right[..., :2], atol=atol)


def test_initial_scale_is_he_by_fan_out():
  kernel = layers.conv(64, 128, 3).init(jax.random.key(0)).params["kernel"]
  np.testing.assert_allclose(kernel.std(), (2 / (9 * 128)) ** 0.5, rtol=0.02)


def test_initial_values_are_affine_in_the_draws():
  layer = LAYERS["strided_block"]
  rng = jax.random.key(0)
  zero, one, two = (
    layer.init(rng, lambda _, shape, c=c: jnp.full(shape, c)).params for c in (0.0, 1.0, 2.0)
  )
  jax.tree.map(lambda z, o, t: np.testing.assert_allclose(t - o, o - z, atol=1e-6), zero, one, two)


def test_residual_and_skip():
  branch = layers.parameter_free(lambda x: 2 * x)
  x = jnp.ones((1, 2, 2, 3))
  y, _ = layers.residual(branch).apply(((), ()), ((), ()), x, True)
  np.testing.assert_array_equal(y, 3 * x)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"cin": 4, "cout": 6, "groups": 4}, "4 -> 6 channels do not divide into 4 groups"),
    ({"cin": 4, "cout": 6, "kernel": 2}, "kernel 2 is even"),
  ],
)
def test_impossible_convolutions(arguments, message):
  with pytest.raises(ValueError, match=message):
    layers.conv(**arguments)

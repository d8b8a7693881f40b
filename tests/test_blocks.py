"""The built-in blocks: outputs, costs and starting values against references written here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_submod.networks import blocks, convolution, layers

# By case: the block and its learned numbers, 9 or 25 for a kernel and 2 a channel for batch norm.
BLOCKS = {
  "residual": (blocks.residual(4, 4, 1), 2 * (9 * 4 * 4 + 2 * 4)),
  "residual_wider": (
    blocks.residual(4, 6, 1, kernel=5),
    (25 * 4 * 6 + 12) + (25 * 6 * 6 + 12) + (4 * 6 + 12),
  ),
  "residual_strided": (
    blocks.residual(4, 6, 2),
    (9 * 4 * 6 + 12) + (9 * 6 * 6 + 12) + (4 * 6 + 12),
  ),
  "separable": (blocks.depthwise_separable(4, 4, 1), (9 * 4 + 8) + (4 * 4 + 8)),
  "separable_strided": (
    blocks.depthwise_separable(4, 6, 2, kernel=5, squeeze_excite=True),
    (25 * 4 + 8) + (4 * 6 + 12) + (4 + 1) + (4 + 4),
  ),
  "expansion_2": (
    blocks.inverted_residual(4, 4, 1, expansion=2),
    (4 * 8 + 16) + (9 * 8 + 16) + (8 * 4 + 8),
  ),
  "expansion_4": (
    blocks.inverted_residual(4, 6, 2, expansion=4, kernel=5),
    (4 * 16 + 32) + (25 * 16 + 32) + (16 * 6 + 12),
  ),
}


@pytest.mark.parametrize("side", [6, 7])
@pytest.mark.parametrize("name", BLOCKS)
def test_costs_and_shape_are_those_of_the_program(name, side, monkeypatch):
  block, params = BLOCKS[name]
  madds = []

  def counted(x, kernel, stride, groups):
    y = convolution.convolve_by_primitive(x, kernel, stride, groups)
    madds.append(kernel.size * y.shape[1] * y.shape[2])
    return y

  monkeypatch.setattr(convolution, "convolve", counted)
  variables = jax.eval_shape(block.init, jax.random.key(0))
  x = jax.ShapeDtypeStruct((1, side, side, 4), jnp.float32)
  y, _ = jax.eval_shape(lambda v, x: block.apply(*v, x, True), variables, x)
  shape, cost = block.cost((side, side, 4))
  assert y.shape == (1, *shape)
  assert cost == {"params": params, "madds": sum(madds)}
  assert sum(leaf.size for leaf in jax.tree.leaves(variables.params)) == params


def random_variables(block):
  """Variables whose batch norms differ from the identity."""
  variables, rng = block.init(jax.random.key(0)), np.random.default_rng(0)
  return jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape)), variables)


def conv_bn(x, params, state, stride=1, groups=1):
  """A convolution and batch norm with running statistics, by XLA's convolution."""
  kernel, norm, running = params[0]["kernel"], params[1], state[1]
  y = convolution.convolve_by_primitive(x, kernel, stride, groups)
  return (y - running["mean"]) / jnp.sqrt(running["var"] + 1e-5) * norm["scale"] + norm["bias"]


@pytest.mark.parametrize("stride", [1, 2])
def test_residual_is_that_of_resnet(stride):
  cout = 4 * stride
  block = blocks.residual(4, cout, stride)
  params, state = random_variables(block)
  x = jax.random.normal(jax.random.key(1), (2, 6, 6, 4))
  ((first, second), shortcut), _ = params
  ((first_state, second_state), shortcut_state), _ = state
  y = conv_bn(jax.nn.relu(conv_bn(x, first, first_state, stride)), second, second_state)
  skip = x if stride == 1 else conv_bn(x, shortcut, shortcut_state, stride)
  found, _ = block.apply(params, state, x, False)
  np.testing.assert_allclose(found, jax.nn.relu(y + skip), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_separable_has_no_relu_at_its_end(stride):
  block = blocks.depthwise_separable(4, 4, stride)
  variables = random_variables(block)
  x = jax.random.normal(jax.random.key(1), (2, 6, 6, 4))
  (first, second), (first_state, second_state) = (
    branch if stride == 2 else branch[0] for branch in variables
  )
  y = conv_bn(jax.nn.relu(conv_bn(x, first, first_state, stride, 4)), second, second_state)
  found, _ = block.apply(*variables, x, False)
  np.testing.assert_allclose(found, y if stride == 2 else x + y, rtol=1e-5, atol=1e-4)


def test_every_built_in_block_can_be_traced():
  for name, (block, _) in BLOCKS.items():
    graph = layers.trace_of(block, (6, 6, 4))
    assert all(operation.kind != "opaque" for operation in graph.operations), name

"""Graphs of operations: how layers trace, and what a device fuses."""

import pytest

from nas_submod.networks import graph, layers
from nas_submod.networks.blocks import conv_bn

IMAGE = (4, 4, 2)


def summary(found):
  """Kind, inputs, batch norm and ReLU of each operation, and the output."""
  operations = [(o.kind, o.inputs, o.norm, o.active) for o in found.operations]
  return operations, found.output


def fused(layer, shape=IMAGE):
  return summary(graph.fuse(layers.trace_of(layer, shape)))


def test_a_convolution_takes_batch_norm_and_relu():
  assert fused(conv_bn(2, 2)) == ([("conv", (0,), (1,), True)], 1)


def test_a_convolution_takes_its_own_batch_norm_alone():
  layer = layers.serial(
    layers.conv(2, 2), layers.batch_norm(2), layers.batch_norm(2), layers.relu(), layers.relu()
  )
  assert fused(layer) == (
    [
      ("conv", (0,), (1,), False),
      ("batch_norm", (1,), None, False),
      ("relu", (2,), None, False),
      ("relu", (3,), None, False),
    ],
    4,
  )


def test_batch_norm_after_the_relu_stays():
  layer = layers.serial(layers.conv(2, 2), layers.relu(), layers.batch_norm(2))
  assert fused(layer) == ([("conv", (0,), None, True), ("batch_norm", (1,), None, False)], 2)


def test_batch_norm_and_relu_of_the_input_stay():
  layer = layers.serial(layers.batch_norm(2), layers.relu(), layers.conv(2, 2))
  assert fused(layer) == (
    [("batch_norm", (0,), None, False), ("relu", (1,), None, False), ("conv", (2,), None, False)],
    3,
  )


def test_a_relu_of_a_sum_is_part_of_it():
  layer = layers.serial(layers.residual(conv_bn(2, 2, active=False)), layers.relu())
  assert fused(layer) == (
    [("conv", (0,), (0, 0, 1), False), ("add", (1, 0), None, True)],
    2,
  )


def test_a_tensor_read_twice_is_not_fused():
  """The shortcut reads the convolution before its ReLU."""
  layer = layers.serial(layers.conv(2, 2), layers.residual(layers.relu()))
  assert fused(layer) == (
    [("conv", (0,), None, False), ("relu", (1,), None, False), ("add", (2, 1), None, False)],
    3,
  )


def test_an_operation_that_reads_a_tensor_twice_is_the_only_reader():
  found = graph.start(IMAGE).add("conv", shape=IMAGE)
  found = found.add("add", 1, 1).add("relu")
  assert found.readers(1) == [1]
  assert summary(graph.fuse(found)) == (
    [("conv", (0,), None, False), ("add", (1, 1), None, True)],
    2,
  )


def test_the_output_is_not_fused_into():
  """A ReLU reads the output, and nobody reads the ReLU."""
  found = graph.start(IMAGE).add("conv", shape=IMAGE).add("relu")._replace(output=1)
  assert summary(graph.fuse(found)) == (
    [("conv", (0,), None, False), ("relu", (1,), None, False)],
    1,
  )


def test_numbers_follow_what_was_fused():
  """Later operations, and the shortcut of a block, read the fused tensor."""
  layer = layers.serial(
    conv_bn(2, 4), layers.residual(conv_bn(4, 4, 3), conv_bn(4, 4)), layers.global_average_pool()
  )
  assert fused(layer) == (
    [
      ("conv", (0,), (0, 1), True),
      ("conv", (1,), (1, 0, 1), True),
      ("conv", (1,), (1, 1, 1), True),
      ("add", (2, 3), None, False),
      ("pool", (4,), None, False),
    ],
    5,
  )


@pytest.mark.parametrize("layer", [layers.identity(), layers.serial()])
def test_an_empty_layer_returns_its_input(layer):
  assert fused(layer) == ([], 0)


def test_a_relu_of_a_pool_or_a_product_stays():
  layer = layers.serial(layers.squeeze_excite(2), layers.relu(), layers.global_average_pool())
  kinds = [kind for kind, *_ in fused(layer)[0]]
  assert kinds == ["pool", "conv", "conv", "hard_sigmoid", "multiply", "relu", "pool"]


def test_an_unknown_layer_is_opaque_with_its_cost():
  layer = layers.serial(conv_bn(2, 4), layers.conv(4, 3, bias=True)._replace(trace=None))
  found = layers.trace_of(layer, IMAGE)
  [*_, last] = found.operations
  assert (last.kind, last.path, last.shape, last.params) == ("opaque", (1,), (4, 4, 3), 15)
  assert found.cost() == layer.cost(IMAGE)[1] == {"params": 8 + 8 + 15, "madds": 8 * 16 + 12 * 16}


def test_an_unknown_kind_is_refused():
  with pytest.raises(ValueError, match="unknown kind of operation 'concat'; allowed: conv, batch"):
    graph.start(IMAGE).add("concat", 0, 0)

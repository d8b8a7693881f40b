"""Peak memory: the most bytes of activations that are alive at the same time."""

import functools
import math

from nas_submod.networks.graph import Graph, Shape
from nas_submod.resources.additive import fused_graph
from nas_submod.resources.base import Resource
from nas_submod.resources.table import tabulate, tabulated


def peak_numbers(graph: Graph, micro: bool = False) -> int:
  """The most numbers alive at the same time while a fused graph runs.

  Operations run in order, none in place. During an operation, its inputs, its output, and every
  earlier tensor that a later operation reads are alive. The input of the graph counts.

  Args:
    graph: From `graph.fuse`, so that a batch norm or a ReLU takes no memory of its own.
    micro: Whether to count the arena of TFLite Micro, for numbers of a byte. A convolution first
      copies its input with zeros around it if the padding of TFLite differs from that of
      `layers.conv`. Every tensor takes a multiple of 16 bytes. A global pool takes 4 bytes for
      each channel, and 32.
  """

  def size(numbers: int) -> int:
    return -(-numbers // 16) * 16 if micro else numbers

  last_read = {tensor: i for i, o in enumerate(graph.operations) for tensor in o.inputs}
  last_read[graph.output] = len(graph.operations)
  tensors = range(len(graph.operations) + 1)
  sizes = [size(math.prod(graph.shape_of(tensor))) for tensor in tensors]
  most = 0
  for index, operation in enumerate(graph.operations):
    alive = {tensor for tensor in range(index + 1) if last_read.get(tensor, -1) >= index}
    [source, *_] = operation.inputs
    scratch = 0
    if micro and operation.kind == "pool":
      scratch = size(4 * operation.shape[-1]) + 32
    if micro and operation.kind == "conv":
      shape = graph.shape_of(source)
      if copy := size(padded_copy(shape, operation.kernel, operation.stride)):
        most = max(most, sum(sizes[tensor] for tensor in alive) + copy)
        # The copy takes the place of its source.
        alive -= {source} if last_read[source] == index else set()
        most = max(most, copy + sum(sizes[tensor] for tensor in alive) + sizes[index + 1])
        continue
    most = max(most, sum(sizes[tensor] for tensor in alive) + sizes[index + 1] + scratch)
  return most


def padded_copy(shape: Shape, kernel: int, stride: int) -> int:
  """Size of the padded copy of an image; 0 if TFLite's padding SAME equals a layer's padding.

  A layer pads `(kernel - 1) / 2` on each side. SAME adds the fewest zeros that give the same output
  size: half of them, rounded down, above and to the left.
  """
  edge = kernel // 2
  height, width, channels = shape
  zeros = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in (height, width))
  if all(count // 2 == edge for count in zeros):
    return 0
  return (height + 2 * edge) * (width + 2 * edge) * channels


def _peak(unit: str, number: int, micro: bool = False) -> Resource:
  """The resource, with `number` bytes per number.

  Only one tensor passes from a part of a network to the next, so the peak of a network is the
  largest peak of a part. A part that begins with a batch norm or a ReLU counts it as a separate
  step. If the part before absorbs it, the true peak may be lower, so this is an upper bound.
  """

  def measure(part):
    return number * peak_numbers(fused_graph("memory", part), micro)

  table = functools.partial(tabulate, measure=measure, combine="max")
  return tabulated("memory", unit, table, additive=False)


MEMORY = {
  "int8": _peak("bytes of activations at their peak, int8", 1),
  "float32": _peak("bytes of activations at their peak, float32", 4),
  "tflite_micro": _peak("bytes of the arena of TFLite Micro, int8", 1, True),
}

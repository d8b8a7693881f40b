"""Resources that add up over layers: parameters, multiply-adds, bytes of weights."""

import functools

import numpy as np

from nas_submod.networks.graph import Graph, fuse
from nas_submod.networks.layer import trace_of
from nas_submod.networks.parts import Part
from nas_submod.resources.base import NotApplicableError, Resource
from nas_submod.resources.table import in_words, tabulate, tabulated


def weights_of(graph: Graph) -> tuple[int, int]:
  """Numbers in the kernels and in the biases of a fused graph, as an exported file stores them.

  Every convolution and dense layer has a bias. A batch norm that no convolution absorbed counts as
  a scale and a bias.
  """
  kernels = biases = 0
  for operation in graph.operations:
    channels = operation.shape[-1]
    if operation.kind in ("conv", "dense"):
      has_bias = operation.bias or operation.kind == "dense"
      kernels += operation.params - has_bias * channels
      biases += channels
    elif operation.kind == "batch_norm":
      kernels, biases = kernels + channels, biases + channels
  return kernels, biases


def fused_graph(name: str, part: Part) -> Graph:
  """The fused graph of a part of a network, for the resource `name`.

  Raises:
    NotApplicableError: If a layer in it has no trace.
  """
  graph = fuse(trace_of(part.layer, part.shape))
  if any(operation.kind == "opaque" for operation in graph.operations):
    raise NotApplicableError(
      f"{name} is not known: {in_words(part)} has a layer without Layer.trace; docs/extending.md "
      "shows how to write one"
    )
  return graph


def _reported(name: str, unit: str) -> Resource:
  """The resource that layers report under a name in `Layer.cost`."""

  def measure(part):
    _, cost = part.layer.cost(part.shape)
    if name not in cost:
      raise ValueError(f"{in_words(part)} reports no {name} in Layer.cost, only {', '.join(cost)}")
    if cost[name] < 0 or cost[name] != int(cost[name]):
      raise ValueError(
        f"{in_words(part)} reports {name} = {cost[name]}; allowed: whole numbers from 0"
      )
    return int(cost[name])

  return tabulated(name, unit, functools.partial(tabulate, measure=measure))


def _of_weights(name: str, unit: str, kernel: int, bias: int) -> Resource:
  """Numbers in exported kernels times `kernel`, plus numbers in exported biases times `bias`."""

  def measure(part):
    return np.dot(weights_of(fused_graph(name, part)), (kernel, bias))

  return tabulated(name, unit, functools.partial(tabulate, measure=measure))


MADDS = _reported("madds", "multiply-adds of the convolutions for one image")
PARAMS = {
  "learned": _reported("params", "learned numbers"),
  "folded": _of_weights("params", "numbers, batch norm folded", 1, 1),
}
# Biases stay 32-bit integers if kernels are 8-bit.
FLASH = {
  "int8": _of_weights("flash", "bytes of weights, int8", 1, 4),
  "float32": _of_weights("flash", "bytes of weights, float32", 4, 4),
}

"""The type of a layer: pure functions, after `jax.example_libraries.stax`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from nas_submod.networks import graph
from nas_submod.networks.graph import Graph, Shape

Params = Any
State = Any
Cost = dict[str, int]


class Variables(NamedTuple):
  """The arrays of a layer."""

  params: Params  # Learned by gradient descent.
  state: State  # Running statistics of batch norm.


class Layer(NamedTuple):
  """A layer as pure functions.

  Attributes:
    init: `(rng, draw=jax.random.normal) -> Variables`. Every initial value is affine in
      `draw(rng, shape)`, so constant draws give its mean and scale.
    apply: `(params, state, x, train) -> (y, state)`. If `train` is true, batch norm uses the
      statistics of the batch and updates the running ones; if false, it uses the running ones. If
      `train` is the name of a mapped axis, the batch is sharded over that axis; then differentiate
      inside the mapped function.
    cost: `(shape of one example) -> (its output shape, {"params": ..., "madds": ...})`: all learned
      parameters, and the multiply-adds of the convolutions for one image, as in the paper: without
      batch norm and classifier.
    trace: `shape of one example -> Graph` of its operations. None if unknown: such a layer can be
      trained and searched, but export, flash, memory and folded parameters need a trace.
    ungrouped: `(layer, merge)`: a layer with fewer groups of channels, which computes the same from
      `merge(params)` and the same state. None if there is none. TPUs run it in place of this layer,
      so a layer whose `apply` is replaced needs another one or None.
  """

  init: Callable[..., Variables]
  apply: Callable[[Params, State, jax.Array, bool | str], tuple[jax.Array, State]]
  cost: Callable[[Shape], tuple[Shape, Cost]]
  trace: Callable[[Shape], Graph] | None = None
  ungrouped: "tuple[Layer, Callable[[Params], Params]] | None" = None


def traced(
  init: Callable[..., Variables],
  apply: Callable[[Params, State, jax.Array, bool | str], tuple[jax.Array, State]],
  trace: Callable[[Shape], Graph],
  ungrouped: tuple[Layer, Callable[[Params], Params]] | None = None,
) -> Layer:
  """A layer whose cost follows from its trace."""

  def cost(shape):
    found = trace(shape)
    return found.output_shape, found.cost()

  return Layer(init, apply, cost, trace, ungrouped)


def trace_of(layer: Layer, shape: Shape) -> Graph:
  """The graph of a layer; one opaque operation if it has no trace."""
  if layer.trace is not None:
    return layer.trace(shape)
  after, cost = layer.cost(shape)
  params, madds = cost["params"], cost["madds"]
  return graph.start(shape).add("opaque", shape=tuple(after), params=params, madds=madds)


def for_platform(layer: Layer, platform: str) -> Layer:
  """The layer as it should run on a platform, such as "tpu": same variables, same outputs.

  On TPUs groups and shuffles of channels are slow (docs/tpu.md), so `ungrouped` runs there.
  """
  if platform != "tpu" or layer.ungrouped is None:
    return layer
  plain, merge = layer.ungrouped

  def apply(params, state, x, train):
    return plain.apply(merge(params), state, x, train)

  return layer._replace(apply=apply)

"""A network ready for export: its operations as a device runs them, with folded weights."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from nas_submod.networks.graph import Graph, Operation, Path, Shape, fuse
from nas_submod.networks.layer import Layer, Variables, trace_of


class Weights(NamedTuple):
  """The arrays of one operation, float32; None if it has none.

  A batch norm that no convolution absorbed is `x * kernel + bias`, both `[C]`.

  Attributes:
    kernel: `[K, K, cin / groups, cout]` of a convolution, `[cin, cout]` of a dense layer.
    bias: `[cout]`.
  """

  kernel: np.ndarray | None = None
  bias: np.ndarray | None = None


class Model(NamedTuple):
  """A network ready for export.

  Attributes:
    graph: Its operations after `graph.fuse`, without opaque ones.
    weights: Weights of each operation.
    names: Readable names of the operations, unique, such as "stage2/block1/conv3".
    metadata: Facts for the file, by name, as text.
  """

  graph: Graph
  weights: tuple[Weights, ...]
  names: tuple[str, ...]
  metadata: Mapping[str, str]


def make_model(
  layer: Layer,
  shape: Shape,
  variables: Variables,
  metadata: Mapping[str, str] | None = None,
  place: Callable[[Path], str] | None = None,
) -> Model:
  """Folds batch norm into the convolutions of a layer.

  Args:
    layer: The layer, such as a whole network of `networks.build`.
    shape: Height, width and channels of an image.
    variables: Variables of the layer.
    metadata: Facts for the file.
    place: Maps the path of an operation to its place in the network; by default
      `place_in_network`, for a whole network.

  Raises:
    ValueError: If a part of the layer has no `Layer.trace`; its place is named.
  """
  place = place or place_in_network
  graph = fuse(trace_of(layer, shape))
  for operation in graph.operations:
    if operation.kind == "opaque":
      raise ValueError(
        f"{place(operation.path)} holds a layer without Layer.trace, which export needs; "
        "docs/extending.md shows how to write one"
      )
  weights = tuple(_weights(operation, variables) for operation in graph.operations)
  return Model(graph, weights, _names(graph, place), dict(metadata or {}))


def place_in_network(path: Path) -> str:
  """The place of an operation of `networks.build`: "stem", "stage2/block1" or "head"."""
  part, *inside = path
  if part == 1:
    return f"stage{inside[0] + 1}/block{inside[1] + 1}"
  return "head" if part else "stem"


def _names(graph: Graph, place: Callable[[Path], str]) -> tuple[str, ...]:
  """Names such as "stage2/block1/conv3": the place, the kind and its number in the place."""
  count: dict[str, int] = {}
  names = []
  for operation in graph.operations:
    name = f"{place(operation.path)}/{operation.kind}"
    count[name] = count.get(name, 0) + 1
    names.append(f"{name}{count[name]}")
  return tuple(names)


def _at(tree: Any, path: Path) -> Any:
  for index in path:
    tree = tree[index]
  return tree


def _weights(operation: Operation, variables: Variables) -> Weights:
  """The folded arrays of an operation, computed in float64."""
  if operation.kind == "batch_norm":
    return Weights(*_as_float32(*_scale_and_shift(operation.path, operation.epsilon, variables)))
  if operation.kind not in ("conv", "dense"):
    return Weights()
  params = _at(variables.params, operation.path)
  kernel = np.asarray(params["kernel"], np.float64)
  bias = np.asarray(params.get("bias", np.zeros(kernel.shape[-1])), np.float64)
  if operation.norm is not None:
    scale, shift = _scale_and_shift(operation.norm, operation.norm_epsilon, variables)
    kernel, bias = kernel * scale, bias * scale + shift
  return Weights(*_as_float32(kernel, bias))


def _scale_and_shift(
  path: Path, epsilon: float, variables: Variables
) -> tuple[np.ndarray, np.ndarray]:
  """Batch norm with running statistics as `x * scale + shift`. Shapes `[C]`."""
  params, state = _at(variables.params, path), _at(variables.state, path)
  scale = params["scale"] / np.sqrt(np.asarray(state["var"], np.float64) + epsilon)
  return scale, params["bias"] - state["mean"] * scale


def _as_float32(*arrays: np.ndarray) -> list[np.ndarray]:
  return [np.asarray(array, np.float32) for array in arrays]

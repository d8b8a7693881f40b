"""Layers recognised by their operations, for tables that do not know the names of a space."""

from collections.abc import Mapping

from nas_submod.networks.graph import Operation, Shape, fuse
from nas_submod.networks.layer import Layer, trace_of
from nas_submod.networks.parts import Part

Piece = tuple[Shape, tuple[Operation, ...]]  # The shape of an input, and the operations.


def piece(layer: Layer, shape: Shape) -> Piece:
  """A layer as its fused operations, without weights. Equal layers give equal pieces."""
  graph = fuse(trace_of(layer, shape))
  operations = tuple(
    Operation(
      o.kind,
      o.inputs,
      o.shape,
      kernel=o.kernel,
      stride=o.stride,
      groups=o.groups,
      active=o.active,
    )
    for o in graph.operations
  )
  return tuple(shape), operations


def milliseconds(part: Part, known: Mapping[Piece, float]) -> float | None:
  """The sum over consecutive pieces of a part, long ones first; None if one is not known."""
  shape, operations = piece(part.layer, part.shape)
  total, start = 0.0, 0
  while start < len(operations):
    for end in range(len(operations), start, -1):
      # Inside a piece, tensors are numbered from its input. Earlier ones become negative.
      inside = tuple(
        o._replace(inputs=tuple(i - start for i in o.inputs)) for o in operations[start:end]
      )
      if (shape, inside) in known:
        total += known[shape, inside]
        shape, start = operations[end - 1].shape, end
        break
    else:
      return None
  return total

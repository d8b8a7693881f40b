"""The pieces of a part: inverted residuals and single operations, recognised by their trace."""

import re
from typing import NamedTuple

from nas_submod.networks.graph import Graph, Operation, Shape, fuse


class Piece(NamedTuple):
  """An inverted residual, or a single operation.

  Attributes:
    kind: "block", "conv", "pool" or "dense".
    before: Shape of its input.
    after: Shape of its output.
    kernel: Side of the kernel; of a block that of its depthwise convolution.
    stride: Its stride.
    inner: Channels of the depthwise convolution of a block.
    expands: Whether a block begins with a 1x1 convolution.
    groups: Groups of the first (1 without it) and the last 1x1 convolution of a block; of a
      convolution twice the same.
    squeeze_excite: Whether a block has a gate.
    shortcut: What a block adds to its branch: "", "input", or "conv" of the input.
    active: Whether a rectifier ends a convolution.
  """

  kind: str
  before: Shape
  after: Shape
  kernel: int = 1
  stride: int = 1
  inner: int = 0
  expands: bool = False
  groups: tuple[int, int] = (1, 1)
  squeeze_excite: bool = False
  shortcut: str = ""
  active: bool = False


# A letter for each operation, see `_letter`: first convolution, depthwise convolution, gate,
# shuffle, last convolution, shortcut.
_BLOCK = re.compile(r"(c?)(d)(gcphm)?(s?)(p)(a|pa)?")


def pieces(graph: Graph) -> tuple[Piece, ...] | None:
  """The pieces of a graph in order; None if an operation belongs to none."""
  graph = fuse(graph)
  word = "".join(_letter(graph, operation) for operation in graph.operations)
  found: list[Piece] = []
  at = 0
  while at < len(word):
    match = _BLOCK.match(word, at)
    if match and _is_wired(graph, match):
      found.append(_block(graph, match))
      at = match.end()
    elif graph.operations[at].inputs == (at,) and word[at] in "cpdfgl":
      found.append(_single(graph, at))
      at += 1
    else:
      return None
  return tuple(found) if graph.output == len(word) else None


def _letter(graph: Graph, operation: Operation) -> str:
  """C and p: 1x1 convolutions with and without rectifier; d: depthwise; f: others."""
  if operation.kind == "conv":
    cin = graph.shape_of(operation.inputs[0])[-1]
    if operation.groups == cin == operation.shape[-1] and cin > 1:
      return "d" if operation.active else "f"
    if operation.kernel > 1 or operation.stride > 1:
      return "f"
    return "c" if operation.active else "p"
  letters = {"pool": "g", "hard_sigmoid": "h", "multiply": "m", "shuffle": "s"}
  if operation.kind == "add" and not operation.active:
    return "a"
  return letters.get(operation.kind, "l" if operation.kind == "dense" else "?")


def _is_wired(graph: Graph, match: re.Match[str]) -> bool:
  """Whether the operations of a block read what those of an inverted residual read."""
  start = match.start()
  for group in range(1, 7):
    for at in range(match.start(group), match.end(group)):
      kind, inputs = graph.operations[at].kind, graph.operations[at].inputs
      expected: tuple[int, ...] = (at,)  # What the operation before has made.
      if kind == "multiply":
        expected = match.end(2), at
      elif kind == "add":
        expected = match.end(5), (start if match[6] == "a" else at)
      elif group == 6:
        expected = (start,)
      if inputs != expected:
        return False
  return True


def _block(graph: Graph, match: re.Match[str]) -> Piece:
  operations = graph.operations
  first = operations[match.start()]
  depthwise, last = operations[match.start(2)], operations[match.start(5)]
  return Piece(
    "block",
    graph.shape_of(match.start()),
    operations[match.end() - 1].shape,
    depthwise.kernel,
    depthwise.stride,
    depthwise.shape[-1],
    bool(match[1]),
    (first.groups if match[1] else 1, last.groups),
    bool(match[3]),
    {None: "", "a": "input", "pa": "conv"}[match[6]],
  )


def _single(graph: Graph, at: int) -> Piece:
  operation = graph.operations[at]
  return Piece(
    operation.kind,
    graph.shape_of(at),
    operation.shape,
    operation.kernel,
    operation.stride,
    groups=(operation.groups, operation.groups),
    active=operation.active,
  )

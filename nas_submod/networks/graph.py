"""The operations of a layer, as data: for costs, peak memory, export and latency.

`Layer.trace` maps the shape of one example to a `Graph`. Tensor 0 is the input of a graph, and
operation i makes tensor `i + 1`. Shapes are of one example, without the batch axis.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

Shape = tuple[int, ...]
Path = tuple[int, ...]

# The kinds of an operation, with the number of inputs of each. Every writer in `export` knows them,
# except "opaque".
KINDS = {
  "conv": 1,  # with padding (kernel - 1) / 2, and batch norm and ReLU after `fuse`
  "batch_norm": 1,
  "relu": 1,
  "hard_sigmoid": 1,  # relu6(x + 3) / 6
  "shuffle": 1,  # channels of `groups` groups are interleaved
  "pool": 1,  # average over height and width: to (C,) or (1, 1, C)
  "dense": 1,
  "add": 2,
  "multiply": 2,  # the second input may be (1, 1, C)
  "opaque": 1,  # a layer without `Layer.trace`
}


class Operation(NamedTuple):
  """One operation of a graph.

  Attributes:
    kind: A key of `KINDS`.
    inputs: Numbers of the tensors that it reads.
    shape: Shape of the tensor that it makes.
    path: Where its values are in the parameters and the state of the traced layer: an index for
      each `serial` or `residual` around it. A convolution has `kernel [K, K, cin / groups, cout]`
      and maybe `bias [cout]`; batch norm has `scale`, `bias` and, in the state, `mean` and `var`,
      all `[C]`; a dense layer has `kernel [cin, cout]` and `bias [cout]`.
    params: Learned parameters.
    madds: Multiply-adds that count as a cost.
    kernel: Side of the kernel of a convolution, in pixels.
    stride: Its step, in pixels.
    groups: Groups of a convolution or a shuffle.
    bias: Whether a convolution has a bias of its own.
    epsilon: Number that batch norm adds to the variance.
    norm: After `fuse`: the path of the batch norm that a convolution absorbed, or None.
    norm_epsilon: Its epsilon.
    active: After `fuse`: whether the ReLU is part of the operation.
  """

  kind: str
  inputs: tuple[int, ...]
  shape: Shape
  path: Path = ()
  params: int = 0
  madds: int = 0
  kernel: int = 1
  stride: int = 1
  groups: int = 1
  bias: bool = False
  epsilon: float = 0.0
  norm: Path | None = None
  norm_epsilon: float = 0.0
  active: bool = False


class Graph(NamedTuple):
  """Operations in the order in which they run.

  Attributes:
    shape: Shape of the input, tensor 0.
    operations: Operation i makes tensor `i + 1`.
    output: Number of the tensor that is the output.
  """

  shape: Shape
  operations: tuple[Operation, ...]
  output: int

  def shape_of(self, tensor: int) -> Shape:
    """The shape of a tensor."""
    return self.operations[tensor - 1].shape if tensor else self.shape

  @property
  def output_shape(self) -> Shape:
    """The shape of the output."""
    return self.shape_of(self.output)

  def add(self, kind: str, *inputs: int, shape: Shape | None = None, **fields: Any) -> "Graph":
    """The graph with one operation more, which makes its output.

    Args:
      kind: A key of `KINDS`.
      *inputs: Tensors to read; by default the output.
      shape: Shape of the new tensor; by default that of the first input.
      **fields: Other fields of `Operation`.

    Raises:
      ValueError: If the kind is unknown.
    """
    if kind not in KINDS:
      raise ValueError(f"unknown kind of operation {kind!r}; allowed: {', '.join(KINDS)}")
    inputs = inputs or (self.output,)
    shape = self.shape_of(inputs[0]) if shape is None else shape
    operation = Operation(kind, inputs, shape, **fields)
    return self._replace(operations=(*self.operations, operation), output=len(self.operations) + 1)

  def then(self, part: "Graph", index: int, tensor: int | None = None) -> "Graph":
    """The graph followed by a part, whose paths begin with an index.

    Args:
      part: The part; its input has the shape of the tensor it reads.
      index: Place of the part in the parameters and the state.
      tensor: The tensor that it reads; by default the output.
    """
    start = self.output if tensor is None else tensor
    offset = len(self.operations)

    def moved(number: int) -> int:
      return number + offset if number else start

    operations = tuple(
      o._replace(inputs=tuple(map(moved, o.inputs)), path=(index, *o.path)) for o in part.operations
    )
    return self._replace(operations=self.operations + operations, output=moved(part.output))

  def readers(self, tensor: int) -> list[int]:
    """The operations that read a tensor, by index."""
    return [i for i, operation in enumerate(self.operations) if tensor in operation.inputs]

  def cost(self) -> dict[str, int]:
    """Learned parameters, and multiply-adds of the convolutions for one image."""
    return {
      name: sum(getattr(operation, name) for operation in self.operations)
      for name in ("params", "madds")
    }


def start(shape: Shape) -> Graph:
  """The graph without operations, which returns its input."""
  return Graph(tuple(shape), (), 0)


def fuse(graph: Graph) -> Graph:
  """The graph as a device runs it.

  A batch norm merges into the convolution before it, and a ReLU into the convolution, dense
  layer or addition before it, unless another operation reads the tensor between them.
  """
  operations: list[Operation] = []
  renamed = {0: 0}
  for index, operation in enumerate(graph.operations):
    operation = operation._replace(inputs=tuple(renamed[i] for i in operation.inputs))
    [source, *_] = graph.operations[index].inputs
    absorbs = _absorbing(operation.kind)
    alone = source and graph.readers(source) == [index] and source != graph.output
    # The tensor before may itself be the output of a fused operation.
    last = operations[renamed[source] - 1] if alone else None
    if last is not None and absorbs is not None and absorbs(last):
      operations[renamed[source] - 1] = (
        last._replace(active=True)
        if operation.kind == "relu"
        else last._replace(norm=operation.path, norm_epsilon=operation.epsilon)
      )
      renamed[index + 1] = renamed[source]
    else:
      operations.append(operation)
      renamed[index + 1] = len(operations)
  return Graph(graph.shape, tuple(operations), renamed[graph.output])


def _absorbing(kind: str) -> Callable[[Operation], bool] | None:
  """A test for operations that absorb one of this kind; None if none does."""
  if kind == "batch_norm":
    return lambda before: before.kind == "conv" and before.norm is None and not before.active
  if kind == "relu":
    return lambda before: before.kind in ("conv", "dense", "add") and not before.active
  return None

"""Tables by layer and option, relative to skipping the layer, such as those of FBNet's space.

A row is the latency of an option minus the latency of the skip. `base_ms` is the latency of the
network of skips only, with stem and head. The skip is the identity, or a 1x1 convolution if the
shape changes (HW-NAS-Bench; the numbers of `eyeriss` agree: the first layer's `k3_e1`, with 16
output channels, and the second's, with 24, differ only by the 1x1 convolution of 16 channels).
"""

import functools
import itertools
import re
from collections.abc import Callable
from typing import NamedTuple

from nas_submod.networks import blocks, opening_stride
from nas_submod.networks.parts import Part, parts
from nas_submod.networks.search_space import SearchSpace
from nas_submod.resources.latency.pieces import Piece, piece
from nas_submod.resources.latency.sheet import Row, Sheet, keep
from nas_submod.validation import listed, located

_SIZES = ("cin", "cout", "stride")
COLUMNS = ("layer", "in_size", *_SIZES, "op", "delta_vs_skip", "base_ms")


class _Shape(NamedTuple):
  size: int
  cin: int
  cout: int
  stride: int

  @property
  def changes(self) -> bool:
    return self.stride != 1 or self.cin != self.cout

  def __str__(self) -> str:
    return f"{self.size}x{self.size}x{self.cin}->{self.cout}/{self.stride}"


_Option = tuple[int, int, int]  # kernel, expansion, groups


def is_style(sheet: Sheet) -> bool:
  """Whether a file has a column of this style; `reader` names what it lacks."""
  return "delta_vs_skip" in sheet.columns


def reader(sheet: Sheet) -> Callable[[SearchSpace], dict[str, float]]:
  """The function from a space to the milliseconds of its parts, by name.

  A position of a space matches the rows of its shape; `base_ms` counts as the stem. Blocks match by
  kernel, expansion and groups. They are inverted residuals with the first 1x1 convolution, even for
  expansion 1. Both 1x1 convolutions have the groups. The input is added if the shapes agree;
  otherwise nothing is added. A shuffle is ignored, because the tables do not mention it.

  Raises:
    ValueError: If the file lacks a column or a layer, holds a wrong number, or has different
      numbers for the same shape and option. The function raises it if the space and the table
      change shapes at different places.
  """
  sheet.check_columns(COLUMNS)
  shapes: dict[int, _Shape] = {}
  found: dict[tuple[_Shape, _Option | None], float] = {}
  lines: dict[object, str] = {}
  seen: dict[tuple[int, _Option | None], float] = {}
  base: dict[str, float] = {}
  known: dict[Piece, float] = {}
  for row in sheet.rows:
    keep(base, lines, "base", row.number("base_ms"), row)
    layer, shape = row.whole("layer"), _Shape(*map(row.positive, ("in_size", *_SIZES)))
    if shapes.setdefault(layer, shape) != shape:
      raise ValueError(f"{row.where}: layer {layer} is {shape}, above {shapes[layer]}")
    option, value = _option(row), row.number("delta_vs_skip")
    keep(seen, lines, (layer, option), value, row)
    keep(found, lines, (shape, option), value, row)
    if option:
      known |= dict.fromkeys(_pieces(row, shape, option), value)
    elif value:
      raise ValueError(f"{row.where}: skip has {value} ms; allowed relative to itself: 0")
  known_layers = sorted(shapes)
  gaps = [(a + 1, b - 1) for a, b in itertools.pairwise(known_layers) if b > a + 1]
  if gaps:
    words = [str(a) if a == b else f"{a} to {b}" for a, b in gaps]
    raise ValueError(f"latency table {sheet.path} lacks layer {listed(words)}")
  for layer, (shape, option) in itertools.product(shapes, found):
    if shape == shapes[layer] and (layer, option) not in seen:
      raise ValueError(
        f"latency table {sheet.path} lacks an option of layer {layer}: the one in "
        f"{lines[shape, option]}, a layer of the same shape"
      )
  ordered = [shapes[layer] for layer in sorted(shapes)]

  def costs(space):
    _check_skeleton(sheet, ordered, space)
    values = {part.name: _milliseconds(part, ordered, known, space) for part in parts(space)}
    values["stem"] = base["base"]
    return {name: value for name, value in values.items() if value is not None}

  return costs


def _option(row: Row) -> _Option | None:
  """Kernel, expansion and groups of a row; None for the skip."""
  op = row.values["op"]
  match = re.fullmatch(r"k([1-9]\d*)_e([1-9]\d*)(?:_g([1-9]\d*))?", op)
  if op != "skip" and not match:
    raise ValueError(f"{row.where}: op is {op!r}; allowed: skip, or such as k3_e6 or k3_e1_g2")
  return (int(match[1]), int(match[2]), int(match[3] or 1)) if match else None


def _check_skeleton(sheet: Sheet, layers: list[_Shape], space: SearchSpace) -> None:
  """Raises ValueError if a space does not change shapes where the layers of a table do.

  Then `base_ms` would include other 1x1 convolutions than the network of the space.
  """
  own = []
  for part in parts(space):
    if part.option is not None and part.predecessor == part.stage:
      shape = _shape_of(part, space)
      if shape.changes and shape not in own:
        own.append(shape)
  wanted = [shape for shape in layers if shape.changes]
  if own != wanted:
    raise ValueError(
      f"base_ms of latency table {sheet.path} belongs to another network than those of space "
      f"{space.name}: the table changes shapes at {', '.join(map(str, wanted))}; the space at "
      f"{', '.join(map(str, own)) or 'no place'}"
    )


def _shape_of(part: Part, space: SearchSpace) -> _Shape:
  """The shape of the first position of a stage."""
  assert part.predecessor is not None
  stride = opening_stride(space, part.stage, part.predecessor)
  return _Shape(part.shape[0], part.shape[-1], space.stages[part.stage].channels, stride)


def _pieces(row: Row, shape: _Shape, option: _Option) -> list[Piece]:
  """The blocks of a row, with and without shuffle."""
  (size, cin, cout, stride), (kernel, expansion, groups) = shape, option
  block = functools.partial(
    blocks.inverted_residual,
    expansion=expansion,
    kernel=kernel,
    expand_groups=groups,
    project_groups=groups,
    project_skip=False,
  )
  with located(row.where):
    made = [block(cin, cout, stride, shuffle=shuffle) for shuffle in (False, True)]
  return [piece(layer, (size, size, cin)) for layer in made]


def _milliseconds(
  part: Part, layers: list[_Shape], known: dict[Piece, float], space: SearchSpace
) -> float | None:
  """The milliseconds of a block; 0 for a head or projection in `base_ms`; None if unknown."""
  if part.option is None:
    is_last = part.shape[-1] == layers[-1].cout
    return 0.0 if is_last and part.predecessor is not None else None
  if part.option == 0:
    shape = _shape_of(part, space)
    return 0.0 if shape.changes and shape in layers else None
  return known.get(piece(part.layer, part.shape))

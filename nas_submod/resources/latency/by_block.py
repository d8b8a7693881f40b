"""Tables by block and size, as those of ProxylessNAS and Once-for-all."""

from collections.abc import Callable
from typing import NamedTuple

from nas_submod.networks.graph import Shape
from nas_submod.networks.layers import trace_of
from nas_submod.networks.parts import parts
from nas_submod.networks.search_space import SearchSpace
from nas_submod.resources.latency.pieces import Piece, pieces
from nas_submod.resources.latency.sheet import Row, Sheet, keep

COLUMNS = ("op", "input", "output", "expand", "kernel", "stride", "mean_ms")
_BLOCK = "expanded_conv"


class _Key(NamedTuple):
  kind: str
  before: Shape
  after: Shape
  inner: int = 0
  kernel: int = 0
  stride: int = 0
  skip: bool = False
  squeeze_excite: bool = False
  hard_swish: bool = False


def is_style(sheet: Sheet) -> bool:
  """Whether a file has columns of this style; `reader` names what it lacks."""
  return {"op", "input", "output"} <= set(sheet.columns)


def reader(sheet: Sheet) -> Callable[[SearchSpace], dict[str, float]]:
  """The function from a space to the milliseconds of its parts, by name.

  Rows of op `expanded_conv` are inverted residuals, without the first 1x1 convolution if their
  inner channels are those of the input. `expand` holds inner channels if no row's is below the
  channels of its input, otherwise ratios. `idskip` says whether the input is added, `se` whether
  there is a gate, `hs` whether a hard swish stands for the rectifier, which blocks here have not.
  Rows `Conv...` are convolutions: 3x3 if their input is an image of 3 channels or less, otherwise
  1x1. `AvgPool...` is the pool; `Logits` the classifier, and the pool with it where its input is an
  image. A part is the sum of its pieces.

  Raises:
    ValueError: If the file lacks a column, holds a wrong number, or has different numbers for the
      same block. The function raises it if the file is for images of another size.
  """
  if missing := [column for column in COLUMNS if column not in sheet.columns]:
    raise ValueError(f"latency table {sheet.path} lacks the column {', '.join(missing)}")
  tables = {}
  for size in dict.fromkeys(row.values.get("net_input", "") for row in sheet.rows):
    chosen = sheet.chosen("net_input", size, "") if size else sheet
    tables[size] = _table(chosen)

  def costs(space):
    table = tables.get("") or tables.get(str(space.image_shape[0]))
    if table is None:
      raise ValueError(
        f"latency table {sheet.path} is for images of {', '.join(tables)} pixels; space "
        f"{space.name} has {space.image_shape[0]}"
      )
    known = {}
    for part in parts(space):
      value = _sum(pieces(trace_of(part.layer, part.shape)), table)
      if value is not None:
        known[part.name] = value
    return known

  return costs


def _table(sheet: Sheet) -> dict[_Key, float]:
  blocks = [row for row in sheet.rows if row.values["op"] == _BLOCK]
  are_channels = all(row.number("expand") >= row.shape("input")[-1] for row in blocks)
  found: dict[_Key, float] = {}
  lines: dict[_Key, str] = {}
  for row in sheet.rows:
    keep(found, lines, _key(row, are_channels), row.number("mean_ms"), row)
  return found


def _key(row: Row, are_channels: bool) -> _Key:
  op, before, after = row.values["op"], row.shape("input"), row.shape("output")
  if op != _BLOCK:
    kind = next((k for k in ("Conv", "AvgPool", "Logits") if op.startswith(k)), "")
    if not kind:
      raise ValueError(f"{row.where}: op is {op!r}; allowed: {_BLOCK}, Conv, AvgPool, Logits")
    return _Key(kind, before, after)
  inner = row.whole("expand") * (1 if are_channels else before[-1])
  flags = [bool(row.values.get(c)) and row.whole(c) == 1 for c in ("idskip", "se", "hs")]
  return _Key(_BLOCK, before, after, inner, row.whole("kernel"), row.whole("stride"), *flags)


def _sum(parsed: tuple[Piece, ...] | None, table: dict[_Key, float]) -> float | None:
  """The milliseconds of a part; None if the table lacks one of its pieces."""
  if parsed is None:
    return None
  total, rest = 0.0, list(parsed)
  while rest:
    if [piece.kind for piece in rest] == ["pool", "dense"]:
      whole = _Key("Logits", rest[0].before, rest[1].after)
      if whole in table:
        return total + table[whole]
    key = _key_of(rest.pop(0))
    if key is None or key not in table:
      return None
    total += table[key]
  return total


def _key_of(piece: Piece) -> _Key | None:
  before, after = piece.before, piece.after
  if piece.kind == "block":
    expands = piece.inner != before[-1]
    if piece.groups != (1, 1) or piece.expands != expands or piece.shortcut == "conv":
      return None
    skip = piece.shortcut == "input"
    sizes = piece.inner, piece.kernel, piece.stride
    return _Key(_BLOCK, before, after, *sizes, skip, piece.squeeze_excite)
  if piece.kind == "conv":
    kernel = 3 if before[-1] <= 3 else 1
    is_plain = piece.kernel == kernel and piece.groups == (1, 1) and piece.active
    return _Key("Conv", before, after) if is_plain else None
  if piece.kind == "pool":
    return _Key("AvgPool", before, (1, 1, before[-1]))
  return _Key("Logits", (1, 1, *before), after)

"""Tables by block and size, such as those of ProxylessNAS and Once-for-all."""

from collections.abc import Callable

from nas_submod.networks import blocks, layers
from nas_submod.networks.layer import Layer
from nas_submod.networks.parts import parts
from nas_submod.networks.search_space import SearchSpace
from nas_submod.resources.latency.pieces import Piece, milliseconds, piece
from nas_submod.resources.latency.sheet import Row, Sheet, keep

COLUMNS = ("op", "input", "output", "expand", "kernel", "stride", "mean_ms")
_BLOCK = "expanded_conv"
_KINDS = (_BLOCK, "Conv", "AvgPool", "Logits")  # Prefixes of ops.


def is_style(sheet: Sheet) -> bool:
  """Whether a file has columns of this style; `reader` names what it lacks."""
  return {"op", "input", "output"} <= set(sheet.columns)


def reader(sheet: Sheet) -> Callable[[SearchSpace], dict[str, float]]:
  """The function from a space to the milliseconds of its parts, by name.

  Rows of op `expanded_conv` are inverted residuals, without the first 1x1 convolution if there are
  as many inner channels as input channels. `expand` holds inner channels if it is at least the
  input channels in every row, otherwise ratios. `idskip` says whether the input is added, `se`
  whether there is a gate, `hs` whether hard swish replaces the ReLU, which no block here does.
  Rows `Conv...` are convolutions: 3x3 if their input is an image of 3 channels or less, otherwise
  1x1. `AvgPool...` is the pool. `Logits` is the classifier, with the pool if its input is an image.
  A part is the sum of its pieces.

  Raises:
    ValueError: If the file lacks a column, holds a wrong number, or names a block twice. The
      function raises it if the file is for images of another size.
  """
  sheet.check_columns(COLUMNS)
  by_size: dict[int, list[Row]] = {}
  for row in sheet.rows:
    size = row.positive("net_input") if "net_input" in sheet.columns else 0
    by_size.setdefault(size, []).append(row)
  tables = {size: _table(rows) for size, rows in by_size.items()}

  def costs(space):
    table = tables.get(space.image_shape[0] if "net_input" in sheet.columns else 0)
    if table is None:
      raise ValueError(
        f"latency table {sheet.path} is for images of {', '.join(map(str, tables))} pixels; space "
        f"{space.name} has {space.image_shape[0]}"
      )
    found = {part.name: milliseconds(part, table) for part in parts(space)}
    return {name: value for name, value in found.items() if value is not None}

  return costs


def _table(rows: list[Row]) -> dict[Piece, float]:
  sized = [row for row in rows if row.values["op"] == _BLOCK]
  are_channels = all(row.number("expand") >= row.shape("input", 3)[-1] for row in sized)
  found: dict[object, float] = {}
  lines: dict[object, str] = {}
  known: dict[Piece, float] = {}
  for row in rows:
    value, (key, described) = row.number("mean_ms"), _described(row, are_channels)
    keep(found, lines, key, value, row)
    known |= dict.fromkeys(described, value)
  return known


def _described(row: Row, are_channels: bool) -> tuple[object, list[Piece]]:
  """The key of a row, and the layers that it describes; empty if no layer here matches."""
  op = row.values["op"]
  kind = next((kind for kind in _KINDS if op.startswith(kind)), "")
  if not kind:
    raise ValueError(f"{row.where}: op is {op!r}; allowed: {', '.join(_KINDS)}")
  before, after = row.shape("input", 3), row.shape("output", 1 if kind == "Logits" else 3)
  cin, cout = before[-1], after[-1]
  if kind == _BLOCK:
    inner = row.whole("expand") * (1 if are_channels else cin)
    sizes = inner, row.whole("kernel"), row.whole("stride")
    flags = row.flag("idskip"), row.flag("se"), row.flag("hs")
    block = _block(cin, cout, *sizes, *flags)
    found = [piece(block, before)] if block else []
    return (kind, before, after, sizes, flags), [p for p in found if p[1][-1].shape == after]
  if kind == "Conv":
    convolution = blocks.conv_bn(cin, cout, 3 if cin <= 3 else 1, -(-before[0] // after[0]))
    found = [p for p in (piece(convolution, before),) if p[1][-1].shape == after]
  elif kind == "AvgPool":
    found = [piece(layers.global_average_pool(), before)] if after == (1, 1, cin) else []
  else:
    found = [piece(layers.serial(layers.global_average_pool(), layers.dense(cin, cout)), before)]
    if before[:2] == (1, 1):
      found.append(piece(layers.dense(cin, cout), (cin,)))
  return (kind, before, after), found


def _block(
  cin: int,
  cout: int,
  inner: int,
  kernel: int,
  stride: int,
  is_added: bool,
  squeeze_excite: bool,
  hard_swish: bool,
) -> Layer | None:
  """The block of a row; None if no block here matches."""
  adds = stride == 1 and cin == cout
  if hard_swish or is_added != adds or not inner or inner % cin or not kernel % 2 or not stride:
    return None
  if inner == cin:
    return blocks.depthwise_separable(
      cin, cout, stride, kernel=kernel, squeeze_excite=squeeze_excite
    )
  return blocks.inverted_residual(
    cin,
    cout,
    stride,
    expansion=inner // cin,
    kernel=kernel,
    squeeze_excite=squeeze_excite,
    project_skip=False,
  )

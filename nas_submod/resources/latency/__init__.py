"""Latency in milliseconds, from a table: measured here, or by others. See docs/latency.md."""

import functools
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from nas_submod.networks.parts import parts
from nas_submod.networks.search_space import SearchSpace
from nas_submod.resources.base import Resource
from nas_submod.resources.latency import by_block, by_layer, measured
from nas_submod.resources.latency.fit import check_complete
from nas_submod.resources.latency.sheet import parse, read
from nas_submod.resources.table import CostTable, tabulated

__all__ = ["cost_table", "from_table", "runtime_of"]

PartCosts = Callable[[SearchSpace], dict[str, float]]

_STYLES = (measured, by_layer, by_block)


def from_table(table: str) -> Resource:
  """The resource "latency_ms" of a table.

  Args:
    table: The path of a CSV file, or "PATH:DEVICE" for one with several devices.

  Raises:
    ValueError: If the file cannot be read, holds a wrong number, or the device is unknown or not
      chosen. The resource raises it for a space of which parts are missing in the table.
  """
  if not isinstance(table, str):
    raise ValueError(f"config.resources.latency is {table!r}; allowed: the path of a table")
  path, device = _split(table)
  return _resource(path, read(path), device)


def runtime_of(table: str) -> str:
  """The runtime that a table says it was measured with, such as "litert"; "" if it says none.

  Raises:
    ValueError: If the file cannot be read.
  """
  path, _ = _split(table)
  return parse(path, read(path)).comments.get("runtime", "").partition(" ")[0]


def _split(table: str) -> tuple[str, str | None]:
  """Path and device of "PATH:DEVICE"."""
  path, _, device = table.rpartition(":")
  if not path or pathlib.Path(table).is_file():
    return table, None
  return path, device


@functools.cache
def _resource(path: str, text: str, device: str | None) -> Resource:
  """The resource of a file's content: the same object each time, so its programs compile once."""
  costs = _part_costs(path, text, device)

  def table(space):
    found = costs(space)
    check_complete(space, found, f"latency table {path}")
    return cost_table(space, found)

  return tabulated("latency_ms", "ms", table)


def _part_costs(path: str, text: str, device: str | None, completes: bool = True) -> PartCosts:
  """The function from a space to the milliseconds of those parts that a file knows, by name."""
  sheet = parse(path, text).chosen("device", device, "choose one by PATH:DEVICE")
  styles = [style for style in _STYLES if style.is_style(sheet)]
  if not styles:
    raise ValueError(
      f"latency table {path} has the columns {', '.join(sheet.columns)}; allowed: part and "
      f"milliseconds, or {', '.join(by_layer.COLUMNS)}, or {', '.join(by_block.COLUMNS)}"
    )
  own = styles[0].reader(sheet)
  if "base" not in sheet.comments:
    return own
  if not completes:
    raise ValueError(f"latency table {path} has a base, and is the base of another; allowed: one")
  base, base_device = _split(str(pathlib.Path(path).parent / sheet.comments["base"]))
  rest = _part_costs(base, read(base), base_device, completes=False)
  return lambda space: rest(space) | own(space)


def cost_table(space: SearchSpace, milliseconds: Mapping[str, float]) -> CostTable:
  """The table of a space from the milliseconds of its parts, by name, float64."""
  count, options = len(space.stages), len(space.options)
  stem, head = np.zeros(()), np.zeros(count + 1)
  opening, other = np.zeros((count, count + 1, options + 1)), np.zeros((count, options + 1))
  for part in parts(space):
    value = milliseconds[part.name]
    if part.stage < 0:
      stem = np.array(value)
    elif part.stage == count:
      head[part.predecessor] = value
    elif part.predecessor is None:
      other[part.stage, part.option] = value
    else:
      opening[part.stage, part.predecessor, part.option] = value
  return CostTable(stem, opening, other, head)

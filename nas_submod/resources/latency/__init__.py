"""Latency in milliseconds, from a table measured here or by others. See docs/latency.md."""

import functools
from collections.abc import Callable

import numpy as np

from nas_submod.files import local_path
from nas_submod.networks.search_space import SearchSpace
from nas_submod.resources.base import Resource
from nas_submod.resources.latency import by_block, by_layer, by_part
from nas_submod.resources.latency.fit import check_complete
from nas_submod.resources.latency.sheet import Sheet, parse, read
from nas_submod.resources.table import tabulate, tabulated

__all__ = ["from_table", "open_table", "runtime_of"]

_STYLES = (by_part, by_layer, by_block)
_File = tuple[str, str, str | None]  # Path, content and device.


def from_table(table: str) -> Resource:
  """The resource "latency_ms" of a table.

  Args:
    table: The path of a CSV file, or "PATH:DEVICE" for one with several devices.

  Raises:
    ValueError: If the file cannot be read, holds a wrong number, or the device is unknown or not
      chosen. The resource raises it for a space with parts that the table lacks.
  """
  if not isinstance(table, str):
    raise ValueError(f"config.resources.latency is {table!r}; allowed: the path of a table")
  file = _file(table)
  if (base := parse(*file[:2]).comments.get("base")) is None:
    return _resource(file)
  rest = _file(str(local_path(file[0]).parent / base))
  if "base" in parse(*rest[:2]).comments:
    raise ValueError(
      f"latency table {rest[0]} is the base of {file[0]} and names a base itself; allowed: one base"
    )
  return _resource(file, rest)


def open_table(table: str) -> Sheet:
  """The rows of "PATH" or "PATH:DEVICE".

  Raises:
    ValueError: If the file cannot be read, or the device is unknown or not chosen.
  """
  return _rows(_file(table))


def runtime_of(table: str) -> str:
  """The runtime that a table says it was measured with, such as "litert"; "" if it says none.

  Raises:
    ValueError: If the file cannot be read.
  """
  return parse(*_file(table)[:2]).comments.get("runtime", "").partition(" ")[0]


def _file(table: str) -> _File:
  """The file of "PATH" or "PATH:DEVICE"; both may hold colons."""
  ends = [at for at, letter in enumerate(table) if letter == ":"]
  for end in reversed(ends):
    if not local_path(table).is_file() and local_path(table[:end]).is_file():
      return table[:end], read(table[:end]), table[end + 1 :]
  return table, read(table), None


def _rows(file: _File) -> Sheet:
  path, text, device = file
  return parse(path, text).of_device(device)


@functools.cache
def _resource(*files: _File) -> Resource:
  """The resource of files, where the first overrides the second.

  Equal files give the same object, so its programs are compiled once.
  """
  readers = [_reader(_rows(file)) for file in reversed(files)]

  def table(space):
    found = {name: value for costs in readers for name, value in costs(space).items()}
    check_complete(space, found, f"latency table {files[0][0]}")
    return tabulate(space, lambda part: found[part.name], dtype=np.float64)

  return tabulated("latency_ms", "ms", table)


def _reader(sheet: Sheet) -> Callable[[SearchSpace], dict[str, float]]:
  """The function from a space to the milliseconds of the parts that a file knows, by name."""
  for style in _STYLES:
    if style.is_style(sheet):
      return style.reader(sheet)
  raise ValueError(
    f"latency table {sheet.path} has the columns {', '.join(sheet.columns)}; allowed, separated by "
    f"commas: part and milliseconds, or {', '.join(by_layer.COLUMNS)}, or "
    f"{', '.join(by_block.COLUMNS)}"
  )

"""Tables of the parts of one space, by name, from `experiments.measure_latency` or elsewhere."""

import pathlib
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from nas_submod import files
from nas_submod.networks.parts import fingerprint
from nas_submod.networks.search_space import SearchSpace
from nas_submod.resources.latency.fit import check_complete, fit_correction
from nas_submod.resources.latency.sheet import Sheet, keep
from nas_submod.validation import located

NAMES = ("part", "name")
NUMBERS = ("milliseconds", "ms", "latency_ms")
NETWORK = "network/"  # Rows of whole networks; the rest of the name is `SearchSpace.key`.
CHECK = "check/"  # The same, for networks that only check a table.


class Measured(NamedTuple):
  """Numbers of a table.

  Attributes:
    parts: Milliseconds by name of the part.
    networks: Milliseconds of whole networks, by key.
    checks: Milliseconds of networks that only check predictions.
    correction: Milliseconds of the table's "correction_ms"; None without it.
  """

  parts: dict[str, float]
  networks: dict[str, float]
  checks: dict[str, float]
  correction: float | None


def kind_of(name: str) -> tuple[int, str]:
  """The index of the field of `Measured` for a row's name, and its key there."""
  kind = 1 if name.startswith(NETWORK) else 2 if name.startswith(CHECK) else 0
  return kind, name.partition("/")[2] if kind else name


def is_style(sheet: Sheet) -> bool:
  """Whether a file has the columns of this style."""
  return any(n in sheet.columns for n in NAMES) and any(n in sheet.columns for n in NUMBERS)


def read_measured(sheet: Sheet) -> Measured:
  """The numbers of a table.

  Raises:
    ValueError: If a column or a number is missing or wrong, or a name has several numbers.
  """
  if not is_style(sheet):
    raise ValueError(
      f"{sheet.path} has the columns {', '.join(sheet.columns)}; allowed: part and milliseconds"
    )
  names = [column for column in NAMES if column in sheet.columns]
  numbers = [column for column in NUMBERS if column in sheet.columns]
  for same in (names, numbers):
    if len(same) > 1:
      raise ValueError(f"{sheet.path} has {' and '.join(same)}, which mean the same: keep one")
  [name], [number] = names, numbers
  found: tuple[dict[str, float], ...] = ({}, {}, {})
  lines: dict[str, str] = {}
  for row in sheet.rows:
    part = row.values[name]
    if not part:
      raise ValueError(f"{row.where}: {name} is empty; allowed: the name of a part")
    if part.lower() == "correction_ms":
      raise ValueError(f"{row.where}: {part} is no part; write it as # correction_ms: VALUE")
    kind, key = kind_of(part)
    if not kind and re.match(r"(network|check)s?\W", part, re.IGNORECASE):
      raise ValueError(f"{row.where}: {part!r}; allowed: {NETWORK}KEY or {CHECK}KEY")
    value = row.number(number)
    if kind and not value:
      raise ValueError(f"{row.where}: {number} is 0; allowed for a network: a positive number")
    keep(found[kind], lines, key, value, row)
  return Measured(found[0], found[1], found[2], _correction(sheet, found[0]))


def _correction(sheet: Sheet, milliseconds: Mapping[str, float]) -> float | None:
  text = sheet.comments.get("correction_ms")
  if text is None:
    return None
  least = min(milliseconds.values(), default=0.0)
  try:
    value = float(text)
  except ValueError:
    value = -1.0
  if not 0 <= value <= least:
    raise ValueError(
      f"{sheet.path}: correction_ms is {text}; allowed: 0 to {least:g}, the smallest part"
    )
  return value


def reader(sheet: Sheet) -> Callable[[SearchSpace], dict[str, float]]:
  """The function from a space to the milliseconds of its parts, corrected, by name.

  Raises:
    ValueError: If a number of the file is wrong. The function raises it if the file belongs to
      another space.
  """
  table = read_measured(sheet)

  def costs(space):
    found = fitted(sheet, table, space)
    correction = found.correction or 0.0
    return {name: ms - correction * (name != "stem") for name, ms in found.parts.items()}

  return costs


def fitted(sheet: Sheet, table: Measured, space: SearchSpace) -> Measured:
  """The table with a correction: its own, one fitted to its networks, or 0 without networks.

  Raises:
    ValueError: If the table belongs to another space, or its networks need parts that it lacks.
  """
  _check_space(sheet, space)
  with located(f"latency table {sheet.path}"):
    for key in (*table.networks, *table.checks):
      space.from_key(key)
  if table.correction is not None or not table.networks:
    return table._replace(correction=table.correction or 0.0)
  check_complete(space, table.parts, f"latency table {sheet.path}")
  with located(f"latency table {sheet.path}"):
    return table._replace(correction=fit_correction(space, table.parts, table.networks))


def write_measured(path: pathlib.Path, table: Measured, comments: Mapping[str, str]) -> None:
  """Writes a table atomically, with a comment line for each comment and the correction."""
  lines = [f"# {key}: {' '.join(value.split())}" for key, value in comments.items()]
  if table.correction is not None:
    lines.append(f"# correction_ms: {table.correction:.6g}")
  lines.append(f"{NAMES[0]},{NUMBERS[0]}")
  for prefix, numbers in (("", table.parts), (NETWORK, table.networks), (CHECK, table.checks)):
    for name, value in numbers.items():
      lines.append(f"{quoted(prefix + name)},{value:.6g}")
  files.write_bytes(path, ("\n".join(lines) + "\n").encode())


def quoted(text: str) -> str:
  """The text as a cell of a CSV file."""
  return '"' + text.replace('"', '""') + '"' if set(text) & set(',"#') else text


def _check_space(sheet: Sheet, space: SearchSpace) -> None:
  """Raises ValueError if the comment "space" of a file has another fingerprint than a space."""
  name, _, mark = sheet.comments.get("space", "").rpartition(" ")
  if re.fullmatch("[0-9a-f]{12}", mark) and mark != fingerprint(space):
    raise ValueError(
      f"latency table {sheet.path} belongs to space {name} with other blocks, channels or images "
      f"({mark}, not {fingerprint(space)}): measure one for space {space.name}"
    )

"""CSV files of latencies: comment lines, a header, and rows with their line numbers."""

import csv
import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from nas_submod.files import local_path

_FLAGS = {
  **dict.fromkeys(("", "0", "0.0", "false"), False),
  **dict.fromkeys(("1", "1.0", "true"), True),
}


class Row(NamedTuple):
  """A row of a table.

  Attributes:
    where: File and line, for error messages.
    values: Text by column, without spaces around it.
  """

  where: str
  values: Mapping[str, str]

  def number(self, column: str) -> float:
    """A number of milliseconds.

    Raises:
      ValueError: If it is missing, not a number, not finite or negative.
    """
    text = self.values[column]
    try:
      value = float(text)
    except ValueError:
      value = math.nan
    # Python also accepts 1_0 and digits of other scripts.
    if not math.isfinite(value) or value < 0 or "_" in text or not text.isascii():
      found = repr(text) if text else "empty"
      raise ValueError(f"{self.where}: {column} is {found}; allowed: a number of at least 0")
    return value

  def whole(self, column: str) -> int:
    """A whole number such as "3" or "3.0".

    Raises:
      ValueError: If it is not one.
    """
    value = self.number(column)
    if value != int(value):
      raise ValueError(f"{self.where}: {column} is {value}; allowed: whole numbers")
    return int(value)

  def positive(self, column: str) -> int:
    """A whole number of at least 1.

    Raises:
      ValueError: If it is not one.
    """
    value = self.whole(column)
    if not value:
      raise ValueError(f"{self.where}: {column} is 0; allowed: whole numbers from 1")
    return value

  def flag(self, column: str) -> bool:
    """A cell of 0 or 1, true or false; False if it is empty or missing.

    Raises:
      ValueError: If it is something else.
    """
    text = self.values.get(column, "").lower()
    if text not in _FLAGS:
      raise ValueError(f"{self.where}: {column} is {text}; allowed: 0 or 1")
    return _FLAGS[text]

  def shape(self, column: str, axes: int) -> tuple[int, ...]:
    """A shape such as "56x56x24", or "1000" of one axis.

    Raises:
      ValueError: If it is not one.
    """
    text = self.values[column]
    if not re.fullmatch("x".join(["0*[1-9][0-9]*"] * axes), text):
      example = "56x56x24" if axes == 3 else "1000"
      raise ValueError(f"{self.where}: {column} is {text!r}; allowed: a shape such as {example}")
    return tuple(int(side) for side in text.split("x"))


class Sheet(NamedTuple):
  """A CSV file.

  Attributes:
    path: Its path.
    comments: Values of its lines "# key: value".
    columns: Names of its columns.
    rows: Its rows.
  """

  path: str
  comments: Mapping[str, str]
  columns: tuple[str, ...]
  rows: tuple[Row, ...]

  def check_columns(self, needed: Iterable[str]) -> None:
    """Raises ValueError if a column is missing."""
    if missing := [column for column in needed if column not in self.columns]:
      raise ValueError(f"latency table {self.path} lacks the column {', '.join(missing)}")

  def of_device(self, wanted: str | None) -> "Sheet":
    """The rows of one device.

    Args:
      wanted: Its name in the column "device"; None for a file without the column, or of one device.

    Raises:
      ValueError: If no row has the device, or there are several and none is wanted.
    """
    if "device" not in self.columns:
      if wanted is not None:
        raise ValueError(f"{self.path} has no column device to choose {wanted!r} from")
      return self
    found = {row.values["device"]: row.where for row in self.rows}
    if "" in found and len(found) > 1:
      raise ValueError(f"{found['']}: device is empty; allowed: one of those in other rows")
    if wanted is None and len(found) > 1:
      raise ValueError(
        f"{self.path} has several devices: {', '.join(found)}; choose one by PATH:DEVICE"
      )
    if wanted is not None and wanted not in found:
      raise ValueError(f"{self.path} has no device {wanted!r}; allowed: {', '.join(found)}")
    rows = tuple(row for row in self.rows if wanted in (None, row.values["device"]))
    return self._replace(rows=rows)


# Comments that change numbers.
_MEANINGFUL = ("correction_ms", "space", "base")


def read(path: str) -> str:
  """The text of a file.

  Raises:
    ValueError: If it cannot be read.
  """
  try:
    return local_path(path).read_text(encoding="utf-8-sig")
  except FileNotFoundError:
    raise ValueError(f"there is no latency table {path}") from None
  except UnicodeDecodeError:
    raise ValueError(f"latency table {path} is not a CSV file in UTF-8") from None
  except OSError as error:
    raise ValueError(f"latency table {path} cannot be read: {error}") from None


def parse(path: str, text: str) -> Sheet:
  """The rows of a CSV file.

  Raises:
    ValueError: If it has no rows, a column twice, or a row of another length than the header.
  """
  comments: dict[str, str] = {}
  header, rows = None, []
  for number, cells in _lines(path, text):
    if cells[0].startswith("#"):
      key, colon, value = ",".join(cells).lstrip("# ").partition(":")
      key, value = key.strip(), value.strip(" ,")  # A spreadsheet fills rows with commas.
      key = key.lower() if key.lower() in _MEANINGFUL else key
      first = key.lower().split("=")[0].strip()
      if difflib.get_close_matches(first, ["correction_ms"], cutoff=0.8):
        key = key.lower()
        if key != "correction_ms" or not colon:
          raise ValueError(f"{path} line {number}: {key!r}; allowed: # correction_ms: MILLISECONDS")
      if colon and key in _MEANINGFUL and comments.get(key, value) != value:
        raise ValueError(f"{path} line {number}: {key} is {comments[key]} above and {value} here")
      if colon:
        comments[key] = value
    elif header is None:
      header = tuple(cell.lower() for cell in cells)
      while not header[-1]:
        header = header[:-1]
      if len(header) == 1 and re.search("[;\t]", header[0]):
        raise ValueError(
          f"{path} line {number}: columns are separated by semicolons or tabs; allowed: commas, "
          "and points in numbers"
        )
      if len(set(header)) < len(header):
        raise ValueError(f"{path} line {number}: a column stands there twice: {', '.join(header)}")
    elif len(cells) < len(header) or any(cells[len(header) :]):
      raise ValueError(
        f"{path} line {number}: {len(cells)} values; allowed: {len(header)}, as the header has"
      )
    else:
      rows.append(Row(f"{path} line {number}", dict(zip(header, cells))))
  if header is None or not rows:
    raise ValueError(f"latency table {path} has no rows")
  return Sheet(path, comments, header, tuple(rows))


def _lines(path: str, text: str) -> Iterator[tuple[int, Sequence[str]]]:
  """The number and the cells of each line that is not empty."""
  for number, line in enumerate(text.splitlines(), 1):
    if line.startswith("#"):
      yield number, [line]
    elif line.strip(" ,"):
      try:
        cells = [cell.strip() for cell in next(csv.reader([line]))]
      except csv.Error as error:
        raise ValueError(f"{path} line {number}: {error}") from None
      if any(cells):
        yield number, cells


def keep(found: dict, lines: dict, key: object, value: float, row: Row) -> None:
  """Stores a number under a key in `found`, and its place in `lines`.

  Raises:
    ValueError: If the key already has another number.
  """
  if key in found and found[key] != value:
    raise ValueError(
      f"{row.where}: {value} ms here, but {found[key]} ms for the same in {lines[key]}; keep one "
      "of them"
    )
  if key not in found:
    found[key], lines[key] = value, row.where

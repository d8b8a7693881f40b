"""The CSV files of `benchmarks/tables.py`: rows with their lines, numbers, architectures."""

import csv
import re
from collections.abc import Sequence

import numpy as np

from nas_submod import files
from nas_submod.validation import first_line


def read(path: str) -> tuple[list[str], list[list[str]], list[int]]:
  """The header, the other rows, and the line where each of them ends.

  Raises:
    ValueError: If there is no such file, or it is no table.
  """
  file = files.local_path(path)
  if not file.exists():
    raise ValueError(f"--table={path}: no such file; benchmarks/tables.py describes the format")
  rows, lines = [], []
  try:
    with file.open(newline="", encoding="utf-8-sig") as text:
      plain = ["" if line.lstrip().startswith("#") else line for line in text]
      first = next((line for line in plain if line.strip()), "")
      delimiter = next((mark for mark in ",;\t" if "arch" in _cells(first, mark)), ",")
      reader = csv.reader(plain, delimiter=delimiter)
      for row in reader:
        cells = [cell.strip() for cell in row]
        if any(cells):
          rows.append(cells)
          lines.append(reader.line_num)
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise ValueError(f"{path} is not a CSV file in UTF-8: {first_line(error)}") from error
  if len(rows) < 2:
    raise ValueError(f"{path} has no rows")
  header, *rest = rows
  named = ("arch", "canonical")
  header = [name.lower() if name.lower() in named else name for name in header]
  while header and not header[-1] and not any("".join(row[len(header) - 1 :]) for row in rest):
    rest = [row[: len(header) - 1] for row in rest]
    del header[-1]  # A spreadsheet fills rows with commas.
  rest = [row[: len(header)] if not any(row[len(header) :]) else row for row in rest]
  for line, row in zip(lines[1:], rest):
    if len(row) != len(header):
      raise ValueError(f"{path} line {line} has {len(row)} cells, the first line has {len(header)}")
  if twice := [name for name in header if header.count(name) > 1 and name]:
    raise ValueError(f"{path} has the column {twice[0]} twice: keep one of them")
  return header, rest, lines[1:]


def _cells(line: str, delimiter: str) -> list[str]:
  """The cells of one line, in lower case."""
  return [cell.strip().lower() for row in csv.reader([line], delimiter=delimiter) for cell in row]


def check_repeats(
  path: str,
  lines: list[int],
  tokens: list[list[int]],
  content: list[tuple[list, ...]],
  what: str = "architecture",
) -> None:
  """Raises ValueError if two rows of one architecture have different numbers."""
  first: dict[tuple[int, ...], int] = {}
  for row, architecture in enumerate(map(tuple, tokens)):
    known = first.setdefault(architecture, row)
    if content[known] != content[row]:
      raise ValueError(
        f"{path} has the {what} {'-'.join(map(str, architecture))} in lines {lines[known]} "
        f"and {lines[row]}, with different numbers: keep one of them"
      )


def check_canonical(
  path: str, lines: list[int], tokens: list[list[int]], canonical: list[list[int]]
) -> None:
  """Raises ValueError if a canonical form has an unknown option, or is not its own one."""
  form_of = dict(zip(map(tuple, tokens), map(tuple, canonical)))
  options = {option for row in tokens for option in row}
  for line, form in zip(lines, map(tuple, canonical)):
    if not options.issuperset(form) or form_of.get(form, form) != form:
      raise ValueError(
        f"{path} line {line}: canonical is {'-'.join(map(str, form))}; allowed: known options, "
        "in an architecture that is its own canonical form"
      )


def _is_number(cell: str) -> bool:
  try:
    return bool(np.isfinite(float(cell)))
  except ValueError:
    return False


def are_numbers(cells: list[str]) -> bool:
  """Whether some cells are numbers, more than by chance; the others are then errors."""
  return 10 * sum(map(_is_number, cells)) > len(cells)


def as_percent(path: str, lines: list[int], name: str, values: np.ndarray) -> np.ndarray:
  """The accuracies of a column, in percent; fractions if none is above 1. `[N]`.

  Raises:
    ValueError: If one is above 100, or at least half are fractions and others are not.
  """
  if values.max() <= 1:
    return 100 * values
  worst = int(values.argmax())
  place = f"{path} line {lines[worst]}: {name} is {values[worst]:g}"
  if values[worst] > 100:
    raise ValueError(f"{place}; allowed: percent from 0 to 100, or fractions")
  if 2 * (values <= 1).sum() >= len(values):
    raise ValueError(f"{place}, where others are fractions; allowed: all in percent, or none")
  return values


def numbers(
  path: str, lines: list[int], columns: dict[str, list[str]], names: Sequence[str]
) -> np.ndarray:
  """The numbers of columns. `[N, columns]`. Raises ValueError if one is missing or negative."""
  for name in names:
    for line, cell in zip(lines, columns[name]):
      if not _is_number(cell) or float(cell) < 0:
        hint = "; write 0.5, not 0,5" if re.fullmatch(r"\d+,\d+", cell) else ""
        raise ValueError(
          f'{path} line {line}: {name} is "{cell}", not a nonnegative number{hint}; --costs chooses'
          " the columns of costs"
        )
  return np.array([columns[name] for name in names]).astype(np.float64).T


def positions(path: str, line: int, architecture: str) -> list[int]:
  """The options of an architecture. Raises ValueError if it is written in no known form."""
  split = re.split(r"\s*[-|,]\s*|\s+", architecture.strip("-|,[]() "))
  tokens = list(split[0]) if len(split) == 1 else split
  if not tokens or not all(re.fullmatch(r"\d+", token) for token in tokens):
    raise ValueError(
      f'{path} line {line}: "{architecture}" is not a list of options; allowed: digits such as '
      "0120, or numbers such as 0-1-2-0 or [0, 1, 2, 0]"
    )
  return [int(token) for token in tokens]

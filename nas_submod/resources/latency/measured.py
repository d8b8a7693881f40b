"""Tables of the parts of one space, by name: those of `experiments.measure_latency`, and others.

Latency is the sum over the parts, less a correction for each part: parts that run one after the
other in one program are faster than alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nas_submod import networks
from nas_submod.networks.parts import fingerprint, parts
from nas_submod.networks.search_space import SearchSpace
from nas_submod.resources.latency.sheet import Sheet, keep

NAMES = ("part", "name")
NUMBERS = ("milliseconds", "ms", "latency_ms")
NETWORK = "network/"  # Rows of whole networks; the rest of the name is `SearchSpace.key`.
CHECK = "check/"  # The same, of networks that only check a table.


class Measured(NamedTuple):
  """Numbers of a table.

  Attributes:
    parts: Milliseconds by name of the part.
    networks: Milliseconds of whole networks, by key.
    checks: Those of networks that are only to be predicted.
    correction: Milliseconds of the table's "correction_ms"; None without it.
  """

  parts: dict[str, float]
  networks: dict[str, float]
  checks: dict[str, float]
  correction: float | None


def is_style(sheet: Sheet) -> bool:
  """Whether a file has the columns of this style."""
  return any(n in sheet.columns for n in NAMES) and any(n in sheet.columns for n in NUMBERS)


def read_measured(sheet: Sheet) -> Measured:
  """The numbers of a table.

  Raises:
    ValueError: If a number is missing or wrong, or a name has several.
  """
  [name, *_] = [column for column in NAMES if column in sheet.columns]
  [number, *_] = [column for column in NUMBERS if column in sheet.columns]
  found: tuple[dict[str, float], ...] = ({}, {}, {})
  lines: dict[str, str] = {}
  for row in sheet.rows:
    part = row.values[name]
    if not part:
      raise ValueError(f"{row.where}: {name} is empty; allowed: the name of a part")
    kind = 1 if part.startswith(NETWORK) else 2 if part.startswith(CHECK) else 0
    key = part.partition("/")[2] if kind else part
    value = row.number(number)
    if kind and not value:
      raise ValueError(f"{row.where}: {number} is 0; allowed for a network: a positive number")
    keep(found[kind], lines, key, value, row)
  return Measured(*found, _correction(sheet, found[0]))


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
    _check_space(sheet, space)
    correction = table.correction
    if correction is None and not table.networks:
      correction = 0.0
    if correction is None:
      correction = fit_correction(space, table.parts, table.networks)
    return {name: value - correction for name, value in table.parts.items()}

  return costs


def _check_space(sheet: Sheet, space: SearchSpace) -> None:
  """Raises ValueError if the comment "space" of a file names other parts than those of a space."""
  words = sheet.comments.get("space", "").split()
  if len(words) == 2 and words[1] != fingerprint(space):
    raise ValueError(
      f"latency table {sheet.path} was measured for space {words[0]} with other blocks, channels "
      f"or images ({words[1]}, not {fingerprint(space)}): measure it again for space {space.name}"
    )


def parts_of(space: SearchSpace, architecture: Sequence[int]) -> list[str]:
  """Names of the parts of a network.

  Raises:
    ValueError: If the architecture does not belong to the space.
  """
  places = {(p.stage, p.predecessor, p.option): p.name for p in parts(space)}
  *steps, end = networks.walk(space, np.array(space.check(architecture)))
  found = ["stem"]
  for stage, predecessor, opening, others in steps:
    if (name := places.get((stage, int(predecessor), int(opening)))) is not None:
      found.append(name)
    found += [places[stage, None, int(option)] for option in others if option]
  return [*found, places[len(steps), int(end.predecessor), None]]


def predict(
  space: SearchSpace,
  keys: Sequence[str],
  milliseconds: Mapping[str, float],
  correction: float = 0.0,
) -> np.ndarray:
  """Predicted milliseconds of networks. `[len(keys)]`.

  Args:
    space: The space.
    keys: The networks, see `SearchSpace.key`.
    milliseconds: Those of the parts, by name.
    correction: Milliseconds less for each part.

  Raises:
    ValueError: If a key is no network of the space.
  """
  sums = []
  for key in keys:
    try:
      names = parts_of(space, space.from_key(key))
    except ValueError as error:
      raise ValueError(f"{key!r} is no network of space {space.name}: {error}") from None
    sums.append(sum(milliseconds[name] - correction for name in names))
  return np.array(sums)


def fit_correction(
  space: SearchSpace, milliseconds: Mapping[str, float], whole: Mapping[str, float]
) -> float:
  """The milliseconds less for each part that predict whole networks best; 0 without networks.

  Args:
    space: The space.
    milliseconds: Those of the parts, by name.
    whole: Those of networks, by key.

  Returns:
    The least squares of relative errors, at least 0 and at most the smallest part.

  Raises:
    ValueError: If a part of the space has no number, or a key is no network of the space.
  """
  check_complete(space, milliseconds, "a latency table with whole networks")
  if not whole:
    return 0.0
  measured = np.array(list(whole.values()))
  sums = predict(space, list(whole), milliseconds)
  counts = predict(space, list(whole), dict.fromkeys(milliseconds, 1.0))
  rates = counts / measured
  best = rates @ (sums / measured - 1) / (rates @ rates)
  return float(np.clip(best, 0, min(milliseconds[part.name] for part in parts(space))))


def check_complete(space: SearchSpace, milliseconds: Mapping[str, float], what: str) -> None:
  """Raises ValueError if parts of a space have no number; the first are named."""
  lacking = [part.name for part in parts(space) if part.name not in milliseconds]
  if lacking:
    more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
    raise ValueError(
      f"{what} lacks {len(lacking)} of the {len(parts(space))} parts of space {space.name}: "
      f"{', '.join(lacking[:3])}{more}"
    )

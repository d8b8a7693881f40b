"""Reads labels in the forms that users have, as class numbers."""

from typing import NamedTuple

import numpy as np

from nas_submod.validation import listed

_LARGEST = 2**31 - 1


class Labels(NamedTuple):
  """Labels as class numbers.

  Attributes:
    numbers: Class numbers, which may be out of the range of the data. Shape `[N]`, int64.
    names: Class i has the i-th name; empty if the labels were numbers.
    note: How they were converted; "" if they were not.
  """

  numbers: np.ndarray
  names: tuple[str, ...] = ()
  note: str = ""


def read(place: str, values: np.ndarray, names: tuple[str, ...] = ()) -> Labels:
  """Reads labels: numbers `[N]` or `[N, 1]`, one-hot rows `[N, classes]`, or names.

  Args:
    place: Name of the labels in error messages.
    values: The labels.
    names: Names of the classes, for labels that are names. Empty: all that occur, sorted.

  Raises:
    ValueError: The labels have another form, or a name is not among `names`.
  """
  if values.ndim == 2 and values.shape[1] == 1:
    values = values[:, 0]
  if are_names(values) and values.ndim == 1:
    return _of_names(place, values, names)
  if values.ndim == 2:
    return Labels(_of_one_hot(place, values), names, f"one-hot labels of {values.shape[1]} classes")
  if values.ndim != 1 or values.dtype.kind not in "biuf":
    raise ValueError(
      f"{place} is {values.dtype} of shape {list(values.shape)}: one label for each image is "
      "expected, a class number or a name"
    )
  given = values.dtype
  if given.kind == "f":
    values = values.astype(np.float64)  # The largest class number overflows a float16.
  if not np.isfinite(values).all() or (len(values) and np.abs(values).max() > _LARGEST):
    raise ValueError(f"{place} has labels that are no class numbers: 0 to 2**31 - 1 are allowed")
  if not np.array_equal(values, np.round(values)):
    raise ValueError(f"{place} has fractions: class numbers from 0, or names, are expected")
  note = f"{given} labels, all whole numbers" if values.dtype.kind == "f" else ""
  return Labels(values.astype(np.int64), names, note)


def are_names(values: np.ndarray) -> bool:
  """Whether labels are text."""
  return values.dtype.kind in "US"


def are_one_hot(values: np.ndarray) -> bool:
  """Whether labels are rows of 0 and 1 with a column for each class."""
  is_table = values.ndim == 2 and values.shape[1] > 1 and values.dtype.kind in "biuf"
  return is_table and bool(((values == 0) | (values == 1)).all())


def _of_names(place: str, values: np.ndarray, names: tuple[str, ...]) -> Labels:
  if values.dtype.kind == "S":
    try:
      values = np.char.decode(values, "utf-8")
    except UnicodeDecodeError as error:
      raise ValueError(f"{place} holds bytes that are not UTF-8 text") from error
  found = values.tolist()
  known = names or tuple(sorted(set(found)))
  if unknown := sorted(set(found) - set(known)):
    raise ValueError(
      f"{place} has the unknown class {unknown[0]!r}; known: {listed(map(repr, known))}"
    )
  numbers = {name: number for number, name in enumerate(known)}
  return Labels(np.array([numbers[name] for name in found], np.int64), known, "labels are names")


def _of_one_hot(place: str, values: np.ndarray) -> np.ndarray:
  if values.dtype.kind not in "biuf" or not ((values == 0) | (values == 1)).all():
    raise ValueError(
      f"{place} has shape {list(values.shape)}: class numbers [N], names [N] or one-hot rows of 0 "
      "and 1 are expected"
    )
  sums = values.sum(1)
  if not (sums == 1).all():
    row = int(np.flatnonzero(sums != 1)[0])
    raise ValueError(
      f"{place}: row {row} names {int(sums[row])} classes; one class for each image is expected"
    )
  return values.argmax(1)

"""Labels in the forms that users have, as class numbers."""

from typing import NamedTuple

import numpy as np


class Labels(NamedTuple):
  """Labels as class numbers.

  Attributes:
    numbers: Unchecked class numbers. Shape `[N]`, integer.
    names: Class i has the i-th name; empty if the labels were numbers.
    note: How they were read, if not as they are; "" otherwise.
  """

  numbers: np.ndarray
  names: tuple[str, ...] = ()
  note: str = ""


def read(place: str, values: np.ndarray, names: tuple[str, ...] = ()) -> Labels:
  """Reads labels: numbers `[N]` or `[N, 1]`, one-hot rows `[N, classes]`, or names.

  Args:
    place: Name of the labels in error messages.
    values: The labels.
    names: Names of the classes, for labels that are names. Empty: all that occur, in their order.

  Raises:
    ValueError: They are none of these, or a name is not among `names`.
  """
  if values.ndim == 2 and values.shape[1] == 1:
    values = values[:, 0]
  if values.dtype.kind in "US":
    return _of_names(place, values, names)
  if values.ndim == 2:
    return Labels(_of_one_hot(place, values), names, "one-hot labels")
  if values.ndim != 1:
    raise ValueError(
      f"{place} has shape {list(values.shape)}: one label for each image is expected"
    )
  if values.dtype.kind == "b":
    values = values.astype(np.int32)
  if values.dtype.kind == "f":
    if not np.array_equal(values, np.round(values)):  # Also refuses NaN.
      raise ValueError(f"{place} has fractions: class numbers from 0, or names, are expected")
    return Labels(values.astype(np.int64), names, f"{values.dtype} labels, all whole numbers")
  return Labels(values, names)


def _of_names(place: str, values: np.ndarray, names: tuple[str, ...]) -> Labels:
  if values.dtype.kind == "S":
    try:
      values = np.char.decode(values, "utf-8")
    except UnicodeDecodeError as error:
      raise ValueError(f"{place} holds bytes that are not UTF-8 text") from error
  found = values.tolist()
  if isinstance(found[0] if found else "", list):
    raise ValueError(
      f"{place} has shape {list(values.shape)}: one label for each image is expected"
    )
  known = names or tuple(sorted(set(found)))
  if unknown := sorted(set(found) - set(known)):
    raise ValueError(f"{place} has the unknown class {unknown[0]!r}; known: {', '.join(known)}")
  numbers = {name: number for number, name in enumerate(known)}
  return Labels(np.array([numbers[name] for name in found], np.int32), known, "labels are names")


def _of_one_hot(place: str, values: np.ndarray) -> np.ndarray:
  if values.dtype.kind not in "biuf" or not (((values == 0) | (values == 1)).all()):
    raise ValueError(
      f"{place} has shape {list(values.shape)}: class numbers [N], names [N] or one-hot rows of 0 "
      "and 1 are expected"
    )
  if not (values.sum(1) == 1).all():
    row = int(np.flatnonzero(values.sum(1) != 1)[0])
    raise ValueError(
      f"{place}: row {row} names {int(values.sum(1)[row])} classes; one class for each image is "
      "expected"
    )
  return values.argmax(1)

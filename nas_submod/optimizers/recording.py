"""A function on the host whose measurements are kept on disk, so that a run can go on."""

import collections
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from nas_submod import files
from nas_submod.optimizers.measurements import checked_answer


def recorded(
  value: Callable[[np.ndarray], Any], path: str | os.PathLike
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
  """The function with a log of one run: run again with it, `maximize` goes on where it stopped.

  What it asks depends on nothing but its arguments and the values, so the log answers the same
  questions again, and `value` is called for the others. The state of what is random in `value` is
  not in the log.

  Args:
    value: As for `maximize`, on the host.
    path: The log, a JSON object for each measurement; made if missing. A run has a log of its own,
      and calls `recorded` for every start.

  Returns:
    The function. It raises ValueError where the log is that of another run.

  Raises:
    ValueError: If the file is no log, or cannot be written, or `value` is no function.
  """
  if not callable(value):
    raise ValueError(f"value must be a function, got {value!r}")
  path = pathlib.Path(path)
  try:
    path.touch()
    known = collections.deque(_read(path))
  except OSError as error:
    raise ValueError(f"{path} cannot be written: {error.strerror}") from error

  def measure(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    answers: list[Any] = []
    while known and len(answers) < len(masks):
      elements, *answer = known.popleft()
      asked = np.flatnonzero(masks[len(answers)]).tolist()
      if elements != asked:
        raise ValueError(f"{path} is of another run: it has the set {elements}, asked is {asked}")
      answers.append(answer)
    rest = masks[len(answers) :]
    if len(rest):
      new = np.stack(checked_answer(rest, value(rest)), axis=1).tolist()
      names = ("set", "value", "standard_error")
      rows = zip((np.flatnonzero(mask).tolist() for mask in rest), *zip(*new))
      files.append_lines(path, [dict(zip(names, row)) for row in rows])
      answers += new
    values, errors = np.array(answers, np.float64).T
    return values, errors

  return measure


def _read(path: pathlib.Path) -> list[tuple[list[int], float, float]]:
  rows = []
  for number, line in enumerate(files.read_lines(path)):
    try:
      row = json.loads(line)
      rows.append((list(row["set"]), float(row["value"]), float(row["standard_error"])))
    except (ValueError, TypeError, KeyError) as error:
      raise ValueError(f"{path}, line {number + 1}, is not a measurement: {line!r}") from error
  return rows

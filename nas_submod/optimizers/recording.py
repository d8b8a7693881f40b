"""A log of a host function's measurements, from which an interrupted run resumes."""

import collections
import json
import math
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
  """Logs the measurements of one run, so that `maximize` can resume it.

  `maximize` asks for the same sets if its arguments and the values are the same. So a run that
  starts again gets its first values from the log, and calls `value` for the rest. The log does not
  hold the state of a random generator in `value`.

  Args:
    value: A set function on the host, as for `maximize`.
    path: The log, with a JSON object for each measurement; created if missing. Each run needs its
      own log, and calls `recorded` again at each start.

  Returns:
    The function with the log. It raises ValueError if the log belongs to another run.

  Raises:
    ValueError: If the file is not a log or cannot be written, or `value` is not a function.
  """
  if not callable(value):
    raise ValueError(f"value must be a function, got {value!r}")
  path = files.local_path(path)
  try:
    path.touch()
    known = collections.deque(_read(path))
  except OSError as error:
    raise ValueError(f"{path} cannot be written: {error.strerror}") from error

  def measure(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # A run asks for the same sets in the same order, so the log is a queue of answers.
    answers: list[Any] = []
    while known and len(answers) < len(masks):
      elements, *answer = known.popleft()
      asked = np.flatnonzero(masks[len(answers)]).tolist()
      if elements != asked:
        raise ValueError(
          f"{path} belongs to another run: it has the set {elements}, this run asks for {asked}"
        )
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
      # JSON has no infinity or NaN: both are null.
      value, error = row["value"], row["standard_error"]
      value = -math.inf if value is None else float(value)
      rows.append((list(row["set"]), value, math.nan if error is None else float(error)))
    except (ValueError, TypeError, KeyError) as fault:
      raise ValueError(f"{path}, line {number + 1}, is not a measurement: {line!r}") from fault
  return rows

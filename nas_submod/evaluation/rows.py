"""A line of the journal: the fields of an `Evaluation` as JSON, and `made_by`.

`made_by` is a fingerprint of what decides the value: the config, the images, a user's own code. A
value without it could be taken for that of another config.
"""

import json
import math
from collections.abc import Callable
from typing import Any

from nas_submod.evaluation.evaluator import METHODS, Evaluation


def content(evaluation: Evaluation, made_by: str = "") -> dict[str, Any]:
  """What a line holds; without `made_by` if that is ""."""
  return evaluation._asdict() | ({"made_by": made_by} if made_by else {})


def parse(line: bytes) -> tuple[Evaluation, str]:
  """The evaluation of a line, and what made it.

  Raises:
    ValueError: If it is none; the message says why.
  """
  row = json.loads(line)
  if not isinstance(row, dict):
    raise ValueError("it is no JSON object")
  made_by = row.pop("made_by", "")
  missing = [name for name in Evaluation._fields if name not in row]
  if missing := [name for name in missing if name not in Evaluation._field_defaults]:
    raise ValueError(f"it lacks {', '.join(missing)}")
  if unknown := sorted(set(row) - set(Evaluation._fields)):
    raise ValueError(f"it has the unknown field {unknown[0]!r}")
  for name, (allowed, fits) in _FIELDS.items():
    if name in row and not fits(row[name]):
      raise ValueError(f"{name} is {row[name]!r:.80}; allowed: {allowed}")
  return Evaluation(**row), str(made_by)


def _is_number(value: object) -> bool:
  return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)


def _are_metrics(value: object) -> bool:
  return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_text_or_none(value: object) -> bool:
  return value is None or isinstance(value, str)


_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {  # what is allowed in a line
  "key": ("text", lambda value: isinstance(value, str)),
  "replicate": ("a whole number from -2", lambda value: type(value) is int and value >= -2),
  "metrics": (
    "finite numbers by name, or null",
    lambda value: value is None or _are_metrics(value),
  ),
  "seconds": ("a number from 0", lambda value: _is_number(value) and value >= 0),
  "steps": ("a whole number from 0", lambda value: type(value) is int and value >= 0),
  "parent": ("text or null", _is_text_or_none),
  "cause": ("text or null", _is_text_or_none),
  "method": (" or ".join(METHODS), lambda value: value in METHODS),
}

"""A line of the journal: the fields of an `Evaluation` as JSON, and `made_by`.

`made_by` is a fingerprint of what decides the value: the config, the images, a user's own code.
Without it, a value could be mistaken for another config's.
"""

import json
from typing import Any

from nas_submod.evaluation.evaluator import METHODS, Evaluation
from nas_submod.fields import FROM_ZERO, TEXT, Field, is_number, one_of, whole


def content(evaluation: Evaluation, made_by: str = "") -> dict[str, Any]:
  """The content of a line; omits `made_by` if it is ""."""
  return evaluation._asdict() | ({"made_by": made_by} if made_by else {})


def parse(line: bytes) -> tuple[Evaluation, str]:
  """Reads the evaluation and the `made_by` of a line.

  Raises:
    ValueError: If the line is not an evaluation; the message says why.
  """
  try:
    row = json.loads(line)
  except RecursionError:
    raise ValueError("its brackets are too deep") from None
  if not isinstance(row, dict):
    raise ValueError("it is no JSON object")
  made_by = row.pop("made_by", "")
  needed = [name for name in Evaluation._fields if name not in Evaluation._field_defaults]
  if missing := [name for name in needed if name not in row]:
    raise ValueError(f"it lacks {', '.join(missing)}")
  if unknown := sorted(set(row) - set(Evaluation._fields)):
    raise ValueError(
      f"it has the unknown field {unknown[0]!r} (did a newer version of nas_submod write it? Then "
      "use that version)"
    )
  for name, field in _FIELDS.items():
    if name in row and not field.fits(row[name]):
      raise ValueError(f"{name} is {row[name]!r:.80}; allowed: {field.allowed}")
  return Evaluation(**row), str(made_by)


def _are_metrics(value: Any) -> bool:
  return value is None or (isinstance(value, dict) and all(map(is_number, value.values())))


_TEXT_OR_NULL = Field("text or null", lambda value: value is None or isinstance(value, str))
_FIELDS = {
  "key": TEXT,
  "replicate": whole(-2),
  "metrics": Field("finite numbers by name, or null", _are_metrics),
  "seconds": FROM_ZERO,
  "steps": whole(0),
  "cause": _TEXT_OR_NULL,
  "method": one_of(*METHODS),
}

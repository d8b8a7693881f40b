"""The resources that exported files of a network have: read from the files, or measured."""

import pathlib
from collections.abc import Mapping
from typing import Any

from nas_submod.export import onnx_file, tflite_file
from nas_submod.export.formats import FORMATS


def in_files(
  rows: Mapping[str, Mapping[str, Any]], folder: pathlib.Path, settings: Mapping[str, Any]
) -> dict[str, dict[str, int | float]]:
  """The params, madds, flash, memory and latency_ms of files.

  Files have batch norm folded, so their params match the setting "folded".

  Args:
    rows: The facts of each format, as `export.json` has them.
    folder: The folder of the files.
    settings: `config.resources`: whether flash and memory count int8 or float32.

  Returns:
    Values by resource, and by file or timed runtime.
  """
  found: dict[str, dict[str, int | float]] = {}
  if "onnx" in rows:
    name = FORMATS["onnx"].file
    params, madds = onnx_file.counts(folder / name)
    found |= {"params": {name: params}, "madds": {name: madds}}
  for resource in ("flash", "memory"):
    form = "tflite" if settings.get(resource) == "float32" else "tflite_int8"
    if form not in rows:
      continue
    name, arena = FORMATS[form].file, rows[form]["arena_bytes"]
    if resource == "flash":
      found[resource] = {name: tflite_file.weight_bytes(folder / name)}
    elif arena is not None:
      found[resource] = {f"{name}, arena": arena}
  times = {row["runtime"]: row["latency_ms"] for form, row in rows.items() if "int8" not in form}
  if times := {name: value for name, value in times.items() if value is not None}:
    found["latency_ms"] = times
  return found


def over(
  found: Mapping[str, Mapping[str, int | float]], budget: Mapping[str, int | float], runtime: str
) -> list[str]:
  """The budgets that files exceed, one line each.

  Args:
    found: The result of `in_files`.
    budget: The limits.
    runtime: The runtime of the latency table; "" if unknown, so that no latency counts.
  """
  lines = []
  for name, limit in budget.items():
    for where, value in found.get(name, {}).items():
      counts = name != "latency_ms" or where.lower() == runtime.lower()
      if counts and value > limit:
        shown = [f"{n:,}" if isinstance(n, int) else f"{n:,.6g}" for n in (value, limit)]
        lines.append(f"{name} is {shown[0]} in {where}, above the budget of {shown[1]}")
  return lines

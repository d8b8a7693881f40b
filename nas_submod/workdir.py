"""The folder of a run: made once, and tied to the config that it belongs to."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from nas_submod.files import write_json
from nas_submod.resources.settings import DEFAULTS

CONFIG_FILE = "config.json"


def make_workdir(workdir: str | os.PathLike, config: Mapping[str, Any]) -> pathlib.Path:
  """Makes the folder of a run, or checks that it belongs to the same config.

  Args:
    workdir: The folder.
    config: Nested plain values: everything that decides the outcome.

  Returns:
    The folder.

  Raises:
    ValueError: If the config is not plain, the folder cannot be written or holds another config;
      the first difference is named.
  """
  path = pathlib.Path(workdir)
  try:
    plain = json.loads(json.dumps(config))
  except TypeError as error:
    raise ValueError(
      f"the config holds a Python object ({error}): allowed are numbers, text, lists and "
      'dictionaries; a block or an optimizer of your own is named "module:function"'
    ) from error
  try:
    path.mkdir(parents=True, exist_ok=True)
    if not (path / CONFIG_FILE).exists():
      write_json(path / CONFIG_FILE, plain)
    os.utime(path / CONFIG_FILE)
    there = json.loads((path / CONFIG_FILE).read_text())
  except OSError as error:
    raise ValueError(f"workdir {path} cannot be written: {error.strerror}") from error
  check_equal(path, there, plain)
  return path


def check_equal(workdir: pathlib.Path, there: Any, here: Any) -> None:
  """Checks that two plain configs agree: that of a workdir, and another one.

  Raises:
    ValueError: If they do not; the first difference is named.
  """
  if difference := _difference(there, here):
    name, old, new = difference
    raise ValueError(
      f"workdir {workdir} holds another run: {name} is {old!r} there and {new!r} here; "
      f"take another --workdir or the same config"
    )


def _difference(there: Any, here: Any, name: str = "") -> tuple[str, Any, Any] | None:
  """The first leaf that differs: (dotted name, value there, value here)."""
  if name in ("resources", "config.resources"):  # Left out, they have their defaults.
    there, here = (DEFAULTS | x if isinstance(x, dict) else x or DEFAULTS for x in (there, here))
  if name in ("evaluation", "config.evaluation") and None in (there, here):
    method = (there or here or {}).get("method", "training")
    return None if method == "training" else (name, there, here)
  if isinstance(there, dict) and isinstance(here, dict):
    for key in sorted(there.keys() | here.keys()):
      found = _difference(there.get(key), here.get(key), f"{name}.{key}" if name else key)
      if found:
        return found
    return None
  # A missing option is off, but one of a store is that of `train`.
  off = not (there or here) and not name.startswith(("evaluation.store", "config.evaluation.store"))
  return None if there == here or off else (name, there, here)

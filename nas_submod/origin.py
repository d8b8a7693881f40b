"""The origin of a result: command, date and versions."""

import datetime
import importlib.metadata
import platform
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

_PACKAGES = ("nas-submod", "jax", "jaxlib", "numpy")


def origin(module: str, arguments: Sequence[str]) -> dict[str, Any]:
  """The content of `run` in `result.json`.

  Args:
    module: The module that was run.
    arguments: Its arguments in the command.
  """
  return {
    "command": shlex.join(["python", "-m", module, *arguments]),
    "date": datetime.datetime.now().strftime("%Y-%m-%d"),
    "versions": {"python": platform.python_version(), **versions(_PACKAGES)},
  }


def versions(packages: Iterable[str]) -> dict[str, str]:
  """The versions of packages; a checkout may run without being installed."""
  found = {}
  for name in packages:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = "not installed"
  return found

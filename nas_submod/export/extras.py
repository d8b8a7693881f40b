"""Packages that only export needs; they are imported where they are used."""

import importlib
from typing import Any


def package(name: str, extra: str = "export") -> Any:
  """Imports a module of an optional package.

  Args:
    name: The module, such as "onnx.helper".
    extra: The extra of nas-submod that installs it.

  Raises:
    ValueError: If it is not installed.
  """
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise ValueError(
      f"{name.partition('.')[0]} cannot be imported ({error}); install it by "
      f"pip install -e '.[{extra}]'"
    ) from None

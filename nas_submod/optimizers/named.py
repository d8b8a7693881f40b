"""Optimizers by name: one's own are `module:function`, importable from the working directory."""

import importlib
import inspect
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nas_submod.optimizers.base import Optimizer


def is_own(name: str) -> bool:
  """Whether the name is that of a function of a module, not one of a list."""
  return re.fullmatch(r"\w+(\.\w+)*:\w+", name) is not None


def unknown(name: str, allowed: Sequence[str]) -> ValueError:
  """The error for a name that is neither in the list nor `module:function`."""
  return ValueError(f"unknown optimizer {name!r}; allowed: {_allowed(allowed)}")


def own_constructor(name: str, others: Sequence[str]) -> Callable[..., Any]:
  """The function that `module:function` names.

  An error within the module, other than an import that fails, is left as it is.

  Args:
    name: `module:function`.
    others: What is allowed beside that, to be named in an error.

  Raises:
    ValueError: If the module cannot be imported or has no such function.
  """
  module_name, function_name = name.split(":")
  try:
    module = importlib.import_module(module_name)
  except ImportError as error:
    raise ValueError(
      f"optimizer {name!r}: {module_name} cannot be imported from the working directory: {error}; "
      f"allowed: {_allowed(others)}"
    ) from error
  function = getattr(module, function_name, None)
  if not callable(function):
    found = ", ".join(_functions(module)) or "none"
    raise ValueError(
      f"optimizer {name!r}: {module_name} has no function {function_name!r}; its functions: {found}"
    )
  return function


def make(name: str, constructor: Callable[..., Any], arguments: Mapping[str, Any]) -> Optimizer:
  """What the constructor returns.

  Raises:
    TypeError: If it does not take the arguments.
    ValueError: If it refuses them, or what it returns is no Optimizer.
  """
  optimizer = constructor(**arguments)
  if not isinstance(optimizer, Optimizer):
    raise ValueError(
      f"optimizer {name!r} returned {type(optimizer).__name__}; allowed: an "
      "nas_submod.optimizers.Optimizer(init, ask, tell, done, best)"
    )
  return optimizer


def default(constructor: Callable[..., Any], argument: str) -> Any:
  """Default of an argument; None without one, or if there is no such argument."""
  parameter = inspect.signature(constructor).parameters.get(argument)
  return None if parameter is None or parameter.default is parameter.empty else parameter.default


def takes(constructor: Callable[..., Any], argument: str) -> bool:
  """Whether the constructor has such an argument."""
  return argument in inspect.signature(constructor).parameters


def _allowed(names: Sequence[str]) -> str:
  return f"{', '.join(names)}, or module:function for one's own"


def _functions(module: types.ModuleType) -> list[str]:
  """Public functions made in the module."""
  return [
    name
    for name, value in vars(module).items()
    if callable(value)
    and not inspect.isclass(value)
    and not name.startswith("_")
    and getattr(value, "__module__", None) == module.__name__
  ]

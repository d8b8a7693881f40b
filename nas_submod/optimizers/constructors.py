"""Constructors of optimizers: their arguments are checked, and equal ones give one object."""

import functools
import importlib
import inspect
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec

from nas_submod.optimizers.base import Optimizer
from nas_submod.validation import checked

_P = ParamSpec("_P")


def constructor(function: Callable[_P, Optimizer]) -> Callable[_P, Optimizer]:
  """Lets a function construct optimizers: the same object for equal arguments, however spelled.

  Programs are kept by optimizer, so nothing is compiled twice. Arguments are checked against the
  annotations; a list becomes a tuple.

  Args:
    function: Its parameters are hashable. Those annotated with int, float, str, bool,
      tuple[int, ...] or Optimizer, or with one of them or None, are checked.

  Returns:
    The constructor. It raises ValueError where an argument is of another type.
  """
  signature = inspect.signature(function, eval_str=True)
  build = functools.lru_cache(maxsize=None, typed=True)(function)
  named = {
    name: parameter.annotation
    for name, parameter in signature.parameters.items()
    if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
  }

  @functools.wraps(function)
  def construct(*args: _P.args, **kwargs: _P.kwargs) -> Optimizer:
    try:
      bound = signature.bind(*args, **kwargs)
    except TypeError as error:
      raise TypeError(f"{function.__name__}{signature}: {error}") from None
    bound.apply_defaults()
    for name, annotation in named.items():
      bound.arguments[name] = checked(name, bound.arguments[name], annotation)
    return build(*bound.args, **bound.kwargs)

  return construct


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

"""Constructors of optimizers: arguments are checked, and equal arguments give one object."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec

from nas_submod.optimizers.base import Optimizer
from nas_submod.validation import checked, imported

_P = ParamSpec("_P")


def constructor(function: Callable[_P, Optimizer]) -> Callable[_P, Optimizer]:
  """Decorates a constructor of optimizers: it returns the same object for equal arguments.

  Compiled programs are cached by optimizer, so equal arguments never compile twice. Arguments are
  checked against the annotations; a list becomes a tuple.

  Args:
    function: Takes hashable arguments. Those annotated with int, float, str, bool,
      tuple[int, ...] or Optimizer, or with one of these or None, are checked.

  Returns:
    The constructor. It raises ValueError if an argument has another type.
  """
  signature = inspect.signature(function, eval_str=True)
  # Typed, because 1, 1.0 and True are equal but may make different optimizers.
  build = functools.lru_cache(maxsize=None, typed=True)(function)
  annotations = {
    name: parameter.annotation
    for name, parameter in signature.parameters.items()
    if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    and parameter.annotation is not parameter.empty
  }

  @functools.wraps(function)
  def construct(*args: _P.args, **kwargs: _P.kwargs) -> Optimizer:
    try:
      bound = signature.bind(*args, **kwargs)
    except TypeError as error:
      raise TypeError(f"{function.__name__}{signature}: {error}") from None
    bound.apply_defaults()
    for name, annotation in annotations.items():
      bound.arguments[name] = checked(name, bound.arguments[name], annotation)
    return build(*bound.args, **bound.kwargs)

  return construct


def is_own(name: str) -> bool:
  """Whether the name is that of a user's function, `module:function`."""
  return ":" in name


def unknown(name: str, allowed: Sequence[str]) -> ValueError:
  """The error for a name that is neither one of `allowed` nor `module:function`."""
  return ValueError(f"unknown optimizer {name!r}; allowed: {_allowed(allowed)}")


def own_constructor(name: str, others: Sequence[str]) -> Callable[..., Any]:
  """Imports a user's constructor.

  Args:
    name: `module:function`.
    others: The names that are allowed besides, for error messages.

  Raises:
    ValueError: If the module cannot be imported or has no such function.
  """
  return imported("optimizer", name, _allowed(others))


def make(name: str, constructor: Callable[..., Any], arguments: Mapping[str, Any]) -> Optimizer:
  """Calls the constructor, and checks that it returns an Optimizer.

  Args:
    name: Name of the constructor, for error messages.
    constructor: The constructor, which may be a user's.
    arguments: Its arguments by name.

  Raises:
    TypeError: If the constructor does not take the arguments.
    ValueError: If the constructor refuses them, or does not return an Optimizer.
  """
  optimizer = constructor(**arguments)
  if not isinstance(optimizer, Optimizer):
    raise ValueError(
      f"optimizer {name!r} returned {type(optimizer).__name__}; allowed: a "
      "nas_submod.optimizers.Optimizer(init, ask, tell, done, best)"
    )
  return optimizer


def default(constructor: Callable[..., Any], argument: str) -> Any:
  """Default of an argument; None if it has no default or does not exist."""
  parameter = inspect.signature(constructor).parameters.get(argument)
  return None if parameter is None or parameter.default is parameter.empty else parameter.default


def takes(constructor: Callable[..., Any], argument: str) -> bool:
  """Whether the constructor has such an argument."""
  return argument in inspect.signature(constructor).parameters


def _allowed(names: Sequence[str]) -> str:
  return f"{', '.join(names)}, or module:function for your own"

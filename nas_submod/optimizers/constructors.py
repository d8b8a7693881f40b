"""What constructors of optimizers have in common: checked arguments, and one object for equals."""

import functools
import inspect
import numbers
import operator
import types
import typing
from collections.abc import Callable
from typing import Any, ParamSpec

from nas_submod.optimizers.base import Optimizer

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
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    for name, annotation in named.items():
      bound.arguments[name] = checked(name, bound.arguments[name], annotation)
    return build(*bound.args, **bound.kwargs)

  return construct


def checked(name: str, argument: Any, annotation: Any) -> Any:
  """An argument as its annotation wants it.

  Raises:
    ValueError: If it is of another type.
  """
  is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
  kinds = typing.get_args(annotation) if is_union else (annotation,)
  if argument is None and type(None) in kinds:
    return None
  kind, *others = (kind for kind in kinds if kind is not type(None))
  if others or kind not in _KINDS:
    return argument
  words, convert = _KINDS[kind]
  try:
    return convert(argument)
  except TypeError:
    raise ValueError(f"{name} must be {words}, got {argument!r}") from None


def at_least_one(**numbers: int) -> None:
  """Checks counts, given by their names.

  Raises:
    ValueError: If one is below 1.
  """
  for name, number in numbers.items():
    if number < 1:
      raise ValueError(f"{name} must be at least 1, got {number}")


def _instance_of(kind: type) -> Callable[[Any], Any]:
  def convert(argument):
    if not isinstance(argument, kind):
      raise TypeError
    return argument

  return convert


_KINDS: dict[Any, tuple[str, Callable[[Any], Any]]] = {
  int: ("a whole number", operator.index),
  float: ("a number", lambda argument: float(_instance_of(numbers.Real)(argument))),
  tuple[int, ...]: (
    "whole numbers, such as (1, 3, 6)",
    lambda argument: tuple(map(operator.index, argument)),
  ),
  str: ("a name", _instance_of(str)),
  bool: ("True or False", _instance_of(bool)),
  Optimizer: ("an Optimizer, such as rcas()", _instance_of(Optimizer)),
}

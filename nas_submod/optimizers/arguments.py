"""Arguments of constructors and of `maximize`: of the type that they must be, or refused."""

import numbers
import operator
import types
import typing
from collections.abc import Callable
from typing import Any

from nas_submod.optimizers.base import Optimizer


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


def checked_seed(name: str, seed: Any) -> int:
  """A seed that no other one stands for: JAX drops what is above 32 bits.

  Raises:
    ValueError: If it is no whole number, negative, or more than 32 bits.
  """
  if not 0 <= checked(name, seed, int) < 2**32:
    raise ValueError(f"{name} must be from 0 to 2**32 - 1, got {seed}")
  return int(seed)


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

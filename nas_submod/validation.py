"""Argument checks; an error names the argument and what is allowed."""

import contextlib
import difflib
import importlib
import inspect
import numbers
import operator
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def first_line(error: Exception) -> str:
  """The first line of an exception's message; its type if there is none."""
  return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextlib.contextmanager
def located(place: str) -> Iterator[None]:
  """Puts a place, such as "config.train", before the message of a ValueError."""
  try:
    yield
  except ValueError as error:
    raise ValueError(f"{place}: {error}") from error


def at_least_one(**counts: int) -> None:
  """Raises ValueError if one of the counts, given by name, is below 1."""
  for name, count in counts.items():
    if count < 1:
      raise ValueError(f"{name} must be at least 1, got {count}")


def checked_seed(name: str, seed: Any) -> int:
  """A seed as a 32-bit int; JAX would drop higher bits, and make different seeds equal.

  Raises:
    ValueError: If it is not a whole number from 0 to 2**32 - 1.
  """
  if not 0 <= checked(name, seed, int) < 2**32:
    raise ValueError(f"{name} must be from 0 to 2**32 - 1, got {seed}")
  return int(seed)


Kinds = dict[Any, tuple[str, Callable[[Any], Any]]]  # type -> words for it, conversion


def checked(name: str, argument: Any, annotation: Any, more: Kinds | None = None) -> Any:
  """Converts an argument to the type of its annotation; unknown annotations are not checked.

  Known are int, float, str, bool, tuple[int, ...], the types of `more`, and each of these or None.

  Raises:
    ValueError: If it has another type.
  """
  known = _KINDS | (more or {})
  is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
  kinds = typing.get_args(annotation) if is_union else (annotation,)
  if argument is None and type(None) in kinds:
    return None
  kind, *others = (kind for kind in kinds if kind is not type(None))
  if others or kind not in known:
    return argument
  words, convert = known[kind]
  try:
    return convert(argument)
  except TypeError:
    raise ValueError(f"{name} must be {words}, got {argument!r}") from None


def instance_of(kind: type) -> Callable[[Any], Any]:
  """A conversion for `checked` that takes instances of a type as they are."""

  def convert(argument):
    if not isinstance(argument, kind):
      raise TypeError
    return argument

  return convert


_KINDS: Kinds = {
  int: ("a whole number", operator.index),
  float: ("a number", lambda argument: float(instance_of(numbers.Real)(argument))),
  tuple[int, ...]: (
    "whole numbers, such as (1, 3, 6)",
    lambda argument: tuple(map(operator.index, argument)),
  ),
  str: ("a name", instance_of(str)),
  bool: ("True or False", instance_of(bool)),
}


def array_of(name: str, argument: Any, allowed: str) -> np.ndarray:
  """Converts an argument to an array.

  Args:
    name: Its name, for the error message; NumPy's message lacks it.
    argument: The argument.
    allowed: What is allowed, for the error message.

  Raises:
    ValueError: If it cannot be converted.
  """
  try:
    return np.asarray(argument)
  except (TypeError, ValueError) as error:
    raise ValueError(f"{name} must be {allowed}, got {argument!r:.80}") from error


def floats_of(name: str, argument: Any, allowed: str) -> np.ndarray:
  """Converts an argument to float64; arguments as for `array_of`.

  Raises:
    ValueError: If it cannot be converted, or is text or complex.
  """
  array = array_of(name, argument, allowed)
  try:
    if array.dtype.kind in "cSU":  # NumPy would parse text and drop imaginary parts.
      raise TypeError(f"{name} is {array.dtype}")
    return array.astype(np.float64)
  except (TypeError, ValueError) as error:
    raise ValueError(f"{name} must be {allowed}, got {argument!r:.80}") from error


def nonnegative_of(name: str, argument: Any, ndim: int) -> jax.Array:
  """Converts an argument to float32; it must be finite, nonnegative and `ndim`-dimensional.

  Raises:
    ValueError: If it is not, or overflows float32.
  """
  allowed = f"{ndim}-dimensional, finite and nonnegative"
  with np.errstate(over="ignore"):
    array = floats_of(name, argument, allowed).astype(np.float32)
  if array.ndim != ndim or not np.isfinite(array).all() or (array < 0).any():
    wrong = array[~np.isfinite(array) | (array < 0)]
    found = f"the number {wrong[0]}" if wrong.size else f"shape {array.shape}"
    raise ValueError(f"{name} must be {allowed}, got {found}")
  return jnp.asarray(array)


def did_you_mean(name: object, known: Iterable[str]) -> str:
  """A hint at the known name that is nearest to a misspelled one; "" if none is near."""
  near = difflib.get_close_matches(str(name), list(known), 1)
  return f'. Did you mean "{near[0]}"?' if near else ""


def unknown(what: str, name: object, allowed: str) -> str:
  """The message for a name that is not in `allowed`, whose names are separated by ", "."""
  hint = did_you_mean(name, allowed.split(", "))
  return f"unknown {what} {name!r}{f'{hint} Allowed' if hint else '; allowed'}: {allowed}"


def listed(names: Iterable[str]) -> str:
  """The first five names, for a message."""
  found = list(names)
  return ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")


def imported(what: str, name: str, allowed: str, takes: Callable[[Any], bool] = callable) -> Any:
  """Imports a user's function.

  An error inside the module is not caught, unless it is a failed import.

  Args:
    what: What the function makes, for error messages: "optimizer" or "block".
    name: `module:function`. The module is importable from the working directory.
    allowed: What `name` may be, for error messages.
    takes: Whether the object of that name is usable.

  Raises:
    ValueError: If the name has another form, the module cannot be imported, or it has no such
      object; the last error lists those that it has.
  """
  if not isinstance(name, str) or re.fullmatch(r"\w+(\.\w+)*:\w+", name) is None:
    raise ValueError(unknown(what, name, allowed))
  module_name, function_name = name.split(":")
  try:
    module = importlib.import_module(module_name)
  except ImportError as error:
    raise ValueError(
      f"{what} {name!r}: {module_name} cannot be imported from the working directory: "
      f"{first_line(error)}; allowed: {allowed}"
    ) from error
  function = getattr(module, function_name, None)
  if not takes(function):
    found = ", ".join(_public_names(module, takes)) or "none"
    raise ValueError(
      f"{what} {name!r}: {module_name} has no {what} {function_name!r}; allowed there: {found}"
    )
  return function


def _public_names(module: types.ModuleType, takes: Callable[[Any], bool]) -> list[str]:
  """Names of the usable objects that the module defines; imported functions are left out."""
  return [
    name
    for name, value in vars(module).items()
    if takes(value)
    and not inspect.isclass(value)
    and not name.startswith("_")
    and (not callable(value) or getattr(value, "__module__", None) == module.__name__)
  ]

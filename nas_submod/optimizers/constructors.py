"""Constructors of optimizers: arguments are checked, and equal arguments give one object."""

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec

from nas_submod.optimizers.base import Optimizer
from nas_submod.validation import Kinds, checked, instance_of

_P = ParamSpec("_P")
_OPTIMIZER: Kinds = {Optimizer: ("an Optimizer, such as rcas()", instance_of(Optimizer))}


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
      bound.arguments[name] = checked(name, bound.arguments[name], annotation, _OPTIMIZER)
    return build(*bound.args, **bound.kwargs)

  return construct

"""Constructors of optimizers: their arguments are checked, and equal ones give one object."""

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec

from nas_submod.optimizers.arguments import checked
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
    try:
      bound = signature.bind(*args, **kwargs)
    except TypeError as error:
      raise TypeError(f"{function.__name__}{signature}: {error}") from None
    bound.apply_defaults()
    for name, annotation in named.items():
      bound.arguments[name] = checked(name, bound.arguments[name], annotation)
    return build(*bound.args, **bound.kwargs)

  return construct

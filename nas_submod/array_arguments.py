"""Arguments as arrays: what cannot be one is refused by its name, with what is allowed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def array_of(name: str, argument: Any, allowed: str) -> np.ndarray:
  """An argument as an array; NumPy alone would not say which one cannot be.

  Raises:
    ValueError: If it cannot be; it says what is `allowed`.
  """
  try:
    return np.asarray(argument)
  except (TypeError, ValueError) as error:
    raise ValueError(f"{name} must be {allowed}, got {argument!r:.80}") from error


def floats_of(name: str, argument: Any, allowed: str) -> np.ndarray:
  """An argument as float64 of its own shape; NumPy alone would read numbers in text too.

  Raises:
    ValueError: As for `array_of`, and if it is text or complex.
  """
  array = array_of(name, argument, allowed)
  try:
    if array.dtype.kind in "cSU":
      raise TypeError(f"{name} is {array.dtype}")
    return array.astype(np.float64)
  except (TypeError, ValueError) as error:
    raise ValueError(f"{name} must be {allowed}, got {argument!r:.80}") from error


def nonnegative_of(name: str, argument: Any, ndim: int) -> jax.Array:
  """An argument as float32 of `ndim` dimensions, finite and nonnegative.

  Raises:
    ValueError: If it is not, or beyond float32.
  """
  allowed = f"{ndim}-dimensional, finite and nonnegative"
  with np.errstate(over="ignore"):
    array = floats_of(name, argument, allowed).astype(np.float32)
  if array.ndim != ndim or not np.isfinite(array).all() or (array < 0).any():
    wrong = array[~np.isfinite(array) | (array < 0)]
    found = f"the number {wrong[0]}" if wrong.size else f"shape {array.shape}"
    raise ValueError(f"{name} must be {allowed}, got {found}")
  return jnp.asarray(array)

"""Optional inputs of `surrogate`: features of sets, and a pool of candidates."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.problem import Problem
from nas_submod.validation import array_of, first_line, floats_of


class Frozen:
  """A constant array that is hashable: arrays of equal shape, type and content are equal."""

  def __init__(self, array: np.ndarray):
    """Copies the array."""
    self.array = array.copy()
    self._key = (array.shape, array.dtype.str, array.tobytes())

  def __eq__(self, other: object) -> bool:
    """Whether the other is an equal array."""
    return isinstance(other, Frozen) and self._key == other._key

  def __hash__(self) -> int:
    """The hash of shape, type and content."""
    return hash(self._key)


class Given(NamedTuple):
  """Features of sets, and a pool of `K` sets.

  Attributes:
    features: None, a traceable function `mask [n] -> [g]` or `[]`, or the values at the pool
      `[K, g]`.
    pool: None, or the sets. `[K, n]` bool.
  """

  features: Callable[[jax.Array], jax.Array] | Frozen | None
  pool: Frozen | None

  def masks(self, problem: Problem) -> jax.Array:
    """The sets of the pool. `[K, n]` bool.

    Raises:
      ValueError: If the sets have another number of elements than the problem.
    """
    assert self.pool is not None
    if self.pool.array.shape[1] != problem.n:
      raise ValueError(
        f"pool has sets of {self.pool.array.shape[1]} elements, the problem has {problem.n}"
      )
    return jnp.asarray(self.pool.array)

  def values(self, problem: Problem, masks: jax.Array) -> jax.Array | None:
    """Features of sets `masks [L, n]`, `[L, g]`, or None. With a table, `masks` must be the pool.

    Raises:
      ValueError: If the function is not traceable or returns another shape.
    """
    if self.features is None:
      return None
    if isinstance(self.features, Frozen):
      return jnp.asarray(self.features.array)
    return _computed(self.features, jax.vmap(problem.canonical_form)(masks))


def _computed(features: Callable[[jax.Array], jax.Array], masks: jax.Array) -> jax.Array:
  returns = "features must be a traceable function `mask [n] -> [g]` or `-> []` of numbers"
  try:
    shape = jax.eval_shape(features, masks[0])
  except Exception as error:
    raise ValueError(f"{returns}: {first_line(error)}") from error
  if not isinstance(shape, jax.ShapeDtypeStruct) or shape.ndim > 1:
    raise ValueError(f"{returns}; it returned {getattr(shape, 'shape', shape)}")
  return jax.vmap(features)(masks).astype(jnp.float32).reshape(len(masks), -1)


def check_given(features: Any, pool: Any) -> Given:
  """Checks the arguments of `surrogate`, and makes them hashable.

  Raises:
    ValueError: If a shape or type is wrong, or a table of features comes without a pool.
  """
  sets = None
  if pool is not None:
    masks = array_of("pool", pool, "bool [K, n]")
    if masks.ndim != 2 or masks.dtype != bool or not masks.size:
      raise ValueError(
        f"pool must be bool [K, n] with K of 1 or more, got {masks.dtype} {masks.shape}"
      )
    sets = Frozen(masks)
  if features is None or callable(features):
    return Given(features, sets)
  if sets is None:
    raise ValueError(
      "features is an array, which needs a pool; allowed without one: a function mask [n] -> [g]"
    )
  table = floats_of("features", features, "numbers [K, g] or [K], or a function")
  count = len(sets.array)
  if table.ndim not in (1, 2) or len(table) != count or not table.size:
    raise ValueError(
      f"features must be [K, g] or [K] for the K = {count} sets of the pool, got {table.shape}"
    )
  return Given(Frozen(table.reshape(count, -1).astype(np.float32)), sets)

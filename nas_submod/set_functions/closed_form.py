"""Closed-form set functions for tests, benchmarks and research on optimizers.

All of them except `table` are monotone and submodular. Their arrays are arguments of programs, so
another function of the same shapes does not recompile.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from nas_submod.precision import full_precision
from nas_submod.set_functions.base import SetFunction, as_argument
from nas_submod.validation import array_of, floats_of, nonnegative_of


def modular(weights: Any) -> SetFunction:
  """The sum of nonnegative `weights [n]`."""
  weights = nonnegative_of("weights", weights, 1)
  return SetFunction(
    value=Partial(_modular_value, weights),
    init=Partial(_modular_init),
    gains=Partial(_modular_gains, weights),
    add=Partial(_modular_add),
    gain=Partial(_modular_gain, weights),
    n=weights.shape[0],
  )


def coverage(covers: Any, weights: Any = None) -> SetFunction:
  """The total weight of the items that the set covers.

  Args:
    covers: Whether an element covers an item. `[n, items]` bool.
    weights: Nonnegative weights of the items, `[items]`. None means 1 for each; the function then
      counts 32 items at a time.

  Returns:
    The function.

  Raises:
    ValueError: If a shape is wrong, `covers` holds numbers other than 0 and 1, or a weight is
      negative or not finite.
  """
  incidence = array_of("covers", covers, "a matrix of True and False")
  if incidence.ndim != 2 or not ((incidence == 0) | (incidence == 1)).all():
    raise ValueError(
      f"covers must be a matrix of True and False, got {incidence.dtype} {incidence.shape}"
    )
  incidence = incidence.astype(bool)
  if weights is None:
    packed = _pack(incidence)
    return SetFunction(  # without `gain`: measuring all gains is faster than choosing some
      value=Partial(_count_value, packed),
      init=Partial(_count_init, packed),
      gains=Partial(_count_gains, packed),
      add=Partial(_count_add, packed),
      n=incidence.shape[0],
    )
  covers = jnp.asarray(incidence, jnp.float32)
  weights = nonnegative_of("weights", weights, 1)
  if weights.shape[0] != covers.shape[1]:
    raise ValueError(f"weights has {weights.shape[0]} items, covers has {covers.shape[1]}")
  return SetFunction(
    value=Partial(_coverage_value, covers, weights),
    init=Partial(_coverage_init, covers),
    gains=Partial(_coverage_gains, covers, weights),
    add=Partial(_coverage_add, covers),
    gain=Partial(_coverage_gain, covers, weights),
    n=incidence.shape[0],
  )


def concave_over_modular(features: Any, concave: Callable[[Any], Any] = jnp.sqrt) -> SetFunction:
  """The sum over features of a concave function of the set's total amount of the feature.

  Args:
    features: Nonnegative amount of each feature in an element. `[n, features]`.
    concave: A traceable elementwise function: increasing, concave, 0 at 0.

  Returns:
    The function.
  """
  features, concave = nonnegative_of("features", features, 2), Partial(concave)
  return SetFunction(
    value=Partial(_concave_value, concave, features),
    init=Partial(_concave_init, features),
    gains=Partial(_concave_gains, concave, features),
    add=Partial(_concave_add, features),
    gain=Partial(_concave_gain, concave, features),
    n=features.shape[0],
  )


def table(values: Any) -> SetFunction:
  """Any set function of few elements, given by `values [2^n]`; element e is bit e of the index.

  A value of -inf says that the set cannot be measured.

  Raises:
    ValueError: If the number of values is not a power of two, or a value is NaN or +inf.
  """
  with np.errstate(over="ignore"):
    given = floats_of("values", values, "a vector of numbers").astype(np.float32)
  if not (given < np.inf).all():
    raise ValueError(f"values must be numbers or -inf, got {given[~(given < np.inf)][0]}")
  values = jnp.asarray(given)
  n = max(values.size.bit_length() - 1, 0)
  if values.shape != (2**n,) or not n:
    raise ValueError(f"a table needs 2, 4, 8, ... values, got shape {values.shape}")
  return SetFunction(value=Partial(_table_value, values), n=n)


def on_host(function: Callable[[Any], jax.Array]) -> Callable[[np.ndarray], np.ndarray]:
  """Adapts a traceable function to the host driver: `masks [K, n] -> values [K]`.

  Batches are padded to powers of two, which limits the compilations.
  """
  function = as_argument(function)

  def values(masks: np.ndarray) -> np.ndarray:
    rows = 1 << (len(masks) - 1).bit_length()
    padded = np.concatenate([masks, np.repeat(masks[:1], rows - len(masks), axis=0)])
    return np.asarray(_batched(function, padded))[: len(masks)]

  return values


@jax.jit
@full_precision()
def _batched(function, masks):
  return jax.vmap(function)(masks)


def _modular_value(weights, mask):
  return jnp.sum(weights * mask)


def _modular_init(mask):
  return jnp.asarray(mask)


def _modular_gains(weights, mask):
  return weights * ~mask


def _modular_add(mask, element):
  return mask.at[element].set(True)


def _modular_gain(weights, mask, element):
  return weights[element] * ~mask[element]


def _pack(covers: np.ndarray) -> jax.Array:
  """Packs items into words of 32 bits, `[n, items]` bool to `[n, words]`."""
  bits = np.pad(covers, ((0, 0), (0, -covers.shape[1] % 32)))
  return jnp.asarray(np.packbits(bits, axis=1).view(np.uint32))


def _count(words):
  return jnp.sum(jax.lax.population_count(words), axis=-1, dtype=jnp.int32).astype(jnp.float32)


def _count_init(covers, mask):
  chosen = jnp.where(mask[:, None], covers, 0)
  return jax.lax.reduce(chosen, np.uint32(0), jax.lax.bitwise_or, (0,))


def _count_value(covers, mask):
  return _count(_count_init(covers, mask))


def _count_gains(covers, covered):
  return _count(covers & ~covered)


def _count_add(covers, covered, element):
  return covered | covers[element]


@full_precision()
def _product(left, right):
  """The matrix product, which takes a tenth of the time of logical operations on a CPU."""
  return left @ right


def _coverage_init(covers, mask):
  return _product(mask.astype(jnp.float32), covers) > 0


def _coverage_value(covers, weights, mask):
  return jnp.sum(weights * _coverage_init(covers, mask))


def _coverage_gains(covers, weights, covered):
  return _product(covers, jnp.where(covered, 0, weights))


def _coverage_add(covers, covered, element):
  return covered | (covers[element] > 0)


def _coverage_gain(covers, weights, covered, element):
  return jnp.sum(covers[element] * jnp.where(covered, 0, weights))


def _concave_init(features, mask):
  return jnp.sum(features * mask[:, None], axis=0)


def _concave_value(concave, features, mask):
  return jnp.sum(concave(_concave_init(features, mask)))


def _concave_gains(concave, features, amount):
  return jnp.sum(concave(amount + features) - concave(amount), axis=1)


def _concave_add(features, amount, element):
  return amount + features[element]


def _concave_gain(concave, features, amount, element):
  return jnp.sum(concave(amount + features[element]) - concave(amount))


def _table_value(values, mask):
  return values[jnp.sum(jnp.where(mask, 1 << jnp.arange(mask.shape[0]), 0))]

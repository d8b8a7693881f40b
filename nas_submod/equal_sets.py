"""Which of many sets are equal, in a compiled program."""

import jax
import jax.numpy as jnp


def same_sets(left: jax.Array, right: jax.Array) -> jax.Array:
  """Which sets of `left [L, n]` and `right [R, n]`, of 0 and 1, are equal. `[L, R]` bool.

  Two sets are equal if they are of one size and their intersection is of that size too, which
  makes the comparison of all pairs one matrix product.
  """
  left, right = left.astype(jnp.float32), right.astype(jnp.float32)
  size = left.sum(axis=1)[:, None]
  return (left @ right.T == size) & (right.sum(axis=1) == size)


def first_of_equal(masks: jax.Array, valid: jax.Array) -> jax.Array:
  """For each row of `masks [K, n]` the lowest valid row equal to it, `[K]` int (K if none)."""
  equal = same_sets(masks, masks) & valid[None, :]
  return jnp.where(equal.any(axis=1), jnp.argmax(equal, axis=1), masks.shape[0])

"""Comparison of sets that are given as arrays of masks; traceable."""

import jax
import jax.numpy as jnp


def same_sets(left: jax.Array, right: jax.Array) -> jax.Array:
  """Whether sets of `left [L, n]` and `right [R, n]`, of 0 and 1, are equal. `[L, R]` bool.

  Two sets are equal if both sizes equal the size of their intersection, so one matrix product
  compares all pairs.
  """
  left, right = left.astype(jnp.float32), right.astype(jnp.float32)
  size = left.sum(axis=1)[:, None]
  return (left @ right.T == size) & (right.sum(axis=1) == size)


def first_of_equal(masks: jax.Array, valid: jax.Array) -> jax.Array:
  """The lowest valid row equal to each row of `masks [K, n]`, `[K]` int; K if there is none."""
  equal = same_sets(masks, masks) & valid[None, :]
  return jnp.where(equal.any(axis=1), jnp.argmax(equal, axis=1), masks.shape[0])

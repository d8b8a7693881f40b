"""Ties: values that differ by no more than float32 rounding.

Two programs may sum the same numbers in different orders, so the values of a set may differ in
their last digits. Choices must not depend on these digits: else they would depend on the driver,
the batch, and the time when a gain was measured. So a value is better only if it is better by more
than rounding, and the first of tied values wins.
"""

import jax
import jax.numpy as jnp
import numpy as np

# Share of a value, or of each of two values whose difference is taken. Float32 rounds by 6e-8.
ROUNDING = 5e-7


def size(value: jax.Array) -> jax.Array:
  """Magnitude of `value [...]` to which rounding is relative, `[...]`; 0 if it is infinite."""
  return jnp.where(jnp.isfinite(value), jnp.abs(value), 0.0)


def beats(value: jax.Array, best: jax.Array) -> jax.Array:
  """Whether `value` is better than `best` by more than rounding, `[...]` bool."""
  return value > best + ROUNDING * size(best)


def first_true(found: jax.Array) -> jax.Array:
  """First index where `found [n]` is true, else the last index. `argmax` would be a loop."""
  return jnp.min(jnp.where(found, jnp.arange(found.size), found.size - 1))


def first_largest(values: jax.Array) -> jax.Array:
  """First index of `values [n]` whose value ties with the largest. `[]` int."""
  return first_true(~beats(jnp.max(values), values))


def best_in_order(values: jax.Array, best: jax.Array) -> jax.Array:
  """Index of the last of `values [n]` that beats all kept before it.

  One value after another is compared with the best so far. So the answer does not depend on how
  many values come in a batch.

  Args:
    values: The values.
    best: The best value before them. `[]`.

  Returns:
    The index; -1 if no value beats `best`. `[]` int.
  """

  def compare(carry, entry):
    best, winner = carry
    value, index = entry
    better = beats(value, best)
    return (jnp.where(better, value, best), jnp.where(better, index, winner)), None

  indices = jnp.arange(values.size, dtype=jnp.int32)
  return jax.lax.scan(compare, (best, jnp.int32(-1)), (values, indices))[0][1]


def best_of_all(values: jax.Array) -> jax.Array:
  """Index of the best of `values [n]`, compared one after another. `[]` int."""
  return 1 + best_in_order(values[1:], values[0])


def best_on_host(values: np.ndarray) -> int:
  """`best_of_all` in NumPy, which does not compile for each number of values."""
  records = np.flatnonzero(values[1:] > np.maximum.accumulate(values)[:-1]) + 1
  winner = 0
  for index in records:  # only a new maximum can beat the best so far
    best = values[winner]
    if values[index] > best + (np.float32(ROUNDING) * abs(best) if np.isfinite(best) else 0):
      winner = int(index)
  return winner

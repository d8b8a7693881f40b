"""What counts as a tie: numbers that differ by no more than float32 rounds.

Two programs may sum the same numbers in another order, and so give a set values that differ in
their last digits. A choice that hung on those would depend on the driver, on the batch, and on when
a gain was measured. So a value is better only if it is by more than rounding; of a tie the first
wins.
"""

import jax
import jax.numpy as jnp
import numpy as np

ROUNDING = 5e-7  # of a value, or of each of two whose difference is taken; float32 rounds by 6e-8


def size(value: jax.Array) -> jax.Array:
  """What the rounding of `value [...]` goes by: 0 where it is infinite. `[...]`."""
  return jnp.where(jnp.isfinite(value), jnp.abs(value), 0.0)


def beats(value: jax.Array, best: jax.Array) -> jax.Array:
  """Whether `value` is better than `best` by more than rounding, `[...]` bool."""
  return value > best + ROUNDING * size(best)


def first_true(found: jax.Array) -> jax.Array:
  """The first place where `found [n]`, or the last place if there is none; `argmax` is a loop."""
  return jnp.min(jnp.where(found, jnp.arange(found.size), found.size - 1))


def first_largest(values: jax.Array) -> jax.Array:
  """The first place of `values [n]` that the largest one does not beat. `[]` int."""
  return first_true(~beats(jnp.max(values), values))


def best_in_order(values: jax.Array, best: jax.Array) -> jax.Array:
  """Takes `values [n]` one after the other, each of which must beat the best until then.

  So an answer does not depend on how many values are looked at together.

  Args:
    values: The values.
    best: The best value before them. `[]`.

  Returns:
    The place of the best one in the end; -1 if none beats what was before. `[]` int.
  """

  def look(carry, entry):
    best, winner = carry
    value, place = entry
    better = beats(value, best)
    return (jnp.where(better, value, best), jnp.where(better, place, winner)), None

  places = jnp.arange(values.size, dtype=jnp.int32)
  return jax.lax.scan(look, (best, jnp.int32(-1)), (values, places))[0][1]


def best_of_all(values: jax.Array) -> jax.Array:
  """The place of the best of `values [n]`, taken one after the other. `[]` int."""
  return 1 + best_in_order(values[1:], values[0])


def best_on_host(values: np.ndarray) -> int:
  """`best_of_all` for values on the host: no program for each number of them."""
  records = np.flatnonzero(values[1:] > np.maximum.accumulate(values)[:-1]) + 1
  winner = 0
  for place in records:  # others beat nothing
    best = values[winner]
    if values[place] > best + (np.float32(ROUNDING) * abs(best) if np.isfinite(best) else 0):
      winner = int(place)
  return winner

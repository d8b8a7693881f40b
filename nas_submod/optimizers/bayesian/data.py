"""The measurements of `surrogate`, and their warping."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.equal_sets import first_of_equal, same_sets
from nas_submod.optimizers.bayesian.kernel import Features

_DEEPEST = 3.0  # units below the median
_ROUNDING = 1e-10  # warped variances up to here are rounding, not noise


class Data(NamedTuple):
  """The measurements, one row for each distinct set; at most `E` rows.

  Attributes:
    masks: The sets as asked. `[E, n]` bool.
    features: Their features.
    values: Mean of the measurements. `[E]`.
    counts: Number of measurements, 0 in a free row. `[E]` int.
    variances: Variance of one measurement, estimated or stated; NaN if unknown. `[E]`.
  """

  masks: jax.Array
  features: Features
  values: jax.Array
  counts: jax.Array
  variances: jax.Array


class Targets(NamedTuple):
  """Warped measurements.

  Attributes:
    values: Mean of each row, 0 in a free row. `[E]`.
    counts: As in `Data`. `[E]` int.
    squares: Sum of squared deviations of repeated measurements, warped. `[]`.
    freedom: Degrees of freedom of `squares`. `[]` int.
    exact: Whether F is known to have no noise. `[]` bool.
  """

  values: jax.Array
  counts: jax.Array
  squares: jax.Array
  freedom: jax.Array
  exact: jax.Array


def locate(data: Data, features: Features) -> tuple[jax.Array, jax.Array]:
  """Finds the row of each of `K` sets in the data, `E` if none, and marks first occurrences."""
  used = data.counts > 0
  same = same_sets(features.elements, data.features.elements) & used
  row = jnp.where(same.any(axis=1), jnp.argmax(same, axis=1), len(used))
  return row, first_of_equal(features.elements, jnp.ones(len(row), bool)) == jnp.arange(len(row))


def record(
  data: Data,
  masks: jax.Array,
  valid: jax.Array,
  features: Features,
  values: jax.Array,
  standard_errors: jax.Array,
) -> Data:
  """Records the values of a round; a value is the mean of all measurements of its set.

  Args:
    data: The earlier measurements.
    masks: The sets of the round. `[B, n]` bool.
    valid: Which of them were asked. `[B]` bool.
    features: Their features.
    values: Mean of all measurements of each. `[B]`.
    standard_errors: Its standard error, NaN if unknown. `[B]`.
  """
  row, _ = locate(data, features)
  rows = len(data.counts)
  count = data.counts.at[row].get(mode="fill", fill_value=0) + 1
  new = valid & (row == rows)
  row = jnp.where(new, (data.counts > 0).sum() + jnp.cumsum(new) - 1, row)
  row = jnp.where(valid, row, rows)

  def put(old: jax.Array, entry: jax.Array) -> jax.Array:
    return old.at[row].set(entry, mode="drop")

  return Data(
    masks=put(data.masks, masks),
    features=jax.tree.map(put, data.features, features),
    values=put(data.values, values),
    counts=put(data.counts, count),
    variances=put(data.variances, standard_errors**2 * count),
  )


def warp(data: Data) -> Targets:
  """Centres the values at their median, and compresses those below it.

  The unit is the root mean square of the values above the median. Below the median, a logarithm and
  a bound of `_DEEPEST` units keep bad networks from setting the scale of the good ones. Failures
  (-inf) are put below the worst value. Half-rank warping (Song et al. 2024, "The Vizier Gaussian
  process bandit algorithm") ranks the lower values, which loses the trend that few values show.
  """
  used = data.counts > 0
  finite = used & jnp.isfinite(data.values)
  values = jnp.where(finite, data.values, jnp.inf)
  middle = jnp.maximum((finite.sum() - 1) // 2, 0)
  median = jnp.where(finite.any(), jnp.sort(values)[middle], 0.0)
  upper = finite & (values >= median)
  square = jnp.where(upper, (values - median) ** 2, 0).sum() / jnp.maximum(upper.sum(), 1)
  scale = jnp.where(square > 0, jnp.sqrt(square), 1.0)

  above = jnp.where(finite, (data.values - median) / scale, 0.0)
  lower = -_DEEPEST * jnp.tanh(jnp.log1p(jnp.maximum(-above, 0)) / _DEEPEST)
  warped = jnp.where(upper, above, jnp.where(finite, lower, lower.min() - 0.5))
  known_noise = finite & (data.variances >= 0)
  variances = jnp.where(known_noise, data.variances / scale**2, 0.0)
  freedom = jnp.where(known_noise & upper, jnp.maximum(data.counts - 1, 1), 0)
  # An equal repeat may be chance if distinct sets have equal values too: few validation images
  # allow few distinct accuracies. Then it takes two.
  stated = known_noise & (data.counts == 1)
  equal = finite[:, None] & (data.values[:, None] == data.values) & ~jnp.eye(len(used), dtype=bool)
  repeats = jnp.where(known_noise, data.counts - 1, 0).sum()
  certain = stated.any() | (repeats >= 1 + equal.any())
  return Targets(
    values=jnp.where(used, warped, 0.0),
    counts=data.counts,
    squares=jnp.sum(freedom * variances),
    freedom=freedom.sum(),
    exact=certain & (variances.max() <= _ROUNDING),
  )

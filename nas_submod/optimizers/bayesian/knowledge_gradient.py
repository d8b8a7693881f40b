"""The choice of candidates to measure, by the largest knowledge gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(16)


def choose(
  mean: jax.Array,
  covariance: jax.Array,
  noise: jax.Array,
  answers: jax.Array,
  candidates: jax.Array,
  batch: int,
) -> tuple[jax.Array, jax.Array]:
  """Chooses the sets with the largest knowledge gradient, one after the other.

  Measuring x moves the posterior means by covariance[:, x] / sqrt(variance[x] + noise) times a
  standard normal. The worth of x is the expected rise of the best mean among `answers` and x. The
  next choice uses the covariance that remains after x is measured. `answers [K]` marks the measured
  sets, `noise []` is the variance of a measurement.

  Returns:
    Indices `[batch]`, and whether a candidate was left `[batch]` bool.
  """

  def choose_one(carry: Any, _: None) -> tuple[Any, Any]:
    covariance, answers, candidates = carry
    variance = jnp.maximum(jnp.diagonal(covariance), 0)
    move = covariance / jnp.sqrt(variance + noise + 1e-6)
    current = jnp.max(jnp.where(answers, mean, -jnp.inf))
    current = jnp.where(answers.any(), current, 0.0)
    future = (mean - current)[:, None, None] + move[:, :, None] * _NODES
    eligible = answers[:, None] | jnp.eye(len(mean), dtype=bool)
    future = jnp.where(eligible[:, :, None], future, -jnp.inf).max(axis=0)
    worth = future @ (_WEIGHTS / _WEIGHTS.sum())
    worth += 1e-4 * jnp.sqrt(variance)  # picks the least known set if nothing has worth
    worth = jnp.where(candidates, worth, -jnp.inf)
    winner = jnp.argmax(worth)
    covariance -= jnp.outer(move[:, winner], move[:, winner])
    carry = covariance, answers.at[winner].set(True), candidates.at[winner].set(False)
    return carry, (winner, candidates.any())

  _, chosen = jax.lax.scan(choose_one, (covariance, answers, candidates), length=batch)
  return chosen

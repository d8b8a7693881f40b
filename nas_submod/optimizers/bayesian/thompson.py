"""Candidates by Thompson sampling: sets that maximise functions drawn from the posterior.

Each of `C` chains climbs its own draw within the budgets, by random neighbours. A chain starts
from its last set, from one of the best measured sets or from a new random set.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.equal_sets import same_sets
from nas_submod.optimizers.bayesian.kernel import Encoding, Features
from nas_submod.optimizers.bayesian.posterior import Posterior, covariances
from nas_submod.optimizers.neighbours import random_neighbour
from nas_submod.problem import Problem

_FOURIER_FEATURES = 64  # random Fourier features of a draw
# Steps of a chain in a round, and neighbours tried in a step. 24 steps did not lower the regret on
# the tabular benchmark (`docs/benchmarks.md`).
_STEPS, _PROPOSALS = 12, 16


class FourierFeatures(NamedTuple):
  """`W` random Fourier features: frequencies `[n, W]` and `[d, W]`, phases `[W]`."""

  frequencies: Features
  phases: jax.Array


class Draws(NamedTuple):
  """`C` functions drawn from the posterior of F.

  Attributes:
    constant: Constant terms. `[C]`.
    weights: Weights of the features. `[C, n]` and `[C, d]`.
    amplitudes: Amplitudes of the waves. `[C, W]`.
    updates: Weights of the covariances with the data. `[C, E]`.
  """

  constant: jax.Array
  weights: Features
  amplitudes: jax.Array
  updates: jax.Array


class Pool(NamedTuple):
  """The only sets that may be asked: masks `[K, n]`, features, whether they are feasible `[K]`."""

  masks: jax.Array
  features: Features
  allowed: jax.Array


def draw(
  posterior: Posterior, encoding: Encoding, rng: jax.Array, deviation_scale: jax.Array
) -> tuple[FourierFeatures, Draws]:
  """Draws functions from the posterior by pathwise conditioning (Wilson et al. 2020).

  A draw is a function from the prior plus weighted covariances with the data; the weights make it
  agree with the data. The function from the prior has random linear weights and random Fourier
  features (Rahimi and Recht 2007). `deviation_scale [C]` scales each draw's deviation from the
  posterior mean. Returns the features that all draws share, and the draws.
  """
  parameters, data = posterior.parameters, posterior.features
  n, d = data.elements.shape[1], data.free.shape[1]
  count, rows = deviation_scale.shape[0], posterior.used.shape[0]
  bold = deviation_scale[:, None]
  # One call draws all normals: XLA compiles each call of a generator separately.
  width = 2 * n + d
  normal_key, phase_key = jax.random.split(rng)
  normals = jax.random.normal(
    normal_key, (count * (1 + width + _FOURIER_FEATURES + rows) + _FOURIER_FEATURES * width,)
  )
  shared, own = (
    normals[: _FOURIER_FEATURES * width],
    normals[_FOURIER_FEATURES * width :].reshape(count, -1),
  )
  weights, constant, amplitudes, errors = jnp.split(
    own, [width, width + 1, width + 1 + _FOURIER_FEATURES], axis=1
  )
  frequencies = _weights(
    encoding, shared.reshape(_FOURIER_FEATURES, -1), 2 * jnp.exp(parameters.rates)
  )
  phases = jax.random.uniform(phase_key, (_FOURIER_FEATURES,), maxval=2 * jnp.pi)
  waves = FourierFeatures(jax.tree.map(jnp.transpose, frequencies), phases)
  height = jnp.sqrt(2 * jnp.exp(parameters.interactions) / _FOURIER_FEATURES)
  prior = Draws(
    constant=deviation_scale * constant[:, 0],
    weights=_weights(encoding, bold * weights, jnp.exp(parameters.additive)),
    amplitudes=bold * height * amplitudes,
    updates=jnp.zeros((count, rows)),
  )
  values = jax.vmap(_prior_values, in_axes=(None, 0, None))(waves, prior, data)
  measured = values + bold * jnp.sqrt(posterior.variances) * errors
  residual = jnp.where(posterior.used, posterior.targets - measured, 0.0)
  return waves, prior._replace(updates=residual @ posterior.whitening.T @ posterior.whitening)


def _weights(encoding: Encoding, normals: jax.Array, variances: jax.Array) -> Features:
  """Turns standard normals `[K, 2 n + d]` into weights of linear functions.

  The functions have the kernel `sum_b variances_b <S, S'>_b`.
  """
  n = encoding.levels.shape[0]
  deviation = jnp.sqrt(variances)
  own, walk = deviation[:2] * jnp.sqrt(encoding.weights)
  each, by_step, free = jnp.split(normals, [n, 2 * n], axis=1)
  elements = own * each + walk * (by_step @ encoding.steps.T)
  return Features(elements, (deviation[2:] @ encoding.members) * free)


def _prior_values(waves: FourierFeatures, draw: Draws, features: Features) -> jax.Array:
  """Computes the prior part of one draw at `K` sets. `[K]`."""
  angles = features.elements @ waves.frequencies.elements
  angles += features.free @ waves.frequencies.free + waves.phases
  additive = features.elements @ draw.weights.elements + features.free @ draw.weights.free
  return draw.constant + additive + jnp.cos(angles) @ draw.amplitudes


def climb(
  problem: Problem,
  encoding: Encoding,
  describe: Callable[[jax.Array], Features],
  posterior: Posterior,
  waves: FourierFeatures,
  draws: Draws,
  masks: jax.Array,
  rng: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Improves the feasible sets `masks [C, n]` for some steps, each on its own draw.

  `describe` computes the features of sets `[K, n]`.

  Returns:
    The sets reached `[C, n]`; the best unmeasured set that each chain saw `[C, n]`; whether it saw
    one `[C]` bool.
  """

  def look(masks: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns values of each draw at its sets `[C, P, n]`, and whether they are new. `[C, P]`."""
    shape = masks.shape[:2]
    flat = describe(masks.reshape(-1, problem.n))
    cross = covariances(posterior, encoding, flat).reshape(*shape, -1)
    new = _unmeasured(posterior, flat)
    features = jax.tree.map(lambda x: x.reshape(*shape, -1), flat)
    prior = jax.vmap(_prior_values, in_axes=(None, 0, 0))(waves, draws, features)
    return prior + jnp.einsum("cpe,ce->cp", cross, draws.updates), new.reshape(shape)

  propose = jax.vmap(jax.vmap(random_neighbour, (None, None, 0)), (None, 0, 0))

  def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
    masks, heights, found, found_heights = carry
    chances = jax.random.uniform(key, (len(masks), _PROPOSALS, 5))
    near = propose(problem, masks, chances)
    values, new = look(near)
    values = jnp.where(jax.vmap(jax.vmap(problem.feasible))(near), values, -jnp.inf)
    masks, heights = _better(near, values, masks, heights)
    found, found_heights = _better(near, jnp.where(new, values, -jnp.inf), found, found_heights)
    return (masks, heights, found, found_heights), None

  heights, new = look(masks[:, None])
  unmeasured = jnp.where(new, heights, -jnp.inf)
  carry = masks, heights[:, 0], masks, unmeasured[:, 0]
  carry, _ = jax.lax.scan(step, carry, jax.random.split(rng, _STEPS))
  masks, _, found, found_heights = carry
  return masks, found, found_heights > -jnp.inf


def search_pool(
  encoding: Encoding, posterior: Posterior, waves: FourierFeatures, draws: Draws, pool: Pool
) -> tuple[jax.Array, jax.Array]:
  """Finds the best unmeasured set of the pool for each draw.

  Returns:
    The sets `[C, n]`; whether there is one `[C]` bool.
  """
  prior = jax.vmap(_prior_values, in_axes=(None, 0, None))(waves, draws, pool.features)
  values = prior + draws.updates @ covariances(posterior, encoding, pool.features).T
  candidates = pool.allowed & _unmeasured(posterior, pool.features)
  rows = jnp.argmax(jnp.where(candidates, values, -jnp.inf), axis=1)
  return pool.masks[rows], candidates[rows]


def _unmeasured(posterior: Posterior, features: Features) -> jax.Array:
  """Whether sets are not in the data. `[K]` bool."""
  same = same_sets(features.elements, posterior.features.elements)
  return ~jnp.any(same & posterior.used, axis=1)


def _better(
  near: jax.Array, values: jax.Array, masks: jax.Array, heights: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Replaces each chain's set by the best of its neighbours `[C, P, n]`, if that is higher."""
  winner = jnp.argmax(values, axis=1)[:, None]
  best = jnp.take_along_axis(values, winner, axis=1)[:, 0]
  candidate = jnp.take_along_axis(near, winner[:, :, None], axis=1)[:, 0]
  return jnp.where((best > heights)[:, None], candidate, masks), jnp.maximum(best, heights)

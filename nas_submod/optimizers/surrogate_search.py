"""Sets worth measuring: maximisers of functions drawn from the surrogate's posterior.

Each of `C` chains climbs its own draw under the budgets, by random additions, removals, exchanges
and swaps, from where it stood a round ago, from the best sets measured, or from a new random set.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve

from nas_submod.optimizers.surrogate_model import Encoding, Features, featurize, same_sets
from nas_submod.optimizers.surrogate_posterior import Posterior, covariances
from nas_submod.problem import Problem

_WAVES = 64  # random Fourier features of a draw
_STEPS, _PROPOSALS = 12, 16  # of a chain in a round; proposals of a step


class Waves(NamedTuple):
  """`W` random Fourier features: frequencies `[n, W]` and `[d, W]`, phases `[W]`."""

  frequencies: Features
  phases: jax.Array


class Draws(NamedTuple):
  """`C` functions drawn from the posterior of F.

  Attributes:
    constant: `[C]`.
    weights: Of the features. `[C, n]` and `[C, d]`.
    amplitudes: Of the waves. `[C, W]`.
    updates: Weights of the covariances with the data. `[C, E]`.
  """

  constant: jax.Array
  weights: Features
  amplitudes: jax.Array
  updates: jax.Array


def draw(
  posterior: Posterior, encoding: Encoding, rng: jax.Array, boldness: jax.Array
) -> tuple[Waves, Draws]:
  """Functions drawn from the posterior by pathwise conditioning (Wilson et al. 2020).

  A draw is a function from the prior, made of additive weights and of random waves (Rahimi and
  Recht 2007), plus the covariances with the data times weights that make it agree with them.

  Args:
    posterior: The posterior.
    encoding: The encoding.
    rng: Random key.
    boldness: Factor on each draw's deviation from the posterior mean; 0 gives the mean. `[C]`.

  Returns:
    The waves that all draws share, and the draws.
  """
  parameters, data = posterior.parameters, posterior.features
  count, rows = boldness.shape[0], posterior.used.shape[0]
  keys = jax.random.split(rng, 6)
  bold = boldness[:, None]
  additive = _random_weights(encoding, data, keys[0], jnp.exp(parameters.additive), count)
  weights = _random_weights(encoding, data, keys[1], 2 * jnp.exp(parameters.rates), _WAVES)
  phases = jax.random.uniform(keys[4], (_WAVES,), maxval=2 * jnp.pi)
  waves = Waves(jax.tree.map(jnp.transpose, weights), phases)
  height = jnp.sqrt(2 * jnp.exp(parameters.interactions) / _WAVES)
  prior = Draws(
    constant=boldness * jax.random.normal(keys[2], (count,)),
    weights=jax.tree.map(lambda x: bold * x, additive),
    amplitudes=bold * height * jax.random.normal(keys[3], (count, _WAVES)),
    updates=jnp.zeros((count, rows)),
  )
  noise = jnp.sqrt(posterior.variances) * jax.random.normal(keys[5], (count, rows))
  values = jax.vmap(_prior_values, in_axes=(None, 0, None))(waves, prior, data)
  residual = jnp.where(posterior.used, posterior.targets - values - bold * noise, 0.0)
  return waves, prior._replace(updates=cho_solve((posterior.factor, True), residual.T).T)


def _random_weights(
  encoding: Encoding, data: Features, rng: jax.Array, variances: jax.Array, count: int
) -> Features:
  """Weights of linear functions with kernel sum_b variances_b <S, S'>_b, one a row."""
  each, level, concave = jax.random.split(rng, 3)
  n, d = data.elements.shape[1], data.concave.shape[1]
  deviation = jnp.sqrt(variances * encoding.weights)
  by_level = encoding.levels * jax.random.normal(level, (count, n))[:, encoding.groups]
  return Features(
    deviation[0] * jax.random.normal(each, (count, n)) + deviation[1] * by_level,
    deviation[2] * jax.random.normal(concave, (count, d)),
  )


def _prior_values(waves: Waves, draw: Draws, features: Features) -> jax.Array:
  """Values `[K]` at sets of the prior part of one draw."""
  angles = features.elements @ waves.frequencies.elements
  angles += features.concave @ waves.frequencies.concave + waves.phases
  additive = features.elements @ draw.weights.elements + features.concave @ draw.weights.concave
  return draw.constant + additive + jnp.cos(angles) @ draw.amplitudes


def propose(problem: Problem, mask: jax.Array, rng: jax.Array) -> jax.Array:
  """A random neighbour of a set: one or two elements toggled, perhaps one more removed.

  An added element takes the place of the one in its group.

  Args:
    problem: The problem.
    mask: The set. `[n]` bool.
    rng: Random key.

  Returns:
    The neighbour, which may be infeasible. `[n]` bool.
  """
  first, second, removal, choice = jax.random.split(rng, 4)

  def toggle(mask: jax.Array, key: jax.Array) -> jax.Array:
    element = jax.random.randint(key, (), 0, problem.n)
    group = problem.groups[element]
    mates = (problem.groups == group) & (group >= 0)
    after = (mask & ~mates).at[element].set(~mask[element])
    return jnp.where(problem.required[element], mask, after)

  moved = toggle(mask, first)
  twice, drop = jax.random.bernoulli(choice, 0.5, (2,))
  moved = jnp.where(twice, toggle(moved, second), moved)
  free = mask & moved & ~problem.required
  order = jnp.where(free, jax.random.uniform(removal, mask.shape), -1.0)
  victim = drop & free & (jnp.arange(problem.n) == jnp.argmax(order))
  return moved & ~victim


def climb(
  problem: Problem,
  encoding: Encoding,
  posterior: Posterior,
  waves: Waves,
  draws: Draws,
  masks: jax.Array,
  rng: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Improves each set on its own draw for some steps.

  Args:
    problem: The problem.
    encoding: The encoding.
    posterior: The posterior of the draws.
    waves: What the draws share.
    draws: `C` functions.
    masks: Feasible sets, one for each. `[C, n]` bool.
    rng: Random key.

  Returns:
    The sets reached `[C, n]`; the best sets on the way that were not measured yet `[C, n]`, and
    whether there was one `[C]`.
  """
  chains = jnp.arange(masks.shape[0])

  def look(masks: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Values of each draw at its own sets `[C, P, n]`, and whether they are new. `[C, P]`."""
    shape = masks.shape[:2]
    flat = featurize(problem, encoding, masks.reshape(-1, problem.n))
    cross = covariances(posterior, encoding, flat).reshape(*shape, -1)
    new = ~jnp.any(same_sets(flat, posterior.features) & posterior.used, axis=1)
    features = jax.tree.map(lambda x: x.reshape(*shape, -1), flat)
    prior = jax.vmap(_prior_values, in_axes=(None, 0, 0))(waves, draws, features)
    return prior + jnp.einsum("cpe,ce->cp", cross, draws.updates), new.reshape(shape)

  def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
    masks, heights, found, found_heights = carry
    keys = jax.random.split(key, (len(chains), _PROPOSALS))
    near = jax.vmap(jax.vmap(propose, (None, None, 0)), (None, 0, 0))(problem, masks, keys)
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


def _better(
  near: jax.Array, values: jax.Array, masks: jax.Array, heights: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Each chain's best of its proposals `[C, P, n]`, where it is higher than what it has."""
  winner = jnp.argmax(values, axis=1)[:, None]
  best = jnp.take_along_axis(values, winner, axis=1)[:, 0]
  candidate = jnp.take_along_axis(near, winner[:, :, None], axis=1)[:, 0]
  return jnp.where((best > heights)[:, None], candidate, masks), jnp.maximum(best, heights)

"""Two baselines that use known costs: an additive model, and the largest set.

The additive model is linear in the elements, the number of elements and the logarithms of the
costs, as an author would fit it to few trainings: a ridge regression whose two variances maximise
the evidence on a grid. It first measures the first sets of the surrogate. Then a draw from its
posterior (Thompson sampling) is maximised over unmeasured sets by climbs.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.equal_sets import same_sets
from nas_submod.optimizers import Info, Optimizer, constructor
from nas_submod.optimizers.incumbent import Incumbent, no_incumbent
from nas_submod.optimizers.largest_sets import first_sets, largest_sets
from nas_submod.optimizers.neighbours import random_neighbour
from nas_submod.optimizers.random_sets import random_set
from nas_submod.problem import Problem

_DESIGN = 8  # first sets, as those of the surrogate
_SAMPLES = 64  # random sets that fix the scales of depth and costs
_CLIMBS, _STEPS, _PROPOSALS = 32, 16, 16
# Variances of a weight and of a measurement, in squares of the spread of the measured values.
_WEIGHT, _NOISE = np.meshgrid([0.01, 0.03, 0.1, 0.3, 1.0], [0.003, 0.03, 0.1, 0.3, 1.0])
_FIXED = np.float32(1.0)  # variance of the weights of depth and of each cost


class AdditiveState(NamedTuple):
  """State of `additive` for `E` evaluations.

  Attributes:
    rng: Random key of the next round.
    first: The first sets. `[_DESIGN, n]` bool.
    centre: Mean of depth and of log costs over random sets. `[1 + m]`.
    scale: Their inverse standard deviation, 0 if they are constant. `[1 + m]`.
    masks: The measured sets. `[E, n]` bool.
    values: Their values, -inf in free rows and for failures. `[E]`.
    asked: Sets asked so far. `[]` int.
    mask: The set to ask next. `[n]` bool.
    valid: Whether it is new. `[]` bool.
    answer: Row of the answer. `[]` int.
  """

  problem: Problem
  rng: jax.Array
  first: jax.Array
  centre: jax.Array
  scale: jax.Array
  masks: jax.Array
  values: jax.Array
  asked: jax.Array
  mask: jax.Array
  valid: jax.Array
  answer: jax.Array


@constructor
def additive(evaluations: int = 50, by_model: bool = True) -> Optimizer:
  """Measures the sets that draws of an additive model with depth and log costs put first.

  Args:
    evaluations: Sets to measure.
    by_model: Whether the answer is the measured set of the best posterior mean, which is better
      under noise, or the one of the best value.

  Returns:
    The optimizer.
  """

  def init(problem: Problem, rng: jax.Array) -> AdditiveState:
    rng, first_key, key = jax.random.split(rng, 3)
    keys = jax.random.split(key, _SAMPLES)
    known = _known(problem, jax.vmap(random_set, (None, 0, None))(problem, keys, 0.0))
    spread, first = known.std(axis=0), first_sets(problem, first_key, _DESIGN)
    return AdditiveState(
      problem=problem,
      rng=rng,
      first=first,
      centre=known.mean(axis=0),
      scale=jnp.where(spread > 1e-5, 1 / spread.clip(1e-5), 0.0),
      masks=jnp.zeros((evaluations, problem.n), bool),
      values=jnp.full(evaluations, -jnp.inf),
      asked=jnp.int32(0),
      mask=first[0],
      valid=jnp.bool_(True),
      answer=jnp.int32(0),
    )

  def ask(state: AdditiveState) -> tuple[jax.Array, jax.Array]:
    return state.mask[None], state.valid[None]

  def tell(state: AdditiveState, values: jax.Array) -> tuple[AdditiveState, Info]:
    row = jnp.where(state.valid, state.asked, evaluations)
    state = state._replace(
      masks=state.masks.at[row].set(state.mask, mode="drop"),
      values=state.values.at[row].set(values[0], mode="drop"),
      asked=state.asked + state.valid,
    )
    rng, draw_key, climb_key = jax.random.split(state.rng, 3)
    mean, draw = _fit(state, draw_key)
    worth = _features(state, state.masks) @ mean if by_model else state.values
    answer = jnp.argmax(jnp.where(jnp.isfinite(state.values), worth, -jnp.inf))
    found, valid = _climb(state, draw, state.masks[answer], climb_key)
    designed = _is_new(state, state.first)
    by_design = (state.asked < _DESIGN) & designed.any()
    moved = (answer != state.answer) | (state.asked == 1)
    state = state._replace(
      rng=rng,
      mask=jnp.where(by_design, state.first[jnp.argmax(designed)], found),
      valid=by_design | valid,
      answer=answer,
    )
    mask, value = best(state)
    return state, Info(moved[None], mask[None], value[None])

  def done(state: AdditiveState) -> jax.Array:
    return (state.asked >= evaluations) | ~state.valid

  def best(state: AdditiveState) -> tuple[jax.Array, jax.Array]:
    value = state.values[state.answer]
    return jnp.where(value > -jnp.inf, state.masks[state.answer], state.problem.required), value

  return Optimizer(init, ask, tell, done, best)


def _known(problem: Problem, masks: jax.Array) -> jax.Array:
  """Computes depth and the logarithms of the costs of sets `masks [K, n]`. `[K, 1 + m]`."""
  depth = jax.vmap(problem.canonical_form)(masks).sum(axis=1)[:, None]
  return jnp.concatenate([depth, jnp.log(jax.vmap(problem.cost)(masks) + 1e-6)], axis=1)


def _features(state: AdditiveState, masks: jax.Array) -> jax.Array:
  """Computes a constant, the elements, depth and log costs of sets. `[K, 2 + n + m]`."""
  elements = jax.vmap(state.problem.canonical_form)(masks).astype(jnp.float32)
  known = (_known(state.problem, masks) - state.centre) * state.scale
  return jnp.concatenate([jnp.ones((len(masks), 1)), elements, known], axis=1)


def _is_new(state: AdditiveState, masks: jax.Array) -> jax.Array:
  """Whether sets `masks [K, n]` are not measured. `[K]` bool."""
  canonical = jax.vmap(state.problem.canonical_form)
  asked = jnp.arange(len(state.values)) < state.asked
  return ~(same_sets(canonical(masks), canonical(state.masks)) & asked).any(axis=1)


def _fit(state: AdditiveState, rng: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Fits the weights by evidence; returns their posterior mean and a draw. `[2 + n + m]` each."""
  used = jnp.isfinite(state.values)
  count = used.sum().clip(1)
  centre = jnp.where(used, state.values, 0).sum() / count
  values = jnp.where(used, state.values - centre, 0)
  values /= jnp.sqrt((values**2).sum() / count).clip(1e-6)
  features = jnp.where(used[:, None], _features(state, state.masks), 0)
  n = state.problem.n
  own = jnp.arange(features.shape[1])
  own = (own > 0) & (own <= n)

  def evidence(weight: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    prior = jnp.where(own, weight, _FIXED)
    covariance = (features * prior) @ features.T + noise * jnp.eye(len(values))
    covariance = jnp.where(used[:, None] & used, covariance, jnp.eye(len(values)))
    factor = jnp.linalg.cholesky(covariance)
    white = jax.scipy.linalg.solve_triangular(factor, values, lower=True)
    density = -0.5 * white @ white - jnp.log(jnp.diagonal(factor)).sum()
    return density, prior, covariance

  grid = jnp.float32(_WEIGHT.ravel()), jnp.float32(_NOISE.ravel())
  densities, priors, covariances = jax.lax.map(lambda pair: evidence(*pair), grid)
  winner = jnp.argmax(jnp.where(jnp.isnan(densities), -jnp.inf, densities))
  prior, covariance, noise = priors[winner], covariances[winner], grid[1][winner]
  gain = jnp.linalg.solve(covariance, features * prior).T
  weight_key, noise_key = jax.random.split(rng)
  sample = jnp.sqrt(prior) * jax.random.normal(weight_key, prior.shape)
  errors = jnp.sqrt(noise) * jax.random.normal(noise_key, values.shape)
  return gain @ values, sample + gain @ jnp.where(used, values - features @ sample - errors, 0)


def _climb(
  state: AdditiveState, weights: jax.Array, leader: jax.Array, rng: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Finds the unmeasured set where a draw is largest `[n]`, and whether there is one. `[]` bool."""
  problem = state.problem
  start_key, climb_key = jax.random.split(rng)
  keys = jax.random.split(start_key, _CLIMBS)
  starts = jax.vmap(random_set, (None, 0, None))(problem, keys, 0.0)
  starts = jnp.where(jnp.arange(_CLIMBS)[:, None] % 2 == 0, leader, starts)
  propose = jax.vmap(jax.vmap(random_neighbour, (None, None, 0)), (None, 0, 0))

  def look(masks: jax.Array) -> tuple[jax.Array, jax.Array]:
    heights = _features(state, masks) @ weights
    heights = jnp.where(jax.vmap(problem.feasible)(masks), heights, -jnp.inf)
    return heights, jnp.where(_is_new(state, masks), heights, -jnp.inf)

  def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
    masks, heights, found = carry
    near = propose(problem, masks, jax.random.uniform(key, (_CLIMBS, _PROPOSALS, 5)))
    there, new = look(near.reshape(-1, problem.n))
    winner = jnp.argmax(new)
    found = found.challenged(near.reshape(-1, problem.n)[winner][None], new[winner][None])[0]
    there = there.reshape(_CLIMBS, -1)
    best = jnp.argmax(there, axis=1)
    rows = jnp.arange(_CLIMBS)
    better = there[rows, best] > heights
    masks = jnp.where(better[:, None], near[rows, best], masks)
    return (masks, jnp.maximum(heights, there[rows, best]), found), None

  heights, new = look(starts)
  found = no_incumbent(problem).challenged(starts, new)[0]
  carry = starts, heights, found
  (_, _, found), _ = jax.lax.scan(step, carry, jax.random.split(climb_key, _STEPS))
  return found.mask, jnp.isfinite(found.value)


class _LargestState(NamedTuple):
  """State of `largest`: the set to measure, whether it is measured, and the incumbent."""

  problem: Problem
  mask: jax.Array
  measured: jax.Array
  incumbent: Incumbent


@constructor
def largest() -> Optimizer:
  """Measures one set, the jointly largest one within the budgets, and answers it."""

  def tell(state: _LargestState, values: jax.Array) -> tuple[_LargestState, Info]:
    incumbent, info = state.incumbent.challenged(state.mask[None], values)
    return state._replace(measured=jnp.bool_(True), incumbent=incumbent), info

  return Optimizer(
    init=lambda problem, rng: _LargestState(
      problem, largest_sets(problem)[-1], jnp.bool_(False), no_incumbent(problem)
    ),
    ask=lambda state: (state.mask[None], jnp.ones(1, bool)),
    tell=tell,
    done=lambda state: state.measured,
    best=lambda state: state.incumbent,
  )

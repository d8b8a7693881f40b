"""Bayesian optimisation of sets with a model of diminishing returns.

The first sets are random and maximal. Then each round
  1. fits the Gaussian process of `kernel.py` to all measurements (`posterior.py`),
  2. draws functions from its posterior and climbs them within the budgets (`thompson.py`),
  3. asks the candidates with the largest knowledge gradient (Frazier, Powell and Dayanik 2009).

Candidates are the sets found and the best measured ones. The knowledge gradient is the expected
rise of the final answer's value. For an exact F it is expected improvement; under noise it asks for
a replicate when noise hides which of the best sets is better.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.optimizers.base import Info, Optimizer
from nas_submod.optimizers.bayesian.kernel import Encoding, Features, encode, featurize
from nas_submod.optimizers.bayesian.posterior import (
  Data,
  Fit,
  Targets,
  condition,
  improve,
  measured_means,
  predict,
  start_fit,
  warp,
)
from nas_submod.optimizers.bayesian.thompson import climb, draw
from nas_submod.optimizers.constructors import constructor
from nas_submod.optimizers.random_sets import random_set
from nas_submod.problem import Problem, first_of_equal, same_sets
from nas_submod.validation import at_least_one

_SAMPLES = 64  # random sets that fix the scales of the features
_CHAINS, _RESTARTS = 32, 4  # draws in a round; how many start from a new random set
_CONTENDERS = 16  # best measured sets, candidates for a replicate
_PATIENCE = 6  # rounds with nothing to ask after which the space counts as exhausted
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(16)


class SurrogateState(NamedTuple):
  """State of `surrogate` with `E` evaluations, batches of `B` and `C` chains.

  Attributes:
    rng: Random key of the next round.
    encoding: The map from sets to features.
    data: The measurements, `E` rows.
    means: Estimate of F at the measured sets, -inf in free rows. `[E]`.
    fit: Hyperparameters and the state of their fit.
    chains: The last sets of the chains. `[C, n]` bool.
    asked: Measurements asked so far. `[]` int.
    idle: Rounds since something was asked. `[]` int.
    masks: The sets to ask next. `[B, n]` bool.
    valid: Which of them to ask. `[B]` bool.
  """

  problem: Problem
  rng: jax.Array
  encoding: Encoding
  data: Data
  means: jax.Array
  fit: Fit
  chains: jax.Array
  asked: jax.Array
  idle: jax.Array
  masks: jax.Array
  valid: jax.Array


@constructor
def surrogate(evaluations: int = 200, batch: int = 1, design: int = 8) -> Optimizer:
  """Bayesian optimisation: measures the sets of the largest knowledge gradient.

  It may ask a set again, to separate noise from signal. The answer is the measured set of the best
  posterior mean. F counts as exact once two repeats agree to the last digit, or if standard errors
  of 0 are reported; then few sets or none are repeated.

  Args:
    evaluations: Largest number of measurements; the state has a row for each.
    batch: Sets asked in a round.
    design: Sets measured before the model is used: the required one, then random maximal ones.

  Returns:
    The optimizer.
  """
  at_least_one(evaluations=evaluations, batch=batch, design=design)

  def init(problem: Problem, rng: jax.Array) -> SurrogateState:
    rng, set_key, share_key, keep_key = jax.random.split(rng, 4)
    maximal = _random_sets(problem, set_key, _SAMPLES + _CHAINS)
    samples, chains = maximal[:_SAMPLES], maximal[_SAMPLES:]
    kept = jax.random.uniform(keep_key, samples.shape)
    kept = kept < jax.random.uniform(share_key, (_SAMPLES, 1))  # sets of all sizes
    encoding = encode(problem, problem.required | (samples & kept))
    rows = jnp.zeros((evaluations, problem.n), bool)
    zeros = jnp.zeros(evaluations)
    return SurrogateState(
      problem=problem,
      rng=rng,
      encoding=encoding,
      data=Data(rows, featurize(problem, encoding, rows), zeros, zeros.astype(int), zeros),
      means=zeros - jnp.inf,
      fit=start_fit(),
      chains=chains,
      asked=jnp.int32(0),
      idle=jnp.int32(0),
      masks=jnp.zeros((batch, problem.n), bool).at[0].set(problem.required),
      valid=jnp.arange(batch) == 0,
    )

  def ask(state: SurrogateState) -> tuple[jax.Array, jax.Array]:
    return state.masks, state.valid

  def replicates(state: SurrogateState) -> jax.Array:
    row, _ = _locate(state, featurize(state.problem, state.encoding, state.masks))
    return state.data.counts.at[row].get(mode="fill", fill_value=0) + 1

  def tell(
    state: SurrogateState, values: jax.Array, standard_errors: jax.Array
  ) -> tuple[SurrogateState, Info]:
    before, _ = best(state)
    started = state.asked > 0
    data = _record(state, values, standard_errors)
    state = state._replace(
      data=data,
      means=jnp.where(data.counts > 0, data.values, -jnp.inf),
      asked=state.asked + state.valid.sum(),
    )
    by_design = (state.asked < design) & (state.idle == 0)
    state = jax.lax.cond(by_design, plan_design, plan_by_model, state)
    valid = state.valid & (state.asked + jnp.cumsum(state.valid) <= evaluations)
    state = state._replace(valid=valid, idle=jnp.where(valid.any(), 0, state.idle + 1))
    mask, value = best(state)
    moved = (mask != before).any() | ~started
    return state, Info(moved[None], mask[None], value[None])

  def plan_design(state: SurrogateState) -> SurrogateState:
    """Plans random maximal sets, because a monotone F is largest at maximal sets."""
    rng, key = jax.random.split(state.rng)
    masks = _random_sets(state.problem, key, 4 * batch)
    row, first = _locate(state, featurize(state.problem, state.encoding, masks))
    new = (row == evaluations) & first
    chosen = jnp.argsort(~new)[:batch]
    valid = new[chosen] & (state.asked + jnp.arange(batch) < design)
    return state._replace(rng=rng, masks=masks[chosen], valid=valid)

  def plan_by_model(state: SurrogateState) -> SurrogateState:
    """Plans the candidates of the largest knowledge gradient."""
    problem, encoding, data = state.problem, state.encoding, state.data
    rng, draw_key, start_key, climb_key = jax.random.split(state.rng, 4)
    targets = warp(data)
    fit = improve(state.fit, encoding, data, targets)
    posterior = condition(fit.parameters, encoding, data, targets)
    means = jnp.where(jnp.isfinite(data.values), measured_means(posterior), -jnp.inf)
    leaders = jax.lax.top_k(means, min(_CONTENDERS, evaluations))[1]

    waves, draws = draw(posterior, encoding, draw_key, boldness=jnp.linspace(0.0, 1.0, _CHAINS))
    chain = jnp.arange(_CHAINS)[:, None]
    starts = data.masks[leaders[chain[:, 0] // 2 % len(leaders)]] | problem.required
    starts = jnp.where(chain % 2 == 0, state.chains, starts)
    fresh = _random_sets(problem, start_key, _RESTARTS)
    every = _CHAINS // _RESTARTS
    starts = starts.at[every - 1 :: every].set(fresh)
    chains, found, is_new = climb(problem, encoding, posterior, waves, draws, starts, climb_key)

    pool = jnp.concatenate([found, data.masks[leaders]])
    features = featurize(problem, encoding, pool)
    row, first = _locate(state, features)
    measured = jnp.pad(data.counts[leaders] > 0, (_CHAINS, 0))
    new = (jnp.arange(len(pool)) < _CHAINS) & first
    new &= jnp.pad(is_new, (0, len(leaders)))
    mean, covariance = predict(posterior, encoding, features, row)
    again = jnp.pad(jnp.isfinite(means[leaders]), (_CHAINS, 0)) & ~targets.exact
    candidates = new | (measured & again)
    order, valid = _choose(mean, covariance, posterior.noise, measured, candidates, batch)
    state = state._replace(
      rng=rng,
      means=jnp.where(targets.exact & (data.counts > 0), data.values, means),
      fit=fit,
      chains=chains,
      masks=pool[order],
      valid=valid,
    )
    return probe_noise(state, targets, leaders[0])

  def probe_noise(state: SurrogateState, targets: Targets, leader: jax.Array) -> SurrogateState:
    """Asks the best set again from time to time while F may be exact."""
    data = state.data
    repeats = jnp.maximum(data.counts - 1, 0).sum()
    stated = ((data.counts == 1) & (data.variances >= 0)).any()
    probe = ~stated & (targets.exact | (repeats == 0)) & (state.asked >= design * 2**repeats)
    probe &= jnp.isfinite(state.means[leader])
    elsewhere = (state.masks == data.masks[leader]).all(axis=1)
    return state._replace(
      masks=jnp.where(probe, state.masks.at[0].set(data.masks[leader]), state.masks),
      valid=(state.valid & ~(probe & elsewhere)).at[0].set(state.valid[0] | probe),
    )

  def done(state: SurrogateState) -> jax.Array:
    return (state.asked >= evaluations) | (state.idle >= _PATIENCE)

  def best(state: SurrogateState) -> tuple[jax.Array, jax.Array]:
    data = state.data
    winner = jnp.argmax(state.means)
    found = jnp.isfinite(state.means[winner])
    return (
      jnp.where(found, data.masks[winner], state.problem.required),
      jnp.where(found, data.values[winner], -jnp.inf),
    )

  return Optimizer(init, ask, tell, done, best, replicates)


def _random_sets(problem: Problem, rng: jax.Array, count: int) -> jax.Array:
  """Draws random maximal feasible sets. `[count, n]` bool."""
  keys = jax.random.split(rng, count)
  return jax.vmap(random_set, in_axes=(None, 0, None))(problem, keys, 0.0)


def _locate(state: SurrogateState, features: Features) -> tuple[jax.Array, jax.Array]:
  """Finds the row of the data of each of `K` sets, `E` if none, and marks first occurrences."""
  used = state.data.counts > 0
  same = same_sets(features.elements, state.data.features.elements) & used
  row = jnp.where(same.any(axis=1), jnp.argmax(same, axis=1), len(used))
  return row, first_of_equal(features.elements, jnp.ones(len(row), bool)) == jnp.arange(len(row))


def _record(state: SurrogateState, values: jax.Array, standard_errors: jax.Array) -> Data:
  """Records the values of a round; a value is the mean of all measurements of its set."""
  data = state.data
  features = featurize(state.problem, state.encoding, state.masks)
  row, _ = _locate(state, features)
  rows = len(data.counts)
  count = data.counts.at[row].get(mode="fill", fill_value=0) + 1
  new = state.valid & (row == rows)
  row = jnp.where(new, (data.counts > 0).sum() + jnp.cumsum(new) - 1, row)
  row = jnp.where(state.valid, row, rows)

  def put(old: jax.Array, entry: jax.Array) -> jax.Array:
    return old.at[row].set(entry, mode="drop")

  return Data(
    masks=put(data.masks, state.masks),
    features=jax.tree.map(put, data.features, features),
    values=put(data.values, values),
    counts=put(data.counts, count),
    variances=put(data.variances, standard_errors**2 * count),
  )


def _choose(
  mean: jax.Array,
  covariance: jax.Array,
  noise: jax.Array,
  answers: jax.Array,
  candidates: jax.Array,
  batch: int,
) -> tuple[jax.Array, jax.Array]:
  """Chooses the sets of the largest knowledge gradient, one after the other.

  Measuring x moves the posterior means by covariance[:, x] / sqrt(variance[x] + noise) times a
  standard normal. The worth of x is the expected rise of the best mean among `answers` and x. The
  next choice uses the covariance that remains after x is measured. `answers [K]` are the measured
  sets of the pool, `noise []` is the variance of a measurement.

  Returns:
    Indices `[batch]`, and whether a candidate was left `[batch]` bool.
  """

  def choose_one(carry, _):
    covariance, answers, candidates = carry
    variance = jnp.maximum(jnp.diagonal(covariance), 0)
    move = covariance / jnp.sqrt(variance + noise + 1e-6)
    current = jnp.max(jnp.where(answers, mean, -jnp.inf))
    current = jnp.where(answers.any(), current, 0.0)
    future = (mean - current)[:, None, None] + move[:, :, None] * _NODES
    eligible = answers[:, None] | jnp.eye(len(mean), dtype=bool)
    future = jnp.where(eligible[:, :, None], future, -jnp.inf).max(axis=0)
    worth = future @ (_WEIGHTS / _WEIGHTS.sum())
    worth += 1e-4 * jnp.sqrt(variance)  # decides for the least known set if nothing has worth
    worth = jnp.where(candidates, worth, -jnp.inf)
    winner = jnp.argmax(worth)
    covariance -= jnp.outer(move[:, winner], move[:, winner])
    carry = covariance, answers.at[winner].set(True), candidates.at[winner].set(False)
    return carry, (winner, candidates.any())

  _, chosen = jax.lax.scan(choose_one, (covariance, answers, candidates), length=batch)
  return chosen

"""Bayesian optimisation of sets with a model of diminishing returns and of free features.

The first sets are the largest by each cost, alternating with random maximal ones. Then each round
  1. fits the Gaussian process of `kernel.py` to all measurements (`posterior.py`),
  2. draws functions from its posterior and climbs them within the budgets (`thompson.py`),
  3. asks for the candidates with the largest knowledge gradient (Frazier, Powell and Dayanik 2009).

Candidates are the sets found and the best measured ones. The knowledge gradient is the expected
rise of the final answer's value. For an exact F it is expected improvement; under noise it asks for
a replicate when noise hides which of the best sets is better.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from nas_submod.equal_sets import same_sets
from nas_submod.optimizers.base import Info, Optimizer
from nas_submod.optimizers.bayesian.data import Data, Targets, locate, record, warp
from nas_submod.optimizers.bayesian.given import Given, check_given
from nas_submod.optimizers.bayesian.kernel import Encoding, Features, encode, featurize
from nas_submod.optimizers.bayesian.knowledge_gradient import choose
from nas_submod.optimizers.bayesian.posterior import (
  Fit,
  condition,
  improve,
  measured_means,
  predict,
  start_fit,
)
from nas_submod.optimizers.bayesian.thompson import Pool, climb, draw, search_pool
from nas_submod.optimizers.constructors import constructor
from nas_submod.optimizers.largest_sets import first_sets, in_turn, largest_of
from nas_submod.optimizers.random_sets import maximal_sets
from nas_submod.problem import Problem
from nas_submod.validation import at_least_one

_SAMPLES = 64  # random sets that fix the scales of the features
_CHAINS, _RESTARTS = 32, 4  # draws in a round; how many start from a new random set
_CONTENDERS = 16  # best measured sets, candidates for a replicate
_PATIENCE = 6  # rounds with nothing to ask after which the space counts as exhausted


class SurrogateState(NamedTuple):
  """State of `surrogate` with `E` evaluations, batches of `B` and `C` chains.

  Attributes:
    rng: Random key of the next round.
    encoding: The map from sets to features.
    data: The measurements, `E` rows.
    means: Estimate of F at the measured sets, -inf in free rows. `[E]`.
    fit: Hyperparameters and the state of their fit.
    first: The sets to measure before the model is used. `[design, n]` bool.
    chains: The last sets of the chains; with a pool there are none. `[C, n]` bool.
    pool: The only sets that may be measured, or None.
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
  first: jax.Array
  chains: jax.Array
  pool: Pool | None
  asked: jax.Array
  idle: jax.Array
  masks: jax.Array
  valid: jax.Array


def surrogate(
  evaluations: int = 200,
  batch: int = 1,
  design: int = 8,
  features: Callable[[jax.Array], jax.Array] | ArrayLike | None = None,
  pool: ArrayLike | None = None,
) -> Optimizer:
  """Bayesian optimisation: measures the sets with the largest knowledge gradient.

  It may ask for a set again, to separate noise from signal. The answer is the measured set with the
  best posterior mean. F counts as exact if standard errors of 0 are reported, or once a repeated
  measurement gives the same value (two repeats, if distinct sets have equal values too). Then few
  or no sets are measured again.

  Args:
    evaluations: Largest number of measurements; the state has a row for each.
    batch: Number of sets that a round asks for.
    design: Sets measured before the model is used: the largest, alternating with random maximal
      ones. With a pool, all come from the pool; with its features, they include the sets with the
      largest first feature.
    features: Prior knowledge of a set, such as a score from shared weights. A traceable function
      `mask [n] -> [g]` or `-> []` of the canonical mask, or with a pool its values, `[K, g]` or
      `[K]`. They are standardised, and form a block of the kernel. Values that are not finite count
      as unknown.
    pool: The only sets that may be measured, `[K, n]` bool; None for all feasible sets. Infeasible
      ones are left out. Use it if features of every neighbour of a set would take too long.

  Returns:
    The optimizer. Equal arguments, arrays included, give the same object.

  Raises:
    ValueError: If an argument has a wrong type, shape or value.
  """
  return _surrogate(evaluations, batch, design, check_given(features, pool))


@constructor
def _surrogate(evaluations: int, batch: int, design: int, given: Given) -> Optimizer:
  at_least_one(evaluations=evaluations, batch=batch, design=design)

  def init(problem: Problem, rng: jax.Array) -> SurrogateState:
    rng, sample_key, share_key, keep_key, first_key, chain_key = jax.random.split(rng, 6)
    pool, exhausted = None, jnp.bool_(False)
    if given.pool is None:
      samples = maximal_sets(problem, sample_key, _SAMPLES)
      kept = jax.random.uniform(keep_key, samples.shape)
      kept = kept < jax.random.uniform(share_key, (_SAMPLES, 1))  # sets of all sizes
      samples = jnp.concatenate([samples, problem.required | (samples & kept)])
      encoding = encode(problem, samples, given.values(problem, samples))
      first = first_sets(problem, first_key, design)
      chains = maximal_sets(problem, chain_key, _CHAINS)
    else:
      masks = given.masks(problem)
      values, allowed = given.values(problem, masks), jax.vmap(problem.feasible)(masks)
      chances = jax.random.uniform(sample_key, allowed.shape)
      order = jnp.argsort(jnp.where(allowed, chances, 2.0))  # feasible sets come first
      order = order[jnp.arange(max(design, 2 * _SAMPLES)) % allowed.sum().clip(1)]
      some = order[: 2 * _SAMPLES]
      encoding = encode(problem, masks[some], None if values is None else values[some])
      pool = Pool(masks, featurize(problem, encoding, masks, values), allowed)
      others = order[:design]
      if values is not None:  # An informative score helps from the first sets on.
        best = jnp.argsort(jnp.where(allowed & jnp.isfinite(values[:, 0]), -values[:, 0], jnp.inf))
        best = best[jnp.arange(design) % allowed.sum().clip(1)]
        others = jnp.stack([best, others], axis=1).reshape(-1)[:design]
      first = in_turn(masks[largest_of(problem, masks)], masks[others])
      chains, exhausted = jnp.zeros((0, problem.n), bool), ~allowed.any()
    rows = jnp.zeros((evaluations, problem.n), bool)
    zeros = jnp.zeros(evaluations)
    state = SurrogateState(
      problem=problem,
      rng=rng,
      encoding=encoding,
      data=Data(rows, describe(problem, encoding, pool, rows), zeros, zeros.astype(int), zeros),
      means=zeros - jnp.inf,
      fit=start_fit(encoding),
      first=first,
      chains=chains,
      pool=pool,
      asked=jnp.int32(0),
      idle=jnp.where(exhausted, _PATIENCE, 0),
      masks=jnp.zeros((batch, problem.n), bool),
      valid=jnp.zeros(batch, bool),
    )
    return plan_design(state)

  def describe(
    problem: Problem, encoding: Encoding, pool: Pool | None, masks: jax.Array
  ) -> Features:
    if pool is None:
      return featurize(problem, encoding, masks, given.values(problem, masks))
    keys = jax.vmap(problem.canonical_form)(masks)
    rows = jnp.argmax(same_sets(keys, pool.features.elements), axis=1)
    return jax.tree.map(lambda feature: feature[rows], pool.features)

  def ask(state: SurrogateState) -> tuple[jax.Array, jax.Array]:
    return state.masks, state.valid

  def replicates(state: SurrogateState) -> jax.Array:
    row, _ = locate(state.data, describe(state.problem, state.encoding, state.pool, state.masks))
    return state.data.counts.at[row].get(mode="fill", fill_value=0) + 1

  def tell(
    state: SurrogateState, values: jax.Array, standard_errors: jax.Array
  ) -> tuple[SurrogateState, Info]:
    before, _ = best(state)
    started = state.asked > 0
    features = describe(state.problem, state.encoding, state.pool, state.masks)
    # A set that `max_evaluations` left unmeasured has an infinite error: it is no failed one.
    told = state.valid & ~jnp.isposinf(standard_errors)
    data = record(state.data, state.masks, told, features, values, standard_errors)
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
    """Plans the first sets."""
    row, first = locate(
      state.data, describe(state.problem, state.encoding, state.pool, state.first)
    )
    new = (row == evaluations) & first
    if state.pool is not None:
      new &= jax.vmap(state.problem.feasible)(state.first)
    chosen = jnp.argsort(~new)[jnp.arange(batch) % design]
    valid = (jnp.arange(batch) < new.sum()) & (
      state.asked + jnp.arange(batch) < min(design, evaluations)
    )
    return state._replace(masks=state.first[chosen], valid=valid)

  def plan_by_model(state: SurrogateState) -> SurrogateState:
    """Plans the candidates of the largest knowledge gradient."""
    problem, encoding, data = state.problem, state.encoding, state.data
    rng, draw_key, start_key, climb_key = jax.random.split(state.rng, 4)
    targets = warp(data)
    fit = improve(state.fit, encoding, data, targets)
    posterior = condition(fit.parameters, encoding, data, targets)
    means = jnp.where(jnp.isfinite(data.values), measured_means(posterior), -jnp.inf)
    leaders = jax.lax.top_k(means, min(_CONTENDERS, evaluations))[1]

    waves, draws = draw(
      posterior, encoding, draw_key, deviation_scale=jnp.linspace(0.0, 1.0, _CHAINS)
    )
    if state.pool is None:
      chain = jnp.arange(_CHAINS)[:, None]
      starts = data.masks[leaders[chain[:, 0] // 2 % len(leaders)]] | problem.required
      starts = jnp.where(chain % 2 == 0, state.chains, starts)
      fresh = maximal_sets(problem, start_key, _RESTARTS)
      every = _CHAINS // _RESTARTS
      starts = starts.at[every - 1 :: every].set(fresh)
      look = functools.partial(describe, problem, encoding, None)
      chains, found, is_new = climb(
        problem, encoding, look, posterior, waves, draws, starts, climb_key
      )
    else:
      chains = state.chains
      found, is_new = search_pool(encoding, posterior, waves, draws, state.pool)

    pool = jnp.concatenate([found, data.masks[leaders]])
    features = describe(problem, encoding, state.pool, pool)
    row, first = locate(data, features)
    measured = jnp.pad(data.counts[leaders] > 0, (_CHAINS, 0))
    new = (jnp.arange(len(pool)) < _CHAINS) & first
    new &= jnp.pad(is_new, (0, len(leaders)))
    mean, covariance = predict(posterior, encoding, features, row)
    again = jnp.pad(jnp.isfinite(means[leaders]), (_CHAINS, 0)) & ~targets.exact
    candidates = new | (measured & again)
    order, valid = choose(mean, covariance, posterior.noise, measured, candidates, batch)
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
    probe = ~stated & (targets.exact | (repeats == 0)) & (state.asked >= 2 * design * 4**repeats)
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
    found = state.means[winner] > -jnp.inf
    return (
      jnp.where(found, data.masks[winner], state.problem.required),
      jnp.where(found, data.values[winner], -jnp.inf),
    )

  return Optimizer(init, ask, tell, done, best, replicates)

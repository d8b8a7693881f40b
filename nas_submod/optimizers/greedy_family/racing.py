"""Greedy paths that race their candidates: replicates go where a choice is in doubt.

`race.py` describes the race of a step. A final race decides the answer: some sets of the paths were
measured once and others many times, and the largest of such means most often has few measurements.
Finalists are the best set of each path and the set at its end. They get the replicates of the
second rung, those that could still be the best get the replicates of the third, and so on. Without
noise the optimizer is plain greedy.
"""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.equal_sets import first_of_equal
from nas_submod.optimizers.base import Info, Optimizer
from nas_submod.optimizers.greedy_family.path import (
  Options,
  best_of_path,
  by_path,
  in_turns,
  is_open,
  open_steps,
)
from nas_submod.optimizers.greedy_family.race import Race, ask_race, start_race, tell_race
from nas_submod.optimizers.ties import best_of_all
from nas_submod.problem import Problem


class Finalists(NamedTuple):
  """Finalists of `R` paths.

  Attributes:
    masks: The best set of each path, then the set at the end of each. `[2 R, n]` bool.
    values: Their means; -inf for those that an earlier rung ruled out. `[2 R]`.
    contenders: Finalists to measure once the paths are over, equal sets once. `[2 R]` bool.
    rung: The current rung, from 1. `[]` int.
  """

  masks: jax.Array
  values: jax.Array
  contenders: jax.Array
  rung: jax.Array


class RacingState(NamedTuple):
  """State of `R` racing paths; `rules [R, 1 + m]` are offset and weights of their prices."""

  problem: Problem
  rules: jax.Array
  races: Race
  finalists: Finalists


def make_racing(price_weights: Callable[[Problem], jax.Array], options: Options) -> Optimizer:
  """Makes an optimizer of paths that race, with prices by `price_weights: problem -> [R, 1 + m]`.

  A round has rows for the sets of the paths, then for the finalists; only one kind is valid.
  """
  per_rung = options.replicates_per_rung
  increase = all(a < b for a, b in itertools.pairwise(per_rung))
  if len(per_rung) < 2 or per_rung[0] < 1 or not increase:
    raise ValueError(f"race must be two or more increasing numbers from 1 on, got {per_rung}")
  ask_races = jax.vmap(functools.partial(ask_race, options=options))
  tell_races = jax.vmap(functools.partial(tell_race, options=options))

  def init(problem: Problem, rng: jax.Array) -> RacingState:
    weights = price_weights(problem)
    keys = jax.random.split(rng, weights.shape[0])
    races = jax.vmap(start_race, (None, 0))(problem, keys)
    return RacingState(problem, weights, races, _finalists(problem, races))

  def ask(state: RacingState) -> tuple[jax.Array, jax.Array]:
    masks, valid, _ = ask_races(state.races)
    finalists = state.finalists
    valid_finalists = finalists.contenders & _are_over(state.races)
    masks = jnp.concatenate([in_turns(masks), finalists.masks])
    return masks, jnp.append(in_turns(valid), valid_finalists)

  def replicates(state: RacingState) -> jax.Array:
    _, _, wanted = ask_races(state.races)
    of_rung = jnp.array(per_rung)[state.finalists.rung]
    of_finalists = jnp.full(state.finalists.values.shape, of_rung)
    return jnp.append(in_turns(wanted), of_finalists)

  def tell(state: RacingState, values: jax.Array, errors: jax.Array) -> tuple[RacingState, Info]:
    paths = state.rules.shape[0]
    of_paths, of_finalists = values[: -2 * paths], values[-2 * paths :]
    answers = by_path(of_paths, paths), by_path(errors[: -2 * paths], paths)
    races, accepted, ties = tell_races(state.races, *answers)
    opened = open_steps(state.problem, races.path, state.rules, accepted, options)
    races = races._replace(path=opened)
    finalists = jax.lax.cond(
      _are_over(state.races),
      lambda: _compare(state.finalists, of_finalists, races.noise.max(), per_rung),
      lambda: _finalists(state.problem, races),
    )
    state = state._replace(races=races, finalists=finalists)
    return state, Info(accepted, opened.mask, opened.value, ties)

  def done(state: RacingState) -> jax.Array:
    return _are_over(state.races) & ~state.finalists.contenders.any()

  def best(state: RacingState) -> tuple[jax.Array, jax.Array]:
    masks, values, _, _ = state.finalists
    winner = best_of_all(values)
    return masks[winner], values[winner]

  return Optimizer(init, ask, tell, done, best, replicates)


def _are_over(races: Race) -> jax.Array:
  return ~jnp.any(is_open(races.path))


def _finalists(problem: Problem, races: Race) -> Finalists:
  """The current finalists of the paths. Without noise none has to be measured again."""
  bests, best_values = jax.vmap(best_of_path)(races.path)
  masks = jnp.concatenate([bests, races.path.mask])
  values = jnp.concatenate([best_values, races.path.value])
  keys = jax.vmap(problem.canonical_form)(masks)
  is_first = first_of_equal(keys, jnp.ones(values.size, bool)) == jnp.arange(values.size)
  exact = (races.noise == 0).all()
  return Finalists(masks, values, is_first & (values > -jnp.inf) & ~exact, jnp.int32(1))


def _compare(
  finalists: Finalists, values: jax.Array, noise: jax.Array, replicates_per_rung: tuple[int, ...]
) -> Finalists:
  """Records means `values [2 R]` of the contenders after their rung.

  `noise []` is as in `Race`. If no contender could be measured, the earlier values stay.
  """
  values = jnp.where(finalists.contenders, values, -jnp.inf)
  margin = noise * jnp.sqrt(2 / jnp.array(replicates_per_rung)[finalists.rung])
  close = (values > -jnp.inf) & ~(values.max() - values >= margin)  # all if the noise is NaN
  over = (finalists.rung == len(replicates_per_rung) - 1) | (close.sum() < 2)
  return finalists._replace(
    values=jnp.where(values.max() > -jnp.inf, values, finalists.values),
    contenders=close & ~over,
    rung=finalists.rung + 1,
  )

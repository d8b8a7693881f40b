"""Greedy runs that race their contenders: replicates go where a choice is in doubt.

Each step of a run is raced, see `race_run`; so is the answer in the end. Along the paths some sets
were measured once and others many times, and the largest of such means is most often one of the
least known. Finalists are therefore the best set of each run and the end of its path. They are
measured with the second number of replicates, those that could still be the best with the third,
and so on. Without noise all of this is plain greedy.
"""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.optimizers.base import Info, Optimizer
from nas_submod.optimizers.greedy_family import path, race
from nas_submod.optimizers.greedy_family.path import Options
from nas_submod.optimizers.greedy_family.race import Race
from nas_submod.optimizers.ties import best_of_all
from nas_submod.problem import Problem, first_of_equal


class Finalists(NamedTuple):
  """Finalists of `R` runs.

  Attributes:
    masks: The best set of each run, then the set at the end of each. `[2 R, n]` bool.
    values: Their means; -inf where an equal number of replicates put them behind. `[2 R]`.
    contenders: Those to measure once the runs are over, equal sets once. `[2 R]` bool.
    stage: Which number of replicates is being measured, from 1 on. `[]` int.
  """

  masks: jax.Array
  values: jax.Array
  contenders: jax.Array
  stage: jax.Array


class RacingState(NamedTuple):
  """`R` runs, one per rule; `rules [R, 1 + m]` are offset and weights of their prices."""

  problem: Problem
  rules: jax.Array
  races: Race
  finalists: Finalists


def make_racing(
  price_weights: Callable[[Problem], jax.Array], numbers: tuple[int, ...], options: Options
) -> Optimizer:
  """Greedy runs that race.

  Args:
    price_weights: `problem -> [R, 1 + m]`, offset and weights of the prices of each run.
    numbers: Replicates of each stage in total, increasing.
    options: How the runs go: `lazy` and `batch`.

  Returns:
    The optimizer. A round asks sets of the runs, then finalists; the ones or the others are valid.
  """
  increase = all(a < b for a, b in itertools.pairwise(numbers))
  if len(numbers) < 2 or numbers[0] < 1 or not increase:
    raise ValueError(f"race must be two or more increasing numbers from 1 on, got {numbers}")
  ask_races = jax.vmap(functools.partial(race.ask_race, numbers=numbers, options=options))
  tell_races = jax.vmap(functools.partial(race.tell_race, numbers=numbers, options=options))

  def init(problem: Problem, rng: jax.Array) -> RacingState:
    weights = price_weights(problem)
    keys = jax.random.split(rng, weights.shape[0])
    races = jax.vmap(race.start_race, (None, 0))(problem, keys)
    return RacingState(problem, weights, races, _finalists(problem, races))

  def ask(state: RacingState) -> tuple[jax.Array, jax.Array]:
    masks, valid, _ = ask_races(state.races)
    finalists = state.finalists
    valid_finalists = finalists.contenders & _are_over(state.races)
    masks = jnp.concatenate([path.in_turns(masks), finalists.masks])
    return masks, jnp.append(path.in_turns(valid), valid_finalists)

  def replicates(state: RacingState) -> jax.Array:
    _, _, wanted = ask_races(state.races)
    of_finalists = jnp.full(state.finalists.values.shape, jnp.array(numbers)[state.finalists.stage])
    return jnp.append(path.in_turns(wanted), of_finalists)

  def tell(state: RacingState, values: jax.Array, errors: jax.Array) -> tuple[RacingState, Info]:
    runs = state.rules.shape[0]
    of_runs, of_finalists = values[: -2 * runs], values[-2 * runs :]
    answers = path.by_run(of_runs, runs), path.by_run(errors[: -2 * runs], runs)
    races, accepted, ties = tell_races(state.races, *answers)
    opened = path.open_runs(state.problem, races.run, state.rules, accepted, options)
    races = races._replace(run=opened)
    finalists = jax.lax.cond(
      _are_over(state.races),
      lambda: _compare(state.finalists, of_finalists, races.noise.max(), numbers),
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
  return ~jnp.any(path.is_open(races.run))


def _finalists(problem: Problem, races: Race) -> Finalists:
  """The finalists as the runs are now. Where noise is zero none has to be measured again."""
  bests, best_values = jax.vmap(path.best_of_run)(races.run)
  masks = jnp.concatenate([bests, races.run.mask])
  values = jnp.concatenate([best_values, races.run.value])
  keys = jax.vmap(problem.canonical_form)(masks)
  is_first = first_of_equal(keys, jnp.ones(values.size, bool)) == jnp.arange(values.size)
  exact = (races.noise == 0).all()
  return Finalists(masks, values, is_first & (values > -jnp.inf) & ~exact, jnp.int32(1))


def _compare(
  finalists: Finalists, values: jax.Array, noise: jax.Array, numbers: tuple[int, ...]
) -> Finalists:
  """Takes in means `values [2 R]` of the contenders, of the stage's number of replicates.

  `noise []` is that of a `Race`. If none could be measured, what was known before is the answer.
  """
  values = jnp.where(finalists.contenders, values, -jnp.inf)
  margin = noise * jnp.sqrt(2 / jnp.array(numbers)[finalists.stage])
  close = (values > -jnp.inf) & ~(values.max() - values >= margin)  # all, if noise is unknown
  over = (finalists.stage == len(numbers) - 1) | (close.sum() < 2)
  return finalists._replace(
    values=jnp.where(values.max() > -jnp.inf, values, finalists.values),
    contenders=close & ~over,
    stage=finalists.stage + 1,
  )

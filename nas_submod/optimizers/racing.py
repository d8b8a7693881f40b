"""Greedy runs that race their contenders: replicates go where the choice is in doubt.

Each step of a run is raced, see `race_run`. Without noise all of this is plain greedy.
"""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.optimizers import greedy_run, race_run
from nas_submod.optimizers.base import Info, Optimizer
from nas_submod.optimizers.greedy_run import Options
from nas_submod.optimizers.race_run import Race
from nas_submod.problem import Problem


class RacingState(NamedTuple):
  """`R` runs, one per rule; `rules [R, 1 + m]` are offset and weights of their prices."""

  problem: Problem
  rules: jax.Array
  races: Race


def make_racing(
  price_weights: Callable[[Problem], jax.Array], numbers: tuple[int, ...], options: Options
) -> Optimizer:
  """Greedy runs that race.

  Args:
    price_weights: `problem -> [R, 1 + m]`, offset and weights of the prices of each run.
    numbers: Replicates of each stage in total, increasing.
    options: How the runs go: `lazy` and `batch`.

  Returns:
    The optimizer.
  """
  increase = all(a < b for a, b in itertools.pairwise(numbers))
  if len(numbers) < 2 or numbers[0] < 1 or not increase:
    raise ValueError(f"race must be two or more increasing numbers from 1 on, got {numbers}")
  ask_races = jax.vmap(functools.partial(race_run.ask_race, numbers=numbers, options=options))
  tell_races = jax.vmap(functools.partial(race_run.tell_race, numbers=numbers, options=options))

  def init(problem: Problem, rng: jax.Array) -> RacingState:
    weights = price_weights(problem)
    keys = jax.random.split(rng, weights.shape[0])
    races = jax.vmap(race_run.start_race, (None, 0))(problem, keys)
    return RacingState(problem, weights, races)

  def ask(state: RacingState) -> tuple[jax.Array, jax.Array]:
    masks, valid, _ = ask_races(state.races)
    return greedy_run.in_turns(masks), greedy_run.in_turns(valid)

  def replicates(state: RacingState) -> jax.Array:
    return greedy_run.in_turns(ask_races(state.races)[2])

  def tell(state: RacingState, values: jax.Array, errors: jax.Array) -> tuple[RacingState, Info]:
    runs = state.rules.shape[0]
    answers = greedy_run.by_run(values, runs), greedy_run.by_run(errors, runs)
    races, accepted, ties = tell_races(state.races, *answers)
    opened = greedy_run.open_runs(state.problem, races.run, state.rules, accepted, options)
    state = state._replace(races=races._replace(run=opened))
    return state, Info(accepted, opened.mask, opened.value, ties)

  def done(state: RacingState) -> jax.Array:
    return ~jnp.any(greedy_run.is_open(state.races.run))

  def best(state: RacingState) -> tuple[jax.Array, jax.Array]:
    masks, values = jax.vmap(greedy_run.best_of_run)(state.races.run)
    winner = jnp.argmax(values)
    return masks[winner], values[winner]

  return Optimizer(init, ask, tell, done, best, replicates)

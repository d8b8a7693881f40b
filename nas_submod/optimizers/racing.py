"""Greedy steps that race their contenders: replicates go where the choice is in doubt.

In every step the open elements are measured with the first number of replicates, those that could
still be the best with the second, and so on; then the best mean density is added. An element could
be the best unless the leader is significantly ahead of it: one-sided 95% of Student's t, with one
noise variance pooled from all replicates of the run. Differences are taken as unpaired: replicates
that share their randomness make that cautious. Without noise all of this is plain greedy.
"""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.optimizers import greedy_run
from nas_submod.optimizers.base import Info, Optimizer
from nas_submod.optimizers.greedy_run import LOWEST, Options, Run
from nas_submod.problem import Problem

_FINALISTS = 3  # elements that get the last of three or more numbers of replicates


class Race(NamedTuple):
  """A greedy run with noise.

  Attributes:
    run: The run; its values and gains are means.
    held: Replicates of F(mask), 0 before the required set is measured. `[]` int.
    stage: Which number of replicates is being measured. `[]` int.
    goal: Elements to measure in this stage; from the second stage on. `[n]` bool.
    times: Replicates of F(mask + e), 0 where not `run.fresh`. `[n]` int.
    error: Their standard error; NaN if unknown. `[n]`.
    spread: Variance of the gain in units of the variance of one measurement, without the part of
      F(mask) that all fresh gains share. `[n]`.
    squares: Sum of variances of a measurement, estimated at earlier sets. `[]`.
    freedom: Degrees of freedom of that sum. `[]`.
    noise: Standard deviation of one measurement times the quantile of the test, as known when the
      stage began; NaN if unknown. `[]`.
  """

  run: Run
  held: jax.Array
  stage: jax.Array
  goal: jax.Array
  times: jax.Array
  error: jax.Array
  spread: jax.Array
  squares: jax.Array
  freedom: jax.Array
  noise: jax.Array


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
  ask_one = functools.partial(_ask, numbers=numbers, options=options)
  tell_one = functools.partial(_tell, numbers=numbers, options=options)

  def init(problem: Problem, rng: jax.Array) -> RacingState:
    weights = price_weights(problem)
    keys = jax.random.split(rng, weights.shape[0])
    return RacingState(problem, weights, jax.vmap(_start, (None, 0))(problem, keys))

  def ask(state: RacingState) -> tuple[jax.Array, jax.Array]:
    masks, valid, _ = jax.vmap(ask_one)(state.races)
    # The rules take turns, so that a round cut short by a limit is fair to all of them.
    return jnp.swapaxes(masks, 0, 1).reshape(-1, state.problem.n), valid.T.reshape(-1)

  def replicates(state: RacingState) -> jax.Array:
    _, valid, wanted = jax.vmap(ask_one)(state.races)
    return jnp.broadcast_to(wanted, valid.T.shape).reshape(-1)

  def tell(state: RacingState, values: jax.Array, errors: jax.Array) -> tuple[RacingState, Info]:
    runs = state.rules.shape[0]
    values, errors = values.reshape(-1, runs).T, errors.reshape(-1, runs).T
    races, accepted, ties = jax.vmap(tell_one)(state.races, values, errors)
    open_run = jax.vmap(functools.partial(greedy_run.open_run, options=options), (None, 0, 0, 0))
    opened = open_run(state.problem, races.run, state.rules, accepted)
    races = races._replace(run=opened)
    return state._replace(races=races), Info(accepted, opened.mask, opened.value, ties)

  def done(state: RacingState) -> jax.Array:
    return ~jnp.any(greedy_run.is_open(state.races.run))

  def best(state: RacingState) -> tuple[jax.Array, jax.Array]:
    masks, values = jax.vmap(greedy_run.best_of_run)(state.races.run)
    winner = jnp.argmax(values)
    return masks[winner], values[winner]

  return Optimizer(init, ask, tell, done, best, replicates)


def _start(problem: Problem, rng: jax.Array) -> Race:
  n = problem.n
  return Race(
    run=greedy_run.start_run(problem, rng),
    held=jnp.int32(0),
    stage=jnp.int32(0),
    goal=jnp.zeros(n, bool),
    times=jnp.zeros(n, jnp.int32),
    error=jnp.full(n, jnp.nan),
    spread=jnp.ones(n),
    squares=jnp.float32(0),
    freedom=jnp.float32(0),
    noise=jnp.float32(jnp.nan),
  )


def _next_elements(
  race: Race, numbers: tuple[int, ...], options: Options
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Elements to measure, what they could reach, and validity; `[B + 1]`, the last not asked."""
  batch = greedy_run.batch_size(race.run, options)
  # A gain at an earlier set is no bound but with its noise and that of the leader it is held
  # against; while noise is unknown it bounds nothing.
  variance = race.spread + 1 / numbers[0] + 1 / jnp.maximum(race.held, 1)
  margin = jnp.nan_to_num(race.noise, nan=jnp.inf) * jnp.sqrt(variance)
  reach = race.run._replace(gain=race.run.gain + margin)
  first = greedy_run.next_elements(reach, batch)

  missing = race.goal & (race.times < jnp.array(numbers)[race.stage])
  order = jnp.argsort(~missing, stable=True)[:batch]
  later = (jnp.append(order, 0), jnp.zeros(batch + 1), jnp.append(missing[order], False))
  return jax.tree.map(functools.partial(jnp.where, race.stage == 0), first, later)


def _ask(
  race: Race, numbers: tuple[int, ...], options: Options
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Masks `[B, n]`, their validity `[B]`, and how often each is to be measured, `[]`."""
  run = race.run
  elements, _, valid = _next_elements(race, numbers, options)
  masks = run.mask | jax.nn.one_hot(elements[:-1], run.mask.shape[0], dtype=bool)
  first = jnp.arange(masks.shape[0]) == 0
  unstarted = run.steps < 0
  start = jnp.where(race.held == 0, numbers[0], numbers[-1])
  return (
    jnp.where(unstarted, run.mask, masks),
    jnp.where(unstarted, first, valid[:-1]),
    jnp.where(unstarted, start, jnp.array(numbers)[race.stage]),
  )


def _tell(
  race: Race, values: jax.Array, errors: jax.Array, numbers: tuple[int, ...], options: Options
) -> tuple[Race, jax.Array, jax.Array]:
  """Takes in values and standard errors `[B]`; whether a step was taken, and if it was a tie."""
  started = race.run.steps >= 0
  begun, began = _begin(race, values[0], errors[0], numbers)
  measured, accepted, tie = _measure(race, values, errors, numbers, options)
  race = jax.tree.map(functools.partial(jnp.where, started), measured, begun)
  return race, jnp.where(started, accepted, began), started & tie


def _begin(
  race: Race, value: jax.Array, error: jax.Array, numbers: tuple[int, ...]
) -> tuple[Race, jax.Array]:
  """The required set: measured again, with all replicates, if its noise is not known yet."""
  held = jnp.where(race.held == 0, numbers[0], numbers[-1])
  began = (race.held > 0) | jnp.isfinite(error) | (value == -jnp.inf)
  squares, freedom = _variance(held, error)
  begun = race._replace(
    run=greedy_run.begin(race.run, value),
    squares=squares,
    freedom=freedom,
    noise=_noise(squares, freedom),
  )
  race = jax.tree.map(functools.partial(jnp.where, began), begun, race)
  return race._replace(held=held), began


def _measure(
  race: Race, values: jax.Array, errors: jax.Array, numbers: tuple[int, ...], options: Options
) -> tuple[Race, jax.Array, jax.Array]:
  elements, keys, valid = _next_elements(race, numbers, options)
  gains = greedy_run.gains_of(race.run, values)
  decision = greedy_run.decide(race.run, elements, keys, valid, gains, values)
  first_stage, wanted = race.stage == 0, jnp.array(numbers)[race.stage]
  used = jnp.where(first_stage, decision.used, valid[:-1])
  target = jnp.where(used, elements[:-1], race.goal.size)
  race = race._replace(
    run=greedy_run.record(race.run, elements[:-1], used, gains, values),
    times=race.times.at[target].set(wanted, mode="drop"),
    error=race.error.at[target].set(errors, mode="drop"),
    spread=race.spread.at[target].set(1 / wanted, mode="drop"),
  )
  complete = jnp.where(first_stage, decision.safe, ~jnp.any(race.goal & (race.times < wanted)))
  squares, freedom = _variance(race.times, race.error)
  squares, freedom = race.squares + squares.sum(), race.freedom + freedom.sum()
  judged = race._replace(noise=_noise(squares, freedom))
  leader, key, rivals = _contenders(judged)

  over = (race.stage == len(numbers) - 1) | ~rivals.any()
  accepted = complete & over & (key > LOWEST) & race.run.open.any()
  goal = rivals.at[leader].set(True)
  if len(numbers) > 2:
    goal = jnp.where(race.stage == len(numbers) - 2, _best_few(judged, goal), goal)
  onward = judged._replace(stage=race.stage + 1, goal=goal)
  stepped = _step(judged._replace(squares=squares, freedom=freedom), leader, accepted)
  chosen = jax.tree.map(functools.partial(jnp.where, over), stepped, onward)
  race = jax.tree.map(functools.partial(jnp.where, complete), chosen, race)
  return race, accepted, accepted & rivals.any()


def _variance(count: jax.Array, error: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Variance of one measurement times degrees of freedom, and these: 0 where unknown."""
  known = (count > 0) & jnp.isfinite(error)
  freedom = jnp.where(known, jnp.maximum(count - 1, 1), 0).astype(jnp.float32)
  return freedom * count * jnp.where(known, error, 0) ** 2, freedom


def _noise(squares: jax.Array, freedom: jax.Array) -> jax.Array:
  """Standard deviation times the 95% quantile of Student's t, expanded in 1 / freedom.

  Abramowitz and Stegun 1964, 26.7.5; too low by 27% at one degree of freedom, by 5% at two, by 2%
  at three.
  """
  quantile = 1.645 + (1.524 + 1.42 / freedom) / freedom
  return quantile * jnp.sqrt(squares / freedom)


def _contenders(race: Race) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The leader of the stage, its density, and who else could be the best, `[n]` bool."""
  run = race.run
  in_race = jnp.where(race.stage == 0, run.fresh, race.goal) & run.fresh
  keys = jnp.where(in_race, greedy_run.density(run.gain, run.price), -jnp.inf)
  leader = jnp.argmax(keys)
  # Densities are compared crosswise, by gain times the other's price, in units of the larger.
  price = jnp.where(run.gain[leader] > 0, run.price, 1.0)
  price = jnp.maximum(price, greedy_run.SMALLEST_PRICE)
  larger = jnp.maximum(price, price[leader])
  own, other = price / larger, price[leader] / larger
  ahead = run.gain[leader] * own - run.gain * other
  shared = jnp.where(run.fresh, own - other, own)  # F(mask) is in both gains, or in the leader's
  held = jnp.maximum(race.held, 1)
  variance = race.spread[leader] * own**2 + race.spread * other**2 + shared**2 / held
  margin = race.noise * jnp.sqrt(variance)
  possible = jnp.isnan(race.noise) | ((margin > 0) & (ahead < margin))
  measurable = run.open & (run.gain > LOWEST) & (jnp.arange(keys.size) != leader)
  return leader, keys[leader], measurable & possible


def _best_few(race: Race, goal: jax.Array) -> jax.Array:
  keys = jnp.where(goal, greedy_run.density(race.run.gain, race.run.price), -jnp.inf)
  best, elements = jax.lax.top_k(keys, min(_FINALISTS, goal.size))
  return jnp.zeros_like(goal).at[elements].set(best > -jnp.inf)


def _step(race: Race, leader: jax.Array, accepted: jax.Array) -> Race:
  """Adds the leader and starts the next step; or stops where nothing could be measured."""
  run = race.run
  spread = jnp.where(run.fresh, race.spread + 1 / jnp.maximum(race.held, 1), race.spread)
  return race._replace(
    run=greedy_run.adopt(
      run._replace(open=run.open & accepted), leader, run.after[leader], accepted
    ),
    held=race.times[leader],
    stage=jnp.zeros_like(race.stage),
    goal=jnp.zeros_like(race.goal),
    times=jnp.zeros_like(race.times),
    error=jnp.full_like(race.error, jnp.nan),
    spread=spread[run.twin],
  )

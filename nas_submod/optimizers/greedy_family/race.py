"""One greedy run that races: what to measure next and how often, and when a step is decided.

In every step the open elements are measured with the first number of replicates, those that could
still be the best with the second, and so on; then the best mean density is added. An element could
be the best unless the leader is significantly ahead of it: one-sided 95% of Student's t, with one
noise variance pooled from all replicates of the run. Differences are taken as unpaired: replicates
that share their randomness make that cautious.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.optimizers import ties
from nas_submod.optimizers.greedy_family import path
from nas_submod.optimizers.greedy_family.decision import decide, record
from nas_submod.optimizers.greedy_family.path import LOWEST, GreedyPath, Options
from nas_submod.problem import Problem

_LAST_FEW = 3  # elements that get the last of three or more numbers of replicates


class Race(NamedTuple):
  """A greedy run with noise.

  Attributes:
    run: The run; its values and gains are means.
    replicates_here: Replicates of F(mask), 0 before the required set is measured. `[]` int.
    stage: Which number of replicates is being measured. `[]` int.
    goal: Elements to measure in this stage; from the second stage on. `[n]` bool.
    replicates: Of F(mask + e), 0 where not `run.fresh`. `[n]` int.
    error: Standard error of F(mask + e); NaN if unknown. `[n]`.
    gain_variance: Variance of the gain in units of the variance of one measurement, without the
      part of F(mask) that all fresh gains share. `[n]`.
    squares: Sum of variances of a measurement, estimated at earlier sets. `[]`.
    freedom: Degrees of freedom of that sum. `[]`.
    noise: Standard deviation of one measurement times the quantile of the test, as known when the
      stage began; NaN if unknown. `[]`.
  """

  run: GreedyPath
  replicates_here: jax.Array
  stage: jax.Array
  goal: jax.Array
  replicates: jax.Array
  error: jax.Array
  gain_variance: jax.Array
  squares: jax.Array
  freedom: jax.Array
  noise: jax.Array


class Verdict(NamedTuple):
  """What is known after a round, from all that was measured.

  Attributes:
    squares: As in `Race`, with those at this set.
    freedom: As in `Race`, with those at this set.
    leader: The element of the best mean density in this stage. `[]` int.
    least: The least that its density is, but for rounding. `[]`.
    rivals: Who else could be the best. `[n]` bool.
  """

  squares: jax.Array
  freedom: jax.Array
  leader: jax.Array
  least: jax.Array
  rivals: jax.Array


def start_race(problem: Problem, rng: jax.Array) -> Race:
  """A run that has measured nothing yet."""
  n = problem.n
  return Race(
    run=path.start_run(problem, rng),
    replicates_here=jnp.int32(0),
    stage=jnp.int32(0),
    goal=jnp.zeros(n, bool),
    replicates=jnp.zeros(n, jnp.int32),
    error=jnp.full(n, jnp.nan),
    gain_variance=jnp.ones(n),
    squares=jnp.float32(0),
    freedom=jnp.float32(0),
    noise=jnp.float32(jnp.nan),
  )


def _next_elements(
  race: Race, numbers: tuple[int, ...], options: Options
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Elements to measure `[B]`, whether they exist `[B]`, and what each could gain `[n]`."""
  # A gain at an earlier set is no bound but with its noise and that of the leader it is held
  # against; while noise is unknown it bounds nothing.
  variance = race.gain_variance + 1 / numbers[0] + 1 / jnp.maximum(race.replicates_here, 1)
  margin = jnp.nan_to_num(race.noise, nan=jnp.inf) * jnp.sqrt(variance)
  reach = race.run.gain + margin
  elements, valid = path.next_elements(race.run._replace(gain=reach), options)

  missing = race.goal & (race.replicates < jnp.array(numbers)[race.stage])
  order = jnp.argsort(~missing, stable=True)[: elements.size]
  asked = path.within_batch(missing[order], jnp.bool_(False), options)
  is_first = race.stage == 0
  return jnp.where(is_first, elements, order), jnp.where(is_first, valid, asked), reach


def ask_race(
  race: Race, numbers: tuple[int, ...], options: Options
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Masks `[B, n]`, their validity `[B]`, and how often each is to be measured, `[B]`."""
  run = race.run
  elements, valid, _ = _next_elements(race, numbers, options)
  masks = run.mask | jax.nn.one_hot(elements, run.mask.shape[0], dtype=bool)
  first = jnp.arange(masks.shape[0]) == 0
  unstarted = run.steps < 0
  wanted = jnp.where(unstarted, _at_start(race, numbers), jnp.array(numbers)[race.stage])
  return (
    jnp.where(unstarted, run.mask, masks),
    jnp.where(unstarted, first, valid),
    jnp.broadcast_to(wanted, first.shape),
  )


def _at_start(race: Race, numbers: tuple[int, ...]) -> jax.Array:
  """Replicates of the required set: all of them at last, if its noise is not known yet."""
  return jnp.where(race.replicates_here == 0, numbers[0], numbers[-1])


def tell_race(
  race: Race, values: jax.Array, errors: jax.Array, numbers: tuple[int, ...], options: Options
) -> tuple[Race, jax.Array, jax.Array]:
  """Takes in values and standard errors `[B]`; whether a step was taken, and if it was a tie."""
  return jax.lax.cond(
    race.run.steps >= 0,
    lambda: _measure(race, values, errors, numbers, options),
    lambda: _begin(race, values[0], errors[0], numbers),
  )


def _begin(
  race: Race, value: jax.Array, error: jax.Array, numbers: tuple[int, ...]
) -> tuple[Race, jax.Array, jax.Array]:
  measured = race._replace(replicates_here=_at_start(race, numbers))
  squares, freedom = _variance(measured.replicates_here, error)
  begun = measured._replace(
    run=path.begin(race.run, value),
    squares=squares,
    freedom=freedom,
    noise=_noise(squares, freedom),
  )
  began = (race.replicates_here > 0) | jnp.isfinite(error) | (value == -jnp.inf)
  race = jax.tree.map(functools.partial(jnp.where, began), begun, measured)
  return race, began, jnp.bool_(False)


def _measure(
  race: Race, values: jax.Array, errors: jax.Array, numbers: tuple[int, ...], options: Options
) -> tuple[Race, jax.Array, jax.Array]:
  elements, valid, reach = _next_elements(race, numbers, options)
  gains = path.gains_of(race.run, values)
  decision = decide(race.run, reach, elements, valid, gains, options.lazy)
  first_stage, wanted = race.stage == 0, jnp.array(numbers)[race.stage]
  used = jnp.where(first_stage, decision.used, valid)
  target = jnp.where(used, elements, race.goal.size)
  race = race._replace(
    run=record(race.run, elements, used, gains, values),
    replicates=race.replicates.at[target].set(wanted, mode="drop"),
    error=race.error.at[target].set(errors, mode="drop"),
    gain_variance=race.gain_variance.at[target].set(1 / wanted, mode="drop"),
  )
  missing = jnp.any(race.goal & (race.replicates < wanted))
  complete = jnp.where(first_stage, decision.safe, ~missing)
  verdict = _judge(race)
  decided = (race.stage == len(numbers) - 1) | ~verdict.rivals.any()
  outcome = jnp.where(complete, 1 + decided, 0)
  next_stage = functools.partial(_next_stage, numbers=numbers)
  race, accepted = jax.lax.switch(outcome, (_stay, next_stage, _step), race, verdict)
  return race, accepted, accepted & verdict.rivals.any()


def _stay(race: Race, verdict: Verdict) -> tuple[Race, jax.Array]:
  """The stage is not complete: noise is judged when it is."""
  del verdict
  return race, jnp.bool_(False)


def _next_stage(race: Race, verdict: Verdict, numbers: tuple[int, ...]) -> tuple[Race, jax.Array]:
  """Some could be better than the leader: they and it are measured more often."""
  goal = verdict.rivals.at[verdict.leader].set(True)
  if len(numbers) > 2:
    keys = jnp.where(goal, path.density(race.run.gain, path.per_price(race.run.price)), -jnp.inf)
    best, elements = jax.lax.top_k(keys, min(_LAST_FEW, goal.size))
    few = jnp.zeros_like(goal).at[elements].set(best > -jnp.inf)
    goal = jnp.where(race.stage == len(numbers) - 2, few, goal)
  noise = _noise(verdict.squares, verdict.freedom)
  return race._replace(stage=race.stage + 1, goal=goal, noise=noise), jnp.bool_(False)


def _step(race: Race, verdict: Verdict) -> tuple[Race, jax.Array]:
  """Adds the leader and starts the next step; or stops where nothing could be measured."""
  run, leader = race.run, verdict.leader
  accepted = (verdict.least > LOWEST) & run.open.any()
  shared = jnp.where(run.fresh, 1 / jnp.maximum(race.replicates_here, 1), 0.0)
  race = Race(
    run=path.adopt(run._replace(open=run.open & accepted), leader, run.after[leader], accepted),
    replicates_here=race.replicates[leader],
    stage=jnp.zeros_like(race.stage),
    goal=jnp.zeros_like(race.goal),
    replicates=jnp.zeros_like(race.replicates),
    error=jnp.full_like(race.error, jnp.nan),
    gain_variance=(race.gain_variance + shared)[run.representative],
    squares=verdict.squares,
    freedom=verdict.freedom,
    noise=_noise(verdict.squares, verdict.freedom),
  )
  return race, accepted


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


def _judge(race: Race) -> Verdict:
  """The leader of the stage, and who else could be the best."""
  run = race.run
  squares, freedom = _variance(race.replicates, race.error)
  squares, freedom = race.squares + squares.sum(), race.freedom + freedom.sum()
  noise = _noise(squares, freedom)
  in_race = jnp.where(race.stage == 0, run.fresh, race.goal) & run.fresh
  rate = path.per_price(run.price)
  densities = path.densities(run.gain, rate, run.scale)
  least = jnp.max(jnp.where(in_race, densities.least, -jnp.inf))
  leader = ties.first_true(in_race & (densities.most >= least))
  # Densities are compared crosswise, by gain times the other's price, in units of the larger.
  price = jnp.where(run.gain[leader] > 0, run.price, 1.0)
  price = jnp.maximum(price, path.SMALLEST_PRICE)
  larger = jnp.maximum(price, price[leader])
  own, other = price / larger, price[leader] / larger
  ahead = run.gain[leader] * own - run.gain * other
  shared = jnp.where(run.fresh, own - other, own)  # F(mask) is in both gains, or in the leader's
  variance = race.gain_variance[leader] * own**2 + race.gain_variance * other**2
  margin = noise * jnp.sqrt(variance + shared**2 / jnp.maximum(race.replicates_here, 1))
  possible = jnp.isnan(noise) | ((margin > 0) & (ahead < margin))
  measurable = run.open & (run.gain > LOWEST) & (jnp.arange(in_race.size) != leader)
  return Verdict(squares, freedom, leader, least, measurable & possible)

"""One greedy path that races: what to measure next and how often, and when a step is decided.

Every step is a race over rungs. All candidates get the replicates of the first rung, those that
could still be the best get the replicates of the second, and so on. Then the element with the best
mean density is added. An element could be the best unless the leader is significantly ahead of it:
one-sided 95% of Student's t, with one noise variance pooled from all replicates of the path. The
test treats samples as unpaired, which is conservative if replicates share randomness.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.optimizers.greedy_family.decision import best_of, decide, record
from nas_submod.optimizers.greedy_family.path import (
  LOWEST,
  GreedyPath,
  Options,
  add_element,
  ask_elements,
  densities,
  density,
  gains_of,
  measure_required,
  next_elements,
  per_price,
  start_path,
  within_batch,
)
from nas_submod.problem import SMALLEST_COST, Problem

_LAST_FEW = 3  # elements that reach the last of three or more rungs


class Race(NamedTuple):
  """State of a greedy path with noise.

  Attributes:
    path: The path; its values and gains are means.
    replicates_here: Replicates of F(mask), 0 before the required set is measured. `[]` int.
    rung: The current rung, from 0. `[]` int.
    contenders: Elements to measure in this rung; unused in the first. `[n]` bool.
    replicates: Replicates of F(mask + e), 0 where not `path.fresh`. `[n]` int.
    error: Standard error of F(mask + e); NaN if unknown. `[n]`.
    gain_variance: Variance of the gain in units of the variance of one measurement, without the
      part of F(mask) that all fresh gains share. `[n]`.
    squares: Variance of a measurement times degrees of freedom, summed over earlier sets. `[]`.
    freedom: Degrees of freedom of that sum. `[]`.
    noise: Standard deviation of one measurement times the quantile of the test, as known when the
      rung began; NaN if unknown. `[]`.
  """

  path: GreedyPath
  replicates_here: jax.Array
  rung: jax.Array
  contenders: jax.Array
  replicates: jax.Array
  error: jax.Array
  gain_variance: jax.Array
  squares: jax.Array
  freedom: jax.Array
  noise: jax.Array


class Standing(NamedTuple):
  """Standing of a race after a round.

  Attributes:
    squares, freedom: As in `Race`, with the measurements at this set.
    leader: The element with the best mean density in this rung. `[]` int.
    lower: Lower bound of its density under rounding. `[]`.
    rivals: Other elements that could be the best. `[n]` bool.
  """

  squares: jax.Array
  freedom: jax.Array
  leader: jax.Array
  lower: jax.Array
  rivals: jax.Array


def start_race(problem: Problem, rng: jax.Array) -> Race:
  """A race that has measured nothing yet."""
  n = problem.n
  return Race(
    path=start_path(problem, rng),
    replicates_here=jnp.int32(0),
    rung=jnp.int32(0),
    contenders=jnp.zeros(n, bool),
    replicates=jnp.zeros(n, jnp.int32),
    error=jnp.full(n, jnp.nan),
    gain_variance=jnp.ones(n),
    squares=jnp.float32(0),
    freedom=jnp.float32(0),
    noise=jnp.float32(jnp.nan),
  )


def _next_elements(race: Race, options: Options) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Elements to measure `[B]`, which of them to ask `[B]`, and bounds of all gains `[n]`."""
  # A gain at an earlier set is a bound only up to its noise and the leader's. While the noise is
  # unknown, it is no bound.
  variance = race.gain_variance + 1 / options.replicates_per_rung[0]
  variance += 1 / jnp.maximum(race.replicates_here, 1)
  margin = jnp.nan_to_num(race.noise, nan=jnp.inf) * jnp.sqrt(variance)
  bounds = race.path.gain + margin
  elements, valid = next_elements(race.path._replace(gain=bounds), options)

  missing = race.contenders & (race.replicates < _of_rung(race, options))
  order = jnp.argsort(~missing, stable=True)[: elements.size]
  asked = within_batch(missing[order], jnp.bool_(False), options)
  is_first = race.rung == 0
  return jnp.where(is_first, elements, order), jnp.where(is_first, valid, asked), bounds


def ask_race(race: Race, options: Options) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Masks `[B, n]`, their validity `[B]`, and the replicates that each needs in total `[B]`."""
  elements, valid, _ = _next_elements(race, options)
  masks, valid = ask_elements(race.path, elements, valid)
  unstarted = race.path.steps < 0
  wanted = jnp.where(unstarted, _of_required(race, options), _of_rung(race, options))
  return masks, valid, jnp.broadcast_to(wanted, valid.shape)


def _of_rung(race: Race, options: Options) -> jax.Array:
  """Total replicates of a candidate in the current rung."""
  return jnp.array(options.replicates_per_rung)[race.rung]


def _of_required(race: Race, options: Options) -> jax.Array:
  """Total replicates of the required set: the first rung's, then the last's if noise is unknown."""
  first, *_, last = options.replicates_per_rung
  return jnp.where(race.replicates_here == 0, first, last)


def tell_race(
  race: Race, values: jax.Array, errors: jax.Array, options: Options
) -> tuple[Race, jax.Array, jax.Array]:
  """Records values and standard errors `[B]`.

  Returns:
    The race, whether it took a step, and whether that step was a tie, `[]` bool each.
  """
  return jax.lax.cond(
    race.path.steps >= 0,
    lambda: _measure(race, values, errors, options),
    lambda: _begin(race, values[0], errors[0], options),
  )


def _begin(
  race: Race, value: jax.Array, error: jax.Array, options: Options
) -> tuple[Race, jax.Array, jax.Array]:
  """Records the required set; its last replicates give the noise if no error was stated."""
  measured = race._replace(replicates_here=_of_required(race, options))
  squares, freedom = _variance(measured.replicates_here, error)
  begun = measured._replace(
    path=measure_required(race.path, value),
    squares=squares,
    freedom=freedom,
    noise=_noise(squares, freedom),
  )
  began = (race.replicates_here > 0) | jnp.isfinite(error) | (value == -jnp.inf)
  race = jax.tree.map(functools.partial(jnp.where, began), begun, measured)
  return race, began, jnp.bool_(False)


def _measure(
  race: Race, values: jax.Array, errors: jax.Array, options: Options
) -> tuple[Race, jax.Array, jax.Array]:
  """Records candidates; once the rung is complete, goes to the next or takes the step."""
  elements, valid, bounds = _next_elements(race, options)
  gains = gains_of(race.path, values)
  decision = decide(race.path, bounds, elements, valid, gains, options.lazy)
  first_rung, wanted = race.rung == 0, _of_rung(race, options)
  used = jnp.where(first_rung, decision.used, valid)
  target = jnp.where(used, elements, race.contenders.size)
  race = race._replace(
    path=record(race.path, elements, used, gains, values),
    replicates=race.replicates.at[target].set(wanted, mode="drop"),
    error=race.error.at[target].set(errors, mode="drop"),
    gain_variance=race.gain_variance.at[target].set(1 / wanted, mode="drop"),
  )
  missing = jnp.any(race.contenders & (race.replicates < wanted))
  complete = jnp.where(first_rung, decision.safe, ~missing)
  standing = _judge(race)
  rungs = len(options.replicates_per_rung)
  decided = (race.rung == rungs - 1) | ~standing.rivals.any()
  outcome = jnp.where(complete, 1 + decided, 0)
  next_rung = functools.partial(_next_rung, rungs=rungs)
  race, accepted = jax.lax.switch(outcome, (_stay, next_rung, _step), race, standing)
  return race, accepted, accepted & standing.rivals.any()


def _stay(race: Race, standing: Standing) -> tuple[Race, jax.Array]:
  """Waits until the rung is complete: only then is the noise updated."""
  del standing
  return race, jnp.bool_(False)


def _next_rung(race: Race, standing: Standing, rungs: int) -> tuple[Race, jax.Array]:
  """Promotes the leader and its rivals to the next rung."""
  promoted = standing.rivals.at[standing.leader].set(True)
  if rungs > 2:
    keys = jnp.where(promoted, density(race.path.gain, per_price(race.path.price)), -jnp.inf)
    best, elements = jax.lax.top_k(keys, min(_LAST_FEW, promoted.size))
    few = jnp.zeros_like(promoted).at[elements].set(best > -jnp.inf)
    promoted = jnp.where(race.rung == rungs - 2, few, promoted)
  noise = _noise(standing.squares, standing.freedom)
  race = race._replace(rung=race.rung + 1, contenders=promoted, noise=noise)
  return race, jnp.bool_(False)


def _step(race: Race, standing: Standing) -> tuple[Race, jax.Array]:
  """Adds the leader and starts the next step; ends the path if nothing could be measured."""
  path, leader = race.path, standing.leader
  accepted = (standing.lower > LOWEST) & path.candidates.any()
  # From here on the gains no longer share F(mask), so its variance enters each of them.
  shared = jnp.where(path.fresh, 1 / jnp.maximum(race.replicates_here, 1), 0.0)
  ended = path._replace(candidates=path.candidates & accepted)
  race = Race(
    path=add_element(ended, leader, path.after[leader], accepted),
    replicates_here=race.replicates[leader],
    rung=jnp.zeros_like(race.rung),
    contenders=jnp.zeros_like(race.contenders),
    replicates=jnp.zeros_like(race.replicates),
    error=jnp.full_like(race.error, jnp.nan),
    gain_variance=(race.gain_variance + shared)[path.representative],
    squares=standing.squares,
    freedom=standing.freedom,
    noise=_noise(standing.squares, standing.freedom),
  )
  return race, accepted


def _variance(count: jax.Array, error: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Variance of one measurement times degrees of freedom, and the latter; both 0 where unknown."""
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


def _judge(race: Race) -> Standing:
  """The leader of the rung, and its rivals."""
  path = race.path
  squares, freedom = _variance(race.replicates, race.error)
  squares, freedom = race.squares + squares.sum(), race.freedom + freedom.sum()
  noise = _noise(squares, freedom)
  in_race = jnp.where(race.rung == 0, path.fresh, race.contenders) & path.fresh
  leader, lower = best_of(densities(path.gain, per_price(path.price), path.scale), in_race)
  # Densities are compared by cross-multiplication, gain times the other's price, in units of the
  # larger price: a quotient by a tiny price would overflow.
  price = jnp.where(path.gain[leader] > 0, path.price, 1.0)
  price = jnp.maximum(price, SMALLEST_COST)
  larger = jnp.maximum(price, price[leader])
  own, other = price / larger, price[leader] / larger
  ahead = path.gain[leader] * own - path.gain * other
  # F(mask) is in both gains if the other is fresh, else in the leader's only.
  shared = jnp.where(path.fresh, own - other, own)
  variance = race.gain_variance[leader] * own**2 + race.gain_variance * other**2
  margin = noise * jnp.sqrt(variance + shared**2 / jnp.maximum(race.replicates_here, 1))
  possible = jnp.isnan(noise) | ((margin > 0) & (ahead < margin))
  measurable = path.candidates & (path.gain > LOWEST) & (jnp.arange(in_race.size) != leader)
  return Standing(squares, freedom, leader, lower, measurable & possible)

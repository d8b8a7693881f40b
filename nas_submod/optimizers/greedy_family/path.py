"""One greedy run: its state, and which elements to measure next; `greedy_step` decides."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.optimizers import ties
from nas_submod.problem import Additions, Problem

LOWEST = float(jnp.finfo(jnp.float32).min)  # what -inf is clipped to: measured, never chosen
SMALLEST_PRICE = 1e-20  # free elements come first, in order of their gain


class GreedyPath(NamedTuple):
  """One greedy run over `n` elements.

  Attributes:
    rng: Random key.
    steps: Elements added; -1 before the required set is measured. `[]` int.
    mask: The set. `[n]` bool.
    value: F(mask). `[]`.
    scale: Largest |F| on the path, and largest gain of the first step: what rounding goes by. `[]`.
    gain: Last measured F(S + e) - F(S), at this or an earlier set; +inf if never. `[n]`.
    after: F(mask + e) where `fresh`. `[n]`.
    fresh: Whether the gain was measured at this set. `[n]` bool.
    open: Whether the element may be added now, and is the first of its representatives. `[n]` bool.
    failed: Whether the set with the element could not be measured. `[n]` bool.
    representative: The element that gives the same network, see `Additions`. `[n]` int.
    price: What the element costs in the currency of the rule. `[n]`.
    best_mask: The best-valued set so far. `[n]` bool.
    best_value: Its value. `[]`.
  """

  rng: jax.Array
  steps: jax.Array
  mask: jax.Array
  value: jax.Array
  scale: jax.Array
  gain: jax.Array
  after: jax.Array
  fresh: jax.Array
  open: jax.Array
  failed: jax.Array
  representative: jax.Array
  price: jax.Array
  best_mask: jax.Array
  best_value: jax.Array


class Options(NamedTuple):
  """How a run goes.

  Attributes:
    lazy: Keep gains measured at earlier sets as bounds; otherwise all are measured anew.
    batch: Sets asked in a round, None for all.
    max_additions: Elements to add at most, None for no limit.
    sample: Elements looked at in a step, drawn at random; None for all.
    best_of_all: Whether the answer may be any set measured, not only one on the path.
    wide_start: Whether the first step asks all its elements in one round.
  """

  lazy: bool = False
  batch: int | None = 1
  max_additions: int | None = None
  sample: int | None = None
  best_of_all: bool = False
  wide_start: bool = False


def price_of(additions: Additions, rule: jax.Array) -> jax.Array:
  """What elements cost in the currency of a `rule [1 + m]`: an offset, and weights of resources."""
  # `additions.cost @ weights` would turn whole-number ties into float noise on some devices.
  return rule[0] + jnp.sum(additions.cost * rule[1:], axis=-1)


def per_price(price: jax.Array) -> jax.Array:
  """What a gain is multiplied with for its density: computed once where prices stay."""
  return 1 / jnp.maximum(price, SMALLEST_PRICE)


def density(gain: jax.Array, rate: jax.Array) -> jax.Array:
  """Gain per price where there is a gain; elements without one rank below, by their loss."""
  ratio = gain * rate
  return jnp.where(gain > 0, jnp.where(gain < jnp.inf, jnp.minimum(ratio, -LOWEST), gain), gain)


class Densities(NamedTuple):
  """Densities of elements as computed, and the `least` and `most` they are but for rounding."""

  computed: jax.Array
  least: jax.Array
  most: jax.Array


def densities(gain: jax.Array, rate: jax.Array, scale: jax.Array) -> Densities:
  """Densities of gains `[n]` at rates `per_price [n]`; `scale []` as in `GreedyPath`."""
  # Not the rounding of the sum, which may be beyond float32.
  room = ties.ROUNDING * scale + ties.ROUNDING * jnp.minimum(jnp.abs(gain), -LOWEST)
  gain = jnp.where(jnp.abs(gain) <= room, 0.0, gain)  # what rounding alone may make is no gain
  computed = density(gain, rate)
  room = jnp.where(gain > 0, jnp.minimum(room * rate, 0.5 * computed), room)
  room = jnp.where(gain == 0, 0.0, room)
  return Densities(computed, computed - room, computed + room)


def is_open(run: GreedyPath) -> jax.Array:
  """Whether the run goes on. `[...]` bool for runs `[...]`."""
  return (run.steps < 0) | run.open.any(axis=-1)


def start_run(problem: Problem, rng: jax.Array) -> GreedyPath:
  """A run that has measured nothing yet."""
  n = problem.n
  nothing = jnp.zeros(n, bool)
  return GreedyPath(
    rng=rng,
    steps=jnp.int32(-1),
    mask=problem.required,
    value=jnp.float32(-jnp.inf),
    scale=jnp.float32(0),
    gain=jnp.full(n, jnp.inf),
    after=jnp.full(n, -jnp.inf),
    fresh=nothing,
    open=nothing,
    failed=nothing,
    representative=jnp.arange(n),
    price=jnp.ones(n),
    best_mask=problem.required,
    best_value=jnp.float32(-jnp.inf),
  )


def open_run(
  problem: Problem, run: GreedyPath, rule: jax.Array, accepted: jax.Array, options: Options
) -> GreedyPath:
  """After a step: what may be added next, at what price.

  A sample of which nothing could be measured is drawn again among the others.
  """
  additions = problem.additions(run.mask)
  price = price_of(additions, rule)
  can_open = additions.fits & (additions.representative == jnp.arange(problem.n))
  if options.max_additions is not None:
    can_open &= run.steps < options.max_additions
  if options.sample is not None:
    rng, draw = jax.random.split(run.rng)
    can_open = random_subset(draw, can_open & ~run.failed, options.sample)
    accepted |= ~is_open(run)
    run = run._replace(rng=jnp.where(accepted, rng, run.rng))
  gain = run.gain if options.lazy else jnp.full_like(run.gain, jnp.inf)
  opened = run._replace(
    gain=gain,
    fresh=jnp.zeros_like(run.fresh),
    open=can_open,
    representative=additions.representative,
    price=price,
  )
  return jax.tree.map(functools.partial(jnp.where, accepted), opened, run)


def open_runs(
  problem: Problem, runs: GreedyPath, rules: jax.Array, accepted: jax.Array, options: Options
) -> GreedyPath:
  """`open_run` for `R` runs, if any of them took a step or needs another sample."""
  each = jax.vmap(functools.partial(open_run, options=options), (None, 0, 0, 0))
  changed = accepted if options.sample is None else accepted | ~is_open(runs)
  return jax.lax.cond(changed.any(), lambda: each(problem, runs, rules, accepted), lambda: runs)


def in_turns(rows: jax.Array) -> jax.Array:
  """`[R, B, ...]` of `R` runs as `[B * R, ...]`: a round cut short is fair to all of them."""
  return jnp.swapaxes(rows, 0, 1).reshape(-1, *rows.shape[2:])


def by_run(rows: jax.Array, runs: int) -> jax.Array:
  """The inverse of `in_turns`: `[B * R]` as `[R, B]`."""
  return rows.reshape(-1, runs).T


def rows(run: GreedyPath, options: Options) -> int:
  """Number of rows `B` of a round."""
  n = run.mask.shape[0]
  return n if options.batch is None or options.wide_start else min(options.batch, n)


def within_batch(valid: jax.Array, wide: jax.Array, options: Options) -> jax.Array:
  """The rows of `valid [B]` that are asked: all if `wide []`, else the first `batch`."""
  if options.batch is None or not options.wide_start:
    return valid
  return valid & (wide | (jnp.arange(valid.size) < options.batch))


def next_elements(run: GreedyPath, options: Options) -> tuple[jax.Array, jax.Array]:
  """Unmeasured elements, the highest known density first `[B]`, and which to ask `[B]`."""
  unmeasured = run.open & ~run.fresh
  elements, valid = highest(run.gain, per_price(run.price), unmeasured, rows(run, options))
  return elements, within_batch(valid, run.steps == 0, options)


def highest(
  gain: jax.Array, rate: jax.Array, candidates: jax.Array, batch: int
) -> tuple[jax.Array, jax.Array]:
  """The `candidates [n]` of the highest density `[B]`, and whether there are so many `[B]`."""
  key = jnp.where(candidates, density(gain, rate), -jnp.inf)
  # Without the barriers XLA's CPU compiler fuses the selection into a sort, ten times slower.
  keys, elements = map(jax.lax.optimization_barrier, jax.lax.top_k(key, batch))
  return elements, keys > -jnp.inf


def ask_run(run: GreedyPath, options: Options) -> tuple[jax.Array, jax.Array]:
  """Masks `[B, n]` and their validity `[B]`."""
  elements, valid = next_elements(run, options)
  masks = run.mask | jax.nn.one_hot(elements, run.mask.shape[0], dtype=bool)
  first = jnp.arange(masks.shape[0]) == 0
  unstarted = run.steps < 0
  masks = jnp.where(unstarted, run.mask, masks)
  return masks, jnp.where(unstarted, first, valid)


def begin(run: GreedyPath, value: jax.Array) -> GreedyPath:
  """The run at the required set, measured as `value []`."""
  return run._replace(
    steps=jnp.int32(0),
    value=value,
    scale=ties.size(value),
    best_value=value,
    best_mask=run.mask,
  )


def gains_of(run: GreedyPath, values: jax.Array) -> jax.Array:
  """What is gained by going on to sets of `values [B]`, finite. `[B]`.

  Where F(mask) itself could not be measured, the values stand for their gains.
  """
  gains = values - jnp.where(run.value == -jnp.inf, 0.0, run.value)
  return jnp.where(values == -jnp.inf, LOWEST, jnp.clip(gains, LOWEST, -LOWEST))


def adopt(run: GreedyPath, element: jax.Array, value: jax.Array, accepted: jax.Array) -> GreedyPath:
  """Adds the element, with which the set has `value []`, if `accepted []`."""
  mask = run.mask.at[element].set(run.mask[element] | accepted)
  value = jnp.where(accepted, value, run.value)
  improved = accepted & ties.beats(value, run.best_value)
  return run._replace(
    steps=run.steps + accepted,
    mask=mask,
    value=value,
    scale=jnp.maximum(run.scale, ties.size(value)),
    best_mask=jnp.where(improved, mask, run.best_mask),
    best_value=jnp.where(improved, value, run.best_value),
  )


def best_of_run(run: GreedyPath) -> tuple[jax.Array, jax.Array]:
  """The best set of the run, counting the elements measured for the step under way."""
  after = jnp.where(run.fresh & run.open, run.after, -jnp.inf)
  element = ties.first_largest(after)
  ahead = ties.beats(after[element], run.best_value)
  mask = jnp.where(ahead, run.mask.at[element].set(True), run.best_mask)
  return mask, jnp.where(ahead, after[element], run.best_value)


def random_subset(rng: jax.Array, candidates: jax.Array, size: Any) -> jax.Array:
  """About `size` random elements of `candidates [n]` (all, if there are fewer), `[n]` bool."""
  draw = jnp.where(candidates, jax.random.uniform(rng, candidates.shape), 2.0)
  return candidates & (jnp.argsort(jnp.argsort(draw)) < size)

"""The path of one greedy rule: its state, and the elements to measure next."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.optimizers import ties
from nas_submod.problem import SMALLEST_COST, Additions, Problem

# Gain of an element that could not be measured. It is finite: differences of -inf would be NaN.
LOWEST = float(jnp.finfo(jnp.float32).min)


class GreedyPath(NamedTuple):
  """State of one greedy path over `n` elements.

  Attributes:
    rng: Random key.
    steps: Elements added; -1 before the required set is measured. `[]` int.
    mask: The current set. `[n]` bool.
    value: F(mask). `[]`.
    scale: The largest of |F| on the path and the gains of the first step. Rounding is relative to
      it. `[]`.
    gain: Last measured F(S + e) - F(S), at this or an earlier set; +inf if never measured. `[n]`.
    after: F(mask + e) where `fresh`. `[n]`.
    fresh: Whether the gain was measured at this set. `[n]` bool.
    candidates: Elements that may be added now, one for each canonical set. `[n]` bool.
    failed: Whether the set with the element could not be measured. `[n]` bool.
    representative: The element that leads to the same canonical set, see `Additions`. `[n]` int.
    price: Price of the element by the rule. `[n]`.
    best_mask: The best set so far. `[n]` bool.
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
  candidates: jax.Array
  failed: jax.Array
  representative: jax.Array
  price: jax.Array
  best_mask: jax.Array
  best_value: jax.Array


class Options(NamedTuple):
  """Options of a greedy path.

  Attributes:
    lazy: Keep gains measured at earlier sets as bounds; otherwise measure all again.
    batch: Sets asked in a round, None for all.
    sample: Number of random candidates in a step, None for all.
    plus_max: Whether the answer may be any set measured, not only one on the path (Greedy+Max).
    wide_start: Whether the first step asks all its candidates in one round.
    replicates_per_rung: Replicates in total after each rung of a race.
  """

  lazy: bool = False
  batch: int | None = 1
  sample: int | None = None
  plus_max: bool = False
  wide_start: bool = False
  replicates_per_rung: tuple[int, ...] = (1,)


def price_of(additions: Additions, rule: jax.Array) -> jax.Array:
  """Prices of elements `[n]` by a `rule [1 + m]`: an offset, and weights of the resources."""
  # `additions.cost @ weights` would round equal whole-number prices apart on some devices.
  return rule[0] + jnp.sum(additions.cost * rule[1:], axis=-1)


def per_price(price: jax.Array) -> jax.Array:
  """The rate `1 / price`: a density is gain times rate. `[n]`."""
  return 1 / jnp.maximum(price, SMALLEST_COST)  # Free elements are in the order of their gain.


def density(gain: jax.Array, rate: jax.Array) -> jax.Array:
  """Gain per price where there is a gain; elements without one rank below, by their loss."""
  # A product that overflows is clipped: +inf would read as "never measured".
  ratio = jnp.minimum(gain * rate, -LOWEST)
  return jnp.where((gain > 0) & (gain < jnp.inf), ratio, gain)


class Densities(NamedTuple):
  """Densities of elements as computed, and their `lower` and `upper` bounds under rounding."""

  computed: jax.Array
  lower: jax.Array
  upper: jax.Array


def densities(gain: jax.Array, rate: jax.Array, scale: jax.Array) -> Densities:
  """Densities of gains `[n]` at rates `per_price [n]`, up to a common factor.

  `scale []` is as in `GreedyPath`. The factor is a power of two that brings it near 1: products of
  very large or small gains and rates would leave the range of float32.
  """
  # The terms are scaled one by one, because the sum of both may overflow float32.
  room = ties.ROUNDING * scale + ties.ROUNDING * jnp.minimum(jnp.abs(gain), -LOWEST)
  gain = jnp.where(jnp.abs(gain) <= room, 0.0, gain)  # a gain within rounding is no gain
  unit = jnp.ldexp(jnp.float32(1), -jnp.frexp(scale)[1].clip(-100, 100))
  lost = gain <= LOWEST
  known = (gain < jnp.inf) & ~lost  # An unknown gain stays infinite, a wrong one NaN.
  gain = jnp.where(known, jnp.clip(gain * unit, LOWEST, -LOWEST), gain)
  room = jnp.where(lost, 0.0, jnp.minimum(room * unit, -LOWEST))
  computed = density(gain, rate)
  # Half of the density at most, so that `lower` stays positive where `room * rate` overflows.
  room = jnp.where(gain > 0, jnp.minimum(room * rate, 0.5 * computed), room)
  room = jnp.where(gain == 0, 0.0, room)
  return Densities(computed, computed - room, computed + room)


def is_open(path: GreedyPath) -> jax.Array:
  """Whether the path goes on. `[...]` bool for paths `[...]`."""
  return (path.steps < 0) | path.candidates.any(axis=-1)


def start_path(problem: Problem, rng: jax.Array) -> GreedyPath:
  """A path that has measured nothing yet."""
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
    candidates=nothing,
    failed=nothing,
    representative=jnp.arange(n),
    price=jnp.ones(n),
    best_mask=problem.required,
    best_value=jnp.float32(-jnp.inf),
  )


def measure_required(path: GreedyPath, value: jax.Array) -> GreedyPath:
  """The path at the required set, measured as `value []`."""
  return path._replace(
    steps=jnp.int32(0),
    value=value,
    scale=ties.size(value),
    best_value=value,
    best_mask=path.mask,
  )


def open_step(
  problem: Problem, path: GreedyPath, rule: jax.Array, accepted: jax.Array, options: Options
) -> GreedyPath:
  """Finds the candidates of the next step and their prices, if the last step was `accepted []`.

  A sample in which nothing could be measured is drawn again among the other candidates.
  """
  additions = problem.additions(path.mask)
  price = price_of(additions, rule)
  candidates = additions.fits & (additions.representative == jnp.arange(problem.n))
  if options.sample is not None:
    rng, draw = jax.random.split(path.rng)
    candidates = _random_subset(draw, candidates & ~path.failed, options.sample)
    accepted |= ~is_open(path)
    path = path._replace(rng=jnp.where(accepted, rng, path.rng))
  gain = path.gain if options.lazy else jnp.full_like(path.gain, jnp.inf)
  opened = path._replace(
    gain=gain,
    fresh=jnp.zeros_like(path.fresh),
    candidates=candidates,
    representative=additions.representative,
    price=price,
  )
  return jax.tree.map(functools.partial(jnp.where, accepted), opened, path)


def open_steps(
  problem: Problem, paths: GreedyPath, rules: jax.Array, accepted: jax.Array, options: Options
) -> GreedyPath:
  """`open_step` for `R` paths, if any of them took a step or needs another sample."""
  each = jax.vmap(functools.partial(open_step, options=options), (None, 0, 0, 0))
  changed = accepted if options.sample is None else accepted | ~is_open(paths)
  return jax.lax.cond(changed.any(), lambda: each(problem, paths, rules, accepted), lambda: paths)


def in_turns(rows: jax.Array) -> jax.Array:
  """Interleaves `[R, B, ...]` of `R` paths to `[B * R, ...]`, so a cut round is fair to all."""
  return jnp.swapaxes(rows, 0, 1).reshape(-1, *rows.shape[2:])


def by_path(rows: jax.Array, paths: int) -> jax.Array:
  """The inverse of `in_turns`: `[B * R]` as `[R, B]`."""
  return rows.reshape(-1, paths).T


def next_elements(path: GreedyPath, options: Options) -> tuple[jax.Array, jax.Array]:
  """Unmeasured elements, highest known density first `[B]`, and which of them to ask `[B]`."""
  n = path.mask.shape[0]
  count = n if options.batch is None or options.wide_start else min(options.batch, n)
  unmeasured = path.candidates & ~path.fresh
  elements, valid = most_promising(path.gain, per_price(path.price), unmeasured, count)
  return elements, within_batch(valid, path.steps == 0, options)


def within_batch(valid: jax.Array, first_step: jax.Array, options: Options) -> jax.Array:
  """The rows of `valid [B]` that a round may ask: all in a wide first step, else `batch`."""
  if options.batch is None or not options.wide_start:
    return valid
  return valid & (first_step | (jnp.arange(valid.size) < options.batch))


def most_promising(
  gain: jax.Array, rate: jax.Array, candidates: jax.Array, count: int
) -> tuple[jax.Array, jax.Array]:
  """The `candidates [n]` of the highest density `[B]`, and whether each exists `[B]`."""
  key = jnp.where(candidates, density(gain, rate), -jnp.inf)
  # Without the barriers XLA's CPU compiler fuses the selection into a sort, ten times slower.
  keys, elements = map(jax.lax.optimization_barrier, jax.lax.top_k(key, count))
  return elements, keys > -jnp.inf


def ask_elements(
  path: GreedyPath, elements: jax.Array, valid: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Masks with each of `elements [B]` added, and their validity; at first the required set."""
  masks = path.mask | jax.nn.one_hot(elements, path.mask.shape[0], dtype=bool)
  first = jnp.arange(masks.shape[0]) == 0
  unstarted = path.steps < 0
  return jnp.where(unstarted, path.mask, masks), jnp.where(unstarted, first, valid)


def ask_path(path: GreedyPath, options: Options) -> tuple[jax.Array, jax.Array]:
  """Masks to measure next `[B, n]`, and their validity `[B]`."""
  return ask_elements(path, *next_elements(path, options))


def gains_of(path: GreedyPath, values: jax.Array) -> jax.Array:
  """Finite gains of sets of `values [B]` over the current set. `[B]`.

  If F(mask) could not be measured, the values serve as gains.
  """
  gains = values - jnp.where(path.value == -jnp.inf, 0.0, path.value)
  return jnp.where(values == -jnp.inf, LOWEST, jnp.clip(gains, LOWEST, -LOWEST))


def add_element(
  path: GreedyPath, element: jax.Array, value: jax.Array, accepted: jax.Array
) -> GreedyPath:
  """Adds the element if `accepted []`; the set with it has `value []`."""
  mask = path.mask.at[element].set(path.mask[element] | accepted)
  value = jnp.where(accepted, value, path.value)
  improved = accepted & ties.beats(value, path.best_value)
  return path._replace(
    steps=path.steps + accepted,
    mask=mask,
    value=value,
    scale=jnp.maximum(path.scale, ties.size(value)),
    best_mask=jnp.where(improved, mask, path.best_mask),
    best_value=jnp.where(improved, value, path.best_value),
  )


def best_of_path(path: GreedyPath) -> tuple[jax.Array, jax.Array]:
  """The best set `[n]` and its value, including sets measured for the current step."""
  after = jnp.where(path.fresh & path.candidates, path.after, -jnp.inf)
  element = ties.first_largest(after)
  ahead = ties.beats(after[element], path.best_value)
  mask = jnp.where(ahead, path.mask.at[element].set(True), path.best_mask)
  return mask, jnp.where(ahead, after[element], path.best_value)


def _random_subset(rng: jax.Array, candidates: jax.Array, size: Any) -> jax.Array:
  """`size` random elements of `candidates [n]`, or all if there are fewer. `[n]` bool."""
  draw = jnp.where(candidates, jax.random.uniform(rng, candidates.shape), 2.0)
  return candidates & (jnp.argsort(jnp.argsort(draw)) < size)  # argsort twice: the rank

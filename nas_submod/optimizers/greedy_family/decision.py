"""A step of a greedy run: when measured elements allow a decision, and what it is."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.optimizers import ties
from nas_submod.optimizers.greedy_family import path
from nas_submod.optimizers.greedy_family.path import LOWEST, Densities, GreedyPath, Options


def tell_run(run: GreedyPath, values: jax.Array, options: Options) -> tuple[GreedyPath, jax.Array]:
  """Takes in values `[B]`, and adds the best element once no unmeasured one could beat it."""
  begun = path.begin(run, values[0])
  elements, valid = path.next_elements(run, options)
  gains = path.gains_of(run, values)
  measured, accepted = settle(run, elements, valid, gains, values, options)
  started = run.steps >= 0
  run = jax.tree.map(functools.partial(jnp.where, started), measured, begun)
  return run, accepted | ~started


def settle(
  run: GreedyPath,
  elements: jax.Array,
  valid: jax.Array,
  gains: jax.Array,
  values: jax.Array,
  options: Options,
) -> tuple[GreedyPath, jax.Array]:
  """Looks at measured elements, and adds the best one if that is decided.

  Arguments are those of `decide`, and F with each of the elements, `values [B]`. Returns the run,
  and whether it added an element, `[]` bool. What was measured beyond the decision leaves no trace
  in the run.
  """
  decision = decide(run, run.gain, elements, valid, gains, options.lazy)
  run = record(run, elements, decision.used, gains, values)
  accepted = decision.safe & (decision.least > LOWEST) & run.open.any()
  run = run._replace(
    open=run.open & (accepted | ~decision.safe),
    failed=~accepted & (run.failed | (run.fresh & (run.gain <= LOWEST))),
  )
  if options.best_of_all:
    mask, value = path.best_of_run(run)
    run = run._replace(
      best_mask=jnp.where(accepted, mask, run.best_mask),
      best_value=jnp.where(accepted, value, run.best_value),
    )
  return path.adopt(run, decision.element, run.after[decision.element], accepted), accepted


class Decision(NamedTuple):
  """What measured elements allow to decide.

  The measurements `used [B]` bool, whether it is `safe []` that no other element is better, the
  best `element []` int, and the `least []` that the highest density is.
  """

  used: jax.Array
  safe: jax.Array
  element: jax.Array
  least: jax.Array


def decide(
  run: GreedyPath,
  bounds: jax.Array,
  elements: jax.Array,
  valid: jax.Array,
  gains: jax.Array,
  one_by_one: bool,
) -> Decision:
  """The first decision that the measured elements allow.

  Of those whose density could be the highest but for rounding, the lowest element is the best.

  Args:
    run: The run.
    bounds: What each element gains at most, if it is not measured yet. `[n]`.
    elements: Elements measured. `[B]` int.
    valid: Which of them exist. `[B]` bool.
    gains: Their gains. `[B]`.
    one_by_one: Whether the first of the elements may decide without the others.

  Returns:
    The decision.
  """
  places, size = jnp.arange(elements.size), run.mask.size
  target = jnp.where(valid, elements, size)
  place = jnp.full(size, elements.size).at[target].set(places, mode="drop")
  gain = run.gain.at[target].set(gains, mode="drop")
  rate, scale = path.per_price(run.price), _scale(run, valid, gains)
  if one_by_one:
    known = path.densities(gain, rate, scale)
    bound = path.densities(bounds, rate, scale)
  else:  # no element is measured but not looked at
    asked = place < elements.size
    known = bound = path.densities(jnp.where(run.fresh | asked, gain, bounds), rate, scale)

  def look(count: jax.Array) -> tuple[jax.Array, Decision]:
    """What is decided once `count []` of the elements are looked at."""
    seen = run.fresh | (place < count)
    element, least = best_of(known, seen)
    safe = is_safe(element, least, known, bound, run.open & ~seen)
    return count, Decision(valid & (places < count), safe, element, least)

  total = valid.sum()
  if not one_by_one:
    return look(total)[1]
  # Before an element without a bound is looked at nothing is decided.
  first = jnp.clip(jnp.sum(valid & (bounds[elements] == jnp.inf)), 1)
  return jax.lax.while_loop(
    lambda carry: ~carry[1].safe & (carry[0] < total), lambda carry: look(carry[0] + 1), look(first)
  )[1]


def best_of(known: Densities, seen: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The lowest element of `seen [n]` that could be the highest, and the least the highest is.

  NaN is the least if a gain that is seen is NaN.
  """
  least = jnp.max(jnp.where(seen, known.least, -jnp.inf))
  return ties.first_true(seen & (known.most >= least)), least


def is_safe(
  element: jax.Array, least: jax.Array, known: Densities, bound: Densities, unseen: jax.Array
) -> jax.Array:
  """Whether none of `unseen [n]`, which has `bound` at most, is better than `best_of` found."""
  # A lower element wins if it could be the highest, another one only if it must be.
  lower = jnp.arange(unseen.size) < element
  ahead = jnp.where(lower, bound.most >= least, bound.computed > known.most[element])
  return ~jnp.any(unseen & ahead)


def record(
  run: GreedyPath, elements: jax.Array, used: jax.Array, gains: jax.Array, values: jax.Array
) -> GreedyPath:
  """Notes gains and values of the elements that are used, all `[B]`."""
  target = jnp.where(used, elements, run.mask.shape[0])
  gain = run.gain.at[target].set(gains, mode="drop")
  return run._replace(
    gain=gain[run.representative],
    scale=_scale(run, used, gains),
    after=run.after.at[target].set(values, mode="drop"),
    fresh=run.fresh.at[target].set(True, mode="drop"),
  )


def _scale(run: GreedyPath, used: jax.Array, gains: jax.Array) -> jax.Array:
  """The scale of the run with gains `[B]` of which some are `used [B]`. `[]`."""
  largest = jnp.max(jnp.where(used, gains, 0.0), initial=0.0)
  return jnp.where(run.steps == 0, jnp.maximum(run.scale, largest), run.scale)

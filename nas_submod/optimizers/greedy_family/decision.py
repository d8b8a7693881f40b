"""A step of a greedy path: when the measured elements allow a decision, and which one."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.optimizers import ties
from nas_submod.optimizers.greedy_family.path import (
  LOWEST,
  Densities,
  GreedyPath,
  Options,
  add_element,
  best_of_path,
  densities,
  gains_of,
  measure_required,
  next_elements,
  per_price,
)


def tell_path(
  path: GreedyPath, values: jax.Array, options: Options
) -> tuple[GreedyPath, jax.Array]:
  """Records the values `[B]` of a round; returns the path and whether it took a step, `[]`."""
  begun = measure_required(path, values[0])
  elements, valid = next_elements(path, options)
  gains = gains_of(path, values)
  measured, accepted = settle(path, elements, valid, gains, values, options)
  started = path.steps >= 0
  path = jax.tree.map(functools.partial(jnp.where, started), measured, begun)
  return path, accepted | ~started


def settle(
  path: GreedyPath,
  elements: jax.Array,
  valid: jax.Array,
  gains: jax.Array,
  values: jax.Array,
  options: Options,
) -> tuple[GreedyPath, jax.Array]:
  """Records measured gains and adds the best element once no unmeasured one could beat it.

  Measurements that the decision does not need leave no trace in the path. All arrays are `[B]`: the
  elements, whether they are valid, their gains, and F with each. Returns the path, and whether an
  element was added, `[]` bool.
  """
  decision = decide(path, path.gain, elements, valid, gains, options.lazy)
  path = record(path, elements, decision.used, gains, values)
  accepted = decision.safe & (decision.lower > LOWEST) & path.candidates.any()
  path = path._replace(
    candidates=path.candidates & (accepted | ~decision.safe),
    failed=~accepted & (path.failed | (path.fresh & (path.gain <= LOWEST))),
  )
  if options.plus_max:
    mask, value = best_of_path(path)
    path = path._replace(
      best_mask=jnp.where(accepted, mask, path.best_mask),
      best_value=jnp.where(accepted, value, path.best_value),
    )
  return add_element(path, decision.element, path.after[decision.element], accepted), accepted


class Decision(NamedTuple):
  """The decision from the measured elements; final if `safe`.

  Attributes:
    used: The measurements that it needs. `[B]` bool.
    safe: Whether no other element is better. `[]` bool.
    element: The best element. `[]` int.
    lower: Lower bound of the highest density under rounding. `[]`.
  """

  used: jax.Array
  safe: jax.Array
  element: jax.Array
  lower: jax.Array


def decide(
  path: GreedyPath,
  bounds: jax.Array,
  elements: jax.Array,
  valid: jax.Array,
  gains: jax.Array,
  one_by_one: bool,
) -> Decision:
  """The first decision that the `valid` measured elements `[B]` allow.

  The best element is the lowest of those whose density ties with the highest under rounding. With
  `one_by_one` the first elements may decide without the others. `bounds [n]` are upper bounds on
  gains not measured yet.
  """
  places, size = jnp.arange(elements.size), path.mask.size
  target = jnp.where(valid, elements, size)  # invalid rows are written nowhere
  place = jnp.full(size, elements.size).at[target].set(places, mode="drop")
  gain = path.gain.at[target].set(gains, mode="drop")
  rate, scale = per_price(path.price), _scale(path, valid, gains)
  if one_by_one:
    known = densities(gain, rate, scale)
    bound = densities(bounds, rate, scale)
  else:  # every measured element is used, so one pass serves as both
    asked = place < elements.size
    known = bound = densities(jnp.where(path.fresh | asked, gain, bounds), rate, scale)

  def look(count: jax.Array) -> tuple[jax.Array, Decision]:
    """The decision from the first `count []` of the elements."""
    seen = path.fresh | (place < count)
    element, lower = best_of(known, seen)
    safe = is_safe(element, lower, known, bound, path.candidates & ~seen)
    return count, Decision(valid & (places < count), safe, element, lower)

  total = valid.sum()
  if not one_by_one:
    return look(total)[1]
  # An element without a bound could be the best, so all such are needed at once.
  first = jnp.clip(jnp.sum(valid & (bounds[elements] == jnp.inf)), 1)
  return jax.lax.while_loop(
    lambda carry: ~carry[1].safe & (carry[0] < total), lambda carry: look(carry[0] + 1), look(first)
  )[1]


def best_of(known: Densities, seen: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The lowest element of `seen [n]` that could be the highest, and the highest `lower` bound.

  The bound is NaN if the gain of a seen element is NaN.
  """
  lower = jnp.max(jnp.where(seen, known.lower, -jnp.inf))
  return ties.first_true(seen & (known.upper >= lower)), lower


def is_safe(
  element: jax.Array, lower: jax.Array, known: Densities, bound: Densities, unseen: jax.Array
) -> jax.Array:
  """Whether none of `unseen [n]`, at its `bound`, would beat what `best_of` found. `[]` bool."""
  # Ties go to the first element, so an earlier one wins if it could be the highest.
  earlier = jnp.arange(unseen.size) < element
  ahead = jnp.where(earlier, bound.upper >= lower, bound.computed > known.upper[element])
  return ~jnp.any(unseen & ahead)


def record(
  path: GreedyPath, elements: jax.Array, used: jax.Array, gains: jax.Array, values: jax.Array
) -> GreedyPath:
  """Records gains and values of the `used` elements, all `[B]`."""
  target = jnp.where(used, elements, path.mask.shape[0])
  gain = path.gain.at[target].set(gains, mode="drop")
  return path._replace(
    gain=gain[path.representative],
    scale=_scale(path, used, gains),
    after=path.after.at[target].set(values, mode="drop"),
    fresh=path.fresh.at[target].set(True, mode="drop"),
  )


def _scale(path: GreedyPath, used: jax.Array, gains: jax.Array) -> jax.Array:
  """Scale of the path with the `used [B]` gains. `[]`."""
  largest = jnp.max(jnp.where(used, gains, 0.0), initial=0.0)
  return jnp.where(path.steps == 0, jnp.maximum(path.scale, largest), path.scale)

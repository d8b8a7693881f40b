"""A step of a greedy run: when measured elements allow a decision, and what it is."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.optimizers import greedy_run, rounding
from nas_submod.optimizers.greedy_run import LOWEST, Options, Run


def tell_run(run: Run, values: jax.Array, options: Options) -> tuple[Run, jax.Array]:
  """Takes in values `[B]`, and adds the best element once no unmeasured one could beat it."""
  begun = greedy_run.begin(run, values[0])
  elements, valid = greedy_run.next_elements(run, greedy_run.batch_size(run, options))
  gains = greedy_run.gains_of(run, values)
  measured, accepted = settle(run, elements, valid, gains, values, one_by_one=options.lazy)
  if options.best_of_all:
    measured = greedy_run.remember_best(measured, elements, valid, values, run.mask)
  started = run.steps >= 0
  run = jax.tree.map(functools.partial(jnp.where, started), measured, begun)
  return run, accepted | ~started


def settle(
  run: Run,
  elements: jax.Array,
  valid: jax.Array,
  gains: jax.Array,
  values: jax.Array,
  one_by_one: bool = False,
) -> tuple[Run, jax.Array]:
  """Looks at measured elements, and adds the best one if that is decided.

  Arguments are those of `decide`, and F with each of the elements, `values [B]`. Returns the run,
  and whether it added an element, `[]` bool. What was measured beyond the decision leaves no trace
  in the run.
  """
  decision = decide(run, run.gain, elements, valid, gains, one_by_one)
  run = record(run, elements, decision.used, gains, values)
  accepted = decision.safe & (decision.least > LOWEST) & run.open.any()
  run = run._replace(
    open=run.open & (accepted | ~decision.safe),
    failed=~accepted & (run.failed | (run.fresh & (run.gain <= LOWEST))),
  )
  return greedy_run.adopt(run, decision.element, run.after[decision.element], accepted), accepted


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
  run: Run,
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
    one_by_one: Whether a decision may need only the first of the elements, or all of them.

  Returns:
    The decision.
  """
  places, size = jnp.arange(elements.size), run.mask.size
  target = jnp.where(valid, elements, size)
  place = jnp.full(size, elements.size).at[target].set(places, mode="drop")
  gain = run.gain.at[target].set(gains, mode="drop")
  value = greedy_run.base_of(run)
  rate = greedy_run.per_price(run.price)
  known = greedy_run.densities(gain, rate, value)
  bound = greedy_run.densities(bounds, rate, value)

  def after(count: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Whether it is decided once `count []` of the elements are looked at, for which, and how."""
    seen = run.fresh | (place < count)
    least = jnp.max(jnp.where(seen, known.least, -jnp.inf))
    element = rounding.first_true(seen & (known.most >= least))
    # A lower element wins if it could be the highest, another one only if it must be.
    ahead = jnp.where(
      jnp.arange(size) < element, bound.most >= least, bound.computed > known.most[element]
    )
    return ~jnp.any(run.open & ~seen & ahead), element, least

  counts = 1 + places if one_by_one else jnp.array([elements.size])
  safe, element, least = jax.vmap(after)(counts)
  first = jnp.argmax(safe)
  used = valid & (~safe.any() | (places < counts[first]))
  return Decision(used, safe.any(), element[first], least[first])


def record(
  run: Run, elements: jax.Array, used: jax.Array, gains: jax.Array, values: jax.Array
) -> Run:
  """Notes gains and values of the elements that are used, all `[B]`."""
  target = jnp.where(used, elements, run.mask.shape[0])
  gain = run.gain.at[target].set(gains, mode="drop")
  return run._replace(
    gain=gain[run.twin],
    after=run.after.at[target].set(values, mode="drop"),
    fresh=run.fresh.at[target].set(True, mode="drop"),
  )

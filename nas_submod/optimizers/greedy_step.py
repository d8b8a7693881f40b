"""A step of a greedy run: when measured elements allow a decision, and what it is."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.optimizers import greedy_run
from nas_submod.optimizers.greedy_run import LOWEST, Options, Run


def tell_run(run: Run, values: jax.Array, options: Options) -> tuple[Run, jax.Array]:
  """Takes in values `[B]`, and adds the best element once no unmeasured one could beat it."""
  begun = greedy_run.begin(run, values[0])
  elements, keys, valid = greedy_run.next_elements(run, greedy_run.batch_size(run, options))
  measured, accepted = settle(run, elements, keys, valid, greedy_run.gains_of(run, values), values)
  if options.best_of_all:
    measured = greedy_run.remember_best(measured, elements[:-1], valid[:-1], values, run.mask)
  started = run.steps >= 0
  run = jax.tree.map(functools.partial(jnp.where, started), measured, begun)
  return run, accepted | ~started


def settle(run: Run, elements: jax.Array, *measured: jax.Array) -> tuple[Run, jax.Array]:
  """Looks at measured elements in their order, and stops at the first decision they allow.

  Arguments are those of `decide`. Returns the run, and whether it added an element, `[]` bool. What
  was measured beyond the decision leaves no trace in the run.
  """
  _, _, gains, values = measured
  decision = decide(run, elements, *measured)
  run = record(run, elements[:-1], decision.used, gains, values)
  accepted = decision.safe & (decision.key > LOWEST) & run.open.any()
  run = run._replace(
    open=run.open & (accepted | ~decision.safe),
    failed=~accepted & (run.failed | (run.fresh & (run.gain <= LOWEST))),
  )
  return greedy_run.adopt(run, decision.element, decision.after, accepted), accepted


class Decision(NamedTuple):
  """What measured elements allow to decide.

  The measurements `used [B]` bool, whether it is `safe []` that no other element is better, the
  best `element []` int, its density `key []`, and F of the set with it, `after []`.
  """

  used: jax.Array
  safe: jax.Array
  element: jax.Array
  key: jax.Array
  after: jax.Array


def decide(
  run: Run,
  elements: jax.Array,
  keys: jax.Array,
  valid: jax.Array,
  gains: jax.Array,
  values: jax.Array,
) -> Decision:
  """The first decision that the measured elements allow.

  Args:
    run: The run.
    elements: Elements measured, highest known density first, and the next one. `[B + 1]` int.
    keys: Densities known before. `[B + 1]`.
    valid: Which of them exist. `[B + 1]` bool.
    gains: Their gains. `[B]`.
    values: F of the set with each of them. `[B]`.
  """
  fresh_key = jnp.where(run.fresh, greedy_run.density(run.gain, run.price), -jnp.inf)
  held = greedy_run.first_largest(fresh_key)
  asked = elements[:-1]
  asked_key = jnp.where(valid[:-1], greedy_run.density(gains, run.price[asked]), -jnp.inf)
  contenders = (
    jnp.append(fresh_key[held], asked_key),
    jnp.append(held, asked),
    jnp.append(run.after[held], values),
  )
  best = jax.lax.associative_scan(_better, contenders)
  best_key, best_element, best_after = (running[1:] for running in best)
  next_wins = (keys[1:] > best_key) | ((keys[1:] == best_key) & (elements[1:] < best_element))
  safe = ~valid[1:] | ~next_wins
  first = jnp.argmax(safe)
  used = valid[:-1] & (~safe.any() | (jnp.arange(asked.size) <= first))
  return Decision(used, safe.any(), best_element[first], best_key[first], best_after[first])


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


def _better(a: Any, b: Any) -> Any:
  """The contender of the higher density, the lower element if equal."""
  wins = (b[0] > a[0]) | ((b[0] == a[0]) & (b[1] < a[1]))
  return tuple(jnp.where(wins, y, x) for x, y in zip(a, b))

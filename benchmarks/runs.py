"""Runs of an optimizer on a case: all seeds in one compiled program."""

import functools
import io
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from nas_submod import files
from nas_submod.optimizers import Optimizer
from nas_submod.optimizers.drivers import checks
from nas_submod.precision import full_precision
from nas_submod.problem import Problem

SEED = 2019


class Case(NamedTuple):
  """A problem and its F, as a pytree: cases of equal shapes and functions share a program.

  Attributes:
    problem: The problem.
    mean: `mask [n] -> []`, the exact F.
    draw: `(mask [n], rng) -> []`, one noisy measurement of F.
    judge: `mask [n] -> []`, the score for regrets; it differs from `mean` only for proxies.
  """

  problem: Problem
  mean: Partial
  draw: Partial
  judge: Partial


class Instance(NamedTuple):
  """A case with its name and the largest `judge` score of a feasible set."""

  name: str
  case: Case
  optimum: float


class Suite(NamedTuple):
  """Instances of equal shapes; their regrets are averaged.

  Attributes:
    title: Name of the suite.
    instances: The instances.
    noisy: Whether measurements vary.
    note: A line printed below the table.
  """

  title: str
  instances: list[Instance]
  noisy: bool
  note: str = ""


class _Store(NamedTuple):
  """The measured sets: canonical masks `[K, n]`, measurements of each `[K]`, sets, measurements."""

  keys: jax.Array
  counts: jax.Array
  sets: jax.Array
  total: jax.Array


class Curves(NamedTuple):
  """Scores of the answers after t measurements `[S, limit + 1]`, and measurements made `[S]`."""

  scores: np.ndarray
  measurements: np.ndarray


def read_or_make(path: pathlib.Path | None, make: Callable[[], Curves]) -> Curves:
  """The curves of a file; makes and writes them if there is none. None keeps nothing."""
  if path is None:
    return make()
  if not path.exists():
    buffer = io.BytesIO()
    np.savez(buffer, **make()._asdict())
    files.write_bytes(path, buffer.getvalue())
  with np.load(path) as curves:
    return Curves(**curves)


def curves_of(
  optimizer: Optimizer, limit: int, instance: Instance, seeds: int, kind: str
) -> Curves:
  """Runs an optimizer once for each seed, with F "exact" or "noisy".

  Raises:
    ValueError: If it exceeds a budget.
  """
  rngs = jax.random.split(jax.random.key(SEED), seeds)
  found = run_seeds(optimizer, limit, instance.case, rngs, jnp.bool_(kind == "exact"))
  scores, measurements, feasible = jax.device_get(found)
  if not feasible.all():
    raise ValueError(f"a set asked for or answered is not feasible ({kind}, {instance.name})")
  return Curves(scores, measurements)


@functools.partial(jax.jit, static_argnums=(0, 1))
@full_precision()
def run_seeds(
  optimizer: Optimizer, limit: int, case: Case, rngs: jax.Array, exact: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Runs the optimizer once for each seed.

  Measurements follow the host driver. Sets of equal canonical form are measured once, and a
  repeated question costs nothing. With `replicates` the value is the mean of the first measurements
  of the set, and missing ones are made. The i-th measurement of a set depends on the seed, on the
  order in which sets were first asked, and on i. Optimizers do not learn whether F is exact: one
  measurement has no known error. A round that ends after t measurements does not count for the
  answer after t.

  Args:
    optimizer: The optimizer.
    limit: Largest number of measurements.
    case: The case.
    rngs: Random keys. `[S]`.
    exact: Whether F is measured without noise. `[]` bool.

  Returns:
    The arrays of `Curves`, and whether all asked sets and answers were feasible `[S]` bool.
  """
  return jax.vmap(lambda rng: _run(optimizer, limit, case, rng, exact))(rngs)


def _run(optimizer: Optimizer, limit: int, case: Case, rng: jax.Array, exact: jax.Array) -> Any:
  problem, fits = case.problem, functools.partial(checks.is_feasible, case.problem)
  init_rng, noise_rng = jax.random.split(rng)
  state = optimizer.init(problem, init_rng)
  rows = jax.eval_shape(optimizer.ask, state)[1].shape[0]
  room = limit + rows

  def unfinished(carry: Any) -> jax.Array:
    state, store, *_ = carry
    return ~optimizer.done(state) & (store.total < limit)

  def play_round(carry: Any) -> Any:
    state, store, scores, feasible = carry
    masks, valid = optimizer.ask(state)
    feasible &= jnp.all(jax.vmap(fits)(masks) | ~valid)
    wanted = jnp.ones(rows, jnp.int32)
    if optimizer.replicates is not None:
      wanted = optimizer.replicates(state)
    wanted = jnp.where(valid, wanted, 0)
    store, (values, errors) = jax.lax.scan(answer, store, (masks, wanted))
    errors_told = () if optimizer.replicates is None else (errors,)
    state, _ = optimizer.tell(state, values, *errors_told)
    mask = optimizer.best(state)[0]
    score, since = case.judge(mask), jnp.arange(limit + 1) >= store.total
    return state, store, jnp.where(since, score, scores), feasible & fits(mask)

  def answer(store: _Store, question: Any) -> Any:
    mask, wanted = question
    key = problem.canonical_form(mask)
    known = (store.keys == key).all(axis=1) & (jnp.arange(room) < store.sets)
    held = known.any()
    slot = jnp.where(wanted > 0, jnp.where(held, jnp.argmax(known), store.sets), room)
    new = jnp.maximum(wanted - jnp.where(held, store.counts[slot], 0), 0)
    store = _Store(
      keys=store.keys.at[slot].set(key, mode="drop"),
      counts=store.counts.at[slot].add(new, mode="drop"),
      sets=store.sets + (~held & (wanted > 0)),
      total=store.total + new,
    )
    return store, measure(mask, jax.random.fold_in(noise_rng, slot), wanted)

  def measure(mask: jax.Array, rng: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Computes the mean and standard error of the first `count` measurements."""

    def add(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
      mean, squares = carry
      noisy = case.draw(mask, jax.random.fold_in(rng, i))
      gap = jnp.where(exact, case.mean(mask), noisy) - mean
      mean += gap / (i + 1)
      return mean, squares + gap * gap * i / (i + 1)

    mean, squares = jax.lax.fori_loop(0, count, add, (jnp.float32(0), jnp.float32(0)))
    error = jnp.sqrt(squares / jnp.maximum(count - 1, 1) / jnp.maximum(count, 1))
    error = jnp.where(count > 1, error, jnp.nan)
    return jnp.where(count > 0, mean, -jnp.inf), error

  store = _Store(
    keys=jnp.zeros((room, problem.n), bool),
    counts=jnp.zeros(room, jnp.int32),
    sets=jnp.int32(0),
    total=jnp.int32(0),
  )
  scores = jnp.full(limit + 1, case.judge(optimizer.best(state)[0]))
  carry = (state, store, scores, fits(optimizer.best(state)[0]))
  _, store, scores, feasible = jax.lax.while_loop(unfinished, play_round, carry)
  return scores, store.total, feasible

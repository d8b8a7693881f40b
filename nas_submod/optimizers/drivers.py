"""The two drivers of an optimizer: a function on the host, or one compiled program."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.optimizers.base import Info, Optimizer, Outcome, Result, State, Step
from nas_submod.problem import Problem
from nas_submod.set_functions import SetFunction

Callback = Callable[[int, Info, State], None]
_NO_LIMIT = np.iinfo(np.int32).max


def maximize(
  problem: Problem,
  value: Callable[..., Any],
  optimizer: Optimizer,
  max_evaluations: int | None = None,
  seed: int = 0,
  traceable: bool = False,
  callback: Callback | None = None,
) -> Result:
  """Maximises `value` over the feasible sets of `problem`.

  Args:
    problem: What may be chosen.
    value: On the host, `masks [K, n] -> values [K]` or `(values, standard_errors)`, called once a
      round with only the distinct sets not yet measured (and with `replicates [K]` second, if the
      optimizer asks for them). If traceable, `mask [n] -> value []`.
    optimizer: Any optimizer of `nas_submod.optimizers`.
    max_evaluations: Stop after so many measurements; None for as many as the optimizer wants.
    seed: Seed of all that is random in the optimizer.
    traceable: Whether `value` is traceable: then the whole run is one compiled program.
    callback: Called after each round with `(round, info, state)`; on the host only.

  Returns:
    The best set found and how it was found.

  Raises:
    ValueError: If a value is NaN or infinite, or an argument is not allowed.
  """
  if max_evaluations is not None and max_evaluations < 1:
    raise ValueError(f"max_evaluations must be at least 1, got {max_evaluations}")
  rng = jax.random.key(seed)
  limit = _NO_LIMIT if max_evaluations is None else max_evaluations
  if not traceable:
    return _maximize_on_host(problem, value, optimizer, limit, rng, callback)
  if callback is not None:
    raise ValueError("callback needs traceable=False: a compiled program does not call back")
  if optimizer.solve is None or max_evaluations is not None:
    outcome = drive(optimizer, problem, value, rng, limit)
  else:
    outcome = optimizer.solve(problem, value, rng)
  if not outcome.clean:
    raise ValueError("value returned NaN for a feasible set")
  mask = np.asarray(outcome.mask)
  return Result(
    mask=mask,
    value=float(outcome.value),
    cost=np.asarray(problem.cost(mask)),
    evaluations=int(outcome.evaluations),
    rounds=int(outcome.rounds),
    trace=(),
    upper_bound=float("inf"),
  )


def drive(
  optimizer: Optimizer,
  problem: Problem,
  value: Callable[..., Any],
  rng: jax.Array,
  limit: Any = _NO_LIMIT,
) -> Outcome:
  """Runs the optimizer as one program; may be called under `jit`, `vmap` and `pmap`.

  Args:
    optimizer: The optimizer.
    problem: What may be chosen.
    value: `mask [n] -> value []`; compiled again for another function object. Arrays in a
      `jax.tree_util.Partial` are arguments of the program, not constants of it.
    rng: Random key.
    limit: Sets that may be asked, `[]` int.

  Returns:
    The outcome.
  """
  if not isinstance(value, jax.tree_util.Partial | SetFunction):
    value = jax.tree_util.Partial(value)
  return _drive(optimizer._replace(solve=None), problem, value, rng, limit)


@functools.partial(jax.jit, static_argnums=0)
def _drive(optimizer, problem, value, rng, limit):
  def unfinished(carry):
    state, evaluations, _, _ = carry
    return ~optimizer.done(state) & (evaluations < limit)

  def play_round(carry):
    state, evaluations, rounds, clean = carry
    masks, valid = optimizer.ask(state)
    asked = valid & (evaluations + jnp.cumsum(valid) <= limit)
    measured = jax.vmap(value)(masks).astype(jnp.float32)
    chex.assert_shape(measured, valid.shape)
    state, _ = optimizer.tell(state, jnp.where(asked & ~jnp.isnan(measured), measured, -jnp.inf))
    clean &= ~jnp.any(asked & jnp.isnan(measured))
    return state, evaluations + asked.sum(), rounds + 1, clean

  carry = (optimizer.init(problem, rng), jnp.int32(0), jnp.int32(0), jnp.bool_(True))
  state, evaluations, rounds, clean = jax.lax.while_loop(unfinished, play_round, carry)
  mask, best_value = optimizer.best(state)
  return Outcome(mask, best_value, evaluations, rounds, clean)


class _Question(NamedTuple):
  masks: jax.Array
  valid: jax.Array
  canonical: jax.Array
  replicates: jax.Array
  done: jax.Array


class _Measurement(NamedTuple):
  value: float
  standard_error: float
  replicates: int


def _maximize_on_host(
  problem: Problem,
  value: Callable[..., Any],
  optimizer: Optimizer,
  limit: int,
  rng: jax.Array,
  callback: Callback | None,
) -> Result:
  start, advance, best = _compiled(optimizer)
  store: dict[bytes, _Measurement] = {}
  trace: list[Step] = []
  evaluations = rounds = 0
  cut = False
  state, question = start(problem, rng)
  question = jax.device_get(question)
  while not question.done and not cut:
    keys = [key.tobytes() for key in np.packbits(question.canonical, axis=1)]
    wanted, cut = _wanted(question, keys, store, limit - evaluations)
    evaluations += sum(question.replicates[row] - held for row, held in wanted)
    rows = [row for row, _ in wanted]
    for row, measurement in zip(rows, _measure(value, optimizer, question, rows)):
      store[keys[row]] = measurement
    unknown = _Measurement(-np.inf, 0.0, 0)
    answers = [store.get(key, unknown) if ok else unknown for key, ok in zip(keys, question.valid)]
    values = np.array([answer.value for answer in answers], np.float32)
    errors = np.array([answer.standard_error for answer in answers], np.float32)
    state, info, costs, question = advance(problem, state, values, errors)
    info, costs, question = jax.device_get((info, costs, question))
    for run in np.flatnonzero(info.accepted):
      trace.append(
        Step(int(run), info.masks[run], float(info.values[run]), costs[run], int(evaluations))
      )
    if callback is not None:
      callback(rounds, info, state)
    rounds += 1
  mask, best_value, cost, key = jax.device_get(best(problem, state))
  measured = store.get(np.packbits(key).tobytes())
  return Result(
    mask=mask,
    value=float(best_value) if measured is None else measured.value,
    cost=cost,
    evaluations=int(evaluations),
    rounds=rounds,
    trace=tuple(trace),
    upper_bound=float("inf"),
  )


def _wanted(
  question: _Question, keys: list[bytes], store: dict[bytes, _Measurement], allowance: int
) -> tuple[list[tuple[int, int]], bool]:
  """Rows to measure, each with the replicates already held; whether the allowance cut them."""
  wanted: dict[bytes, tuple[int, int]] = {}
  for row in np.flatnonzero(question.valid):
    measurement = store.get(keys[row])
    held = 0 if measurement is None else measurement.replicates
    missing = int(question.replicates[row]) - held
    if missing <= 0 or keys[row] in wanted:
      continue
    if missing > allowance:
      return list(wanted.values()), True
    wanted[keys[row]] = (int(row), held)
    allowance -= missing
  return list(wanted.values()), False


def _measure(
  value: Callable[..., Any], optimizer: Optimizer, question: _Question, rows: list[int]
) -> list[_Measurement]:
  if not rows:
    return []
  masks, replicates = question.masks[rows], question.replicates[rows]
  answer = value(masks) if optimizer.replicates is None else value(masks, replicates)
  values, errors = answer if isinstance(answer, tuple) else (answer, np.zeros(len(rows)))
  values, errors = np.asarray(values, np.float64), np.asarray(errors, np.float64)
  for name, numbers in ("values", values), ("standard errors", errors):
    if numbers.shape != (len(rows),):
      raise ValueError(f"value returned {name} of shape {numbers.shape}, not ({len(rows)},)")
    bad = np.flatnonzero(np.isnan(numbers) | (numbers == np.inf))
    if bad.size:
      elements = np.flatnonzero(masks[bad[0]]).tolist()
      raise ValueError(
        f"value returned {numbers[bad[0]]} among its {name}, for the set of elements {elements}; "
        "a number or -inf (could not be measured) is allowed"
      )
  return [_Measurement(float(v), float(e), int(r)) for v, e, r in zip(values, errors, replicates)]


@functools.cache
def _compiled(optimizer: Optimizer) -> tuple[Callable[..., Any], ...]:
  """The functions of an optimizer, jitted once: start, one whole round, best."""

  def question(problem, state):
    masks, valid = optimizer.ask(state)
    chex.assert_shape(masks, (valid.shape[0], problem.n))
    once = jnp.ones(valid.shape, jnp.int32)
    replicates = once if optimizer.replicates is None else optimizer.replicates(state)
    keys = jax.vmap(problem.canonical_form)(masks)
    return _Question(masks, valid, keys, replicates, optimizer.done(state))

  def start(problem, rng):
    state = optimizer.init(problem, rng)
    return state, question(problem, state)

  def advance(problem, state, values, errors):
    if optimizer.replicates is None:
      state, info = optimizer.tell(state, values)
    else:
      state, info = optimizer.tell(state, values, errors)
    return state, info, jax.vmap(problem.cost)(info.masks), question(problem, state)

  def best(problem, state):
    mask, value = optimizer.best(state)
    return mask, value, problem.cost(mask), problem.canonical_form(mask)

  return jax.jit(start), jax.jit(advance), jax.jit(best)

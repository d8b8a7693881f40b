"""Checks that both drivers make: of the set function, and of the optimizer's protocol."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.optimizers.base import Info, Optimizer, State
from nas_submod.precision import full_precision
from nas_submod.problem import Problem
from nas_submod.set_functions.base import SetFunction, as_argument, changed_leaves
from nas_submod.validation import first_line

_ROUNDING = 1e-6  # share of a budget by which two programs may sum the same costs differently
_MAY_BE_NONE = ("replicates", "solve")
_MOST_IDLE = 10_000  # rounds in a row that ask for nothing


def check_value(problem: Problem, value: Any, traceable: bool) -> None:
  """Raises ValueError, before any work, unless `value` is a set function of the problem."""
  if not callable(value):
    raise ValueError(f"value must be a function, got {value!r}")
  if isinstance(value, SetFunction) and value.n not in (None, problem.n):
    raise ValueError(f"value takes sets of {value.n} elements, the problem has {problem.n}")
  if not traceable:
    if isinstance(value, SetFunction):
      raise ValueError(
        "value takes one set, a function on the host takes a batch; pass traceable=True, or "
        "set_functions.on_host(value)"
      )
    return
  try:
    found = _evaluate.eval_shape(as_argument(value), jax.ShapeDtypeStruct((problem.n,), bool))
  except Exception as error:
    raise ValueError(
      f"value cannot be traced for one set, `mask [{problem.n}] -> value []` (a function of "
      f"batches on the host needs traceable=False): {first_line(error)}"
    ) from error
  is_array = isinstance(found, jax.ShapeDtypeStruct) and found.shape == ()
  if not is_array or not any(
    jnp.issubdtype(found.dtype, k) for k in (jnp.bool_, jnp.integer, jnp.floating)
  ):
    raise ValueError(f"value must return one real number for one set, `[n] -> []`, got {found}")


def check_optimizer(optimizer: Any) -> None:
  """Raises ValueError, before any work, unless `optimizer` is an `Optimizer` of functions."""
  if not isinstance(optimizer, Optimizer):
    raise ValueError(f"optimizer must be an Optimizer, such as rcas(), got {optimizer!r}")
  for name, function in optimizer._asdict().items():
    if not callable(function) and (function is not None or name not in _MAY_BE_NONE):
      or_none = " or None" * (name in _MAY_BE_NONE)
      raise ValueError(f"{name} of the optimizer must be a function{or_none}, got {function!r}")


@jax.jit  # caches the shapes
@full_precision()
def _evaluate(value, mask):
  return value(mask)


def is_feasible(problem: Problem, mask: Any) -> jax.Array:
  """Whether a set is feasible, with a tolerance for the rounding of other programs. `[]` bool."""
  budget = problem.budget
  if jnp.issubdtype(budget.dtype, jnp.inexact):
    problem = problem.replace(budget=budget * (1 + _ROUNDING))
  return problem.feasible(mask)


def infeasible(did: str, mask: np.ndarray | None = None) -> ValueError:
  """The error for an optimizer that asked for, or returned, an infeasible set."""
  return ValueError(f"the optimizer {did} a set that is not feasible{_of(mask)}")


def not_finite(value: Any, mask: np.ndarray | None) -> ValueError:
  """The error for a traceable function whose value of a feasible set is NaN or +inf."""
  has_gains = isinstance(value, SetFunction) and value.incremental
  hint = "; its check() tells whether its gains are wrong" * has_gains
  return ValueError(
    f"value{' or a gain' * has_gains} returned NaN or infinity for a feasible set{_of(mask)}; a "
    f"number or -inf (could not be measured) is allowed{hint}"
  )


def _of(mask: np.ndarray | None) -> str:
  return "" if mask is None else f", of elements {np.flatnonzero(mask).tolist()}"


def check_cost(mask: np.ndarray, cost: np.ndarray) -> None:
  """Raises ValueError if a user's function gave the answer a negative cost."""
  if (cost < 0).any():
    raise ValueError(f"cost must be nonnegative, got {cost.tolist()} for the set{_of(mask)}")


def asks_nothing() -> ValueError:
  """The error for an optimizer that was done before it asked for a set."""
  return ValueError("the optimizer asked for no set")


def stuck() -> ValueError:
  """The error for an optimizer that would never end."""
  return ValueError("the optimizer no longer asks for sets, and is not done")


def idle_rounds(idle: jax.Array, valid: jax.Array, before: State, after: State) -> jax.Array:
  """Counts the rounds in a row that asked for nothing, `[]` int.

  `idle []` is the count before the round, `valid [B]` marks the rows asked in it. A round that also
  left the state unchanged sets the count to the limit: no later round can differ.
  """

  def equal(old: jax.Array, new: jax.Array) -> jax.Array:
    old, new = jnp.asarray(old), jnp.asarray(new)
    if jnp.issubdtype(old.dtype, jax.dtypes.prng_key):
      old, new = jax.random.key_data(old), jax.random.key_data(new)
    alike = old == new
    if jnp.issubdtype(old.dtype, jnp.inexact):
      alike |= jnp.isnan(old) & jnp.isnan(new)
    return jnp.all(alike)

  unchanged = map(equal, *map(jax.tree.leaves, (before, after)))
  stays = functools.reduce(jnp.logical_and, unchanged, jnp.bool_(True))
  return jnp.where(valid.any(), 0, jnp.where(stays, _MOST_IDLE, idle + 1))


def is_stuck(idle: Any) -> Any:
  """Whether the optimizer is stuck after `idle []` rounds that asked for nothing. `[]` bool."""
  return idle >= _MOST_IDLE


def ask(optimizer: Optimizer, problem: Problem, state: State) -> tuple[jax.Array, jax.Array]:
  """Calls `ask` and checks its result at trace time."""
  asked = optimizer.ask(state)
  with _must_return(f"ask must return `(masks [B, {problem.n}], valid [B])`, both bool", asked):
    masks, valid = asked
    _check_form(masks, jnp.bool_, valid.size, problem.n)
    _check_form(valid, jnp.bool_, valid.size)
  return masks, valid


def tell(
  optimizer: Optimizer, problem: Problem, state: State, *answers: jax.Array
) -> tuple[State, Info]:
  """Calls `tell` and checks its result at trace time."""
  told = optimizer.tell(state, *answers)
  if not isinstance(told, tuple) or len(told) != 2 or not isinstance(told[1], Info):
    parts = told if isinstance(told, tuple) else (told,)
    found = ", ".join(type(part).__name__ for part in parts)
    raise ValueError(f"tell must return `(state, Info)`, got {found}")
  after, info = told
  if changed := changed_leaves(state, after):
    raise ValueError(
      f"tell must return a state of the same structure, dtypes and shapes: {changed}"
    )
  with _must_return(
    f"tell must return an Info of `R` runs: accepted [R] bool, masks [R, {problem.n}] bool, values "
    "[R], ties None or [R] bool",
    info,
  ):
    runs = info.accepted.size
    _check_form(info.accepted, jnp.bool_, runs)
    _check_form(info.masks, jnp.bool_, runs, problem.n)
    _check_form(info.values, jnp.floating, runs)
    if info.ties is not None:
      _check_form(info.ties, jnp.bool_, runs)
  return told


def done(optimizer: Optimizer, state: State) -> jax.Array:
  """Calls `done` and checks its result at trace time."""
  answer = optimizer.done(state)
  with _must_return("done must return one bool", answer):
    ended = jnp.asarray(answer)
    _check_form(ended, jnp.bool_)
  return ended


def best(optimizer: Optimizer, problem: Problem, state: State) -> tuple[jax.Array, jax.Array]:
  """Calls `best` and checks its result at trace time."""
  answer = optimizer.best(state)
  with _must_return(f"best must return `(mask [{problem.n}] bool, value [])`", answer):
    mask, value = map(jnp.asarray, answer)
    _check_form(mask, jnp.bool_, problem.n)
    _check_form(value, jnp.generic)
  return mask, value


def _check_form(array: jax.Array, kind: Any, *shape: int) -> None:
  # Not `chex.assert_shape`: a user may have called `chex.disable_asserts()`.
  if array.shape != shape or not jnp.issubdtype(array.dtype, kind):
    raise ValueError(f"{array.dtype} {array.shape} is not {kind.__name__} {shape}")


@contextlib.contextmanager
def _must_return(required: str, answer: Any) -> Iterator[None]:
  """Raises a ValueError of one line if a check fails: what is required, and the `answer`."""
  try:
    yield
  except (AttributeError, TypeError, ValueError) as error:
    leaves = [
      (jax.tree_util.keystr(path).lstrip("."), getattr(leaf, "dtype", type(leaf).__name__), leaf)
      for path, leaf in jax.tree_util.tree_leaves_with_path(answer)
    ]
    found = ", ".join(f"{name} {dtype} {np.shape(leaf)}".lstrip() for name, dtype, leaf in leaves)
    raise ValueError(f"{required}; got {found or repr(answer)}") from error

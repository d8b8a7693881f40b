"""What the drivers check: the function that is maximised, and the protocol of the optimizer."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.optimizers.base import Info, Optimizer, State
from nas_submod.problem import Problem
from nas_submod.set_function import SetFunction, as_argument

_ROUNDING = 1e-6  # of a sum of costs


def check_value(problem: Problem, value: Any, traceable: bool) -> None:
  """Refuses what is no set function of the problem, before any work."""
  if not callable(value):
    raise ValueError(f"value must be a function, got {value!r}")
  if isinstance(value, SetFunction) and value.n not in (None, problem.n):
    raise ValueError(f"value is of sets of {value.n} elements, the problem has {problem.n}")
  if not traceable:
    if isinstance(value, SetFunction):
      raise ValueError(
        "value takes one set, on the host it takes a batch: traceable=True, or "
        "set_functions.on_host(value), is allowed"
      )
    return
  try:
    found = _evaluate.eval_shape(as_argument(value), jax.ShapeDtypeStruct((problem.n,), bool))
  except Exception as error:
    raise ValueError(
      f"value cannot be traced for one set, `mask [{problem.n}] -> value []` (a function of "
      f"batches on the host needs traceable=False): {str(error).splitlines()[0]}"
    ) from error
  is_array = isinstance(found, jax.ShapeDtypeStruct) and found.shape == ()
  if not is_array or not any(jnp.issubdtype(found.dtype, k) for k in (jnp.integer, jnp.floating)):
    raise ValueError(f"value must return one real number for one set, `[n] -> []`, got {found}")


@jax.jit  # which remembers the shapes
def _evaluate(value, mask):
  return value(mask)


def is_feasible(problem: Problem, mask: Any) -> jax.Array:
  """Whether a set is feasible but for a rounding that another program may make, `[]` bool."""
  budget = problem.budget
  if jnp.issubdtype(budget.dtype, jnp.inexact):
    problem = problem.replace(budget=budget * (1 + _ROUNDING))
  return problem.feasible(mask)


def infeasible(did: str, mask: np.ndarray | None = None) -> ValueError:
  """What to say of an optimizer that asked for such a set or answered it, if it is known which."""
  of = "" if mask is None else f", of elements {np.flatnonzero(mask).tolist()}"
  return ValueError(f"the optimizer {did} a set that is not feasible{of}")


def asks_nothing() -> ValueError:
  """What to say of an optimizer that was done before it asked for a set."""
  return ValueError("the optimizer asked for no set")


def stuck() -> ValueError:
  """What to say of an optimizer that would go on for ever."""
  return ValueError("the optimizer asks for nothing, stays as it is, and is not done")


def is_stuck(valid: jax.Array, before: State, after: State) -> jax.Array:
  """Whether nothing was asked in a round, `valid [B]`, and nothing changed in it. `[]` bool."""

  def equal(old: jax.Array, new: jax.Array) -> jax.Array:
    old, new = jnp.asarray(old), jnp.asarray(new)
    if jnp.issubdtype(old.dtype, jax.dtypes.prng_key):
      old, new = jax.random.key_data(old), jax.random.key_data(new)
    alike = old == new
    if jnp.issubdtype(old.dtype, jnp.inexact):
      alike |= jnp.isnan(old) & jnp.isnan(new)
    return jnp.all(alike)

  unchanged = map(equal, *map(jax.tree.leaves, (before, after)))
  return ~valid.any() & functools.reduce(jnp.logical_and, unchanged, jnp.bool_(True))


def ask(optimizer: Optimizer, problem: Problem, state: State) -> tuple[jax.Array, jax.Array]:
  """The question of a state, its form checked while it is traced."""
  try:
    masks, valid = optimizer.ask(state)
    fine = masks.shape == (*valid.shape, problem.n) and valid.ndim == 1
    fine &= masks.dtype == valid.dtype == bool
  except (TypeError, ValueError, AttributeError) as error:
    raise ValueError(f"ask must return `(masks [B, n], valid [B])`: {error}") from error
  if not fine:
    raise ValueError(
      f"ask must return `(masks [B, {problem.n}], valid [B])`, both bool; got {masks.dtype} "
      f"{masks.shape}, {valid.dtype} {valid.shape}"
    )
  return masks, valid


def tell(optimizer: Optimizer, state: State, *answers: jax.Array) -> tuple[State, Info]:
  """The state after answers, its form checked while it is traced."""
  told = optimizer.tell(state, *answers)
  if not isinstance(told, tuple) or len(told) != 2 or not isinstance(told[1], Info):
    raise ValueError(f"tell must return `(state, Info)`, got {type(told).__name__}")
  before, now = _forms(state), _forms(told[0])
  for place in before | now:
    was, is_now = before.get(place, "absent"), now.get(place, "absent")
    if was != is_now:
      raise ValueError(
        f"tell must return a state of the same form; state{place} was {was}, is {is_now}"
      )
  _check_info(told[1])
  return told


def done(optimizer: Optimizer, state: State) -> jax.Array:
  """Whether a state is done, its form checked while it is traced."""
  answer = optimizer.done(state)
  form = jnp.result_type(answer), jnp.shape(answer)
  if form != (bool, ()):
    raise ValueError(f"done must return one bool, got {form[0]} {form[1]}")
  return jnp.asarray(answer)


def best(optimizer: Optimizer, problem: Problem, state: State) -> tuple[jax.Array, jax.Array]:
  """The answer of a state, its form checked while it is traced."""
  answer = optimizer.best(state)
  forms = [(jnp.shape(x), jnp.result_type(x)) for x in jax.tree.leaves(answer)]
  fine = isinstance(answer, tuple) and len(answer) == len(forms) == 2
  if not fine or forms[0] != ((problem.n,), bool) or forms[1][0]:
    found = ", ".join(f"{dtype} {shape}" for shape, dtype in forms)
    raise ValueError(f"best must return `(mask [{problem.n}] bool, value [])`; got {found}")
  return answer


def _check_info(info: Info) -> None:
  fields = {name: field for name, field in info._asdict().items() if field is not None}
  kinds = {name: jnp.bool_ for name in fields} | {"values": jnp.floating}
  fine = all(jnp.issubdtype(jnp.result_type(fields[name]), kinds[name]) for name in fields)
  fine &= all(jnp.ndim(fields[name]) == 1 + (name == "masks") for name in fields)
  if not fine or len({jnp.shape(field)[0] for field in fields.values()}) > 1:
    found = ", ".join(f"{n} {jnp.result_type(f)} {jnp.shape(f)}" for n, f in fields.items())
    raise ValueError(
      "tell must return an Info of `R` runs: accepted [R] bool, masks [R, n] bool, values [R], "
      f"ties None or [R] bool; got {found}"
    )


def _forms(state: State) -> dict[str, str]:
  """Dtype and shape of each leaf by its place."""
  return {
    jax.tree_util.keystr(path): f"{jnp.result_type(leaf)} {jnp.shape(leaf)}"
    for path, leaf in jax.tree_util.tree_leaves_with_path(state)
  }

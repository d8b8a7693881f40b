"""What the drivers check: the function that is maximised, and the protocol of the optimizer."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.optimizers.base import Info, Optimizer, State
from nas_submod.precision import full_precision
from nas_submod.problem import Problem
from nas_submod.set_functions.base import SetFunction, as_argument
from nas_submod.validation import checked, first_line

_ROUNDING = 1e-6  # of a sum of costs
_MAY_BE_NONE = ("replicates", "solve")
_MOST_IDLE = 10_000  # rounds in a row in which nothing is asked


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
      f"batches on the host needs traceable=False): {first_line(error)}"
    ) from error
  is_array = isinstance(found, jax.ShapeDtypeStruct) and found.shape == ()
  if not is_array or not any(jnp.issubdtype(found.dtype, k) for k in (jnp.integer, jnp.floating)):
    raise ValueError(f"value must return one real number for one set, `[n] -> []`, got {found}")


def check_optimizer(optimizer: Any) -> None:
  """Refuses what is no optimizer, before any work."""
  for name, function in checked("optimizer", optimizer, Optimizer)._asdict().items():
    if not callable(function) and (function is not None or name not in _MAY_BE_NONE):
      or_none = " or None" * (name in _MAY_BE_NONE)
      raise ValueError(f"{name} of the optimizer must be a function{or_none}, got {function!r}")


@jax.jit  # which remembers the shapes
@full_precision()
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
  return ValueError(f"the optimizer {did} a set that is not feasible{_of(mask)}")


def no_number(value: Any, mask: np.ndarray | None) -> ValueError:
  """What to say of a traceable function whose value of a set is none, if it is known which."""
  has_gains = isinstance(value, SetFunction) and value.incremental
  says = "; its check() says of gains whether they are wrong" * has_gains
  return ValueError(
    f"value{' or a gain' * has_gains} returned NaN or infinity for a feasible set{_of(mask)}; a "
    f"number or -inf (could not be measured) is allowed{says}"
  )


def _of(mask: np.ndarray | None) -> str:
  return "" if mask is None else f", of elements {np.flatnonzero(mask).tolist()}"


def check_cost(mask: np.ndarray, cost: np.ndarray) -> None:
  """Refuses the cost of an answer if a function of one's own made it negative."""
  if (cost < 0).any():
    raise ValueError(f"cost must be nonnegative, got {cost.tolist()} for the set{_of(mask)}")


def asks_nothing() -> ValueError:
  """What to say of an optimizer that was done before it asked for a set."""
  return ValueError("the optimizer asked for no set")


def stuck() -> ValueError:
  """What to say of an optimizer that would go on for ever."""
  return ValueError("the optimizer asks for nothing any more, and is not done")


def idle_rounds(idle: jax.Array, valid: jax.Array, before: State, after: State) -> jax.Array:
  """Rounds in a row without anything asked, `[]` int; all of them if nothing changed in one.

  Args:
    idle: What it was before the round.
    valid: What was asked in it. `[B]` bool.
    before: The state before it.
    after: The state after it.
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
  """Whether so many `idle []` rounds mean that nothing will be asked again, `[]` bool."""
  return idle >= _MOST_IDLE


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


def tell(
  optimizer: Optimizer, problem: Problem, state: State, *answers: jax.Array
) -> tuple[State, Info]:
  """The state after answers, its form checked while it is traced."""
  told = optimizer.tell(state, *answers)
  if not isinstance(told, tuple) or len(told) != 2 or not isinstance(told[1], Info):
    parts = told if isinstance(told, tuple) else (told,)
    found = ", ".join(type(part).__name__ for part in parts)
    raise ValueError(f"tell must return `(state, Info)`, got {found}")
  before, now = _forms(state), _forms(told[0])
  for place in before | now:
    was, is_now = before.get(place, "absent"), now.get(place, "absent")
    if was != is_now:
      raise ValueError(
        f"tell must return a state of the same form; state{place} was {was}, is {is_now}"
      )
  _check_info(told[1], problem.n)
  return told


def done(optimizer: Optimizer, state: State) -> jax.Array:
  """Whether a state is done, its form checked while it is traced."""
  answer = optimizer.done(state)
  if answer is None:
    raise ValueError("done must return one bool, got None")
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
    found = ", ".join(f"{dtype} {shape}" for shape, dtype in forms) or repr(answer)
    raise ValueError(f"best must return `(mask [{problem.n}] bool, value [])`; got {found}")
  return answer


def _check_info(info: Info, n: int) -> None:
  fields = {name: field for name, field in info._asdict().items() if field is not None}
  kinds = {name: jnp.bool_ for name in fields} | {"values": jnp.floating}
  fine = all(jnp.issubdtype(jnp.result_type(fields[name]), kinds[name]) for name in fields)
  fine &= all(jnp.ndim(fields[name]) == 1 + (name == "masks") for name in fields)
  runs = jnp.size(info.accepted)
  if not fine or any(jnp.shape(f) != (runs, n)[: jnp.ndim(f)] for f in fields.values()):
    found = ", ".join(f"{n} {jnp.result_type(f)} {jnp.shape(f)}" for n, f in fields.items())
    raise ValueError(
      f"tell must return an Info of `R` runs: accepted [R] bool, masks [R, {n}] bool, values [R], "
      f"ties None or [R] bool; got {found}"
    )


def _forms(state: State) -> dict[str, str]:
  """Dtype and shape of each leaf by its place."""
  return {
    jax.tree_util.keystr(path): f"{jnp.result_type(leaf)} {jnp.shape(leaf)}"
    for path, leaf in jax.tree_util.tree_leaves_with_path(state)
  }

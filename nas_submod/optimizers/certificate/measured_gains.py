"""Marginal gains of elements at the sets that were measured."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.optimizers import ties
from nas_submod.optimizers.measurements import Measurements
from nas_submod.optimizers.neighbours import same_group
from nas_submod.precision import full_precision
from nas_submod.problem import Problem
from nas_submod.set_functions.base import SetFunction, as_argument
from nas_submod.set_functions.measured import pairs

ROUNDING = 2 * ties.ROUNDING  # of a difference, as a share of the largest value
_MOST_SETS = 2048
_MOST_GAINS = 2**20  # sets times elements
_MOST_CANONICAL = 128  # sets whose additions are looked up by canonical form
_CHUNK = 32


class Gains(NamedTuple):
  """Marginal gains at measured sets.

  Attributes:
    masks: The sets, the required set first. `[K, n]` bool.
    values: Their values. `[K]`.
    gains: F(S + e) - F(S); NaN if not measured. `[K, n]`.
    gain_errors: Standard errors of the gains, 0 if unknown. `[K, n]`.
  """

  masks: np.ndarray
  values: np.ndarray
  gains: np.ndarray
  gain_errors: np.ndarray


@jax.jit
def addable(problem: Problem) -> jax.Array:
  """Elements that a feasible set may hold besides the required ones, `[n]` bool.

  It uses the tolerance of whole sets, the larger one.
  """
  return problem.replace(budget=problem.limit).additions(problem.required).fits


def gains_at_ends(problem: Problem, value: Callable[..., Any], mask: np.ndarray) -> Gains:
  """Gains of a traceable `value` at the required set and at the answer `mask [n]`.

  At the answer, elements that do not fit are measured too. If one of them lowers the value, F is
  not monotone, or not defined beyond the budgets; then only the required set is returned.
  """
  fits, masks, values, gains = jax.device_get(_gains_at_ends(problem, as_argument(value), mask))
  gains = np.where(np.isfinite(gains), gains, np.nan).astype(np.float64)
  loses = gains[1] < -ROUNDING * np.abs(values).max()
  loses_beyond = (loses & ~fits[1] & ~masks[1]).any()
  unknown = masks | np.stack([~fits[0], ~fits[1] & (gains[1] < 0)])
  gains = np.where(unknown, np.nan, gains)
  both = Gains(masks, values.astype(np.float64), gains, np.zeros_like(gains))
  kept = 1 + bool((masks[0] != masks[1]).any() and not loses_beyond)
  return Gains(*(rows[:kept] for rows in both))


@jax.jit
@full_precision()
def _gains_at_ends(problem, value, mask):
  n, groups = problem.n, problem.groups
  masks = jnp.stack([problem.required, mask])

  def of(mask):  # Differences of small or unsigned integers would overflow.
    found = jnp.asarray(value(mask))
    exact = jnp.issubdtype(found.dtype, jnp.integer) and found.dtype != jnp.uint32
    return found.astype(jnp.int32 if exact or found.dtype == jnp.bool_ else jnp.float32)

  values = jnp.stack([of(mask) for mask in masks])

  def gain(place):
    row, element = jnp.divmod(place, n)
    base, before = masks[row], values[row]
    if not isinstance(value, SetFunction):
      # A plain function may be defined for feasible sets only: leave the element's group out.
      base &= (groups != groups[element]) | (groups < 0)
      before = of(base)
    return of(base.at[element].set(True)) - before

  if isinstance(value, SetFunction) and value.init and value.gains:
    gains = jnp.stack([value.gains(value.init(mask)) for mask in masks])
  else:
    gains = jax.lax.map(gain, jnp.arange(2 * n), batch_size=min(256, n)).reshape(2, n)
  fits = jnp.stack([addable(problem), problem.additions(mask).fits])
  return fits, masks, values.astype(jnp.float32), gains.astype(jnp.float32)


def measured_gains(problem: Problem, measurements: Measurements) -> Gains:
  """Gains of all elements at the sets asked, wherever both values are known.

  At most 2048 sets are used (fewer with more than 512 elements): the ones with the most known gains
  and, among equals, the highest values. The first 128 of them also take the values of canonically
  equal sets.
  """
  masks, keys, values, errors = _known_sets(problem, measurements)
  smaller, larger, elements = pairs(masks)
  additions = np.bincount(smaller, minlength=len(masks))
  most_sets = min(_MOST_SETS, max(_MOST_GAINS // problem.n, 1))
  rows = np.append(0, 1 + np.lexsort((-values[1:], -additions[1:]))[: most_sets - 1])
  row_of = np.full(len(masks), -1)
  row_of[rows] = np.arange(len(rows))
  after = np.full((len(rows), problem.n), -1)  # row of the set with the element
  kept = row_of[smaller] >= 0
  after[row_of[smaller[kept]], elements[kept]] = larger[kept]
  if problem.canonical is not None:
    first = min(len(rows), _MOST_CANONICAL)
    after[:first] = _same_additions(problem, masks[rows[:first]], keys)
  gains = np.where(after >= 0, values[after] - values[rows, None], np.nan)
  gain_errors = np.hypot(errors[after], errors[rows, None])
  return Gains(masks[rows], values[rows], gains, gain_errors)


def _known_sets(
  problem: Problem, measurements: Measurements
) -> tuple[np.ndarray, list[bytes], np.ndarray, np.ndarray]:
  """Sets that have a value: masks `[K, n]`, keys, values and standard errors, `[K]` each."""
  packed = np.frombuffer(b"".join(measurements.asked), np.uint8)
  rows = packed.reshape(len(measurements.asked), -1)
  masks = np.unpackbits(rows, axis=1, count=problem.n) == 1
  keys = list(measurements.asked.values())
  values, errors = np.array([measurements.pooled(key) for key in keys]).T
  errors = np.where(np.isnan(errors), measurements.noise(), errors)
  known = np.flatnonzero(np.isfinite(values))
  return masks[known], [keys[row] for row in known], values[known], errors[known]


def _same_additions(problem: Problem, masks: np.ndarray, keys: list[bytes]) -> np.ndarray:
  """Row of the set equal to each of `masks [S, n]` plus each element, `[S, n]`; -1 if none."""
  row_of: dict[bytes, int] = {}
  for row, key in enumerate(keys):
    row_of.setdefault(key, row)
  found = []
  for begin in range(0, len(masks), _CHUNK):
    chunk = masks[begin : begin + _CHUNK]
    padded = np.resize(chunk, (_CHUNK, problem.n))
    forms, taken = jax.device_get(_canonical_additions(problem, padded))
    packed = np.packbits(forms[: len(chunk)], axis=2)
    rows = [[row_of.get(form.tobytes(), -1) for form in of_set] for of_set in packed]
    found.append(np.where(taken[: len(chunk)], -1, rows))
  return np.concatenate(found)


@jax.jit
def _canonical_additions(problem, masks):
  forms = jax.vmap(jax.vmap(problem.canonical_form))(
    masks[:, None] | jnp.eye(problem.n, dtype=bool)
  )
  # A set with two elements of a group has no canonical form.
  return forms, masks | (masks[:, :, None] & same_group(problem)).any(axis=1)

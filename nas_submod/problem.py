"""A problem: a ground set, at most one element per group, and knapsack budgets."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.equal_sets import first_of_equal
from nas_submod.precision import full_precision
from nas_submod.validation import array_of, first_line, floats_of

Mask = jax.Array | np.ndarray
CostFunction = Callable[[Any], jax.Array]
Canonical = Callable[[Any], jax.Array]

# Shares of the budget, for costs that are not whole numbers. Float32 sums depend on their order, so
# an addition has a tighter tolerance than a whole set.
_ADDITION_TOLERANCE = 1e-6
_SET_TOLERANCE = 2 * _ADDITION_TOLERANCE
SMALLEST_COST = 1e-20  # The least cost above 0, so that gains per unit stay within float32.


class Additions(NamedTuple):
  """The elements that may be added to a set S, for `n` elements and `m` resources.

  Attributes:
    fits: Whether the element is outside S and the set with it is feasible. `[n]` bool.
    cost: Marginal cost, cost(S + e) - cost(S). It may be negative if costs are not sums. `[n, m]`.
    representative: The lowest fitting element that leads to the same canonical set. `[n]` int.
  """

  fits: jax.Array
  cost: jax.Array
  representative: jax.Array


@jax.tree_util.register_pytree_node_class
class Problem:
  """Maximise F(S) over sets S with at most one element per group and cost(S) <= budget.

  A pytree: groups, budget, required set and cost matrix are leaves, functions are static. A problem
  therefore passes through `jit` and `vmap`, and other numbers do not recompile.

  Costs are compared exactly (int32) if all are whole numbers and each resource sums to less than
  2^31. Otherwise (float32) additions may exceed a budget by 1e-6 of it and whole sets by 2e-6, so
  that rounding never makes a set infeasible after an allowed addition. Matrix products in the
  functions have full float32 precision on every platform, unless the functions set another.

  Attributes:
    groups: Group of each element, negative if unrestricted. `[n]` int.
    budget: Units of each resource that a set may use. `[m]`.
    required: The required set: elements of every feasible set. `[n]` bool.
    canonical: None, or `mask [n] -> mask [n]`. Sets with equal canonical masks are the same object.
    priced: For each resource, whether greedy rules use its marginal costs as prices. `m` bools.
  """

  groups: jax.Array
  budget: jax.Array
  required: jax.Array
  canonical: Canonical | None
  priced: tuple[bool, ...]

  def __init__(
    self,
    groups: Any,
    cost: Any,
    budget: Any,
    required: Any = None,
    canonical: Canonical | None = None,
    priced: Sequence[bool] | None = None,
  ):
    """Validates the problem.

    Args:
      groups: Group of each element, negative if unrestricted. `[n]` int.
      cost: Nonnegative cost of each element, `[n, m]`, or `[n]` for one resource. If the cost of a
        set is not a sum, a traceable function `mask [n] -> [m]`: nonnegative, or NaN for a set
        that does not fit. Pass the same function object again to avoid recompilation.
      budget: Nonnegative, may be infinite. `[m]` or a number.
      required: The required set, `[n]` bool; empty if None. Searches start there.
      canonical: None, or a traceable function `mask [n] -> mask [n]`. Sets with equal canonical
        masks have the same value and the same cost.
      priced: For each resource, whether greedy rules use its marginal costs as prices; None for
        all. A resource that is not a sum over elements, such as a peak, is only a limit: most
        elements add nothing to it.

    Raises:
      ValueError: If a shape or dtype is wrong, a number is NaN, negative or beyond float32, a
        function is not traceable, or `required` is infeasible.
    """
    group_ids = array_of("groups", groups, "a nonempty vector of ints")
    if group_ids.ndim != 1 or not group_ids.size or group_ids.dtype.kind not in "iu":
      raise ValueError(
        f"groups must be a nonempty vector of ints, got {group_ids.dtype} {group_ids.shape}"
      )
    n = group_ids.size
    limit = np.atleast_1d(floats_of("budget", budget, "a vector of nonnegative numbers"))
    if limit.ndim != 1 or not (limit >= 0).all():
      raise ValueError(f"budget must be a vector of nonnegative numbers, got {budget}")
    held = np.zeros(n, bool)
    if required is not None:
      held = array_of("required", required, f"bool of shape ({n},)")
    if held.shape != (n,) or held.dtype != bool:
      raise ValueError(f"required must be bool of shape ({n},), got {held.dtype} {held.shape}")

    self._cost_function = cost if callable(cost) else None
    self._matrix = None if callable(cost) else _cost_matrix(cost, n, limit.size)
    self.canonical = canonical
    self.required = jnp.asarray(held)
    # Group ids become 0, 1, ...; `unique` gives the first label to -1, if an element has no group.
    _, labels = np.unique(np.where(group_ids < 0, -1, group_ids), return_inverse=True)
    labels = np.where(group_ids < 0, -1, labels - (group_ids.min() < 0))
    self.groups = jnp.asarray(labels, jnp.int32)
    self._grouped = bool(np.unique(labels[labels >= 0]).size < (labels >= 0).sum())

    shape, dtype = _shape_of_result("cost", self.cost, self.required, "[m] of ints or floats")
    if not jnp.issubdtype(dtype, jnp.signedinteger) and not jnp.issubdtype(dtype, jnp.floating):
      raise ValueError(f"cost of a set must be signed ints or floats, got {dtype}")
    if shape != limit.shape:
      raise ValueError(f"cost of a set has shape {shape}, budget has {limit.shape}")
    if jnp.issubdtype(dtype, jnp.integer):
      limit = np.floor(np.minimum(limit, min(jnp.iinfo(dtype).max, np.iinfo(np.int32).max)))
    else:
      limit = np.where(limit > float(jnp.finfo(dtype).max), np.inf, limit)
    self.budget = jnp.asarray(limit, dtype)

    if canonical is not None:
      if not callable(canonical):
        raise ValueError(f"canonical must be None or a function, got {canonical!r}")
      form = _shape_of_result("canonical", self.canonical_form, self.required, "[n] bool")
      if form != ((n,), bool):
        raise ValueError(f"canonical must return bool of shape ({n},), got {form[1]} {form[0]}")

    groups_held = labels[held & (labels >= 0)]
    if np.unique(groups_held).size < groups_held.size:
      raise ValueError("required holds two elements of one group, at most one is allowed")
    if priced is not None and np.ndim(priced) != 1:
      raise ValueError(f"priced must be {limit.size} bools, got {priced!r}")
    self.priced = (True,) * limit.size if priced is None else tuple(map(bool, priced))
    if len(self.priced) != limit.size:
      raise ValueError(f"priced has {len(self.priced)} entries, budget has {limit.size}")
    used = np.asarray(self.cost(self.required))
    if not (used >= 0).all():
      raise ValueError(f"cost(required) must be nonnegative, got {used.tolist()}")
    if not bool(self.feasible(self.required)):
      raise ValueError(f"required costs {used.tolist()}, over the budget {limit.tolist()}")

  def __repr__(self) -> str:
    """Sizes and budgets; `Problem(...)` inside a transformation, where leaves are not arrays."""
    leaves = self.groups, self.budget, self.required
    arrays = all(isinstance(leaf, jax.Array) and leaf.ndim == 1 for leaf in leaves)
    if not arrays or any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
      return "Problem(...)"
    groups = np.unique(np.asarray(self.groups)[np.asarray(self.groups) >= 0]).size
    required = np.flatnonzero(np.asarray(self.required)).tolist()
    return (
      f"Problem(n={self.n}, groups={groups}, budget={np.asarray(self.budget).tolist()}, "
      f"required={required})"
    )

  @property
  def n(self) -> int:
    """Number of elements in the ground set."""
    return self.groups.shape[-1]

  @property
  def m(self) -> int:
    """Number of resources."""
    return self.budget.shape[-1]

  @property
  def cost_matrix(self) -> jax.Array | None:
    """Cost of each element, `[n, m]`; None if the cost of a set is not a sum."""
    return self._matrix

  def cost(self, mask: Mask) -> jax.Array:
    """Units of each resource that the set `mask [n]` uses, `[m]`."""
    if self._matrix is None:
      assert self._cost_function is not None
      with full_precision():
        return self._cost_function(mask)
    return jnp.where(jnp.asarray(mask)[:, None], self._matrix, 0).sum(axis=0)

  def canonical_form(self, mask: Mask) -> jax.Array:
    """Canonical mask of the set `mask [n]`, `[n]` bool: equal for sets that are the same object."""
    if self.canonical is None:
      return jnp.asarray(mask)
    with full_precision():
      return self.canonical(mask)

  def within_budget(self, cost: jax.Array) -> jax.Array:
    """Whether whole sets of cost `[..., m]` are within every budget, `[...]` bool."""
    return jnp.all(cost <= self.limit, axis=-1)

  @property
  def limit(self) -> jax.Array:
    """The most that a feasible set may use, `[m]`: the budget, with a tolerance for float costs."""
    return self._limit(_SET_TOLERANCE)

  @property
  def bounded(self) -> jax.Array:
    """Which budgets are finite; an infinite whole-number one is the largest int. `[m]` bool."""
    dtype = self.budget.dtype
    return self.budget < (jnp.iinfo(dtype).max if jnp.issubdtype(dtype, jnp.integer) else jnp.inf)

  def _limit(self, tolerance: float) -> jax.Array:
    inexact = jnp.issubdtype(self.budget.dtype, jnp.inexact)
    return self.budget * (1 + tolerance) if inexact else self.budget

  def feasible(self, mask: Mask) -> jax.Array:
    """Whether `mask [n]` satisfies the budgets, the groups and `required`. `[]` bool."""
    mask = jnp.asarray(mask)
    one_per_group = jnp.all(self._group_sizes(mask) <= 1)
    return one_per_group & jnp.all(mask | ~self.required) & self.within_budget(self.cost(mask))

  def additions(self, mask: Mask) -> Additions:
    """The elements that may be added to the set `mask [n]`."""
    mask = jnp.asarray(mask)
    used, limit = self.cost(mask), self._limit(_ADDITION_TOLERANCE)
    if self._matrix is None:
      after = jax.vmap(self.cost)(mask | jnp.eye(self.n, dtype=bool))
      marginal, within = after - used, jnp.all(after <= limit, axis=-1)
    else:
      marginal = self._matrix
      # On a CPU `used + marginal <= limit` takes XLA four times as long.
      within = jnp.all(marginal <= limit - used, axis=-1)
    fits = ~mask & self._group_is_free(mask) & within
    return Additions(fits, marginal.astype(jnp.float32), self._representatives(mask, fits))

  def replace(self, *, budget: jax.Array | None = None, required: Mask | None = None) -> "Problem":
    """A copy with another budget or required set of the same dtype, not validated."""
    problem = object.__new__(Problem)
    problem.__dict__.update(self.__dict__)
    if budget is not None:
      problem.budget = jnp.asarray(budget)
    if required is not None:
      problem.required = jnp.asarray(required)
    return problem

  def _group_sizes(self, mask: jax.Array) -> jax.Array:
    grouped = (mask & (self.groups >= 0)).astype(jnp.int32)
    return jax.ops.segment_sum(grouped, jnp.maximum(self.groups, 0), num_segments=self.n)

  def _group_is_free(self, mask: jax.Array) -> jax.Array:
    if not self._grouped:
      return jnp.ones_like(mask)
    return (self.groups < 0) | (self._group_sizes(mask)[jnp.maximum(self.groups, 0)] == 0)

  def _representatives(self, mask: jax.Array, fits: jax.Array) -> jax.Array:
    elements = jnp.arange(self.n)
    if self.canonical is None:
      return elements
    first = first_of_equal(jax.vmap(self.canonical_form)(mask | jnp.eye(self.n, dtype=bool)), fits)
    return jnp.where(fits, first, elements)

  def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Leaves and static fields."""
    leaves = (self.groups, self.budget, self.required, self._matrix)
    return leaves, (self._cost_function, self.canonical, self._grouped, self.priced)

  @classmethod
  def tree_unflatten(cls, static: tuple[Any, ...], leaves: tuple[Any, ...]) -> "Problem":
    """The problem with these leaves, not validated."""
    problem = object.__new__(cls)
    problem.groups, problem.budget, problem.required, problem._matrix = leaves
    problem._cost_function, problem.canonical, problem._grouped, problem.priced = static
    return problem


def _shape_of_result(
  name: str, function: Callable[[Any], Any], mask: jax.Array, returns: str
) -> tuple[tuple[int, ...], Any]:
  """Shape and dtype that a user's function returns for a mask, by tracing."""
  try:
    result = jax.eval_shape(function, mask)
  except Exception as error:
    raise ValueError(
      f"{name} must be a traceable function `mask [n] -> {returns}`: {first_line(error)}"
    ) from error
  if not isinstance(result, jax.ShapeDtypeStruct):
    raise ValueError(f"{name} must return an array {returns}, got {type(result).__name__}")
  return result.shape, result.dtype


def _cost_matrix(cost: Any, n: int, m: int) -> jax.Array:
  allowed = "numbers of shape [n, m] or [n], or a function `mask [n] -> [m]`"
  matrix = floats_of("cost", cost, allowed)
  if matrix.ndim == 1:
    matrix = matrix[:, None]
  if matrix.ndim != 2:
    raise ValueError(f"cost must be {allowed}, got shape {matrix.shape}")
  if matrix.shape[0] != n:
    raise ValueError(f"groups has {n} elements, cost [n, m] has {matrix.shape[0]}")
  if matrix.shape[1] != m:
    raise ValueError(f"budget has {m} resource{'s'[: m != 1]}, cost [n, m] has {matrix.shape[1]}")
  bad = np.argwhere(~np.isfinite(matrix) | (matrix < 0))
  if bad.size:
    element, resource = bad[0]
    raise ValueError(
      f"cost[{element}, {resource}] is {matrix[element, resource]}, must be finite and nonnegative"
    )
  if (matrix[matrix > 0] < SMALLEST_COST).any():
    raise ValueError(
      f"a cost is {matrix[matrix > 0].min()}; allowed: 0, or from {SMALLEST_COST} on: choose a "
      "smaller unit"
    )
  with np.errstate(over="ignore"):
    total = matrix.sum(axis=0)
  most = np.finfo(np.float32).max
  if (total > most).any():
    raise ValueError(f"costs of a resource sum to {total.max()}, float32 holds up to {most}")
  whole = (matrix == np.floor(matrix)).all() and total.max(initial=0) < 2**31
  return jnp.asarray(matrix, jnp.int32 if whole else jnp.float32)

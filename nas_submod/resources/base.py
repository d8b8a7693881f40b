"""A resource: a quantity of a whole network that a budget may limit."""

from collections.abc import Callable
from typing import Any, NamedTuple

from nas_submod.networks.search_space import SearchSpace

CostFunction = Callable[[Any], Any]  # mask [..., n] -> cost [...]


class NotApplicableError(ValueError):
  """A resource does not apply to a space: reports omit it, and a budget for it is rejected."""


class Resource(NamedTuple):
  """A quantity that a budget may limit.

  Costs belong to whole networks. They need not be whole numbers, nor sums over blocks.

  Attributes:
    name: Its name in a budget.
    unit: Its unit, in words.
    cost: `space -> (mask [..., n] -> cost [...])`; may raise NotApplicableError. The masks are
      valid sets. NumPy masks give int64 or float64. JAX masks give int32 or float32, and are
      traceable. Whole numbers are exact: a cost that may exceed int32 raises ValueError for JAX
      masks. A larger set must not cost less, or the upper bound of a search does not hold.
    scaled: None, or `space -> (divisor, cost / divisor)` for whole numbers that may exceed int32.
      The quotients are whole, and fit int32; otherwise it raises ValueError.
    additive: Whether the cost adds up over blocks. Then greedy rules may use it as a price;
      otherwise it is only a limit.
    table: None, or `space -> resources.table.CostTable`: the costs of all parts. It tells which
      networks a budget allows before a search.
  """

  name: str
  unit: str
  cost: Callable[[SearchSpace], CostFunction]
  scaled: Callable[[SearchSpace], tuple[int, CostFunction]] | None = None
  additive: bool = True
  table: Callable[[SearchSpace], Any] | None = None

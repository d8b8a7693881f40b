"""Costs that are sums or maxima over the parts of a network.

The input channels of a block are the output channels of the block before it. The cost of an element
therefore depends on the other elements. Costs are tabulated by stage, predecessor and option, and
combined along the canonical form.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod import networks
from nas_submod.networks.parts import Part, parts
from nas_submod.networks.search_space import SearchSpace
from nas_submod.resources.base import CostFunction, Resource

_INT32_MAX = np.iinfo(np.int32).max
Combine = Literal["sum", "max"]
Measure = Callable[[Part], int | float]


@dataclasses.dataclass(frozen=True, eq=False)
class CostTable:
  """Costs of the parts of a space, int64 or float64. Indices are as in `networks.predecessors`.

  Attributes:
    stem: `[]`.
    opening: First positions of the stages; 0 where no network has the part.
      `[stages, stages + 1 predecessors, options + 1]`.
    other: Their other positions. `[stages, options + 1]`.
    head: `[stages + 1 predecessors]`.
    combine: Whether the cost of a network is the sum of its parts, or the largest one.
  """

  stem: np.ndarray
  opening: np.ndarray
  other: np.ndarray
  head: np.ndarray
  combine: Combine = "sum"

  def total(self, space: SearchSpace, mask: Any) -> Any:
    """Costs of the networks of `mask [..., n]`, `[...]`; NumPy or JAX, as the mask."""
    module = jnp if isinstance(mask, jax.Array) else np
    stem, opening, other, head = (module.asarray(part) for part in self.parts)
    *steps, end = networks.walk(space, space.architecture(mask))
    # Few gathers of many entries: XLA takes time to compile each gather.
    stages = np.arange(len(steps))
    of_others = np.repeat(stages, [stage.positions - 1 for stage in space.stages])
    predecessors = module.stack([step.predecessor for step in steps], -1)
    openings = opening[stages, predecessors, module.stack([step.opening for step in steps], -1)]
    others = other[of_others, module.concatenate([step.others for step in steps], -1)]
    last = head[end.predecessor]
    if self.combine == "sum":
      return stem + openings.sum(-1) + others.sum(-1) + last
    ends = module.maximum(stem, last)
    return module.maximum(ends, module.concatenate([openings, others], -1).max(-1))

  @property
  def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The four arrays."""
    return self.stem, self.opening, self.other, self.head

  def most(self, space: SearchSpace) -> int | float:
    """An upper bound on the cost of every network: the most expensive part at each position."""
    if self.combine == "max":
      return max(part.max().item() for part in self.parts if part.size)
    openings = self.opening.max((1, 2)).sum()
    others = sum((stage.positions - 1) * row.max() for stage, row in zip(space.stages, self.other))
    return (self.stem + openings + others + self.head.max()).item()

  def divided(self, divisor: int) -> "CostTable":
    """The table in units of a divisor."""
    stem, opening, other, head = (part // divisor for part in self.parts)
    return CostTable(stem, opening, other, head, self.combine)


def tabulate(
  space: SearchSpace, measure: Measure, combine: Combine = "sum", dtype: Any = np.int64
) -> CostTable:
  """Tabulates a cost of the parts of a space.

  Args:
    space: The space.
    measure: The cost of one part.
    combine: How the costs of parts make the cost of a network.
    dtype: `np.int64` or `np.float64`.

  Raises:
    ValueError: If the output of a block has the wrong shape.
  """
  count, options = len(space.stages), len(space.options)
  stem = np.zeros((), dtype)
  opening = np.zeros((count, count + 1, options + 1), dtype)
  other = np.zeros((count, options + 1), dtype)
  head = np.zeros(count + 1, dtype)
  for part in parts(space):
    if part.stage < 0:
      stem[...] = measure(part)
    elif part.stage == count:
      head[part.predecessor] = measure(part)
    else:
      _check_shape(space, part)
      if part.predecessor is None:
        other[part.stage, part.option] = measure(part)
      else:
        opening[part.stage, part.predecessor, part.option] = measure(part)
  return CostTable(stem, opening, other, head, combine)


def in_words(part: Part) -> str:
  """A part for an error message: "block e6" or its name."""
  return f"block {part.name.rpartition('/')[2]}" if part.option else part.name


def _check_shape(space: SearchSpace, part: Part) -> None:
  """Raises ValueError if the output shape of a block is not the shape of its stage."""
  after = networks.output_shape(space, part.stage + 1)
  shape, _ = part.layer.cost(part.shape)
  if tuple(shape) != after:
    raise ValueError(
      f"{in_words(part)} makes {tuple(shape)} of an image {part.shape}; allowed: {after} "
      "(height, width, channels)"
    )


def tabulated(
  name: str, unit: str, table: Callable[[SearchSpace], CostTable], additive: bool = True
) -> Resource:
  """The resource of a table, see `Resource` for the arguments."""
  table = functools.cache(table)

  @functools.cache
  def cost(space: SearchSpace) -> CostFunction:
    costs = table(space)
    is_large = costs.opening.dtype.kind == "i" and costs.most(space) > _INT32_MAX

    def of_mask(mask):
      if is_large and isinstance(mask, jax.Array):
        raise ValueError(
          f"{name} of a network of space {space.name} may reach {costs.most(space):,}; allowed in "
          f"JAX: up to {_INT32_MAX:,}; resources.knapsacks counts in larger units"
        )
      return costs.total(space, mask)

    return of_mask

  @functools.cache
  def scaled(space: SearchSpace) -> tuple[int, CostFunction]:
    costs = table(space)
    if costs.opening.dtype.kind != "i" or costs.most(space) <= _INT32_MAX:
      return 1, cost(space)
    divisor = math.gcd(*np.concatenate([part.ravel() for part in costs.parts]).tolist())
    units = costs.divided(divisor)
    if units.most(space) > _INT32_MAX:
      raise ValueError(
        f"{name} of a network of space {space.name} may reach {costs.most(space):,}; allowed: up "
        f"to {_INT32_MAX * divisor:,}; take smaller images, fewer channels or fewer positions"
      )
    return divisor, functools.partial(units.total, space)

  return Resource(name, unit, cost, scaled, additive, table)

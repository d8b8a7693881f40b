"""A search space: which block may stand where, and four ways to write an architecture.

A space has stages of positions. An architecture gives an option to every position: integers
`[positions]`, 0 for an empty position, `i` for `options[i - 1]`. As a set it is the mask over the
elements (position, option), `n = positions * len(options)`. Only the order of blocks within a stage
changes the network, so the canonical form pushes every stage to the left. As text it is one line:
`e6 e3 . | e6 . .`.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.networks.blocks import Option

EMPTY = "."


@dataclasses.dataclass(frozen=True)
class Stage:
  """Positions of equal output.

  Attributes:
    channels: Output channels of every block.
    positions: How many blocks fit.
    stride: Of the first block, 1 or 2; all others have 1.
    projection: Whether an empty first position is a 1x1 convolution and batch norm to the stage's
      channels and stride (NAS-Bench-Macro) instead of nothing (RCNet). Then the first position is
      not interchangeable with the others.
  """

  channels: int
  positions: int
  stride: int = 1
  projection: bool = False


@dataclasses.dataclass(frozen=True)
class SearchSpace:
  """A fixed skeleton with positions for blocks.

  The skeleton: 3x3 convolution, optional inverted residual of expansion 1, the stages, optional
  1x1 convolution, global average pool, classifier.

  Attributes:
    name: For people.
    image_shape: (height, width, channels) of an image.
    classes: Outputs of the classifier.
    stem_channels: Of the first convolution.
    stages: In order.
    options: The block types.
    start: An option for every position: the network that the search starts from and keeps, pushed
      to the left in every stage. A stage of stride 2 without projection must have one.
    stem_stride: Of the first convolution.
    stem_block_channels: Of the inverted residual of expansion 1 behind it; 0 for none.
    head_channels: Of the last 1x1 convolution; 0 for none.
  """

  name: str
  image_shape: tuple[int, int, int]
  classes: int
  stem_channels: int
  stages: tuple[Stage, ...]
  options: tuple[Option, ...]
  start: tuple[int, ...] = ()
  stem_stride: int = 1
  stem_block_channels: int = 0
  head_channels: int = 0

  def __post_init__(self):
    if not self.stages or any(s.positions < 1 or s.channels < 1 for s in self.stages):
      raise ValueError(f"space {self.name}: every stage needs at least one position and channel")
    if any(s.stride not in (1, 2) for s in self.stages):
      raise ValueError(f"space {self.name}: a stage has stride 1 or 2")
    names = [option.name for option in self.options]
    if not names or len(set(names)) < len(names) or any(n.split() != [n] for n in names):
      raise ValueError(f"space {self.name}: options need distinct one-word names, not {names}")
    if EMPTY in names or "|" in names:
      raise ValueError(f"space {self.name}: '{EMPTY}' and '|' cannot name an option")
    object.__setattr__(self, "start", tuple(self.start) or (0,) * self.positions)
    self.check(self.start)
    if tuple(self.canonical(self.start)) != self.start:
      raise ValueError(f"space {self.name}: the start set must be pushed to the left in each stage")

  @functools.cached_property
  def positions(self) -> int:
    """Number of positions of all stages."""
    return sum(stage.positions for stage in self.stages)

  @property
  def elements(self) -> int:
    """Size of the ground set: positions times options."""
    return self.positions * len(self.options)

  @functools.cached_property
  def stage_slices(self) -> tuple[slice, ...]:
    """Where each stage's positions are."""
    ends = np.cumsum([stage.positions for stage in self.stages])
    return tuple(slice(int(end) - s.positions, int(end)) for end, s in zip(ends, self.stages))

  @functools.cached_property
  def groups(self) -> np.ndarray:
    """The position of each element. Shape `[n]`."""
    return np.repeat(np.arange(self.positions), len(self.options))

  @functools.cached_property
  def required(self) -> np.ndarray:
    """The start set as a mask. Shape `[n]` bool."""
    return np.asarray(self.mask(self.start))

  def may_be_empty(self, stage: int) -> bool:
    """Whether a network may have no block at all in this stage."""
    start = self.start[self.stage_slices[stage]]
    return not self.stages[stage].projection and not any(start)

  def check(self, architecture: Sequence[int]) -> tuple[int, ...]:
    """Returns the architecture as a tuple, or says what is wrong with it.

    Raises:
      ValueError: If it has another length, holds an unknown option, or leaves a stage empty that
        changes the resolution.
    """
    values = tuple(int(option) for option in np.asarray(architecture).ravel())
    if len(values) != self.positions:
      raise ValueError(
        f"architecture has {len(values)} positions; space {self.name} has {self.positions}"
      )
    for position, option in enumerate(values):
      if not 0 <= option <= len(self.options):
        raise ValueError(
          f"unknown option {option} at position {position}; "
          f"space {self.name} has 0 (empty) to {len(self.options)}"
        )
    for index, (stage, where) in enumerate(zip(self.stages, self.stage_slices)):
      if stage.stride != 1 and not stage.projection and not any(values[where]):
        raise ValueError(
          f"stage {index} is empty but changes the resolution: it needs a block "
          f"(in the start set of space {self.name} too)"
        )
    return values

  def contains_start(self, architecture: Sequence[int]) -> bool:
    """Whether the canonical form begins every stage with the start set's blocks."""
    canonical = self.canonical(self.check(architecture))
    return all(s in (0, int(c)) for s, c in zip(self.start, canonical))

  def canonical(self, architecture: Any) -> Any:
    """The same network with every stage pushed to the left. Shape `[..., positions]`; traceable.

    The first position of a stage with projection stays where it is.
    """
    module = jnp if isinstance(architecture, jax.Array) else np
    values = module.asarray(architecture)
    parts = []
    for stage, where in zip(self.stages, self.stage_slices):
      first = where.start + int(stage.projection)
      part = values[..., first : where.stop]
      order = (part == 0).argsort(axis=-1, stable=True)
      parts += [values[..., where.start : first], module.take_along_axis(part, order, -1)]
    return module.concatenate(parts, -1)

  def key(self, architecture: Sequence[int]) -> str:
    """What evaluations of an architecture are stored under: its canonical form, as `5.3.0|...`."""
    canonical = [str(int(option)) for option in self.canonical(self.check(architecture))]
    return "|".join(".".join(canonical[where]) for where in self.stage_slices)

  def from_key(self, key: str) -> tuple[int, ...]:
    """The canonical architecture that `key` wrote."""
    return self.check([int(option) for option in key.replace("|", ".").split(".")])

  def mask(self, architecture: Any) -> Any:
    """The set of elements. Shape `[..., positions] -> [..., n]` bool; traceable."""
    module = jnp if isinstance(architecture, jax.Array) else np
    values = module.asarray(architecture)[..., None]
    chosen = values == module.arange(1, len(self.options) + 1)
    return chosen.reshape(*values.shape[:-2], self.elements)

  def architecture(self, mask: Any) -> Any:
    """The architecture of a set, at most one element a position. `[..., n] -> [..., positions]`."""
    module = jnp if isinstance(mask, jax.Array) else np
    chosen = module.asarray(mask).reshape(*mask.shape[:-1], self.positions, len(self.options))
    return (chosen * module.arange(1, len(self.options) + 1)).sum(-1).astype(np.int32)

  def canonical_mask(self, mask: jax.Array) -> jax.Array:
    """The mask of the canonical form. Shape `[n] -> [n]`; traceable."""
    return self.mask(self.canonical(self.architecture(mask)))

  def text(self, architecture: Sequence[int]) -> str:
    """One readable line; `parse` reads it."""
    names = [EMPTY] + [option.name for option in self.options]
    words = [names[option] for option in self.check(architecture)]
    return " | ".join(" ".join(words[where]) for where in self.stage_slices)

  def parse(self, text: str) -> tuple[int, ...]:
    """Reads what `text` wrote. A stage may leave out empty positions at its end.

    Raises:
      ValueError: If a name or the number of stages or positions is wrong.
    """
    return self.check(numbers_of(text, self.stages, self.options))

  def distinct(self) -> int:
    """Number of different networks that contain the start set, whatever they cost."""
    total = 1
    for stage, where in zip(self.stages, self.stage_slices):
      kept = sum(option != 0 for option in self.start[where])
      opening = 1
      if stage.projection:
        opening = 1 if self.start[where.start] else len(self.options) + 1
        kept = max(kept, 1)
      total *= opening * sum(len(self.options) ** k for k in range(stage.positions - kept + 1))
    return total


def numbers_of(text: str, stages: Sequence[Stage], options: Sequence[Option]) -> tuple[int, ...]:
  """An architecture written as text, see `SearchSpace.parse`; whether it is allowed is not checked.

  Raises:
    ValueError: If stages are missing or too long, or an option is unknown.
  """
  numbers = {EMPTY: 0} | {option.name: i + 1 for i, option in enumerate(options)}
  parts = [part.split() for part in text.split("|")]
  if len(parts) != len(stages):
    raise ValueError(f"{len(parts)} stages in {text!r}; the space has {len(stages)}")
  values: list[int] = []
  for index, (part, stage) in enumerate(zip(parts, stages)):
    if unknown := [word for word in part if word not in numbers]:
      raise ValueError(f"unknown option {unknown[0]!r}; allowed: {', '.join(numbers)}")
    if len(part) > stage.positions:
      raise ValueError(f"stage {index} has {stage.positions} positions, not {len(part)}")
    values += [numbers[word] for word in part] + [0] * (stage.positions - len(part))
  return tuple(values)

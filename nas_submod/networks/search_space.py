"""A search space: stages of positions, and the options for each position.

An architecture has an option for each position: integers `[positions]`, 0 for an empty position,
`i` for `options[i - 1]`. As a set it is a mask over the elements (position, option), `n =
positions * len(options)`. As text it is one line: `e6 e3 . | e6 . .`. Empty positions do not
change the network, so the canonical form pushes the blocks of every stage to the left.
"""

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.networks.blocks import Option
from nas_submod.validation import located

EMPTY = "."


@dataclasses.dataclass(frozen=True)
class Stage:
  """Positions whose blocks have the same output shape.

  Attributes:
    channels: Output channels of every block.
    positions: The largest number of blocks.
    stride: Stride of the first block, 1 or 2; the others have stride 1. An empty stage without
      projection passes its stride on: it multiplies the next block's stride.
    projection: Whether an empty first position becomes a 1x1 convolution and batch norm with the
      stage's channels and stride (NAS-Bench-Macro), instead of nothing (RCNet). The canonical form
      then leaves the first position where it is.
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
    name: The name of the space.
    image_shape: Height, width and channels of an image.
    classes: Number of classes, the outputs of the classifier.
    stem_channels: Output channels of the first convolution.
    stages: The stages, in order.
    options: The block types.
    start: The start set: an option for every position, in canonical form. Every network of a search
      contains its blocks.
    stem_stride: Stride of the first convolution.
    stem_block_channels: Output channels of the inverted residual of expansion 1; 0 for none.
    head_channels: Output channels of the last 1x1 convolution; 0 for none.
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
    for name in names:
      if name == EMPTY or "|" in name or re.fullmatch(r"[\d,()\[\]]+", name):
        raise ValueError(
          f"space {self.name}: {name!r} cannot name an option; allowed: words without '|' that are "
          f"not numbers and not {EMPTY!r}"
        )
    object.__setattr__(self, "start", tuple(self.start) or (0,) * self.positions)
    self.check(self.start)
    if tuple(self.canonical(self.start)) != self.start:
      raise ValueError(f"space {self.name}: the start set must be pushed to the left in each stage")

  @functools.cached_property
  def positions(self) -> int:
    """Number of positions in all stages."""
    return sum(stage.positions for stage in self.stages)

  @property
  def elements(self) -> int:
    """Size of the ground set: positions times options."""
    return self.positions * len(self.options)

  @functools.cached_property
  def stage_slices(self) -> tuple[slice, ...]:
    """The positions of each stage."""
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

  def needs_block(self, stage: int) -> bool:
    """Whether every network has a block here: the start set has one, and there is no projection."""
    return not self.stages[stage].projection and any(self.start[self.stage_slices[stage]])

  def may_be_empty(self, stage: int) -> bool:
    """Whether networks may have neither a block nor a projection in this stage."""
    return not self.stages[stage].projection and not self.needs_block(stage)

  def check(self, architecture: Sequence[int]) -> tuple[int, ...]:
    """Returns a valid architecture as a tuple.

    Raises:
      ValueError: If its length is wrong, it holds an unknown option, or it leaves a stage empty
        where the start set has a block.
    """
    try:
      given = np.asarray(architecture).ravel()
      values = tuple(int(option) for option in given)
      are_whole = given.dtype.kind in "biufO" and np.all(given == np.array(values, object))
    except (ValueError, TypeError, OverflowError):
      are_whole = False
    if not are_whole:
      raise ValueError(f"architecture is {architecture}; allowed are whole numbers")
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
    for index, where in enumerate(self.stage_slices):
      if self.needs_block(index) and not any(values[where]):
        raise ValueError(
          f"stage {index + 1} is empty; networks of space {self.name} need a block there, as in "
          "the start set"
        )
    return values

  def canonical(self, architecture: Any) -> Any:
    """The same network with every stage pushed to the left. `[..., positions]`; traceable.

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
    """The canonical form as text such as `5.3.0|...`, the key of its evaluations."""
    canonical = [str(int(option)) for option in self.canonical(self.check(architecture))]
    return "|".join(".".join(canonical[where]) for where in self.stage_slices)

  def from_key(self, key: str) -> tuple[int, ...]:
    """The canonical architecture of a key, the inverse of `key`.

    Raises:
      ValueError: If it is no key of the space.
    """
    with located(f"{key!r} is no network of space {self.name}"):
      options = key.replace("|", ".").split(".")
      if not all(option.isdecimal() for option in options):
        raise ValueError(f"allowed: such as {self.key(self.start)}")
      found = self.check([int(option) for option in options])
      if self.key(found) != key:
        raise ValueError(f"allowed: its key, {self.key(found)}")
    return found

  def mask(self, architecture: Any) -> Any:
    """Masks of architectures. `[..., positions] -> [..., n]` bool; traceable."""
    module = jnp if isinstance(architecture, jax.Array) else np
    values = module.asarray(architecture)[..., None]
    chosen = values == module.arange(1, len(self.options) + 1)
    return chosen.reshape(*values.shape[:-2], self.elements)

  def architecture(self, mask: Any) -> Any:
    """Architectures of masks, the inverse of `mask`. `[..., n] -> [..., positions]`; traceable."""
    module = jnp if isinstance(mask, jax.Array) else np
    chosen = module.asarray(mask).reshape(*mask.shape[:-1], self.positions, len(self.options))
    return (chosen * module.arange(1, len(self.options) + 1)).sum(-1).astype(np.int32)

  def canonical_mask(self, mask: jax.Array) -> jax.Array:
    """The mask of the canonical form. `[n] -> [n]` bool; traceable."""
    return self.mask(self.canonical(self.architecture(mask)))

  def text(self, architecture: Sequence[int]) -> str:
    """The architecture as one line with the names of its options."""
    names = [EMPTY] + [option.name for option in self.options]
    words = [names[option] for option in self.check(architecture)]
    return " | ".join(" ".join(words[where]) for where in self.stage_slices)

  def parse(self, text: str) -> tuple[int, ...]:
    """Reads an architecture from text, the inverse of `text`.

    A stage may omit empty positions at its end.

    Raises:
      ValueError: If a name, the number of stages or the number of positions is wrong.
    """
    return self.check(numbers_of(text, self.stages, self.options))

  def distinct(self) -> int:
    """Number of distinct networks that contain the start set, within and over budget."""
    total = 1
    for stage, where in zip(self.stages, self.stage_slices):
      kept = sum(option != 0 for option in self.start[where])
      opening = 1
      if stage.projection:
        opening = 1 if self.start[where.start] else len(self.options) + 1
        kept += not self.start[where.start]
      total *= opening * sum(len(self.options) ** k for k in range(stage.positions - kept + 1))
    return total


def numbers_of(text: str, stages: Sequence[Stage], options: Sequence[Option]) -> tuple[int, ...]:
  """The option numbers of a text, see `SearchSpace.parse`; `SearchSpace.check` is not called.

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
      raise ValueError(f"stage {index + 1} has {stage.positions} positions, not {len(part)}")
    values += [numbers[word] for word in part] + [0] * (stage.positions - len(part))
  return tuple(values)

"""The skeleton of a space, and the network of one set with a program of its own.

The skeleton is the stem, the heads, the shapes and the order of the blocks. The network of one set
is the reference for the universal network.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.networks import blocks, layers
from nas_submod.networks.layer import Layer
from nas_submod.networks.search_space import SearchSpace


def stem(space: SearchSpace) -> Layer:
  """The layers before the stages."""
  parts = [blocks.conv_bn(space.image_shape[-1], space.stem_channels, 3, space.stem_stride)]
  if space.stem_block_channels:
    channels = space.stem_channels, space.stem_block_channels
    parts.append(blocks.inverted_residual(*channels, 1, expansion=1))
  return layers.serial(*parts)


def head(space: SearchSpace, cin: int) -> Layer:
  """The layers after the stages, from `cin` channels to logits."""
  channels = space.head_channels or cin
  return layers.serial(
    *((blocks.conv_bn(cin, channels),) if space.head_channels else ()),
    layers.global_average_pool(),
    layers.dense(channels, space.classes),
  )


def block(space: SearchSpace, option: int, cin: int, cout: int, stride: int) -> Layer:
  """The layer of an option; 0 is the identity."""
  return space.options[option - 1].block(cin, cout, stride) if option else layers.identity()


def is_built_in(space: SearchSpace, option: int) -> bool:
  """Whether an option is a block of `blocks.BLOCKS`, whose trace says all that it computes."""
  if option == 0:
    return False
  made = space.options[option - 1].block
  return isinstance(made, blocks.Block) and made.function.startswith(f"{blocks.__name__}:")


def output_shape(space: SearchSpace, predecessor: int) -> tuple[int, int, int]:
  """Height, width and channels after the stem (0) or after stage `predecessor - 1`."""
  stages = space.stages[:predecessor]
  step = space.stem_stride * math.prod(stage.stride for stage in stages)
  height, width = (-(-side // step) for side in space.image_shape[:2])
  channels = space.stem_block_channels or space.stem_channels
  return height, width, stages[-1].channels if stages else channels


def opening_stride(space: SearchSpace, stage: int, predecessor: int) -> int:
  """Stride of the first block of a stage: its own times those of the empty stages before it."""
  return math.prod(skipped.stride for skipped in space.stages[predecessor : stage + 1])


def predecessors(space: SearchSpace, stage: int) -> tuple[int, ...]:
  """All possible predecessors of a stage: 0 is the stem, `1 + s` is stage s.

  The head counts as stage `len(stages)`.
  """
  found = [stage]
  while found[-1] > 0 and space.may_be_empty(found[-1] - 1):
    found.append(found[-1] - 1)
  return tuple(found)


def opening_options(space: SearchSpace, stage: int) -> range:
  """The options for the first position of a stage, without 0 if the stage needs a block."""
  return range(int(space.needs_block(stage)), len(space.options) + 1)


def opening_block(space: SearchSpace, stage: int, predecessor: int, option: int) -> Layer:
  """The layer at the first position of a stage."""
  *_, cin = output_shape(space, predecessor)
  cout, stride = space.stages[stage].channels, opening_stride(space, stage, predecessor)
  if option == 0 and space.stages[stage].projection:
    return blocks.conv_bn(cin, cout, stride=stride, active=False)
  return block(space, option, cin, cout, stride)


class Step(NamedTuple):
  """A stage of one network, or its head. Arrays share the leading axes of the architectures.

  Attributes:
    stage: Its number; `len(stages)` is the head.
    predecessor: The stage that feeds it, as `predecessors` numbers them. `[...]` int.
    opening: The option at its first position, None for the head. `[...]` int.
    others: The options at its other positions, None for the head. `[..., positions - 1]` int.
  """

  stage: int
  predecessor: Any
  opening: Any
  others: Any


def walk(space: SearchSpace, architecture: Any) -> Iterator[Step]:
  """Yields every stage of a network in its canonical form, then the head.

  Args:
    space: The space.
    architecture: Options. `[..., positions]`; NumPy or JAX, also traced.
  """
  module = jnp if isinstance(architecture, jax.Array) else np
  canonical = space.canonical(module.asarray(architecture))
  predecessor = module.zeros(canonical.shape[:-1], np.int32)
  for index, where in enumerate(space.stage_slices):
    opening = canonical[..., where.start]
    yield Step(index, predecessor, opening, canonical[..., where][..., 1:])
    predecessor = module.where(has_opening(space, index, opening), index + 1, predecessor)
  yield Step(len(space.stages), predecessor, None, None)


def has_opening(space: SearchSpace, stage: int, option: Any) -> Any:
  """Whether the first position of a stage has a layer: a block, or the projection."""
  return (option > 0) | space.stages[stage].projection


def build(space: SearchSpace, architecture: Sequence[int]) -> Layer:
  """The network of one set: images `[B, H, W, C]` to logits `[B, classes]`.

  Its parameters are `(stem, (stage of blocks, ...), head)`, without empty positions.

  Raises:
    ValueError: If the architecture does not belong to the space.
  """
  *steps, end = walk(space, np.array(space.check(architecture)))
  stages = []
  for index, predecessor, opening, others in steps:
    channels, parts = space.stages[index].channels, []
    if has_opening(space, index, opening):
      parts.append(opening_block(space, index, int(predecessor), int(opening)))
    parts += [block(space, int(o), channels, channels, 1) for o in others if o]
    stages.append(layers.serial(*parts))
  last = head(space, output_shape(space, int(end.predecessor))[-1])
  return layers.serial(stem(space), layers.serial(*stages), last)

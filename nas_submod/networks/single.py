"""The network of one set, with its own program: the reference for the universal network."""

from collections.abc import Sequence

from nas_submod.networks import blocks, layers
from nas_submod.networks.layers import Layer
from nas_submod.networks.search_space import SearchSpace


def stem(space: SearchSpace) -> Layer:
  """What comes before the stages."""
  parts = [blocks.conv_bn(space.image_shape[-1], space.stem_channels, 3, space.stem_stride)]
  if space.stem_block_channels:
    channels = space.stem_channels, space.stem_block_channels
    parts.append(blocks.inverted_residual(*channels, 1, expansion=1))
  return layers.serial(*parts)


def head(space: SearchSpace, cin: int) -> Layer:
  """What comes after the stages, `cin` channels in, logits out."""
  channels = space.head_channels or cin
  return layers.serial(
    *((blocks.conv_bn(cin, channels),) if space.head_channels else ()),
    layers.global_average_pool(),
    layers.dense(channels, space.classes),
  )


def block(space: SearchSpace, option: int, cin: int, cout: int, stride: int) -> Layer:
  """The layer of an option; 0 is the identity."""
  return space.options[option - 1].block(cin, cout, stride) if option else layers.identity()


def output_channels(space: SearchSpace, predecessor: int) -> int:
  """Channels after the stem (0) or after stage `predecessor - 1`."""
  if predecessor:
    return space.stages[predecessor - 1].channels
  return space.stem_block_channels or space.stem_channels


def predecessors(space: SearchSpace, stage: int) -> tuple[int, ...]:
  """What may come before a stage: 0 for the stem, `1 + s` for stage s.

  The head counts as stage `len(stages)`.
  """
  found = [stage]
  while found[-1] > 0 and space.may_be_empty(found[-1] - 1):
    found.append(found[-1] - 1)
  return tuple(found)


def opening_options(space: SearchSpace, stage: int) -> range:
  """What may stand first in a stage; without 0 where a stage cannot be empty."""
  must = not space.may_be_empty(stage) and not space.stages[stage].projection
  return range(int(must), len(space.options) + 1)


def opening_block(space: SearchSpace, stage: int, predecessor: int, option: int) -> Layer:
  """The layer that stands first in a stage."""
  this = space.stages[stage]
  cin = output_channels(space, predecessor)
  if option == 0 and this.projection:
    return blocks.conv_bn(cin, this.channels, stride=this.stride, active=False)
  return block(space, option, cin, this.channels, this.stride)


def build(space: SearchSpace, architecture: Sequence[int]) -> Layer:
  """The network of one set: images `[B, H, W, C]` to logits `[B, classes]`.

  Its parameters are `(stem, (stage of blocks, ...), head)`, empty positions left out.

  Raises:
    ValueError: If the architecture does not belong to the space.
  """
  canonical = space.canonical(space.check(architecture))
  predecessor, stages = 0, []
  for index, (stage, where) in enumerate(zip(space.stages, space.stage_slices)):
    first, *others = (int(option) for option in canonical[where])
    parts = []
    if first or stage.projection:
      parts.append(opening_block(space, index, predecessor, first))
      predecessor = index + 1
    parts += [block(space, o, stage.channels, stage.channels, 1) for o in others if o]
    stages.append(layers.serial(*parts))
  last = head(space, output_channels(space, predecessor))
  return layers.serial(stem(space), layers.serial(*stages), last)

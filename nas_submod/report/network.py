"""The drawing of a network: a bar for each block, from the image down to the classes."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

from nas_submod.networks import output_shape
from nas_submod.networks.blocks import Block, Option
from nas_submod.networks.search_space import SearchSpace
from nas_submod.report.figure import INK, PANEL, RULE, SOFT, Plot, empty_figure, style
from nas_submod.report.markup import block_color

_WIDTH, _LEFT, _RIGHT = 360, 122, 356  # the figure's width and the widest bar's ends, in pixels
_ROW, _BAR, _GAP = 25, 20, 9  # a row, its bar, and the space between stages
_LETTER = 6.9  # largest width of a letter


class _Bar(NamedTuple):
  """A bar of the drawing: a layer, or a block of a stage."""

  text: str
  channels: int
  color: str


class _Group(NamedTuple):
  """Bars whose outputs have the same size."""

  name: str
  size: tuple[int, int]
  bars: tuple[_Bar, ...]


def draw(space: SearchSpace, architecture: Sequence[int]) -> Plot:
  """Draws a network; empty positions are not drawn."""
  groups = list(_groups(space, architecture))
  # The convolution of the head may be much wider than all blocks.
  widest = max(bar.channels for group in groups if group.name != "head" for bar in group.bars)
  least = max(len(bar.text) for group in groups for bar in group.bars) * _LETTER + 10
  top = space.image_shape[0]
  rows = sum(len(group.bars) for group in groups)
  height = _ROW * (rows + 2) + _GAP * (len(groups) + 1)
  with style():
    figure, axes = empty_figure(_WIDTH, height)
    _label(axes, 0, "image", (top, space.image_shape[1]), top, space.image_shape[2])
    y = _ROW + _GAP
    for group in groups:
      channels = group.bars[-1].channels
      _label(axes, y, group.name, group.size, top, channels)
      for bar in group.bars:
        share = min(math.sqrt(bar.channels / widest), 1)
        _bar(axes, y, least + share * max(_RIGHT - _LEFT - least, 0), bar)
        y += _ROW
      y += _GAP
    _middle(axes, y + _ROW / 2, f"average pool → {space.classes} classes", SOFT)
  spoken = "; ".join(
    f"{group.name}, {group.size[0]} by {group.size[1]}, {group.bars[-1].channels} channels: "
    + ", ".join(bar.text for bar in group.bars)
    for group in groups
  )
  used = [space.options[o - 1] for o in sorted(set(map(int, architecture))) if o]
  named = "".join(f" {option.name}: {words}." for option in used if (words := _meaning(option)))
  caption = f"Each bar is a block; wider: more channels. The squares show the resolution.{named}"
  return Plot(
    "network",
    "The network",
    caption,
    figure,
    f"The network from the image to {space.classes} classes. {spoken}.",
  )


def _meaning(option: Option) -> str:
  """What an option is, in words; empty if its block has no name."""
  if not isinstance(option.block, Block):
    return ""
  function = option.block.function.split(":")[-1]
  words = [function]
  for key, value in sorted(option.block.arguments, key=lambda pair: pair[0] != "expansion"):
    if not (key.endswith("groups") and value == 1):
      words.append(key if value is True else f"no {key}" if value is False else f"{key} {value}")
  return ", ".join(words).replace("_", " ")


def _groups(space: SearchSpace, architecture: Sequence[int]) -> Iterator[_Group]:
  canonical = space.canonical(np.array(space.check(architecture)))
  first, *sizes = [output_shape(space, place)[:2] for place in range(len(space.stages) + 1)]
  stem = [_Bar("3x3 conv", space.stem_channels, PANEL)]
  if space.stem_block_channels:
    stem.append(_Bar("e1", space.stem_block_channels, PANEL))
  yield _Group("stem", first, tuple(stem))
  last = first
  for index, (stage, where) in enumerate(zip(space.stages, space.stage_slices)):
    options = [int(option) for option in canonical[where]]
    bars = [
      _Bar(space.options[o - 1].name, stage.channels, block_color(o, len(space.options)))
      for o in options
      if o
    ]
    if stage.projection and not options[0]:
      bars.insert(0, _Bar("1x1 conv", stage.channels, PANEL))
    if bars:
      last = sizes[index]
      yield _Group(f"stage {index + 1}", last, tuple(bars))
  if space.head_channels:
    yield _Group("head", last, (_Bar("1x1 conv", space.head_channels, PANEL),))


def _bar(axes: Axes, y: float, width: float, bar: _Bar) -> None:
  left = (_LEFT + _RIGHT - width) / 2
  corner = (left, y + (_ROW - _BAR) / 2)
  shape = "round,pad=0,rounding_size=3"
  axes.add_patch(FancyBboxPatch(corner, width, _BAR, boxstyle=shape, fc=bar.color, ec=RULE, lw=1))
  # Blocks are light on every page, layers have the colour of the page.
  _middle(axes, y + _ROW / 2, bar.text, INK if bar.color == PANEL else "black")


def _middle(axes: Axes, y: float, text: str, color: str) -> None:
  axes.text((_LEFT + _RIGHT) / 2, y, text, ha="center", va="center_baseline", color=color)


def _label(axes: Axes, y: float, name: str, size: tuple[int, int], top: int, channels: int) -> None:
  """The size of outputs in words, and as a square of that size."""
  height, width = (max(_BAR * math.sqrt(side / top), 3) for side in size)
  middle = y + _ROW / 2
  corner = (14 - width / 2, middle - height / 2)
  axes.add_patch(Rectangle(corner, width, height, fc=RULE, ec=SOFT, lw=1))
  for text, shift, color in ((name, -1, INK), (f"{size[0]}x{size[1]}, {channels} ch", 1, SOFT)):
    axes.text(32, middle + 6 * shift, text, va="center_baseline", color=color, fontsize=10)

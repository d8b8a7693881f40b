"""Known families of networks, as wide as budgets allow: what a user would try without a search."""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

from nas_submod import resources
from nas_submod.networks import blocks
from nas_submod.networks.search_space import SearchSpace, Stage


class Network(NamedTuple):
  """A network: a space and an option for every position."""

  space: SearchSpace
  architecture: tuple[int, ...]


def resnet(space: SearchSpace, width: int) -> Network:
  """ResNet-20 (He et al. 2016, section 4.2) of `width`, twice and four times as many channels.

  The two shortcuts that change the shape are 1x1 convolutions.
  """
  found = SearchSpace(
    name="resnet20",
    image_shape=space.image_shape,
    classes=space.classes,
    stem_channels=width,
    stages=(Stage(width, 3), Stage(2 * width, 3, 2), Stage(4 * width, 3, 2)),
    options=(blocks.option("residual"),),
  )
  return Network(found, (1,) * found.positions)


# Channels, blocks and strides of MobileNetV2 (Sandler et al. 2018, Table 2). As usual for images of
# 32x32 pixels, the stem keeps the resolution. The first row is the block of expansion 1.
_MOBILENET_V2 = (
  (16, 1, 1),
  (24, 2, 2),
  (32, 3, 2),
  (64, 4, 2),
  (96, 3, 1),
  (160, 3, 2),
  (320, 1, 1),
)
_MOBILENET_STEM, _MOBILENET_HEAD = 32, 1_280


def mobilenet_v2(space: SearchSpace, width: int, second_stride: int = 1) -> Network:
  """MobileNetV2 (Sandler et al. 2018) with `width / 64` times its channels, at least one.

  As usual for images of 32x32 pixels its second stage has stride 1. With stride 2, as in the paper,
  it takes less memory, so that wider ones fit a small device.
  """

  def scaled(channels: int) -> int:
    return max(round(channels * width / 64), 1)

  rows = [
    (c, n, second_stride if place == 1 else s) for place, (c, n, s) in enumerate(_MOBILENET_V2)
  ]
  found = SearchSpace(
    name="mobilenet_v2",
    image_shape=space.image_shape,
    classes=space.classes,
    stem_channels=scaled(_MOBILENET_STEM),
    stages=tuple(Stage(scaled(channels), count, stride) for channels, count, stride in rows),
    options=(blocks.option("depthwise_separable"), blocks.option(expansion=6, project_skip=False)),
    head_channels=scaled(_MOBILENET_HEAD),
  )
  return Network(found, (1,) + (2,) * (found.positions - 1))


FAMILIES: Mapping[str, Callable[[SearchSpace, int], Network]] = {
  "resnet20": resnet,
  "mobilenet_v2": mobilenet_v2,
  "mobilenet_v2_stride_2": functools.partial(mobilenet_v2, second_stride=2),
}


def widest(
  family: str, space: SearchSpace, budget: Mapping[str, float], table: resources.Resources
) -> Network:
  """The widest network of a family within budgets.

  Args:
    family: A key of FAMILIES.
    space: The space whose images and classes it has.
    budget: Limits by name of the resource.
    table: The resources.

  Raises:
    ValueError: If not even one channel fits, or there is no budget.
  """
  if not budget:
    raise ValueError("a widest network needs a budget")
  found, width = None, 1
  while True:
    network = FAMILIES[family](space, width)
    costs = resources.network_cost(*network, table)
    if any(costs[name] > limit for name, limit in budget.items()):
      break
    found, width = network, width + 1
  if found is None:
    raise ValueError(f"no {family} fits the budgets")
  return found

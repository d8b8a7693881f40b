"""The parts that the networks of a space are made of: stem, blocks at their places, and heads."""

from typing import NamedTuple

from nas_submod import files
from nas_submod.networks import single
from nas_submod.networks.graph import Shape
from nas_submod.networks.layer import Layer, trace_of
from nas_submod.networks.search_space import EMPTY, SearchSpace
from nas_submod.validation import located


class Part(NamedTuple):
  """A layer at a place of a space.

  Attributes:
    name: "stem", "stage2/from_stage1/e6" (first position of stage 2, after stage 1), "stage2/e6"
      (its other positions) or "head/from_stage3". Stages count from 1; option "." is the projection
      of an empty first position.
    layer: The layer.
    shape: Height, width and channels of its input.
    stage: The number of its stage from 0, the number of stages for a head, -1 for the stem.
    predecessor: The stage that feeds it, as in `predecessors`; None for stem and later positions.
    option: Its option, 0 for the projection; None for stem and head.
  """

  name: str
  layer: Layer
  shape: Shape
  stage: int
  predecessor: int | None = None
  option: int | None = None


def parts(space: SearchSpace) -> tuple[Part, ...]:
  """All parts of a space. An empty position has no part, unless it is a projection.

  A network has the stem, a part for each block and projection, and a head.
  """
  names = [EMPTY, *(option.name for option in space.options)]
  found = [Part("stem", single.stem(space), space.image_shape, -1)]
  for index, stage in enumerate(space.stages):
    for predecessor in single.predecessors(space, index):
      before = single.output_shape(space, predecessor)
      place = f"stage{index + 1}/from_{_feeding(predecessor)}"
      for option in single.opening_options(space, index):
        if single.has_opening(space, index, option):
          name = f"{place}/{names[option]}"
          with located(f"config.space: {name}"):
            layer = single.opening_block(space, index, predecessor, option)
          found.append(Part(name, layer, before, index, predecessor, option))
    if stage.positions > 1:
      shape = single.output_shape(space, index + 1)
      for option in range(1, len(names)):
        name = f"stage{index + 1}/{names[option]}"
        with located(f"config.space: {name}"):
          layer = single.block(space, option, stage.channels, stage.channels, 1)
        found.append(Part(name, layer, shape, index, None, option))
  count = len(space.stages)
  for predecessor in single.predecessors(space, count):
    before = single.output_shape(space, predecessor)
    name = f"head/from_{_feeding(predecessor)}"
    found.append(Part(name, single.head(space, before[-1]), before, count, predecessor))
  return tuple(found)


def _feeding(predecessor: int) -> str:
  return f"stage{predecessor}" if predecessor else "stem"


def fingerprint(space: SearchSpace) -> str:
  """Twelve characters that change if a part of the same name becomes another layer.

  The start set and the number of positions do not matter: they only decide which parts occur.
  """
  described = []
  for part in parts(space):
    if part.stage < 0 or part.predecessor == part.stage:  # Others occur for some start sets only.
      operations = trace_of(part.layer, part.shape).operations
      described.append((part.name, part.shape, [o._replace(path=()) for o in operations]))
  return files.fingerprint(repr(described).encode())

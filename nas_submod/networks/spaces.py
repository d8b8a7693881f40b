"""The known search spaces, and spaces from a config."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from nas_submod.networks import blocks
from nas_submod.networks.blocks import Option
from nas_submod.networks.search_space import SearchSpace, Stage, numbers_of
from nas_submod.validation import did_you_mean, unknown

_RCNET_CHANNELS = (24, 32, 64, 96, 160, 320)


def _rcnet(
  name: str, side: int, classes: int, stem_stride: int, strides: Sequence[int]
) -> SearchSpace:
  start = [0] * 36
  for position in (0, 6, 12, 24):
    start[position] = 5
  return SearchSpace(
    name=name,
    image_shape=(side, side, 3),
    classes=classes,
    stem_channels=32,
    stem_stride=stem_stride,
    stem_block_channels=16,
    stages=tuple(Stage(c, 6, stride) for c, stride in zip(_RCNET_CHANNELS, strides)),
    options=blocks.rcnet_options(),
    start=tuple(start),
    head_channels=1280,
  )


def rcnet_cifar100() -> SearchSpace:
  """The paper's space for 32x32 images of 100 classes: 36 positions, 6 types."""
  return _rcnet("rcnet_cifar100", 32, 100, 1, (1, 2, 2, 1, 2, 1))


def rcnet_imagenet() -> SearchSpace:
  """The paper's space for 224x224 images of 1,000 classes: 36 positions, 6 types."""
  return _rcnet("rcnet_imagenet", 224, 1000, 2, (2, 2, 2, 1, 2, 1))


def nas_bench_macro() -> SearchSpace:
  """NAS-Bench-Macro (Su et al., CVPR 2021): 8 positions, 2 options, CIFAR-10."""
  block = functools.partial(blocks.option, shuffle=False)
  return SearchSpace(
    name="nas_bench_macro",
    image_shape=(32, 32, 3),
    classes=10,
    stem_channels=32,
    stages=tuple(Stage(c, p, 2, projection=True) for c, p in ((64, 2), (128, 3), (256, 3))),
    options=(block(expansion=3), block(expansion=6, kernel=5)),
    head_channels=1280,
  )


def digits() -> SearchSpace:
  """RCNet scaled down to 8x8 images of ten digits: 12 positions, the six types of the paper.

  The start network has one block of the cheapest type, in the last stage.
  """
  return SearchSpace(
    name="digits",
    image_shape=(8, 8, 1),
    classes=10,
    stem_channels=8,
    stem_stride=2,
    stem_block_channels=8,
    stages=(Stage(8, 4), Stage(16, 4), Stage(32, 4, 2)),
    options=blocks.rcnet_options(),
    start=(0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0),
  )


def mlperf_tiny() -> SearchSpace:
  """Blocks and widths for small devices: 22 positions, 8 options, CIFAR-10.

  The resolution falls with the first block of 24 or 32 channels, and again with the first of 40 or
  64, so a network chooses its widths and how early it works on small images. The start network has
  no blocks.

  The image classifier of MLPerf Tiny (Banbury et al. 2021), `architectures.ARCHITECTURES`
  "resnet8", is a network of this space. It has 77,706 parameters with batch norm folded into the
  convolutions. The reference's Keras file holds 78,666: its 1x1 shortcuts have a bias and no batch
  norm. Its other seven convolutions, with 240 channels in total, have a bias and four batch norm
  numbers per channel, so 4 x 240 = 960 more. Here every convolution has batch norm and no bias:
  78,042 learned parameters. Folded, both are the same network.
  """
  return SearchSpace(
    name="mlperf_tiny",
    image_shape=(32, 32, 3),
    classes=10,
    stem_channels=16,
    stages=(Stage(16, 3), Stage(24, 6, 2), Stage(32, 5), Stage(40, 5, 2), Stage(64, 3)),
    options=tuple(
      blocks.option(**settings)
      for settings in (
        {"block": "residual"},
        {"block": "depthwise_separable"},
        {"expansion": 2},
        {"expansion": 3},
        {"expansion": 3, "kernel": 5},
        {"expansion": 4},
        {"expansion": 4, "squeeze_excite": True},
        {"expansion": 6},
      )
    ),
  )


SPACES: Mapping[str, Callable[[], SearchSpace]] = {
  space.__name__: space
  for space in (rcnet_cifar100, rcnet_imagenet, nas_bench_macro, digits, mlperf_tiny)
}


@functools.cache
def get(name: str) -> SearchSpace:
  """The known space with this name.

  Raises:
    ValueError: If it is unknown.
  """
  if name not in SPACES:
    raise ValueError(unknown("space", name, ", ".join(SPACES)))
  return SPACES[name]()


def from_config(config: Mapping[str, Any]) -> SearchSpace:
  """The space of a config: a known one with changed fields, or a user's own.

  Args:
    config: `name` and fields of `SearchSpace`. With a known name they override its fields.
      `stages` are mappings or tuples of the fields of `Stage`. `start` is integers, or text for
      `SearchSpace.parse`. `options` are mappings: arguments of `blocks.option`. Outside a
      ConfigDict they may be `Option`s.

  Raises:
    ValueError: If a field is unknown, missing or wrong.
  """
  fields = {key: value for key, value in config.items() if value is not None}
  allowed = [field.name for field in dataclasses.fields(SearchSpace)]
  if unknown := sorted(set(fields) - set(allowed)):
    raise ValueError(f"unknown field {unknown[0]!r} of a space; allowed: {', '.join(allowed)}")
  if "stages" in fields:
    fields["stages"] = tuple(map(_stage, fields["stages"]))
  if "options" in fields:
    fields["options"] = tuple(
      _option(option, isinstance(config, ConfigDict)) for option in fields["options"]
    )
  if "image_shape" in fields:
    fields["image_shape"] = tuple(fields["image_shape"])
  start = fields.pop("start", None)
  if fields.get("name") in SPACES:
    base = get(fields["name"])
    if start is None and {"stages", "options"}.isdisjoint(fields):
      return dataclasses.replace(base, **fields)
    fields = {f: getattr(base, f) for f in allowed if f != "start"} | fields
  else:
    required = [f.name for f in dataclasses.fields(SearchSpace) if f.default is dataclasses.MISSING]
    if missing := [name for name in required if name not in fields]:
      hint = did_you_mean(fields.get("name", ""), SPACES)
      raise ValueError(
        f"a space of your own needs {', '.join(missing)}; known names: {', '.join(SPACES)}{hint}"
      )
  if isinstance(start, str):
    start = numbers_of(start, fields["stages"], fields["options"])
  return SearchSpace(**fields, start=tuple(start or ()))


def _stage(stage: Any) -> Stage:
  try:
    if not isinstance(stage, Mapping):
      return Stage(*stage)
    return Stage(**{name: value for name, value in stage.items() if value is not None})
  except TypeError as error:
    allowed = ", ".join(field.name for field in dataclasses.fields(Stage))
    raise ValueError(f"config.space.stages holds {stage!r}; allowed fields: {allowed}") from error


def _option(option: Any, from_config_file: bool) -> Option:
  if not isinstance(option, Option | Mapping | ConfigDict):
    raise ValueError(
      f"config.space.options holds {option!r}; allowed: dictionaries, such as {{'expansion': 3}}"
    )
  if not isinstance(option, Option):
    return blocks.option(**option)
  if from_config_file:
    raise ValueError(
      f"config.space.options holds the object Option {option.name}, which config.json cannot hold: "
      f"name its function, {{'block': 'module:function', 'name': '{option.name}'}}"
    )
  return option

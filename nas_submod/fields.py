"""The fields of a config: their names, and the range of every number, in one place.

Limits that depend on the images, the space or another field are checked where they are used. Users
may name their own fields in `config.resources` and `config.budget`.
"""

import numbers
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from nas_submod.validation import did_you_mean

_INT32_MAX = 2**31 - 1


class Field(NamedTuple):
  """A field of a config.

  Attributes:
    allowed: What is allowed, in words.
    fits: Whether a value is allowed.
    required: Whether it must be set.
  """

  allowed: str
  fits: Callable[[Any], bool]
  required: bool = True

  @property
  def optional(self) -> "Field":
    """The same field, which may be missing or None."""
    return self._replace(required=False)


def is_number(value: Any) -> bool:
  """Whether a value is a finite number that is a float or can become one."""
  is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
  return is_real and abs(value) <= sys.float_info.max


def _is_whole(value: Any) -> bool:
  return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def whole(least: int, most: int = _INT32_MAX) -> Field:
  """Whole numbers from `least` to `most`."""
  words = f"whole numbers from {least} to {'2**31 - 1' if most == _INT32_MAX else most}"
  return Field(words, lambda value: _is_whole(value) and least <= value <= most)


def number(words: str, fits: Callable[[float], bool]) -> Field:
  """Finite numbers for which `fits` holds."""
  return Field(words, lambda value: is_number(value) and fits(value))


def one_of(*names: str) -> Field:
  """One of some names."""
  return Field(", ".join(names), lambda value: isinstance(value, str) and value in names)


def _increase(values: Any) -> bool:
  """Whether values are numbers above 0, each larger than the one before."""
  if isinstance(values, str) or not isinstance(values, Iterable):
    return False
  found = list(values)
  return all(map(is_number, found)) and all(a < b for a, b in zip([0, *found], found))


LIST = Field("a list", lambda value: isinstance(value, list | tuple))
TEXT = Field("text", lambda value: isinstance(value, str) and bool(value))
SECTION = Field("a dictionary", lambda value: hasattr(value, "items"))  # Or a ConfigDict.
FLAG = Field("True or False", lambda value: isinstance(value, bool))
POSITIVE = number("numbers above 0", lambda value: value > 0)
FROM_ZERO = number("numbers from 0", lambda value: value >= 0)
BELOW_ONE = number("numbers from 0 to below 1", lambda value: 0 <= value < 1)
SHARE = number("0 to 1", lambda value: 0 <= value <= 1)

# Fields of a training; `training.schedules` checks the duration against the images.
_RECIPE = {
  "steps": whole(0).optional,
  "epochs": FROM_ZERO.optional,
  "batch_size": whole(1),
  "learning_rate": POSITIVE,
  "schedule": one_of("multistep", "cosine", "constant"),
  "milestones": Field("increasing numbers above 0", _increase, False),
  "decay": number("numbers above 0, up to 1", lambda value: 0 < value <= 1).optional,
  "warmup_steps": whole(0).optional,
  "momentum": BELOW_ONE,
  "weight_decay": FROM_ZERO,
  "decay_kernels": FLAG.optional,
  "label_smoothing": BELOW_ONE,
  "crop_padding": whole(0),
  "flip": FLAG,
  "clip_norm": FROM_ZERO.optional,
  "mixup": FROM_ZERO.optional,
  "dtype": one_of("float32", "bfloat16").optional,
}

SECTIONS: Mapping[str, Mapping[str, Field]] = {
  "train": _RECIPE | {"steps_per_call": whole(1)},
  "final": _RECIPE
  | {
    "average": BELOW_ONE.optional,
    "evaluate_on": one_of("test", "validation"),
    "log_every": whole(1),
    "checkpoint_every": POSITIVE,
    "keep_checkpoints": whole(1),
    "from_shared_weights": FLAG.optional,
  },
  "search": {
    "optimizer": TEXT,
    "options": SECTION,
    "max_evaluations": whole(0),
    "replicates": whole(1, 1_000),
    "finalists": whole(1, 1_000),
    "finalist_replicates": whole(2, 1_000),
    "references": Field(
      "a list of names and lines of networks",
      lambda value: LIST.fits(value) and all(map(TEXT.fits, value)),
      False,
    ),
    "time_limit": FROM_ZERO.optional,
  },
  "evaluation": {
    "method": one_of("training", "shared_weights").optional,
    "store": SECTION.optional,
    "least_share": SHARE.optional,
    "stores": whole(1, 1_000).optional,
    "statistics_images": whole(1).optional,
    "pool": whole(1, 1_000_000).optional,
  },
  "evaluation.store": {
    **{name: field.optional for name, field in _RECIPE.items()},
    "steps_per_call": whole(1).optional,
    "checkpoint_every": whole(1).optional,
  },
  "data": {
    "source": TEXT,
    "validation_size": whole(1),
    "train_size": whole(1).optional,
    "test_size": whole(1).optional,
    "image_size": whole(1, 8_192).optional,
    "split_seed": whole(0).optional,
    "classes": whole(2).optional,
    "data_dir": TEXT.optional,
    "stream": FLAG.optional,
  },
}

# The fields of these sections are read without a default, so None would fail later.
_NEVER_NONE = ("train", "final", "search")

# `networks.spaces` checks the other fields. Each field may come from a known space.
_SPACE = {
  "name": TEXT,
  "stages": LIST,
  "options": LIST,
  "start": Field(
    "text, or whole numbers from 0, one for each position",
    lambda value: (
      isinstance(value, str) or (isinstance(value, list | tuple) and all(map(whole(0).fits, value)))
    ),
  ),
  "image_shape": Field(
    "three whole numbers from 1: height, width, channels",
    lambda value: (
      isinstance(value, Collection) and len(value) == 3 and all(map(whole(1).fits, value))
    ),
  ),
  "classes": whole(2),
  "stem_channels": whole(1),
  "stem_stride": whole(1),
  "stem_block_channels": whole(0),
  "head_channels": whole(0),
}

# In the order of a stage that is written as a tuple.
_STAGE = {
  "channels": whole(1, 65_536),
  "positions": whole(1, 1_000),
  "stride": whole(1, 2).optional,
  "projection": FLAG.optional,
}
# The fields of an option that are not arguments of its block.
_NAMES = {"name": TEXT.optional, "block": TEXT.optional}

_LIMIT = number("numbers above 0", lambda value: True)  # `resources.limits` checks the range.

_TOP = {
  "seed": Field(
    "whole numbers from 0 to 2**32 - 1", lambda value: _is_whole(value) and 0 <= value < 2**32
  ),
  **dict.fromkeys(("score", "architecture"), TEXT),
  "front": LIST,
  **dict.fromkeys(("space", "resources", "budget"), SECTION),
  **{
    name: Field(f"fields {', '.join(fields)}", SECTION.fits)
    for name, fields in SECTIONS.items()
    if "." not in name
  },
}


def check_config(config: Any, needed: Collection[str]) -> None:
  """Checks the names of all fields of a config, and the range of every number.

  Args:
    config: The config: a ConfigDict, or nested dictionaries.
    needed: The parts that must be there, such as "train".

  Raises:
    ValueError: If a field is unknown, missing or out of range: one line that names it.
  """
  parts = {name: f._replace(required=name in needed) for name, f in _TOP.items()}
  check_section("config", config, parts)
  for name, fields in SECTIONS.items():
    here = config
    for part in name.split("."):
      here = None if here is None else dict(here.items()).get(part)
    if here is not None:
      check_section(f"config.{name}", here, fields, name not in _NEVER_NONE)
  given = dict(config.items())
  for name, known in (("space", _SPACE), ("resources", None), ("budget", None)):
    section = dict((given.get(name) or {}).items())
    # The names of these are checked where they are used.
    own = known or dict.fromkeys(section, TEXT if name == "resources" else _LIMIT)
    fields = {k: f.optional for k, f in own.items()}
    check_section(f"config.{name}", {k: v for k, v in section.items() if k in fields}, fields)
  space = dict((given.get("space") or {}).items())
  for index, stage in enumerate(space.get("stages") or ()):
    _check_stage(f"config.space.stages[{index}]", stage)
  for index, option in enumerate(space.get("options") or ()):
    named = {k: v for k, v in option.items() if k in _NAMES} if SECTION.fits(option) else {}
    check_section(f"config.space.options[{index}]", named, _NAMES)


def _check_stage(place: str, stage: Any) -> None:
  if isinstance(stage, list | tuple) and len(stage) <= len(_STAGE):
    stage = dict(zip(_STAGE, stage))
  if not SECTION.fits(stage):
    raise ValueError(f"{place} is {stage!r:.80}; allowed: {', '.join(_STAGE)}")
  check_section(place, stage, _STAGE)


def check_sizes(config: Any, image_shape: tuple[int, int, int]) -> None:
  """Checks that images are scaled to the size of the space, and that shifts are not too large.

  Raises:
    ValueError: If `image_size` differs, or `crop_padding` is larger than the image.
  """
  side, given = min(image_shape[:2]), dict(config.items())
  size = dict(given["data"].items()).get("image_size")
  # Before any image is read: images scaled to a wrong size may not fit in memory.
  if size and (size, size) != tuple(image_shape[:2]):
    raise ValueError(
      f"config.data.image_size is {size}, config.space.image_shape is {tuple(image_shape)}: set "
      "one of them to the other"
    )
  for name in ("train", "final"):
    padding = dict((given.get(name) or {}).items()).get("crop_padding") or 0
    if padding > side:
      raise ValueError(
        f"config.{name}.crop_padding is {padding}; allowed: 0 to {side}, the side of an image"
      )


def check_section(
  place: str, section: Any, fields: Mapping[str, Field], may_be_unset: bool = True
) -> None:
  """Checks the fields of one part of a config.

  Args:
    place: Its name, for error messages.
    section: The part: a ConfigDict or a dictionary.
    fields: Fields that it may have.
    may_be_unset: Whether None is the same as a field that is missing.

  Raises:
    ValueError: As for `check_config`.
  """
  given = dict(section.items())
  for name in given:
    if name not in fields:
      hint = did_you_mean(name, fields) or "."
      raise ValueError(f"unknown field {place}.{name}{hint} Allowed: {', '.join(fields)}")
  missing = [name for name, f in fields.items() if f.required and given.get(name) is None]
  if missing:
    raise ValueError(f"{place} lacks {', '.join(missing)}; configs/digits.py has every field")
  faults = []
  for name, value in given.items():
    if (value is not None or not may_be_unset) and not fields[name].fits(value):
      plain = value.to_dict() if hasattr(value, "to_dict") else value
      words = " ".join(repr(plain).split())
      faults.append(f"{place}.{name} is {words:.80}; allowed: {fields[name].allowed}")
  if faults:
    raise ValueError("; and ".join(faults))

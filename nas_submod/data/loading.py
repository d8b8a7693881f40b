"""Loads images and labels from a data source into splits.

Fields of `config.data`, with their defaults:

- `source`: "digits", the name of a TFDS set such as "fashion_mnist", or a kind of `sources.KINDS`,
  such as "npz:PATH" (`npz.py` describes the file), "folder:PATH" (`folders.py` describes the
  folder) or "fake" (random images, as many and as large as ImageNet's).
- `validation_size`: total number of images held out of training to score candidates.
- `train_size` (None): number of training images. None: all that are left.
- `test_size` (None): number of test images. None: all. A source without a test set needs this
  field; the test images are then taken from the training images. A TFDS set without labelled test
  images, such as ImageNet, is tested on its `validation` split.
- `split_seed` (0): seed of these draws. All are stratified: numbers per class differ by at most 1.
- `image_size` (None): height and width. Images of another size are scaled to cover it and cropped
  to the centre square. None: sizes stay as they are and must be equal.
- `classes` (None): labels are `0..classes-1`. None: 1 + the largest training label, or as many as
  have names.
- `data_dir` (None): folder of TFDS sets. None: the default of TFDS.
- `stream` (False): for final trainings on images that exceed the memory. Images are read during
  training: random crops to train, the centre 7/8 of the shorter side to evaluate, both scaled to
  `image_size`. Mean and std come from 1,000 training images.
"""

import functools
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from nas_submod.data import sources, stream
from nas_submod.data.source import Source, read_images
from nas_submod.data.splits import stratify
from nas_submod.fields import SECTIONS, check_section

_SAMPLE = 1_000  # Streamed images that give mean and std.


class Split(NamedTuple):
  """Images with their labels.

  Attributes:
    images: Shape `[N, H, W, C]`, uint8. Streamed images are not yet read.
    labels: Shape `[N]`, int32.
  """

  images: np.ndarray | stream.Images
  labels: np.ndarray


class Data(NamedTuple):
  """A whole data set.

  Attributes:
    train: Training images of candidates.
    validation: Images that score candidates.
    test: Images that only test final networks.
    classes: Number of classes; labels are `0..classes-1`.
    mean: Mean of the training pixels, in 0..255. Shape `[C]`, float32.
    std: Their standard deviation, or 1 for a constant channel. Shape `[C]`, float32.
    class_names: Names of the classes from the source, or else "0", "1" and so on.
    notes: What the source read in an unusual form, and what it left out.
  """

  train: Split
  validation: Split
  test: Split
  classes: int
  mean: np.ndarray
  std: np.ndarray
  class_names: tuple[str, ...] = ()
  notes: tuple[str, ...] = ()


def load(config: ConfigDict, may_stream: bool = False) -> Data:
  """Loads a data set into host memory, or prepares to stream it.

  The test images depend only on the source, `test_size` and `split_seed`. The validation images do
  not depend on `train_size`. A larger `train_size` contains the images of a smaller one.

  Args:
    config: `config.data`, with the fields of this module's docstring. `source` and
      `validation_size` are required.
    may_stream: Whether the caller accepts streamed images.

  Raises:
    ValueError: A field or the data are wrong. The message is one line that says what is allowed.
  """
  fields = _fields(config)
  if fields.stream and not may_stream:
    raise ValueError(
      "config.data.stream is for experiments.train; a search takes a part: config.data.train_size"
    )
  parts, classes = _draw_parts(fields)
  images = stream.Images if fields.stream else read_images
  splits = [
    Split(images(part.source, part.indices, fields.image_size), part.labels[part.indices])
    for part in parts
  ]
  _check_equal_shapes(splits, parts)
  train = splits[0]
  sample: slice | np.ndarray = slice(None)
  if fields.stream:
    sample = np.unique(np.linspace(0, len(train.labels) - 1, _SAMPLE).astype(int))
  mean, std = _statistics(train.images[sample])
  names = _class_names(parts[0].source, classes)
  notes = dict.fromkeys(note for part in parts for note in part.source.notes)
  if not fields.stream and (shared := _shared_images(splits)):
    count = len(splits[2].labels)
    notes[f"test images that are also training images: {shared:,} of {count:,}"] = None
  return Data(train, splits[1], splits[2], classes, mean, std, names, tuple(notes))


def _shared_images(splits: list[Split]) -> int:
  """How many test images equal one of the training or validation images."""
  train, validation, test = (
    [hash(image.tobytes()) for image in np.asarray(split.images)] for split in splits
  )
  known = {*train, *validation}
  return sum(image in known for image in test)


def join(first: Split, second: Split) -> Split:
  """Concatenates two splits of the same source."""
  labels = np.concatenate([first.labels, second.labels])
  match first.images, second.images:
    case stream.Images() as images, stream.Images() as others:
      return Split(images.joined(others), labels)
  return Split(np.concatenate([first.images, second.images]), labels)


def _fields(config: ConfigDict) -> ConfigDict:
  """Checks every field and fills in the defaults."""
  check_section("config.data", config, SECTIONS["data"])
  given = {name: value for name, value in config.to_dict().items() if value is not None}
  fields = dict.fromkeys(SECTIONS["data"]) | {"split_seed": 0, "stream": False} | given
  if fields["stream"] and fields["image_size"] is None:
    raise ValueError(
      "config.data.stream=True needs config.data.image_size: the size of the random crops"
    )
  return ConfigDict(fields)


class _Part(NamedTuple):
  """Chosen images of a source, with the checked labels of all its images."""

  source: Source
  indices: np.ndarray
  labels: np.ndarray


def _draw_parts(fields: ConfigDict) -> tuple[tuple[_Part, _Part, _Part], int]:
  """Chooses the training, validation and test images; also returns the number of classes."""
  train, test = sources.find(fields.source, fields.data_dir)
  labels = _labels(train, fields.classes)
  classes = fields.classes or max(int(labels.max()) + 1, len(train.class_names))
  hint = ""
  if not train.class_names:
    hint = "; number the classes of all labels without gaps"
    if fields.classes is not None:
      hint = f"; config.data.classes is {classes}"
  _check_every_class(train, labels, classes, hint)
  if test is None:
    test_indices, rest = _split_off_test_images(fields, labels, train)
    test_part = _Part(train, test_indices, labels)
  else:
    test_part, rest = _sample_test_images(fields, test, classes), np.arange(len(labels))
  seed = fields.split_seed
  draw = functools.partial(stratify, class_names=train.class_names)
  chosen, left = draw(
    labels[rest], fields.validation_size, (seed, 1), name="config.data.validation_size", leave=1
  )
  validation, rest = rest[chosen], rest[left]
  if fields.train_size is not None:
    chosen, _ = draw(labels[rest], fields.train_size, (seed, 2), name="config.data.train_size")
    rest = rest[chosen]
  return (_Part(train, rest, labels), _Part(train, validation, labels), test_part), classes


def _sample_test_images(fields: ConfigDict, test: Source, classes: int) -> _Part:
  """Chooses `test_size` images of a test set, or all."""
  labels = _labels(test, classes)
  if fields.test_size is None:
    return _Part(test, np.arange(len(labels)), labels)
  _check_every_class(test, labels, classes)
  seed, name = (fields.split_seed, 0), "config.data.test_size"
  chosen, _ = stratify(labels, fields.test_size, seed, name=name, class_names=test.class_names)
  return _Part(test, chosen, labels)


def _split_off_test_images(
  fields: ConfigDict, labels: np.ndarray, train: Source
) -> tuple[np.ndarray, np.ndarray]:
  """Splits training images into `test_size` test images and the rest. Returns indices of both."""
  if fields.test_size is None:
    notes = f" ({'; '.join(train.notes)})" if train.notes else ""
    raise ValueError(
      f'source "{fields.source}" has no test images{notes}: add them, or set config.data.test_size '
      "to take that many, evenly over classes, from the training images"
    )
  # Two of each class must be left: one to validate and one to train on.
  size, seed, name = fields.test_size, (fields.split_seed, 0), "config.data.test_size"
  return stratify(labels, size, seed, name=name, leave=2, class_names=train.class_names)


def _check_equal_shapes(splits: list[Split], parts: tuple[_Part, ...]) -> None:
  shape = splits[0].images.shape[1:]
  for split, part in zip(splits, parts):
    if (other := split.images.shape[1:]) != shape:
      hint = "make them equal or set config.data.image_size"
      raise ValueError(
        f"images of unequal shape: {list(shape)} in {parts[0].source.place}, {list(other)} in "
        f"{part.source.place}; {hint if other[-1] == shape[-1] else 'make their channels equal'}"
      )


def _labels(source: Source, classes: int | None) -> np.ndarray:
  """Returns labels in the allowed range; some classes may be empty. Shape `[N]`, int32."""
  labels = source.labels
  if not len(labels):
    raise ValueError(f"{source.place} has no image")
  if labels.dtype.kind not in "iu":
    raise ValueError(f"{source.place} has labels of type {labels.dtype}: integers are expected")
  lowest, highest = labels.min(), labels.max()
  if lowest < 0 or (classes is not None and highest >= classes):
    allowed = "0 and up" if classes is None else f"0 to {classes - 1}, for {classes} classes"
    raise ValueError(f"{source.place} has labels {lowest} to {highest}: allowed are {allowed}")
  return labels.astype(np.int32)


def _class_names(source: Source, classes: int) -> tuple[str, ...]:
  """The names of a source for classes `0..classes-1`, or else their numbers."""
  names = source.class_names or tuple(map(str, range(classes)))
  if len(names) < classes:
    raise ValueError(
      f"{source.place} has {classes} classes, but {len(names)} class names; a name for each is "
      "expected"
    )
  return names[:classes]


def _check_every_class(source: Source, labels: np.ndarray, classes: int, hint: str = "") -> None:
  present = np.unique(labels)
  if classes < 2:
    raise ValueError(f"{source.place} has only one class: at least 2 are expected")
  if len(present) < classes:
    missing = next(i for i, label in enumerate([*present, -1]) if label != i)
    named = f" ({source.class_names[missing]})" if missing < len(source.class_names) else ""
    if len(present) == classes - 1 and missing == 0:
      hint = "; if labels count from 1, subtract 1"
    raise ValueError(
      f"{source.place} has no image of class {missing}{named}: each of 0 to {classes - 1} is "
      f"expected{hint}"
    )


def _statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns mean and standard deviation of each channel. Shapes `[C]`, float32."""
  # Counts of the 256 values are exact and need no float copy of all images.
  counts = np.zeros((images.shape[-1], 256), np.int64)
  for piece in np.array_split(images, -(-len(images) // 1000)):
    for channel, count in enumerate(counts):
      count += np.bincount(piece[..., channel].ravel(), minlength=256)
  values, pixels = np.arange(256), images.size // images.shape[-1]
  mean = counts @ values / pixels
  variance = np.sum(counts * np.square(values - mean[:, None]), axis=1) / pixels
  std = np.sqrt(variance)
  return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)

"""Images and labels: one path from every source to arrays.

Fields of `config.data`, with their defaults:

- `source`: "digits", any TFDS name such as "fashion_mnist", "npz:PATH" (uint8 x_train, x_test of
  shape `[N, H, W]` or `[N, H, W, C]`, integer y_train, y_test) or "folder:PATH"
  (`PATH/train/CLASS/*.png` or .jpg and `PATH/test/CLASS`; classes numbered in order of name), or
  "fake": as many images as ImageNet has, of its size, that mean nothing.
- `validation_size`: images held out of training to score candidates, in total.
- `train_size` (None): images to train on. None: all the rest.
- `test_size` (None): images to test on. None: all. A source without a test set needs it: that many
  are taken from the training images. A TFDS set whose `test` is missing or has no labels, as
  ImageNet's, is tested on its `validation`.
- `split_seed` (0): seed of these draws. All are stratified: numbers per class differ by at most 1.
- `image_size` (None): height and width; images of another size are scaled until they cover it, and
  cut to the centre square. None: as they are, which must be equal.
- `classes` (None): labels are `0..classes-1`. None: as found in the training labels.
- `data_dir` (None): where TFDS sets live. None: the default of TFDS.
- `stream` (False): for a final training, whose images need not fit in memory then: they are read
  while it goes on, to train on as random crops, to evaluate as the centre of 7/8 of the shorter
  side, of `image_size` pixels; mean and std are those of 1,000 training images.
"""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from nas_submod.data import sources, stream
from nas_submod.data.splits import stratify

_REQUIRED = ("source", "validation_size")
_DEFAULTS = {
  "data_dir": None,
  "train_size": None,
  "test_size": None,
  "split_seed": 0,
  "image_size": None,
  "classes": None,
  "stream": False,
}
_SAMPLE = 1_000  # Images of which mean and std are taken where they are streamed.
_SMALLEST = {
  "validation_size": 1,
  "train_size": 1,
  "test_size": 1,
  "split_seed": 0,
  "image_size": 1,
  "classes": 2,
}


class Split(NamedTuple):
  """Images with their labels.

  Attributes:
    images: Shape `[N, H, W, C]`, uint8; not yet read if they are streamed.
    labels: Shape `[N]`, int32.
  """

  images: np.ndarray | stream.Images
  labels: np.ndarray


class Data(NamedTuple):
  """A whole data set.

  Attributes:
    train: What candidates train on.
    validation: What scores them.
    test: What a final network is tested on, and nothing else.
    classes: Labels are `0..classes-1`.
    mean: Of the training pixels, in 0..255. Shape `[C]`, float32.
    std: Their standard deviation; 1 for a channel that is constant. Shape `[C]`, float32.
  """

  train: Split
  validation: Split
  test: Split
  classes: int
  mean: np.ndarray
  std: np.ndarray


def load(config: ConfigDict, may_stream: bool = False) -> Data:
  """Loads a data set into host memory, or what is needed to stream it.

  The test images depend on nothing but the source, `test_size` and `split_seed`, the validation
  images not on `train_size`; a larger `train_size` contains the images of a smaller one.

  Args:
    config: `config.data`, with the fields of this module's docstring. `source` and
      `validation_size` must be there; the others have the defaults given there.
    may_stream: Whether the caller takes images that are not yet read.

  Raises:
    ValueError: A field or the data are not as they must be; one line says what is allowed.
  """
  fields = _fields(config)
  if fields.stream and not may_stream:
    raise ValueError("data.stream is for experiments.train; a search takes a part: train_size")
  train, test = sources.find(fields.source, fields.data_dir)
  labels = _labels(train, fields.classes)
  classes = fields.classes or int(labels.max()) + 1
  _check_every_class(train, labels, classes)
  seed, rest = fields.split_seed, np.arange(len(labels))
  if test is not None:
    test_labels = _labels(test, classes)
    test_indices = np.arange(len(test_labels))
    if fields.test_size is not None:
      _check_every_class(test, test_labels, classes)
      test_indices, _ = stratify(test_labels, fields.test_size, (seed, 0), name="test_size")
  elif fields.test_size is not None:
    test, test_labels = train, labels
    # Two of each class must be left: one to validate and one to train on.
    test_indices, rest = stratify(labels, fields.test_size, (seed, 0), name="test_size", leave=2)
  else:
    raise ValueError(
      f'source "{fields.source}" has no test images: add them, or set test_size to take that '
      "many, evenly over classes, from the training images"
    )
  chosen, left = stratify(
    labels[rest], fields.validation_size, (seed, 1), name="validation_size", leave=1
  )
  validation_indices, rest = rest[chosen], rest[left]
  if fields.train_size is not None:
    chosen, _ = stratify(labels[rest], fields.train_size, (seed, 2), name="train_size")
    rest = rest[chosen]

  origins = (train, rest, labels), (train, validation_indices, labels)
  images = stream.Images if fields.stream else sources.images
  splits = [
    Split(images(source, indices, fields.image_size), all_labels[indices])
    for source, indices, all_labels in (*origins, (test, test_indices, test_labels))
  ]
  shape = splits[0].images.shape[1:]
  for split, source in zip(splits, (train, train, test)):
    if split.images.shape[1:] != shape:
      raise ValueError(
        f"images of unequal shape: {list(shape)} in {train.place}, "
        f"{list(split.images.shape[1:])} in {source.place}; make them equal or set image_size"
      )
  sample: slice | np.ndarray = slice(None)
  if fields.stream:
    sample = np.unique(np.linspace(0, len(splits[0].labels) - 1, _SAMPLE).astype(int))
  mean, std = _statistics(splits[0].images[sample])
  return Data(splits[0], splits[1], splits[2], classes, mean, std)


def join(first: Split, second: Split) -> Split:
  """The images of two splits of one source."""
  labels = np.concatenate([first.labels, second.labels])
  match first.images, second.images:
    case stream.Images() as images, stream.Images() as others:
      return Split(images.joined(others), labels)
  return Split(np.concatenate([first.images, second.images]), labels)


def _fields(config: ConfigDict) -> ConfigDict:
  """The config with its defaults filled in, every field checked."""
  given = config.to_dict()
  allowed = (*_REQUIRED, *_DEFAULTS)
  unknown = sorted(set(given) - set(allowed))
  if unknown:
    raise ValueError(f"data has no field {', '.join(unknown)}: allowed are {', '.join(allowed)}")
  fields = _DEFAULTS | given
  for name in _REQUIRED:
    if fields.get(name) is None:
      raise ValueError(f"data.{name} is not given")
  for name in ("source", "data_dir"):
    if not isinstance(fields[name], str | None):
      raise ValueError(f"data.{name}={fields[name]!r}: a string is expected")
  if not isinstance(fields["stream"], bool):
    raise ValueError(f"data.stream={fields['stream']!r}: True or False is expected")
  if fields["stream"] and fields["image_size"] is None:
    raise ValueError("data.stream=True needs data.image_size: the size of the random crops")
  for name, smallest in _SMALLEST.items():
    value = fields[name]
    if value is None and _DEFAULTS.get(name, 0) is None:
      continue
    if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
      raise ValueError(f"data.{name}={value!r}: an integer of at least {smallest} is expected")
  return ConfigDict(fields)


def _labels(source: sources.Source, classes: int | None) -> np.ndarray:
  """Checked labels, but some classes may be empty. Shape `[N]`, int32."""
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


def _check_every_class(source: sources.Source, labels: np.ndarray, classes: int) -> None:
  present = np.unique(labels)
  if classes < 2:
    raise ValueError(f"{source.place} has only one class: at least 2 are expected")
  if len(present) < classes:
    missing = next(i for i, label in enumerate([*present, -1]) if label != i)
    raise ValueError(
      f"{source.place} has no image of class {missing}: each of 0 to {classes - 1} is expected"
    )


def _statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean and standard deviation of each channel. Shapes `[C]`, float32."""
  # From counts of the 256 values: exact, and without a float copy of all the images.
  counts = np.zeros((images.shape[-1], 256), np.int64)
  for piece in np.array_split(images, -(-len(images) // 1000)):
    for channel, count in enumerate(counts):
      count += np.bincount(piece[..., channel].ravel(), minlength=256)
  values, pixels = np.arange(256), images.size // images.shape[-1]
  mean = counts @ values / pixels
  variance = np.sum(counts * np.square(values - mean[:, None]), axis=1) / pixels
  std = np.sqrt(variance)
  return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)

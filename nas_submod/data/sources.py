"""Where images come from: TFDS, one npz file, or folders of image files."""

import io
import itertools
import pathlib
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from nas_submod.data import fake
from nas_submod.data.folders import find_folder
from nas_submod.data.pixels import as_array, decode, fit, on_threads
from nas_submod.data.tfds_sets import (
  ALLOWED,
  encoded_records,
  find_builder,
  not_prepared,
  read_labels,
)
from nas_submod.validation import first_line

_MODES = {1: "L", 4: "RGBA"}  # Of Pillow, by channels.


class Source(NamedTuple):
  """A labelled set whose images are read on demand.

  Attributes:
    place: Name of the set in error messages.
    labels: Unchecked labels. Shape `[N]`.
    read: Maps an index to a Pillow image or pixels `[H, W, C]`, uint8. Must be thread-safe.
    name: Maps an index to the name of the image in error messages.
    array: All images, if they are already in memory. Shape `[N, H, W, C]`, uint8.
  """

  place: str
  labels: np.ndarray
  read: Callable[[int], np.ndarray | Image.Image]
  name: Callable[[int], str]
  array: np.ndarray | None = None


def find(source: str, data_dir: str | None) -> tuple[Source, Source | None]:
  """Opens a data source.

  Args:
    source: "digits", a TFDS name, "npz:PATH", "folder:PATH" or "fake".
    data_dir: Where TFDS sets live. None: the default of TFDS.

  Returns:
    `(train, test)`; test is None where the source has none. A TFDS set whose `test` is missing or
    has no labels, which are -1 then (ImageNet), is tested on its `validation`.

  Raises:
    ValueError: There is no such source, or it does not hold labelled images.
  """
  kind, _, path = source.partition(":")
  if kind in ("npz", "folder"):
    if not path:
      raise ValueError(f'source "{source}" names no path: allowed are {ALLOWED}')
    location = pathlib.Path(path).expanduser()
    return _npz(location) if kind == "npz" else _folder(location)
  if source == "fake":
    return _fake("train", fake.TRAIN), _fake("test", fake.TEST)
  return _tfds(source, data_dir)


def images(source: Source, indices: np.ndarray, image_size: int | None) -> np.ndarray:
  """Reads only the given images and scales them to one size.

  Args:
    source: The set to read from.
    indices: Indices of the images. Shape `[K]`.
    image_size: Height and width; images of another size are scaled and cut to the centre square.
      None: as they are.

  Returns:
    Shape `[K, H, W, C]`, uint8.

  Raises:
    ValueError: The images are of unequal size and `image_size` is None, or one is not readable.
  """
  size = None if image_size is None else (image_size, image_size)
  if source.array is not None and size in (None, source.array.shape[1:3]):
    return source.array[indices]

  def read(index):
    image = source.read(int(index))
    return as_array(image) if size is None else fit(image, size)

  first = read(indices[0])
  found = np.empty((len(indices), *first.shape), np.uint8)
  found[0] = first

  def put(k):
    image = read(indices[k])
    if image.shape != first.shape:
      raise ValueError(
        f"images of unequal size: {source.name(indices[0])} is {_size(first)}, "
        f"{source.name(indices[k])} is {_size(image)}; make them equal or set image_size"
      )
    found[k] = image

  on_threads(put, range(1, len(indices)))
  return found


def _size(image: np.ndarray) -> str:
  return f"{image.shape[0]}x{image.shape[1]}"


def _of_array(place: str, values: np.ndarray, labels: np.ndarray) -> Source:
  """A source of an array `[N, H, W]` or `[N, H, W, C]`."""
  if values.dtype != np.uint8:
    hint = " (pixels 0..255, not floats 0..1)" if values.dtype.kind == "f" else ""
    raise ValueError(f"{place} is of type {values.dtype}: uint8 is expected{hint}")
  if values.ndim not in (3, 4) or 0 in values.shape:
    raise ValueError(
      f"{place} has shape {list(values.shape)}: allowed are [N, H, W] and [N, H, W, C], N >= 1"
    )
  if values.ndim == 3:
    values = values[..., None]
  if labels.ndim != 1 or len(labels) != len(values):
    raise ValueError(
      f"{place}: {len(values)} images, but labels of shape {list(labels.shape)}; "
      f"[{len(values)}] is expected"
    )
  return Source(place, labels, lambda i: values[i], lambda i: f"image {i} of {place}", values)


def _fake(split: str, count: int) -> Source:
  """ImageNet-like images for benchmarks: made in memory, each decoded as a JPEG."""
  place = f"fake {split}"

  def read(index):
    return decode(io.BytesIO(fake.jpeg(index)), f"image {index} of {place}", "RGB")

  labels = np.arange(count) % fake.CLASSES
  return Source(place, labels, read, lambda i: f"image {i} of {place}")


def _npz(path: pathlib.Path) -> tuple[Source, Source | None]:
  if not path.is_file():
    raise ValueError(f"no file {path}: npz:PATH takes one npz file")
  with path.open("rb") as file:
    try:
      archive = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
      raise ValueError(f"{path} is not an npz file, or a damaged one") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
      raise ValueError(f"{path} is not an npz file, but a single array")
    expected = ("x_train", "y_train", "x_test", "y_test")
    has_test = "x_test" in archive or "y_test" in archive
    missing = [key for key in expected[: 4 if has_test else 2] if key not in archive]
    if missing:
      raise ValueError(
        f"{path} lacks {', '.join(missing)}; it has {', '.join(archive) or 'nothing'} "
        f"(expected: {', '.join(expected)})"
      )

    def array(key: str) -> np.ndarray:
      try:
        values = archive[key]
      except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: {key} cannot be read: {first_line(error)}") from error
      if not isinstance(values, np.ndarray):
        raise ValueError(f"{path}: {key} is not an array")
      return values

    def source(split: str) -> Source:
      return _of_array(f"{path} x_{split}", array(f"x_{split}"), array(f"y_{split}"))

    return source("train"), source("test") if has_test else None


def _folder(path: pathlib.Path) -> tuple[Source, Source | None]:
  folder = find_folder(path)

  def source(split: str) -> Source:
    by_class = folder.files[split]
    flat = list(itertools.chain.from_iterable(by_class))
    labels = np.repeat(np.arange(len(by_class), dtype=np.int32), [len(files) for files in by_class])
    return Source(
      str(path / split),
      labels,
      lambda i: decode(flat[i], str(flat[i]), folder.mode),
      lambda i: str(flat[i]),
    )

  return source("train"), source("test") if "test" in folder.files else None


def _tfds(name: str, data_dir: str | None) -> tuple[Source, Source | None]:
  builder = find_builder(name, data_dir)
  known = list(builder.info.splits)  # Empty if it is not prepared, which is said below.
  if known and "train" not in known:
    raise ValueError(f"{name} has no split train: it has {', '.join(known)}")
  train = _of_builder(name, builder, "train")
  for split in (split for split in ("test", "validation") if split in known):
    test = _of_builder(name, builder, split)
    if np.any(test.labels >= 0):
      return train, test
  return train, None


def _of_builder(name: str, builder: Any, split: str) -> Source:
  features = builder.info.features
  image, label = _keys(builder.info.supervised_keys)
  if not {image, label} <= set(features) or features[image].np_dtype != np.uint8:
    raise ValueError(
      f"{name} is no set of labelled images: a uint8 image and a label are expected, it has "
      f"{', '.join(features)}"
    )
  try:
    records = encoded_records(builder, split)
  except NotImplementedError as error:
    raise ValueError(not_prepared(name, builder)) from error
  place = f"{name} {split}"
  mode = _MODES.get(features[image].shape[-1], "RGB")

  def read(index):
    found = records[index][image]
    if isinstance(found, bytes):
      return decode(io.BytesIO(found), f"image {index} of {place}", mode)
    return found

  labels = read_labels(builder, split, records, label)
  return Source(place, labels, read, lambda i: f"image {i} of {place}")


def _keys(supervised_keys: Any) -> tuple[str, str]:
  """Names of the image and of the label; those of TFDS may be nested, which images are not."""
  match supervised_keys:
    case (str(image), str(label)):
      return image, label
  return "image", "label"

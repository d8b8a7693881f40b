"""A data source: labels in memory, and images that are read on demand."""

import contextlib
import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from nas_submod.data.pixels import as_array, fit, on_threads


class Source(NamedTuple):
  """A labelled set whose images are read on demand.

  Attributes:
    place: Name of the set in error messages.
    labels: Unchecked labels. Shape `[N]`.
    read: Maps an index to a Pillow image or pixels `[H, W, C]`, uint8. Must be thread-safe.
    name: Maps an index to the name of the image in error messages.
    array: All images, if they are already in memory. Shape `[N, H, W, C]`, uint8.
    class_names: Class i has the i-th name. Empty if the source names no classes.
    notes: What was read in an unusual form, and what was left out.
  """

  place: str
  labels: np.ndarray
  read: Callable[[int], np.ndarray | Image.Image]
  name: Callable[[int], str]
  array: np.ndarray | None = None
  class_names: tuple[str, ...] = ()
  notes: tuple[str, ...] = ()


def read_images(source: Source, indices: np.ndarray, image_size: int | None) -> np.ndarray:
  """Reads only the given images and scales them to one size.

  Args:
    source: The set to read from.
    indices: Indices of the images. Shape `[K]`.
    image_size: Height and width. Images of another size are scaled and cut to the centre square.
      None: sizes stay as they are.

  Returns:
    Shape `[K, H, W, C]`, uint8.

  Raises:
    ValueError: An image is unreadable, or sizes differ and `image_size` is None.
  """
  size = None if image_size is None else (image_size, image_size)
  if source.array is not None and size in (None, source.array.shape[1:3]):
    return source.array[indices]

  def read(index):
    image = source.read(int(index))
    return as_array(image) if size is None else fit(image, size)

  first = read(indices[0])
  _check_memory(len(indices), first)
  found = np.empty((len(indices), *first.shape), np.uint8)
  found[0] = first

  def put(k):
    image = read(indices[k])
    if image.shape != first.shape:
      raise ValueError(
        f"images of unequal size: {source.name(indices[0])} is {_size(first)}, "
        f"{source.name(indices[k])} is {_size(image)}; make them equal or set "
        "config.data.image_size"
      )
    found[k] = image

  on_threads(put, range(1, len(indices)))
  return found


def _check_memory(count: int, image: np.ndarray) -> None:
  """Raises ValueError if as many images as large as this one do not fit into memory."""
  if (needed := count * image.nbytes) > (memory := _memory()):
    raise ValueError(
      f"{count:,} images of {'x'.join(map(str, image.shape))} take {needed / 1e9:.0f} GB; this "
      f"machine has {memory / 1e9:.0f} GB: set a smaller config.data.image_size, or "
      "config.data.train_size if these are training images; experiments.train also takes "
      "config.data.stream"
    )


# The memory that a container may use, in version 2 and version 1 of Linux's control groups.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def _memory() -> int:
  """Bytes of memory of this machine or, if it has less, of this container."""
  memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
  for path in _LIMITS:
    with contextlib.suppress(OSError, ValueError):  # No such file, or "max": no limit.
      memory = min(memory, int(pathlib.Path(path).read_text(encoding="utf-8")))
  return memory


def _size(image: np.ndarray) -> str:
  return f"{image.shape[0]}x{image.shape[1]}"

"""Encoded images to pixels: decoding and scaling by Pillow, which lets other threads run."""

import contextlib
import io
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from nas_submod.validation import first_line


def cores() -> int:
  """Processor cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_threads(function: Callable[[int], Any], items: Iterable[int]) -> list[Any]:
  """Calls a function for each item, as many at once as there are cores."""
  with ThreadPoolExecutor(cores()) as pool:
    return list(pool.map(function, items))


def mode_of(file: pathlib.Path, name: str) -> str:
  """The mode of an image file, as Pillow calls it; errors are those of `decode`."""
  with _opened(file, name) as image:
    return image.mode


def decode(file: pathlib.Path | io.BytesIO, name: str, mode: str) -> Image.Image:
  """Reads an image file.

  Args:
    file: The file or its content.
    name: What errors call it.
    mode: Of the result, such as "L" or "RGB".

  Raises:
    ValueError: It cannot be read.
  """
  with _opened(file, name) as image:
    return image.convert(mode)


@contextlib.contextmanager
def _opened(file: pathlib.Path | io.BytesIO, name: str) -> Iterator[Image.Image]:
  try:
    with Image.open(file) as image:
      if image.mode[0] in "IF":
        raise ValueError(f"more than 8 bits a channel (mode {image.mode}), 8 are expected")
      yield image
  except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
    raise ValueError(f"{name} is not usable: {first_line(error)}") from error


def extent(image: np.ndarray | Image.Image) -> tuple[int, int]:
  """Height and width in pixels."""
  return (image.height, image.width) if isinstance(image, Image.Image) else image.shape[:2]


def as_array(image: np.ndarray | Image.Image) -> np.ndarray:
  """The pixels. Shape `[H, W, C]`, uint8."""
  pixels = np.asarray(image)
  return pixels[..., None] if pixels.ndim == 2 else pixels


def fit(
  image: np.ndarray | Image.Image,
  size: tuple[int, int],
  box: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
  """Scales a part of an image, smoothing what becomes smaller (bilinear, as in Pillow).

  Args:
    image: Of Pillow, or its pixels `[H, W, C]`, uint8.
    size: Height and width of the result.
    box: The part, as left, top, right and bottom in pixels. None: the largest of the same
      proportions in the centre.

  Returns:
    Shape `[*size, C]`, uint8.
  """
  height, width = extent(image)
  if box is None:
    part = min(height / size[0], width / size[1])
    # The side that is used whole may come out longer by its rounding.
    part_width, part_height = min(part * size[1], width), min(part * size[0], height)
    left, top = (width - part_width) / 2, (height - part_height) / 2
    box = (left, top, left + part_width, top + part_height)
  if box == (0, 0, *size[::-1]) and (height, width) == size:
    return as_array(image)
  # Channel by channel where Pillow has no such image, or takes a channel for transparency.
  if not isinstance(image, Image.Image):
    bands = [Image.fromarray(channel) for channel in np.moveaxis(image, -1, 0)]
  else:
    bands = [image] if image.mode == "RGB" else list(image.split())
  scaled = [as_array(band.resize(size[::-1], Image.Resampling.BILINEAR, box)) for band in bands]
  return np.concatenate(scaled, axis=-1)

"""Encoded images to pixels: decoding and scaling by Pillow, which lets other threads run."""

import io
import os
import pathlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from nas_submod.tfds_sets import first_line


def cores() -> int:
  """Processor cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_threads(function: Callable[[int], np.ndarray], items: Iterable[int]) -> list[np.ndarray]:
  """Calls a function for each item, as many at once as there are cores."""
  with ThreadPoolExecutor(cores()) as pool:
    return list(pool.map(function, items))


def decode(file: pathlib.Path | io.BytesIO, name: str, mode: str | None) -> Any:
  """Reads an image file.

  Args:
    file: The file or its content.
    name: What errors call it.
    mode: Of Pillow, such as "L" or "RGB".

  Returns:
    Its pixels, shape `[H, W, C]`, uint8; without a mode, the mode that it has.

  Raises:
    ValueError: It cannot be read.
  """
  try:
    with Image.open(file) as image:
      if image.mode[0] in "IF":
        raise ValueError(f"more than 8 bits a channel (mode {image.mode}), 8 are expected")
      if mode is None:
        return image.mode
      pixels = np.asarray(image.convert(mode))
  except (OSError, SyntaxError, ValueError) as error:
    raise ValueError(f"{name} is not usable: {first_line(error)}") from error
  return pixels[..., None] if mode == "L" else pixels


def fit(
  image: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
  """Scales a part of an image, smoothing what becomes smaller (bilinear, as in Pillow).

  Args:
    image: Shape `[H, W, C]`, uint8.
    size: Height and width of the result.
    box: The part, as left, top, right and bottom in pixels. None: the largest of the same
      proportions in the centre.

  Returns:
    Shape `[*size, C]`, uint8.
  """
  height, width, channels = image.shape
  if box is None:
    part = min(height / size[0], width / size[1])
    left, top = (width - part * size[1]) / 2, (height - part * size[0]) / 2
    box = (left, top, left + part * size[1], top + part * size[0])
  if box == (0, 0, *size[::-1]) and (height, width) == size:
    return image
  # Pillow has no images of two channels, and takes four for transparent.
  whole = [image] if channels == 3 else np.moveaxis(image, -1, 0)
  parts = [
    np.asarray(Image.fromarray(part).resize(size[::-1], Image.Resampling.BILINEAR, box))
    for part in whole
  ]
  return parts[0] if channels == 3 else np.stack(parts, axis=-1)

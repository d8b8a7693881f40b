"""Decodes and scales images with Pillow, which releases the GIL so that threads run in parallel."""

import contextlib
import io
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from nas_submod.validation import first_line

# Extensions of files with 8 bits per channel that Pillow reads.
SUFFIXES = (
  *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
  *(".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"),
)


# By the EXIF tag Orientation.
_TURNS = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}


def cores() -> int:
  """Returns the number of processor cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_threads(function: Callable[[int], Any], items: Iterable[int]) -> list[Any]:
  """Calls a function for each item, on one thread per core."""
  with ThreadPoolExecutor(cores()) as pool:
    return list(pool.map(function, items))


def mode_of(file: pathlib.Path, name: str) -> str:
  """Returns the Pillow mode of an image file, read from its header; errors as in `decode`."""
  with _opened(file, name) as image:
    return image.mode


def decode(file: pathlib.Path | io.BytesIO, name: str, mode: str) -> Image.Image:
  """Reads the first picture of an image file, rotated as its EXIF data say.

  Args:
    file: The file or its content.
    name: Name of the image in error messages.
    mode: Pillow mode of the result, such as "L" or "RGB".

  Raises:
    ValueError: The image cannot be read.
  """
  with _opened(file, name) as image:
    image = turned(image)
    if "transparency" in image.info:  # Pillow warns of palettes with it.
      image = image.convert("RGBA")
    return image.convert(mode)


def turned(image: Image.Image) -> Image.Image:
  """The image, turned as its EXIF data say; as it is, if they cannot be read."""
  # `ImageOps.exif_transpose` also writes all EXIF data anew, and fails for one wrong tag.
  try:
    turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
  except Exception:  # Pillow raises many kinds of errors for broken data.
    turn = None
  return image if turn is None else image.transpose(turn)


@contextlib.contextmanager
def _opened(file: pathlib.Path | io.BytesIO, name: str) -> Iterator[Image.Image]:
  try:
    with Image.open(file) as image:
      # Pillow would silently clip or cut such values to 0..255. "BGR;16" has 5 or 6 bits a channel.
      stored = str(getattr(image, "tile", "")).replace("BGR;16", "")
      if image.mode[0] in "IF" or ";16" in stored:
        raise ValueError(f"more than 8 bits a channel (mode {image.mode}), 8 are expected")
      yield image
  except (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError) as error:
    raise ValueError(f"{name} is not usable: {first_line(error)}") from error


def extent(image: np.ndarray | Image.Image) -> tuple[int, int]:
  """Returns height and width in pixels."""
  return (image.height, image.width) if isinstance(image, Image.Image) else image.shape[:2]


def as_array(image: np.ndarray | Image.Image) -> np.ndarray:
  """Returns the pixels. Shape `[H, W, C]`, uint8."""
  pixels = np.asarray(image)
  return pixels[..., None] if pixels.ndim == 2 else pixels


def fit(
  image: np.ndarray | Image.Image,
  size: tuple[int, int],
  box: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
  """Scales a part of an image with Pillow's bilinear filter, which antialiases when it shrinks.

  Args:
    image: A Pillow image, or pixels `[H, W, C]`, uint8.
    size: Height and width of the result.
    box: Left, top, right and bottom of the part, in pixels. None: the largest centred part with
      the proportions of `size`.

  Returns:
    Shape `[*size, C]`, uint8.
  """
  height, width = extent(image)
  if box is None:
    part = min(height / size[0], width / size[1])
    # Rounding may make the full side longer than the image, which Pillow refuses.
    part_width, part_height = min(part * size[1], width), min(part * size[0], height)
    left, top = (width - part_width) / 2, (height - part_height) / 2
    box = (left, top, left + part_width, top + part_height)
  if box == (0, 0, *size[::-1]) and (height, width) == size:
    return as_array(image)
  # By channel: Pillow has no mode for some numbers of channels, and weights colours by alpha.
  if not isinstance(image, Image.Image):
    bands = [Image.fromarray(channel) for channel in np.moveaxis(image, -1, 0)]
  else:
    bands = [image] if image.mode == "RGB" else list(image.split())
  scaled = [as_array(band.resize(size[::-1], Image.Resampling.BILINEAR, box)) for band in bands]
  return np.concatenate(scaled, axis=-1)

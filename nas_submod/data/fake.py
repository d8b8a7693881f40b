"""The source `fake`: random images that cost as much to read as ImageNet's, for benchmarks."""

import functools
import io

import numpy as np
from PIL import Image

from nas_submod.data.pixels import decode
from nas_submod.data.source import Source

_TRAIN, _TEST, _CLASSES = 1_281_167, 50_000, 1_000
_SIZE = (500, 375)  # Width and height of most ImageNet images.
_DIFFERENT = 32
_QUALITY = 93  # Gives files of about 110 KB, the mean of ImageNet.


def open_source(path: str, data_dir: str | None) -> tuple[Source, Source]:
  """Opens the set, as `sources.Kind.open`. Each read decodes a JPEG file made in memory."""
  del path, data_dir
  return _source("train", _TRAIN), _source("test", _TEST)


def jpeg(index: int) -> bytes:
  """Returns a JPEG file with noise at every scale, as in photographs; image 32 repeats image 0."""
  return _make(index % _DIFFERENT)


def _source(split: str, count: int) -> Source:
  place = f"fake {split}"

  def read(index):
    return decode(io.BytesIO(jpeg(index)), f"image {index} of {place}", "RGB")

  return Source(place, np.arange(count) % _CLASSES, read, lambda i: f"image {i} of {place}")


@functools.cache
def _make(index: int) -> bytes:
  rng, pixels = np.random.default_rng(index), np.zeros((_SIZE[1], _SIZE[0], 3))
  for scale in (1, 2, 4, 8, 16, 32, 64, 128):
    small = rng.normal(size=(-(-_SIZE[1] // scale), -(-_SIZE[0] // scale), 3))
    bounded = np.clip(128 + 32 * small, 0, 255).astype(np.uint8)
    large = np.asarray(Image.fromarray(bounded).resize(_SIZE, Image.Resampling.BICUBIC))
    pixels += (large - 128.0) * scale**0.25
  pixels = np.clip(128 + 48 * pixels / pixels.std(), 0, 255)
  file = io.BytesIO()
  Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=_QUALITY)
  return file.getvalue()

"""Images like ImageNet's in everything that costs time, and like nothing in what they show."""

import functools
import io

import numpy as np
from PIL import Image

TRAIN, TEST, CLASSES = 1_281_167, 50_000, 1_000
_SIZE = (500, 375)  # Width and height, of most images of ImageNet.
_DIFFERENT = 32
_QUALITY = 93  # Gives files of about 110 KB, the mean of ImageNet.


def jpeg(index: int) -> bytes:
  """A JPEG file: noise at every scale, as in photographs; image 32 is image 0 again."""
  return _make(index % _DIFFERENT)


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

"""Fingerprints of images and labels: a config names its data, but does not hold them."""

import numpy as np

from nas_submod.data import stream
from nas_submod.data.loading import Data
from nas_submod.files import fingerprint

_NAMES = {"train": "training", "validation": "validation", "test": "test"}


def of_splits(data: Data, splits: tuple[str, ...]) -> dict[str, str]:
  """Fingerprints of the splits of a `Data`, from their number, shape, pixels and labels.

  Streamed images are not all read: their fingerprint covers their indices in the source, and the
  mean and standard deviation of the sample that a `Data` reads.

  Args:
    data: The images.
    splits: Names of fields: "train", "validation", "test".

  Returns:
    A description by name, such as "training images".
  """
  found = {}
  for name in splits:
    images, labels = getattr(data, name)
    count, *shape = images.shape
    if isinstance(images, stream.Images):
      hashed = fingerprint(*map(_bytes, (images.indices, data.mean, data.std)))
    else:
      hashed = fingerprint(_bytes(images))
    size = " x ".join(map(str, shape))
    found[f"{_NAMES[name]} images"] = f"{count:,} of {size}, {hashed}"
    found[f"{_NAMES[name]} labels"] = f"{len(labels):,}, {fingerprint(_bytes(labels))}"
  return found


def _bytes(array: np.ndarray) -> memoryview:
  return np.ascontiguousarray(array).data.cast("B")

"""Small data sets on disk, and helpers to compare them."""

import numpy as np
from ml_collections import ConfigDict
from PIL import Image


def config(source, validation_size=4, **fields):
  return ConfigDict({"source": str(source), "validation_size": validation_size, **fields})


def arrays(train=40, test=8, classes=4, shape=(5, 5, 3), seed=0):
  rng = np.random.default_rng(seed)
  return {
    "x_train": rng.integers(0, 256, (train, *shape), np.uint8),
    "y_train": np.arange(train) % classes,
    "x_test": rng.integers(0, 256, (test, *shape), np.uint8),
    "y_test": np.arange(test) % classes,
  }


def save(path, **changes):
  """Writes an npz of `arrays()` with changes; a value of None drops the key."""
  values = {k: v for k, v in (arrays() | changes).items() if v is not None}
  np.savez(path / "set.npz", **values)
  return f"npz:{path / 'set.npz'}"


def save_folder(path, train, test=None, size=(6, 6), mode="RGB", suffix=".png"):
  """Writes images of one colour each; returns the colours by split, class and number."""
  rng, colours = np.random.default_rng(0), {}
  for split, numbers in (("train", train), ("test", test or {})):
    for name, number in numbers.items():
      (path / split / name).mkdir(parents=True)
      for i in range(number):
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        file = path / split / name / f"{i}{suffix}"
        Image.new("RGB", size, colour).convert(mode).save(file)
        colours[split, name, i] = colour
  return colours


def per_class(labels, classes):
  return np.bincount(labels, minlength=classes)


def rows(images):
  return {image.tobytes() for image in images}

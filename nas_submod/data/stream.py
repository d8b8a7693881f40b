"""Images that are read, decoded and cropped on threads shortly before a training step needs them.

Batch k depends only on the seed and k. It does not depend on the first step of a run or on the
number of hosts, each of which reads its own part of every batch. Reading ahead (by grain) keeps the
devices busy if the processor is fast enough; `benchmarks/input_pipeline.py` measures that.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import grain
import numpy as np

from nas_submod import parallel
from nas_submod.data import pixels
from nas_submod.data.source import Source

# Random crops of Szegedy et al. 2015 (Inception): share of the area, and width over height.
_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)
_ATTEMPTS = 10
# Evaluated share of the shorter side: 224 of 256 pixels.
CENTRE = 0.875


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
  """Images of a source, not yet read.

  Attributes:
    source: The source.
    indices: Indices of the images in the source. Shape `[N]`.
    size: Height and width after cropping and scaling.
  """

  source: Source
  indices: np.ndarray
  size: int

  @functools.cached_property
  def shape(self) -> tuple[int, int, int, int]:
    """Shape of an array with all images: `(N, size, size, C)`."""
    return len(self.indices), *self.centre(0).shape

  def joined(self, other: "Images") -> "Images":
    """Returns these images followed by others of the same source."""
    return dataclasses.replace(self, indices=np.concatenate([self.indices, other.indices]))

  def random_crop(self, row: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a random part of an image (`crop_box`). Shape `[size, size, C]`, uint8."""
    image = self.source.read(int(self.indices[row]))
    return pixels.fit(image, (self.size, self.size), crop_box(rng, *pixels.extent(image)))

  def centre(self, row: int) -> np.ndarray:
    """Returns the centre, 7/8 of the shorter side. Shape `[size, size, C]`, uint8."""
    image = self.source.read(int(self.indices[row]))
    height, width = pixels.extent(image)
    side = CENTRE * min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    return pixels.fit(image, (self.size, self.size), (left, top, left + side, top + side))

  def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
    """Reads the centres of some images, selected as in an array. Shape `[K, size, size, C]`."""
    return np.stack(pixels.on_threads(self.centre, np.arange(len(self.indices))[rows].tolist()))


def crop_box(
  rng: np.random.Generator, height: int, width: int
) -> tuple[float, float, float, float]:
  """Draws the part of an image to train on (Szegedy et al. 2015).

  The share of the area is uniform in 0.08 to 1. The logarithm of width over height is uniform
  between log(3/4) and log(4/3). Both are drawn until the part fits, and its place is uniform. If
  ten draws do not fit, the result is the largest centred part with allowed proportions.

  Returns:
    Left, top, right and bottom in pixels.
  """
  for _ in range(_ATTEMPTS):
    area = rng.uniform(*_AREA) * height * width
    ratio = math.exp(rng.uniform(*np.log(_RATIO)))
    part_width, part_height = math.sqrt(area * ratio), math.sqrt(area / ratio)
    if part_width <= width and part_height <= height:
      left, top = rng.uniform(0, width - part_width), rng.uniform(0, height - part_height)
      return left, top, left + part_width, top + part_height
  part_width, part_height = min(width, height * _RATIO[1]), min(height, width / _RATIO[0])
  left, top = (width - part_width) / 2, (height - part_height) / 2
  return left, top, left + part_width, top + part_height


def training_batches(
  images: Images,
  labels: np.ndarray,
  seed: int,
  batch_size: int,
  steps: range,
  threads: int | None = None,
) -> grain.IterDataset:
  """Reads this process's part of the training batches of some steps.

  Each epoch draws a new permutation and drops the incomplete last batch. Each step draws new crops.

  Args:
    images: All training images.
    labels: Their labels. Shape `[N]`, int32.
    seed: Seed of permutations and crops.
    batch_size: B, over all processes.
    steps: Consecutive steps.
    threads: Number of threads that read and crop. None: one per core.

  Returns:
    For each step images `[B / processes, size, size, C]`, uint8, and labels `[B / processes]`.
  """
  per_epoch = len(labels) // batch_size
  places = parallel.own_part(np.arange(batch_size))

  # Holds two epochs: some threads may have begun the next while others finish this one.
  @functools.lru_cache(maxsize=2)
  def order(epoch):
    return np.random.default_rng((seed, 0, epoch)).permutation(len(labels))

  def read(step, place):
    epoch, batch = divmod(step, per_epoch)
    row = order(epoch)[batch * batch_size + place]
    return images.random_crop(row, np.random.default_rng((seed, 1, step, place))), labels[row]

  return _read_ahead(read, steps, places, threads or pixels.cores())


def evaluation_batches(images: Images, labels: np.ndarray, batch_size: int) -> grain.IterDataset:
  """Reads this process's part of all images in order, like `training_batches`; label -1 pads."""
  padding = np.zeros(images.shape[1:], np.uint8), np.int32(-1)

  def read(step, place):
    row = step * batch_size + place
    return (images.centre(row), labels[row]) if row < len(labels) else padding

  steps = range(-(-len(labels) // batch_size))
  return _read_ahead(read, steps, parallel.own_part(np.arange(batch_size)), pixels.cores())


def _read_ahead(
  read: Callable[[int, int], Any], steps: range, places: np.ndarray, threads: int
) -> grain.IterDataset:
  """Calls `read(step, place)` on threads and stacks the results of each step over places."""
  size = len(places)
  examples = grain.MapDataset.range(steps.start * size, steps.stop * size).map(
    lambda k: read(int(k) // size, int(places[k % size]))
  )
  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(size, 2 * threads))
  return examples.to_iter_dataset(options).batch(size)

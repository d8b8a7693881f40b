"""Images that stay where they are until a step wants them: read, decoded and cropped ahead of it.

Batch k is decided by the seed and k alone: not by the number of hosts, each of which reads its own
part of every batch, nor by the step that a training starts at. Threads read ahead (grain), so that
neither the training thread nor the devices wait, as long as the processor is fast enough:
`benchmarks/input_pipeline.py` measures that.
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
from nas_submod.data.sources import Source

# Of the random crops of Szegedy et al. 2015 (Inception): share of the area, width over height.
_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)
_ATTEMPTS = 10
# Of the shorter side, what is evaluated: 224 of 256 pixels.
_CENTRE = 0.875


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
  """Images of a source, not yet read.

  Attributes:
    source: Where they are.
    indices: Which ones. Shape `[N]`.
    size: Height and width of what is read.
  """

  source: Source
  indices: np.ndarray
  size: int

  @functools.cached_property
  def shape(self) -> tuple[int, int, int, int]:
    """As if all of them were in an array: `(N, size, size, C)`."""
    return len(self.indices), *self.centre(0).shape

  def joined(self, other: "Images") -> "Images":
    """These images and then those; both of the same source."""
    return dataclasses.replace(self, indices=np.concatenate([self.indices, other.indices]))

  def random_crop(self, row: int, rng: np.random.Generator) -> np.ndarray:
    """A random part of an image (`crop_box`). Shape `[size, size, C]`, uint8."""
    image = self.source.read(int(self.indices[row]))
    return pixels.fit(image, (self.size, self.size), crop_box(rng, *pixels.extent(image)))

  def centre(self, row: int) -> np.ndarray:
    """The square in the centre, 7/8 of the shorter side. Shape `[size, size, C]`, uint8."""
    image = self.source.read(int(self.indices[row]))
    height, width = pixels.extent(image)
    side = _CENTRE * min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    return pixels.fit(image, (self.size, self.size), (left, top, left + side, top + side))

  def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
    """Reads the centres of some images, as if all were an array. Shape `[K, size, size, C]`."""
    return np.stack(pixels.on_threads(self.centre, np.arange(len(self.indices))[rows].tolist()))


def crop_box(
  rng: np.random.Generator, height: int, width: int
) -> tuple[float, float, float, float]:
  """Draws the part of an image to train on.

  Its share of the area is uniform in 0.08 to 1 and the logarithm of its width over its height
  uniform between those of 3/4 and 4/3, drawn again until it fits, then placed uniformly. If ten
  draws do not fit, it is the largest part in the centre whose proportions are allowed.

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
  """This process's part of the batches of some steps.

  Each epoch has a permutation of its own, incomplete batches are dropped, and each image of a step
  is cropped anew.

  Args:
    images: All that is trained on.
    labels: Shape `[N]`, int32.
    seed: Of permutations and crops.
    batch_size: B, of all processes.
    steps: Which ones, without a gap.
    threads: That read and crop. None: one a core.

  Returns:
    Of each step the images `[B / processes, size, size, C]`, uint8, and labels `[B / processes]`.
  """
  per_epoch = len(labels) // batch_size
  places = parallel.own_part(np.arange(batch_size))

  # Threads that read ahead may be in the next epoch while others are in this one.
  @functools.lru_cache(maxsize=2)
  def order(epoch):
    return np.random.default_rng((seed, 0, epoch)).permutation(len(labels))

  def read(step, place):
    epoch, batch = divmod(step, per_epoch)
    row = order(epoch)[batch * batch_size + place]
    return images.random_crop(row, np.random.default_rng((seed, 1, step, place))), labels[row]

  return _read_ahead(read, steps, places, threads or pixels.cores())


def evaluation_batches(images: Images, labels: np.ndarray, batch_size: int) -> grain.IterDataset:
  """This process's part of all images in order, as `training_batches`; label -1 is padding."""
  padding = np.zeros(images.shape[1:], np.uint8), np.int32(-1)

  def read(step, place):
    row = step * batch_size + place
    return (images.centre(row), labels[row]) if row < len(labels) else padding

  steps = range(-(-len(labels) // batch_size))
  return _read_ahead(read, steps, parallel.own_part(np.arange(batch_size)), pixels.cores())


def _read_ahead(
  read: Callable[[int, int], Any], steps: range, places: np.ndarray, threads: int
) -> grain.IterDataset:
  """Stacks `read(step, place)` over places for one step after the other, on threads."""
  size = len(places)
  examples = grain.MapDataset.range(steps.start * size, steps.stop * size).map(
    lambda k: read(int(k) // size, int(places[k % size]))
  )
  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(size, 2 * threads))
  return examples.to_iter_dataset(options).batch(size)

"""What a program is given at each step: rows of arrays on its devices, or images read ahead."""

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import grain
import jax
import jax.numpy as jnp
import numpy as np

from nas_submod import parallel, training
from nas_submod.data import stream
from nas_submod.data.loading import Split
from nas_submod.validation import first_line

_EVAL_BATCH = 256  # Images on each device.


class Feed(NamedTuple):
  """Batches, for programs whose arguments are `(..., held, batch)`.

  Attributes:
    held: Images and labels on every device, of which a batch is rows; () where it is whole.
    batches: The first step to the batches from it on. Each is this process's part, with a leading
      axis of its devices: rows `[D, B]`, where -1 is padding, or images `[D, B, H, W, C]` and
      labels `[D, B]`, where -1 is padding.
  """

  held: Split | tuple[()]
  batches: Callable[[int], Generator[Any, None, None]]


def take(held: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
  """Images `[B, H, W, C]` and labels `[B]` of one device's part, inside a program."""
  if not held:
    return batch
  images, labels = held
  return images[batch], jnp.where(batch < 0, -1, labels[batch])


def of_training(
  split: Split,
  seed: int,
  batch_size: int,
  steps: int,
  devices: int,
  axis_name: str,
  threads: int | None = None,
) -> Feed:
  """Batches of `batch_size` images over all devices: a fresh permutation each epoch.

  Args:
    split: Arrays, or images that are not yet read.
    seed: With the number of a step, it decides its batch.
    batch_size: Images a step.
    steps: How many.
    devices: How many share a batch, of all processes.
    axis_name: That of the pmapped program.
    threads: That read images. None: one a core.
  """
  if isinstance(split.images, stream.Images):
    images = split.images
    return _read_ahead(
      lambda first: stream.training_batches(
        images, split.labels, seed, batch_size, range(first, steps), threads
      ),
      devices,
      axis_name,
    )
  order = training.batch_order((seed,), len(split.labels), batch_size, steps)
  return _of_rows(split, order, devices)


def of_evaluation(split: Split, devices: int, axis_name: str) -> Feed:
  """All images once, in order; arguments as for `of_training`."""
  count = len(split.labels)
  size = devices * min(_EVAL_BATCH, -(-count // devices))
  if isinstance(split.images, stream.Images):
    images = split.images
    return _read_ahead(
      lambda first: stream.evaluation_batches(images, split.labels, size), devices, axis_name
    )
  batches = -(-count // size)
  rows = np.pad(np.arange(count), (0, batches * size - count), constant_values=-1)
  return _of_rows(split, rows.astype(np.int32).reshape(batches, size), devices)


def _of_rows(split: Split, rows: np.ndarray, devices: int) -> Feed:
  held = parallel.copy_to_devices(split, devices // jax.process_count())
  return Feed(held, lambda first: (parallel.shards_of(part, devices) for part in rows[first:]))


def _read_ahead(batches: Callable[[int], grain.IterDataset], devices: int, axis_name: str) -> Feed:
  own = devices // jax.process_count()

  def start(first):
    on_devices = batches(first).map(lambda batch: parallel.shard(batch, own, axis_name))
    # One batch waits on the devices, beside the one in use, while the next is put together.
    ahead = iter(grain.experimental.ThreadPrefetchIterDataset(on_devices, prefetch_buffer_size=1))
    try:
      yield from ahead
    except ValueError as error:  # Grain adds lines of its own.
      raise ValueError(first_line(error)) from error
    finally:
      ahead.close()

  return Feed((), start)

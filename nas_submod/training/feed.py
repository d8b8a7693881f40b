"""Batches for the final programs: rows of arrays held on the devices, or images read ahead."""

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

_EVAL_BATCH = 256  # images on each device


class Feed(NamedTuple):
  """Batches, for programs whose arguments are `(..., held, batch)`.

  Attributes:
    held: Images and labels on every device, if batches are row numbers; () if they are images.
    batches: Maps the first step to an iterator over the batches from that step on. A batch is this
      process's part, with a leading axis for its devices: row numbers `[D, B]`, or images
      `[D, B, H, W, C]` and labels `[D, B]`. Row or label -1 is padding.
  """

  held: Split | tuple[()]
  batches: Callable[[int], Generator[Any, None, None]]


def select_batch(held: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
  """Images `[B, H, W, C]` and labels `[B]` of one device; for use inside a program."""
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
  threads: int | None = None,
) -> Feed:
  """Training batches of `batch_size` images over all devices, with a new permutation each epoch.

  Args:
    split: Arrays, or images that are not read yet.
    seed: Determines each batch, together with the step number.
    batch_size: Images per step.
    steps: Number of steps.
    devices: Number of devices that share a batch, over all processes.
    threads: Threads that read images; None for one per core.
  """
  if isinstance(split.images, stream.Images):
    images = split.images
    return _read_ahead(
      lambda first: stream.training_batches(
        images, split.labels, seed, batch_size, range(first, steps), threads
      ),
      devices,
    )
  order = training.batch_order((seed,), len(split.labels), batch_size, steps)
  return _of_rows(split, order, devices)


def evaluation_size(count: int, devices: int) -> int:
  """Images of a batch of `of_evaluation`, for `count` images on `devices` devices."""
  return devices * min(_EVAL_BATCH, -(-count // devices))


def of_evaluation(split: Split, devices: int) -> Feed:
  """Evaluation batches: all images once, in order. Arguments as for `of_training`."""
  count = len(split.labels)
  size = evaluation_size(count, devices)
  if isinstance(split.images, stream.Images):
    images = split.images
    return _read_ahead(lambda first: stream.evaluation_batches(images, split.labels, size), devices)
  batches = -(-count // size)
  rows = np.pad(np.arange(count), (0, batches * size - count), constant_values=-1)
  return _of_rows(split, rows.astype(np.int32).reshape(batches, size), devices)


def _of_rows(split: Split, rows: np.ndarray, devices: int) -> Feed:
  held = parallel.copy_to_devices(split, devices // jax.process_count())
  return Feed(held, lambda first: (parallel.process_shards(part, devices) for part in rows[first:]))


def _read_ahead(batches: Callable[[int], grain.IterDataset], devices: int) -> Feed:
  own = devices // jax.process_count()

  def start(first):
    on_devices = batches(first).map(lambda batch: parallel.shards_to_devices(batch, own))
    # While one batch is in use, one waits on the devices and the next is assembled.
    ahead = iter(grain.experimental.ThreadPrefetchIterDataset(on_devices, prefetch_buffer_size=1))
    try:
      yield from ahead
    except ValueError as error:  # Grain appends lines to the message.
      raise ValueError(
        f"{first_line(error)}; mend it: the same command continues from the last checkpoint, if any"
      ) from error
    finally:
      ahead.close()

  return Feed((), start)

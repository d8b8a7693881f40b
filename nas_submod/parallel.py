"""Devices: the only caller of `jax.pmap`."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def device_count() -> int:
  """Devices of all processes, one candidate or shard each."""
  return jax.device_count()


@functools.lru_cache(maxsize=64)
def pmap_candidates(
  function: Callable[..., Any], in_axes: tuple[int | None, ...], donate: tuple[int, ...] = ()
) -> jax.stages.Wrapped:
  """Maps `function` over devices, another candidate on each; made once per function.

  Args:
    function: A pure function of one candidate.
    in_axes: For each argument 0 (one slice per device) or None (the same on every device).
    donate: Arguments whose buffers the result may reuse.

  Returns:
    The pmapped function: arguments with axis 0 have a leading axis of this process's devices.
  """
  return jax.pmap(
    function,
    axis_name="devices",
    in_axes=in_axes,
    donate_argnums=donate,
    devices=jax.local_devices(),
  )


def spread(tree: Any) -> Any:
  """Arrays `[D, ...]`, a row on each device of this process, as `pmap_candidates` has them."""
  mesh = Mesh(np.array(jax.local_devices()), ("devices",))
  return jax.device_put(tree, NamedSharding(mesh, PartitionSpec("devices")))


def start_processes(
  coordinator_address: str | None, num_processes: int | None, process_id: int | None
) -> None:
  """Joins the processes of all hosts, before anything else is asked of JAX.

  Args:
    coordinator_address: `host:port` of process 0. None, as for the others, on a Cloud TPU or under
      Slurm, where JAX finds them itself.
    num_processes: How many there are.
    process_id: Which one this is, from 0.

  Raises:
    ValueError: If some but not all of them are given.
  """
  given = [value is not None for value in (coordinator_address, num_processes, process_id)]
  if any(given) and not all(given):
    raise ValueError("give all of coordinator_address, num_processes and process_id, or none")
  try:
    jax.distributed.initialize(coordinator_address, num_processes, process_id)
  except (ValueError, RuntimeError) as error:
    raise ValueError(f"the processes cannot be joined: {error}") from error


def on_first_process(function: Callable[[], Any]) -> Any:
  """Calls a function on process 0 alone; its result there, None elsewhere.

  Raises:
    ValueError: On all processes, if the function raises one on process 0.
  """
  result, error = None, None
  if jax.process_index() == 0:
    try:
      result = function()
    except ValueError as found:
      error = found
  if jax.process_count() > 1:
    failed = multihost_utils.broadcast_one_to_all(np.int32(error is not None))
    if failed and error is None:
      error = ValueError("process 0 refused to start; it says why")
  if error is not None:
    raise error
  return result


def broadcast(content: bytes) -> bytes:
  """What process 0 has, on all processes."""
  if jax.process_count() == 1:
    return content
  length = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
  sent = np.zeros(length, np.uint8)
  if jax.process_index() == 0:
    sent[:] = np.frombuffer(content, np.uint8)
  return np.asarray(multihost_utils.broadcast_one_to_all(sent), np.uint8).tobytes()


def own_part(items: Any) -> Any:
  """This process's part of a sequence or array that all processes have, in equal parts."""
  size = len(items) // jax.process_count()
  return items[jax.process_index() * size :][:size]


def gather(tree: Any) -> Any:
  """Joins the leading axes of what each process has. NumPy arrays, the same on all processes."""
  tree = jax.device_get(tree)
  return tree if jax.process_count() == 1 else multihost_utils.process_allgather(tree, tiled=True)


def devices_for(batch_size: int) -> int:
  """Devices that share a batch equally: all of all processes or, in one process, fewer.

  Raises:
    ValueError: If there are several processes and their devices cannot share the batch equally.
  """
  devices = math.gcd(batch_size, jax.device_count())
  if jax.process_count() > 1 and devices < jax.device_count():
    raise ValueError(
      f"batch_size {batch_size} cannot be shared equally by the {jax.device_count()} devices of "
      f"{jax.process_count()} processes; allowed are multiples of {jax.device_count()}"
    )
  return devices


def pmap_data(
  function: Callable[..., Any],
  in_axes: tuple[int | None, ...],
  devices: int,
  axis_name: str,
  donate: tuple[int, ...] = (),
) -> Callable[..., Any]:
  """Maps `function` over shards of a batch; its results must be equal on all devices.

  Args:
    function: A pure function that averages over `axis_name` whatever depends on the shard.
    in_axes: For each argument 0 (one slice per device of this process) or None (the same on every
      device).
    devices: How many devices take part, of all processes; see `devices_for`.
    axis_name: Name of the mapped axis.
    donate: Arguments whose buffers the result may reuse.

  Returns:
    The pmapped function; its results are replicated and have no device axis.
  """
  return jax.pmap(
    function,
    axis_name=axis_name,
    in_axes=in_axes,
    out_axes=None,
    devices=jax.devices()[:devices],
    donate_argnums=donate,
  )


def shards_of(rows: np.ndarray, devices: int) -> np.ndarray:
  """This process's part of what all devices share. Shape `[B] -> [its devices, B / devices]`."""
  return own_part(rows.reshape(devices, -1))


def own_rows(values: jax.Array, axis_name: str | None) -> jax.Array:
  """This device's rows of what is the same on every device of a mapped axis.

  Args:
    values: Drawn for a whole batch. Shape `[D * B, ...]`.
    axis_name: The axis of D devices. None: one device, and all rows are its own.

  Returns:
    Shape `[B, ...]`.
  """
  if axis_name is None:
    return values
  rows = values.shape[0] // jax.lax.axis_size(axis_name)
  return jax.lax.dynamic_slice_in_dim(values, jax.lax.axis_index(axis_name) * rows, rows)


def axis_size(axis_name: str | None) -> int:
  """Devices of a mapped axis; 1 without one."""
  return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def copy_to_devices(tree: Any, devices: int | None = None, axis_name: str = "devices") -> Any:
  """Copies arrays to devices once, for arguments that a pmapped function maps with None.

  Args:
    tree: Arrays.
    devices: How many devices of this process, all by default.
    axis_name: That of the pmapped function, if its results are to be its arguments without a
      second compilation.
  """
  mesh = Mesh(np.array(jax.local_devices()[:devices]), (axis_name,))
  return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shard(tree: Any, devices: int, axis_name: str) -> Any:
  """Puts this process's part of a batch on its devices, for a pmapped function that maps it with 0.

  Args:
    tree: Arrays of shape `[B, ...]`.
    devices: How many devices of this process.
    axis_name: That of the pmapped function.

  Returns:
    Arrays of shape `[devices, B / devices, ...]`.
  """
  mesh = Mesh(np.array(jax.local_devices()[:devices]), (axis_name,))
  parts = jax.tree.map(lambda leaf: leaf.reshape(devices, -1, *leaf.shape[1:]), tree)
  return jax.device_put(parts, NamedSharding(mesh, PartitionSpec(axis_name)))


def vmap_over_devices(
  function: Callable[..., Any], shared: Any, batches: Iterable[Any]
) -> Iterator[Any]:
  """Evaluates `function(shared, item)` for every item of batches, split over all devices.

  Inside one device the items are vmapped. A batch is padded with its first item. The next batch is
  started before the results of one are fetched.

  Args:
    function: A pure function of `(shared, item)`; pass the same object again to avoid a retrace.
    shared: A pytree, the same for every item.
    batches: Pytrees of NumPy arrays with a leading axis `[K]`.

  Yields:
    For each batch the results stacked on a leading axis `[K]`, NumPy arrays.
  """
  started: list[tuple[Any, int]] = []
  for batch in batches:
    count = jax.tree.leaves(batch)[0].shape[0]
    devices = min(jax.local_device_count(), count)
    rows = -(-count // devices)

    def split(leaf, devices=devices, rows=rows, count=count):
      padding = np.broadcast_to(leaf[:1], (devices * rows - count, *leaf.shape[1:]))
      return np.concatenate([leaf, padding]).reshape(devices, rows, *leaf.shape[1:])

    started.append((_pmap_vmap(function, devices)(shared, jax.tree.map(split, batch)), count))
    if len(started) > 1:
      yield _joined(*started.pop(0))
  yield from (_joined(*each) for each in started)


def _joined(results: Any, count: int) -> Any:
  """Results `[D, K / D, ...]` as NumPy arrays `[K, ...]`, without what was padded."""
  # To the host first: a reshape of shards is a collective, and several at once may deadlock on CPU.
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], jax.device_get(results))


@functools.lru_cache(maxsize=64)
def _pmap_vmap(function: Callable[..., Any], devices: int) -> Callable[..., Any]:
  return jax.pmap(
    jax.vmap(function, in_axes=(None, 0)),
    in_axes=(None, 0),
    devices=jax.local_devices()[:devices],
  )

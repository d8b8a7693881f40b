"""Devices and processes: the only module that calls `jax.pmap`.

- The search (`evaluation/`) trains one candidate per device: `pmap_candidates`, `copy_to_devices`,
  `rows_to_devices`, `own_part`, `gather`.
- The final training (`training/`) splits each batch over the devices: `devices_for`, `pmap_data`,
  `process_shards`, `shards_to_devices`, and inside the step `device_rows` and `axis_size`.
- Enumeration and scores with shared weights map many items over all devices: `vmap_over_devices`.
- Command lines join and synchronise processes: `start_processes`, `on_first_process`,
  `on_all_processes`, `broadcast`.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "devices"  # the name of every mapped axis


def device_count() -> int:
  """Number of devices of all processes."""
  return jax.device_count()


def pmap_candidates(
  function: Callable[..., Any],
  in_axes: tuple[int | None, ...],
  donate: tuple[int, ...] = (),
  devices: tuple[jax.Device, ...] | None = None,
) -> jax.stages.Wrapped:
  """Maps a function over devices, with one candidate on each.

  Args:
    function: A pure function of one candidate.
    in_axes: For each argument 0 (one slice per device) or None (equal on all devices).
    donate: Arguments whose buffers the result may reuse.
    devices: None for all of this process. For devices of a topology, the function can be lowered
      and compiled, but not called.

  Returns:
    The pmapped function. Arguments with axis 0 have a leading axis of the devices.
  """
  return jax.pmap(
    function,
    axis_name=AXIS,
    in_axes=in_axes,
    donate_argnums=donate,
    devices=devices or jax.local_devices(),
  )


def rows_to_devices(tree: Any) -> Any:
  """Puts one row of arrays `[D, ...]` on each device of this process, as for `pmap_candidates`."""
  mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
  return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(AXIS)))


def start_processes(
  coordinator_address: str | None, num_processes: int | None, process_id: int | None
) -> None:
  """Joins the processes of all hosts; must be called before any other use of JAX.

  All arguments may be None on a Cloud TPU or under Slurm, where JAX finds them.

  Args:
    coordinator_address: `host:port` of process 0.
    num_processes: Number of processes.
    process_id: Number of this process, from 0.

  Raises:
    ValueError: If only some arguments are given, or the processes cannot be joined.
  """
  given = [value is not None for value in (coordinator_address, num_processes, process_id)]
  if any(given) and not all(given):
    raise ValueError("give all of coordinator_address, num_processes and process_id, or none")
  try:
    jax.distributed.initialize(coordinator_address, num_processes, process_id)
  except (ValueError, RuntimeError) as error:
    raise ValueError(f"the processes cannot be joined: {error}") from error


def on_all_processes(function: Callable[[], Any]) -> Any:
  """Calls a function on every process; returns its result.

  Raises:
    ValueError: On all processes, if the function raises ValueError or OSError on any of them.
  """
  result, error = None, None
  try:
    result = function()
  except (ValueError, OSError) as raised:  # Raised below: other processes wait in `gather`.
    error = raised if isinstance(raised, ValueError) else ValueError(str(raised))
  if jax.process_count() > 1:
    failed = gather(np.array([error is not None]))
    if failed.any() and error is None:
      names = ", ".join(map(str, np.flatnonzero(failed)))
      error = ValueError(f"process {names} stopped with an error; see its output")
  if error is not None:
    raise error
  return result


def on_first_process(function: Callable[[], Any]) -> Any:
  """Calls a function on process 0 only; returns its result there and None elsewhere.

  Raises:
    ValueError: On all processes, if the function raises ValueError or OSError on process 0.
  """
  return on_all_processes(lambda: function() if jax.process_index() == 0 else None)


def broadcast(content: bytes) -> bytes:
  """Sends the bytes of process 0 to all processes."""
  if jax.process_count() == 1:
    return content
  # All processes must pass equal shapes, and only process 0 knows the length.
  length = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
  sent = np.zeros(length, np.uint8)
  if jax.process_index() == 0:
    sent[:] = np.frombuffer(content, np.uint8)
  return np.asarray(multihost_utils.broadcast_one_to_all(sent), np.uint8).tobytes()


def own_part(items: Any) -> Any:
  """This process's equal share of a sequence or array that all processes have."""
  size = len(items) // jax.process_count()
  return items[jax.process_index() * size :][:size]


def gather(tree: Any) -> Any:
  """Concatenates the arrays of all processes along axis 0; every process gets NumPy arrays."""
  tree = jax.device_get(tree)
  return tree if jax.process_count() == 1 else multihost_utils.process_allgather(tree, tiled=True)


def platform_of(devices: Sequence[jax.Device] | None = None) -> str:
  """The platform of devices, such as "cpu"; by default of those of this process."""
  return (devices or jax.local_devices())[0].platform


def devices_for(parts: int, among: Sequence[jax.Device] | None = None) -> int:
  """Number of devices, of all processes, that share the equal parts of a batch.

  One process may leave devices idle; several must use all.

  Args:
    parts: The parts of a batch.
    among: The devices; None for those of all processes.

  Raises:
    ValueError: If the devices of several processes cannot share the batch equally.
  """
  found = among or jax.devices()
  count, processes = len(found), len({device.process_index for device in found})
  devices = math.gcd(parts, count)
  if processes > 1 and devices < count:
    raise ValueError(
      f"batch_size cannot be shared equally by the {count} devices of {processes} processes; "
      f"allowed: multiples of {count}, with mixup of {2 * count}"
    )
  return devices


def pmap_data(
  function: Callable[..., Any],
  in_axes: tuple[int | None, ...],
  devices: int,
  donate: tuple[int, ...] = (),
  among: Sequence[jax.Device] | None = None,
) -> jax.stages.Wrapped:
  """Maps a function over shards of a batch; its results must be equal on all devices.

  Args:
    function: A pure function; it averages everything that depends on the shard over `AXIS`.
    in_axes: For each argument 0 (one slice per device of this process) or None (equal on all
      devices).
    devices: Number of devices, of all processes; see `devices_for`.
    donate: Arguments whose buffers the result may reuse.
    among: The devices to take the first of; None for the devices of all processes. Devices of a
      topology are only for lowering and compiling.

  Returns:
    The pmapped function; its results are replicated and have no device axis.
  """
  return jax.pmap(
    function,
    axis_name=AXIS,
    in_axes=in_axes,
    out_axes=None,
    devices=(among or jax.devices())[:devices],
    donate_argnums=donate,
  )


def process_shards(rows: np.ndarray, devices: int) -> np.ndarray:
  """This process's shards of a batch. Shape `[B] -> [devices / processes, B / devices]`."""
  return own_part(rows.reshape(devices, -1))


def device_rows(values: jax.Array, axis_name: str | None) -> jax.Array:
  """This device's rows of an array that is equal on every device of a mapped axis.

  Args:
    values: An array for a whole batch. Shape `[D * B, ...]`.
    axis_name: The mapped axis of D devices; None for a single device, which gets all rows.

  Returns:
    Shape `[B, ...]`.
  """
  if axis_name is None:
    return values
  rows = values.shape[0] // jax.lax.axis_size(axis_name)
  return jax.lax.dynamic_slice_in_dim(values, jax.lax.axis_index(axis_name) * rows, rows)


def axis_size(axis_name: str | None) -> int:
  """Number of devices of a mapped axis; 1 for None."""
  return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def copy_to_devices(tree: Any, devices: int | None = None) -> Any:
  """Replicates arrays on devices, for arguments that a pmapped function maps with None.

  Args:
    tree: Arrays.
    devices: Number of devices of this process; all by default.
  """
  mesh = Mesh(np.array(jax.local_devices()[:devices]), (AXIS,))
  return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shards_to_devices(tree: Any, devices: int) -> Any:
  """Splits this process's part of a batch over its devices, for arguments mapped with 0.

  Args:
    tree: Arrays of shape `[B, ...]`.
    devices: Number of devices of this process.

  Returns:
    Arrays of shape `[devices, B / devices, ...]`.
  """
  mesh = Mesh(np.array(jax.local_devices()[:devices]), (AXIS,))
  parts = jax.tree.map(lambda leaf: leaf.reshape(devices, -1, *leaf.shape[1:]), tree)
  return jax.device_put(parts, NamedSharding(mesh, PartitionSpec(AXIS)))


def vmap_over_devices(
  function: Callable[..., Any], shared: Any, batches: Iterable[Any]
) -> Iterator[Any]:
  """Evaluates `function(shared, item)` for each item of each batch, on this process's devices.

  Each device vmaps over its items. A batch is padded with its first item. The next batch is started
  before the results of the previous one are fetched.

  Args:
    function: A pure function of `(shared, item)`; pass the same object again to avoid a retrace.
    shared: A pytree, equal for all items.
    batches: Pytrees of NumPy arrays with a leading axis `[K]`.

  Yields:
    The results of each batch, NumPy arrays with a leading axis `[K]`.
  """
  started: list[tuple[Any, int]] = []
  for batch in batches:
    count = jax.tree.leaves(batch)[0].shape[0]
    devices = min(jax.local_device_count(), count)
    rows = -(-count // devices)

    def split(leaf, devices=devices, rows=rows, count=count):
      padding = np.broadcast_to(leaf[:1], (devices * rows - count, *leaf.shape[1:]))
      return np.concatenate([leaf, padding]).reshape(devices, rows, *leaf.shape[1:])

    program = pmap_items(function, tuple(jax.local_devices()[:devices]))
    started.append((program(shared, jax.tree.map(split, batch)), count))
    if len(started) > 1:
      yield _joined(*started.pop(0))
  yield from (_joined(*each) for each in started)


def _joined(results: Any, count: int) -> Any:
  """Results `[D, K / D, ...]` as NumPy arrays `[K, ...]`, without the padding."""
  # Fetched first: reshaping shards is a collective, and several at once may deadlock on CPU.
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], jax.device_get(results))


@functools.lru_cache(maxsize=64)
def pmap_items(function: Callable[..., Any], devices: tuple[jax.Device, ...]) -> jax.stages.Wrapped:
  """The program of `vmap_over_devices`: `(shared, items [D, K / D, ...]) -> [D, K / D, ...]`."""
  return jax.pmap(jax.vmap(function, in_axes=(None, 0)), in_axes=(None, 0), devices=devices)

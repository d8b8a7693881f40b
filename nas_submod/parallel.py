"""Devices: the only caller of `jax.pmap`."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def device_count() -> int:
  """Devices of this process, one candidate or shard each."""
  return jax.local_device_count()


@functools.lru_cache(maxsize=64)
def pmap_candidates(
  function: Callable[..., Any], in_axes: tuple[int | None, ...], donate: tuple[int, ...] = ()
) -> Callable[..., Any]:
  """Maps `function` over devices, another candidate on each; made once per function.

  Args:
    function: A pure function of one candidate.
    in_axes: For each argument 0 (one slice per device) or None (the same on every device).
    donate: Arguments whose buffers the result may reuse.

  Returns:
    The pmapped function: arguments with axis 0 have a leading axis of `device_count()`.
  """
  return jax.pmap(function, in_axes=in_axes, donate_argnums=donate)


def pmap_data(
  function: Callable[..., Any], in_axes: tuple[int | None, ...], devices: int, axis_name: str
) -> Callable[..., Any]:
  """Maps `function` over shards of a batch; its results must be equal on all devices.

  Args:
    function: A pure function that averages over `axis_name` whatever depends on the shard.
    in_axes: For each argument 0 (one slice per device) or None (the same on every device).
    devices: How many devices take part.
    axis_name: Name of the mapped axis.

  Returns:
    The pmapped function; its results are replicated and have no device axis.
  """
  return jax.pmap(
    function,
    axis_name=axis_name,
    in_axes=in_axes,
    out_axes=None,
    devices=jax.local_devices()[:devices],
  )


def replicate(tree: Any) -> Any:
  """Copies arrays to every device once, for arguments that `pmap_candidates` maps with None."""
  mesh = Mesh(np.array(jax.local_devices()), ("devices",))
  return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def vmap_over_devices(function: Callable[..., Any], shared: Any, batch: Any) -> Any:
  """Evaluates `function(shared, item)` for every item of a batch, split over all devices.

  Inside one device the items are vmapped. The batch is padded with its first item.

  Args:
    function: A pure function of `(shared, item)`; pass the same object again to avoid a retrace.
    shared: A pytree, the same for every item.
    batch: A pytree of arrays with a leading axis `[K]`.

  Returns:
    The results stacked on a leading axis `[K]`, NumPy arrays.
  """
  count = jax.tree.leaves(batch)[0].shape[0]
  devices = min(device_count(), count)
  rows = -(-count // devices)

  def split(leaf):
    padding = jnp.broadcast_to(leaf[:1], (devices * rows - count, *leaf.shape[1:]))
    return jnp.concatenate([leaf, padding]).reshape(devices, rows, *leaf.shape[1:])

  result = _pmap_vmap(function, devices)(shared, jax.tree.map(split, batch))
  # To the host first: a reshape of shards is a collective, and several at once may deadlock on CPU.
  result = jax.device_get(result)
  return jax.tree.map(lambda x: x.reshape(devices * rows, *x.shape[2:])[:count], result)


@functools.lru_cache(maxsize=64)
def _pmap_vmap(function: Callable[..., Any], devices: int) -> Callable[..., Any]:
  return jax.pmap(
    jax.vmap(function, in_axes=(None, 0)),
    in_axes=(None, 0),
    devices=jax.local_devices()[:devices],
  )

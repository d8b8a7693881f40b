"""Facility location, with kernels that XLA compiles well for many sets on a CPU."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from nas_submod.set_functions.base import SetFunction
from nas_submod.validation import nonnegative_of


def facility_location(service: Any) -> SetFunction:
  """The sum over customers of the best service that an element of the set gives.

  Args:
    service: Nonnegative service of each element to each customer. `[n, customers]`.

  Returns:
    The function.

  Raises:
    ValueError: If `service` is not a matrix, or an entry is negative or not finite.
  """
  service = nonnegative_of("service", service, 2)
  return SetFunction(
    value=Partial(_facility_value, service),
    init=Partial(_facility_init, service),
    gains=Partial(_facility_gains, service),
    add=Partial(_facility_add, service),
    gain=Partial(_facility_gain, service),
    n=service.shape[0],
  )


def _vmapped_on_cpu_as(of_sets: Callable[..., jax.Array]) -> Callable[..., Any]:
  """Makes `of_sets(matrix, [C, ...])` the CPU kernel of a function vmapped over its last argument.

  XLA's CPU compiler vectorises the addition of one row after another. It does not vectorise the
  reduction of a matrix, which then takes several times as long for many sets.
  """

  def decorate(function: Callable[..., jax.Array]) -> Any:
    vmappable = jax.custom_batching.custom_vmap(function)

    @vmappable.def_vmap
    def _vmapped(axis_size, in_batched, *args):
      del axis_size
      at_once = jax.vmap(function, [0 if batched else None for batched in in_batched])
      if tuple(in_batched) != (False, True):
        return at_once(*args), True
      return jax.lax.platform_dependent(*args, cpu=of_sets, default=at_once), True

    return vmappable

  return decorate


def _larger(left, right):
  # `jnp.maximum` also checks for NaN: three operations on a CPU. Service is never NaN.
  return jnp.where(left > right, left, right)


def _facility_init_of_sets(service, masks):
  def open_next(served, elements):
    served_by = [jnp.where(chosen[:, None], serves, 0) for serves, chosen in zip(*elements)]
    return _larger(served, _in_pairs(_larger, served_by)), None

  nothing = jnp.zeros((masks.shape[0], service.shape[1]))
  return jax.lax.scan(open_next, nothing, (_split_in_turn(service, 2), _split_in_turn(masks.T, 2)))[
    0
  ]


@_vmapped_on_cpu_as(_facility_init_of_sets)
def _facility_init(service, mask):
  def best() -> jax.Array:
    return jnp.max(service * mask[:, None], axis=0)

  return jax.lax.cond(jnp.any(mask), best, lambda: jnp.zeros(service.shape[1]))


def _facility_value(service, mask):
  return jnp.sum(_facility_init(service, mask))


def _facility_gains_of_sets(service, served):
  def serve_next(gains, customers):
    offers, had = customers
    # One subtraction for all customers: their service with the element minus without it. It rounds
    # a gain by up to 4e-7 of F, less than `ties.ROUNDING`, within which gains tie. A gain of zero
    # is exactly 0, because both sums add the same numbers in the same order.
    would_have = [_larger(offered, have[:, None]) for offered, have in zip(offers, had)]
    return gains + (_in_pairs(jnp.add, would_have) - _in_pairs(jnp.add, had)[:, None]), None

  nothing = jnp.zeros((served.shape[0], service.shape[0]))
  return jax.lax.scan(
    serve_next, nothing, (_split_in_turn(service.T, 8), _split_in_turn(served.T, 8))
  )[0]


def _split_in_turn(rows, parts):
  """Splits rows `[K, ...]` into `parts` arrays, row by row in turn; pads with rows of 0.

  Callers pass the number of parts that was fastest in `benchmarks.set_functions`.
  """
  padded = jnp.pad(rows, [(0, -rows.shape[0] % parts), *[(0, 0)] * (rows.ndim - 1)])
  # The barriers make XLA split the service once, before the loop of a run, not in every step.
  return tuple(jax.lax.optimization_barrier(padded[part::parts]) for part in range(parts))


def _in_pairs(operation, rows):
  """Reduces a list of arrays pairwise; its length is a power of two."""
  while len(rows) > 1:
    rows = [operation(left, right) for left, right in zip(rows[::2], rows[1::2])]
  return rows[0]


@_vmapped_on_cpu_as(_facility_gains_of_sets)
def _facility_gains(service, served):
  return jnp.sum(jnp.maximum(service - served, 0), axis=1)


def _facility_add(service, served, element):
  return _larger(served, service[element])


def _facility_gain(service, served, element):
  return jnp.sum(jnp.maximum(service[element] - served, 0))

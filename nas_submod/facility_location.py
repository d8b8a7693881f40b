"""Facility location, and how XLA is made to compute many sets of it fast on a CPU."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from nas_submod.array_arguments import nonnegative_of
from nas_submod.set_function import SetFunction


def facility_location(service: Any) -> SetFunction:
  """The sum over customers of the best service that a chosen element gives.

  Args:
    service: How well each element serves each customer, nonnegative. `[n, customers]`.

  Returns:
    The function.

  Raises:
    ValueError: If `service` is no matrix, or an entry is negative or not finite.
  """
  service = nonnegative_of("service", service, 2)
  return SetFunction(
    value=Partial(_facility_value, service),
    init=Partial(_facility_init, service),
    marginals=Partial(_facility_marginals, service),
    commit=Partial(_facility_commit, service),
    marginal=Partial(_facility_marginal, service),
    n=service.shape[0],
  )


def _vmapped_on_cpu_as(of_sets: Callable[..., jax.Array]) -> Callable[..., Any]:
  """Lets `of_sets(matrix, [C, ...])` stand for a function vmapped over its second argument.

  XLA's CPU compiler vectorises additions of row after row, but not the reduction of a matrix: of
  so many sets at once, the sums take a third of the time.
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


def _facility_init_of_sets(service, masks):
  def open_next(served, element):
    serves, chosen = element
    return jnp.maximum(served, serves * chosen[:, None]), None

  nothing = jnp.zeros((masks.shape[0], service.shape[1]))
  return jax.lax.scan(open_next, nothing, (service, masks.T))[0]


@_vmapped_on_cpu_as(_facility_init_of_sets)
def _facility_init(service, mask):
  def best() -> jax.Array:
    return jnp.max(service * mask[:, None], axis=0)

  return jax.lax.cond(jnp.any(mask), best, lambda: jnp.zeros(service.shape[1]))


def _facility_value(service, mask):
  return jnp.sum(_facility_init(service, mask))


def _facility_marginals_of_sets(service, served):
  def serve_next(gains, customer):
    offered, had = customer
    return gains + jnp.maximum(offered - had[:, None], 0), None

  nothing = jnp.zeros((served.shape[0], service.shape[0]))
  # The barrier lets XLA transpose it once, before the loop of a run, and not in every step.
  service_of_customers = jax.lax.optimization_barrier(service.T)
  return jax.lax.scan(serve_next, nothing, (service_of_customers, served.T))[0]


@_vmapped_on_cpu_as(_facility_marginals_of_sets)
def _facility_marginals(service, served):
  return jnp.sum(jnp.maximum(service - served, 0), axis=1)


def _facility_commit(service, served, element):
  return jnp.maximum(served, service[element])


def _facility_marginal(service, served, element):
  return jnp.sum(jnp.maximum(service[element] - served, 0))

"""The resources of a search from `config.resources`."""

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.networks.search_space import SearchSpace
from nas_submod.resources.additive import FLASH, MADDS, PARAMS
from nas_submod.resources.base import CostFunction, Resource
from nas_submod.resources.memory import MEMORY
from nas_submod.validation import first_line, imported

Resources = Mapping[str, Resource]

_CHOICES = {"params": PARAMS, "flash": FLASH, "memory": MEMORY}
DEFAULTS = {"params": "learned", "flash": "int8", "memory": "int8"}
_TAKEN = ("madds", "latency_ms")  # resources without a setting of the same name


def from_config(settings: Mapping[str, Any] | None) -> Resources:
  """The resources of a search, by name.

  Args:
    settings: `config.resources`, by name: `params`, "learned" (default) or "folded"; `flash`,
      "int8" (default) or "float32"; `memory`, "int8" (default), "float32" or "tflite_micro";
      `latency`, the path of a table of latencies, "PATH" or "PATH:DEVICE", None for none. Any other
      name is a resource of your own: `module:name` of a `Resource`, or of a function
      `space -> (mask [..., n] -> cost [...])`. None for the defaults.

  Returns:
    params, madds, flash, memory, latency_ms if there is a table, and your own. Equal settings give
    the same objects, so that programs are compiled once.

  Raises:
    ValueError: If a setting or the table of latencies is wrong, or a resource of your own cannot be
      imported.
  """
  given = {name: value for name, value in dict(settings or {}).items() if value is not None}
  chosen = {name: _chosen(name, given.pop(name, DEFAULTS[name])) for name in _CHOICES}
  table = {"params": chosen["params"], "madds": MADDS}
  table |= {"flash": chosen["flash"], "memory": chosen["memory"]}
  if (path := given.pop("latency", None)) is not None:
    # A search without a table does not import its reader.
    latency = importlib.import_module("nas_submod.resources.latency")
    table["latency_ms"] = latency.from_table(path)
  for name, value in given.items():
    if name in _TAKEN:
      raise ValueError(
        f"config.resources.{name} cannot be set; allowed: {', '.join(_CHOICES)}, latency (the path "
        "of a table), or another name for a resource of your own"
      )
    table[name] = _users(name, value)
  return table


def _chosen(name: str, value: Any) -> Resource:
  choices = _CHOICES[name]
  if not isinstance(value, str) or value not in choices:
    raise ValueError(f"config.resources.{name} is {value!r}; allowed: {', '.join(choices)}")
  return choices[value]


def _users(name: str, value: Any) -> Resource:
  """A user's own resource."""
  allowed = f"module:name of a Resource or of a function space -> (mask -> cost), for {name!r}"

  def is_resource(found):
    return isinstance(found, Resource) or callable(found)

  return _resource_of(name, imported("resource", value, allowed, is_resource))


@functools.cache
def _resource_of(name: str, found: Any) -> Resource:
  """The resource of a user's Resource or function, whose results are checked."""
  resource = found if isinstance(found, Resource) else Resource(name, name, found, additive=False)

  def cost(space: SearchSpace) -> CostFunction:
    of_mask = resource.cost(space)
    _check(name, space, of_mask)
    return of_mask

  return resource._replace(name=name, cost=functools.cache(cost))


def _check(name: str, space: SearchSpace, of_mask: Callable[[Any], Any]) -> None:
  """Checks a user's cost function on the start set, in NumPy and in JAX.

  Raises:
    ValueError: If it is not a function, or its result has the wrong shape, is negative or not
      finite, cannot be traced, or differs in JAX.
  """
  form = f"the cost of {name} must be a function mask [..., n] -> cost [...]"
  if not callable(of_mask):
    raise ValueError(f"{form}, got {of_mask!r:.80}")
  masks = np.stack([space.required] * 2)
  try:
    costs = np.asarray(of_mask(masks))
  except Exception as error:
    raise ValueError(f"{form}: {type(error).__name__} {first_line(error)}") from error
  if costs.shape != (2,) or costs.dtype.kind not in "iuf":
    raise ValueError(f"{form}, got {costs.dtype} {costs.shape} for masks of shape {masks.shape}")
  if not (np.isfinite(costs).all() and (costs >= 0).all()):
    raise ValueError(f"{name} of the start network is {costs[0]}; allowed: finite numbers from 0")
  try:
    traced = jax.eval_shape(of_mask, jnp.asarray(space.required))
  except Exception as error:
    raise ValueError(f"{form}, in JAX too (jax.jit): {first_line(error)}") from error
  if getattr(traced, "shape", None) != ():
    raise ValueError(f"{form}, got {traced} for a JAX mask of shape {space.required.shape}")
  in_jax = float(of_mask(jnp.asarray(space.required)))
  if not np.isclose(in_jax, costs[0], rtol=1e-4):
    raise ValueError(f"{name} of the start network is {costs[0]} in NumPy, but {in_jax} in JAX")


# The default resources of a search.
RESOURCES = from_config(None)

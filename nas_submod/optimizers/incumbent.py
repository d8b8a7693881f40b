"""The best set so far."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.optimizers.base import Info
from nas_submod.optimizers.ties import best_in_order
from nas_submod.problem import Problem


class Incumbent(NamedTuple):
  """The best set so far and its value: `mask [n]` bool, `value []`."""

  mask: jax.Array
  value: jax.Array

  def challenged(self, masks: jax.Array, values: jax.Array) -> tuple["Incumbent", Info]:
    """Returns the incumbent after sets `masks [B, n]` of `values [B]`, -inf where not measured."""
    winner = best_in_order(values, self.value)
    better = winner >= 0
    mask = jnp.where(better, masks[winner], self.mask)
    value = jnp.where(better, values[winner], self.value)
    return Incumbent(mask, value), Info(better[None], mask[None], value[None])


def no_incumbent(problem: Problem) -> Incumbent:
  """The required set, not yet measured."""
  return Incumbent(problem.required, jnp.float32(-jnp.inf))

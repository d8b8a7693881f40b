"""Moves between neighbouring sets: toggle, drop, counterparts, a random neighbour."""

import jax
import jax.numpy as jnp

from nas_submod.problem import Problem


def same_group(problem: Problem) -> jax.Array:
  """Marks pairs of elements in one group; elements without a group share none. `[n, n]` bool."""
  groups = problem.groups
  return (groups[:, None] == groups[None, :]) & (groups >= 0)


def toggle(problem: Problem, mask: jax.Array, element: jax.Array) -> jax.Array:
  """Toggles an element; an added one replaces its group's choice. `[n]` bool."""
  group = problem.groups[element]
  mates = (problem.groups == group) & (group >= 0)
  return (mask & ~mates).at[element].set(~mask[element])


def drop(mask: jax.Array, free: jax.Array, chance: jax.Array) -> jax.Array:
  """Removes the element of `free [n]`, if any, that `chance []` in [0, 1) chooses. `[n]` bool."""
  victim = free & (jnp.cumsum(free) == 1 + jnp.int32(chance * free.sum()))
  return mask & ~victim


def counterparts(problem: Problem) -> tuple[jax.Array, jax.Array]:
  """The element at i's place, but in j's group, `[n, n]` int, and whether it exists `[n, n]`."""
  groups, n = problem.groups, problem.n
  rank = (same_group(problem) & jnp.tri(n, k=-1, dtype=bool)).sum(axis=1)
  place = jnp.where(groups >= 0, groups, n)
  elements = jnp.full((n + 1, n), n).at[place, rank].set(jnp.arange(n)).at[n].set(n)
  counterpart = elements[place[None, :], rank[:, None]]
  return counterpart, counterpart < n


def random_neighbour(problem: Problem, mask: jax.Array, chances: jax.Array) -> jax.Array:
  """A random neighbour of a set: one or two elements toggled, perhaps one more dropped.

  A required element is neither toggled nor dropped, but others of its group may replace it. A drop
  makes room when a budget is used up. The neighbour `[n]` may be infeasible or equal to `mask [n]`;
  `chances [5]` are uniform in [0, 1).
  """

  def moved(mask: jax.Array, chance: jax.Array) -> jax.Array:
    element = jnp.int32(chance * problem.n)
    return jnp.where(problem.required[element], mask, toggle(problem, mask, element))

  after = moved(mask, chances[0])
  after = jnp.where(chances[1] < 0.5, moved(after, chances[2]), after)
  dropped = drop(after, mask & after & ~problem.required, chances[3])
  return jnp.where(chances[4] < 0.5, dropped, after)

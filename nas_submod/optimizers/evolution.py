"""Regularized evolution (Real et al. 2019) under budgets."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.optimizers.base import Info, Optimizer
from nas_submod.optimizers.constructors import constructor
from nas_submod.optimizers.incumbent import Incumbent, no_incumbent
from nas_submod.optimizers.neighbours import random_neighbour
from nas_submod.optimizers.random_sets import check_stop, random_set
from nas_submod.optimizers.ties import first_largest
from nas_submod.problem import Problem
from nas_submod.validation import at_least_one

_ATTEMPTS = 100  # mutations tried before the child is a copy of its parent


class EvolutionState(NamedTuple):
  """State of `regularized_evolution` with a population of `P` and batches of `B`.

  Attributes:
    rng: Key of child 0; child i uses `fold_in(rng, i)`.
    born: Children asked so far. `[]` int.
    population: The living members, a ring buffer in order of birth. `[P, n]` bool.
    values: Their values, -inf in free places. `[P]`.
    masks: The children to ask next. `[B, n]` bool.
    incumbent: The best set so far.
  """

  problem: Problem
  rng: jax.Array
  born: jax.Array
  population: jax.Array
  values: jax.Array
  masks: jax.Array
  incumbent: Incumbent


@constructor
def regularized_evolution(
  evaluations: int = 1000,
  batch: int = 1,
  population: int = 20,
  tournament: int = 10,
  stop: float = 0.1,
) -> Optimizer:
  """Mutates the best of a few random members; each child replaces the oldest member.

  The first members are the required set and random sets. A child is a random neighbour of its
  parent (`neighbours.random_neighbour`), then completed like the first members. Only feasible
  children are asked. The authors' population of 100 with tournaments of 25 suits thousands of
  evaluations.

  Args:
    evaluations: Sets to ask; repeated sets count.
    batch: Children of a round; they are drawn from the same population.
    population: Members alive.
    tournament: Members drawn for each child; the best one is the parent.
    stop: As for `random_search`.

  Returns:
    The optimizer.
  """
  at_least_one(evaluations=evaluations, batch=batch, tournament=tournament)
  if population < batch:
    raise ValueError(f"population must be at least the batch of {batch}, got {population}")
  check_stop(stop)

  def init(problem: Problem, rng: jax.Array) -> EvolutionState:
    state = EvolutionState(
      problem=problem,
      rng=rng,
      born=jnp.int32(0),
      population=jnp.zeros((population, problem.n), bool),
      values=jnp.full(population, -jnp.inf),
      masks=jnp.zeros((batch, problem.n), bool),
      incumbent=no_incumbent(problem),
    )
    masks = _children(state).at[0].set(problem.required)
    return state._replace(masks=masks)

  def ask(state: EvolutionState) -> tuple[jax.Array, jax.Array]:
    return state.masks, state.born + jnp.arange(batch) < evaluations

  def tell(state: EvolutionState, values: jax.Array) -> tuple[EvolutionState, Info]:
    places = (state.born + jnp.arange(batch)) % population
    incumbent, info = state.incumbent.challenged(state.masks, values)
    state = state._replace(
      born=state.born + batch,
      population=state.population.at[places].set(state.masks),
      values=state.values.at[places].set(values),
      incumbent=incumbent,
    )
    return state._replace(masks=_children(state)), info

  def _children(state: EvolutionState) -> jax.Array:
    return jax.vmap(lambda i: _child(state, state.born + i))(jnp.arange(batch))

  def _child(state: EvolutionState, number: jax.Array) -> jax.Array:
    key, fill, draw = jax.random.split(jax.random.fold_in(state.rng, number), 3)
    alive = jnp.maximum(jnp.minimum(state.born, population), 1)
    drawn = jax.random.randint(draw, (tournament,), 0, alive)
    parent = state.population[drawn[first_largest(state.values[drawn])]]
    start = jax.lax.cond(
      state.born < population,
      lambda: state.problem.required,
      lambda: mutate(state.problem, key, parent),
    )
    return random_set(state.problem.replace(required=start), fill, stop)

  def done(state: EvolutionState) -> jax.Array:
    return state.born >= evaluations

  return Optimizer(init, ask, tell, done, lambda state: state.incumbent)


def mutate(problem: Problem, rng: jax.Array, parent: jax.Array) -> jax.Array:
  """Returns a feasible set near `parent [n]`, or the parent if many draws fail. `[n]` bool."""

  def failing(carry: Any) -> jax.Array:
    attempt, child = carry
    different = jnp.any(problem.canonical_form(child) != problem.canonical_form(parent))
    return ~(problem.feasible(child) & different) & (attempt < _ATTEMPTS)

  def again(carry: Any) -> Any:
    attempt, _ = carry
    chances = jax.random.uniform(jax.random.fold_in(rng, attempt), (5,))
    return attempt + 1, random_neighbour(problem, parent, chances)

  _, child = jax.lax.while_loop(failing, again, (jnp.int32(0), parent))
  return jnp.where(problem.feasible(child), child, parent)

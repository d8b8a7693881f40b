"""First-improvement local search with random restarts: a simple, strong baseline."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from nas_submod.optimizers.base import Info, Optimizer
from nas_submod.optimizers.constructors import constructor
from nas_submod.optimizers.exchanges import Climb, climb_step, start_climb
from nas_submod.optimizers.incumbent import Incumbent, no_incumbent
from nas_submod.optimizers.random_sets import check_stop, random_set
from nas_submod.problem import Problem
from nas_submod.validation import at_least_one


class LocalSearchState(NamedTuple):
  """State of `local_search`.

  Attributes:
    rng: Key of start 0; start i uses `fold_in(rng, i)`.
    starts: Number of starts so far. `[]` int.
    asked: Sets asked so far. `[]` int.
    starting: Whether `climb.mask`, a new start, is asked next. `[]` bool.
    climb: The current climb.
    incumbent: The best set so far.
  """

  problem: Problem
  rng: jax.Array
  starts: jax.Array
  asked: jax.Array
  starting: jax.Array
  climb: Climb
  incumbent: Incumbent


@constructor
def local_search(evaluations: int = 1000, batch: int = 1, stop: float = 0.1) -> Optimizer:
  """Climbs to a local optimum by the moves of `exchange`, then starts from another random set.

  On tabular benchmarks of architecture search it beats most elaborate methods (White, Nolen and
  Savani 2020). The required set is asked first; the first climb starts from a random set.

  Args:
    evaluations: Sets to ask.
    batch: Moves tried in a round.
    stop: As for `random_search`; applies to the starts.

  Returns:
    The optimizer.
  """
  at_least_one(evaluations=evaluations, batch=batch)
  check_stop(stop)
  first = jnp.arange(batch) == 0

  def init(problem: Problem, rng: jax.Array) -> LocalSearchState:
    return LocalSearchState(
      problem=problem,
      rng=rng,
      starts=jnp.int32(0),
      asked=jnp.int32(0),
      starting=jnp.bool_(True),
      climb=start_climb(problem, rng, problem.required, jnp.float32(-jnp.inf), batch),
      incumbent=no_incumbent(problem),
    )

  def ask(state: LocalSearchState) -> tuple[jax.Array, jax.Array]:
    masks = jnp.where(state.starting, state.climb.mask, state.climb.masks)
    valid = jnp.where(state.starting, first, state.climb.valid)
    return masks, valid & (state.asked + jnp.cumsum(valid) <= evaluations)

  def tell(state: LocalSearchState, values: jax.Array) -> tuple[LocalSearchState, Info]:
    masks, valid = ask(state)
    values = jnp.where(valid, values, -jnp.inf)
    incumbent, info = state.incumbent.challenged(masks, values)
    climb = jax.lax.cond(
      state.starting,
      lambda: state.climb._replace(value=values[0]),
      lambda: climb_step(state.problem, state.climb, values)[0],
    )
    # No climb starts from the required set: it would be spent on single additions.
    at_top = ~climb.valid.any() | (state.starts == 0)
    key = jax.random.fold_in(state.rng, state.starts)

    def restart() -> Climb:
      start = random_set(state.problem, key, stop)
      return start_climb(state.problem, key, start, jnp.float32(-jnp.inf), batch)

    state = LocalSearchState(
      problem=state.problem,
      rng=state.rng,
      starts=state.starts + at_top,
      asked=state.asked + valid.sum(),
      starting=at_top,
      climb=jax.lax.cond(at_top, restart, lambda: climb),
      incumbent=incumbent,
    )
    return state, info

  def done(state: LocalSearchState) -> jax.Array:
    return state.asked >= evaluations

  return Optimizer(init, ask, tell, done, lambda state: state.incumbent)

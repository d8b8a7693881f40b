"""Partial enumeration: an inner optimizer completes every small feasible set (a seed)."""

import functools
import itertools
import math
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod import parallel
from nas_submod.optimizers.base import Info, Optimizer, Outcome, State
from nas_submod.optimizers.constructors import constructor
from nas_submod.optimizers.drivers.compiled import drive
from nas_submod.optimizers.incumbent import Incumbent, no_incumbent
from nas_submod.optimizers.ties import best_on_host
from nas_submod.precision import full_precision
from nas_submod.problem import Problem
from nas_submod.set_functions.base import as_argument
from nas_submod.validation import at_least_one

_MOST_SEEDS = 2**21
_CHUNK_ENTRIES = 2**20  # most numbers in the states of a chunk by default, so that they fit a cache


class EnumerationState(NamedTuple):
  """State of `partial_enumeration` over `K` seeds, `C` of them at a time.

  Attributes:
    rng: Random key of seed 0.
    seeds: Elements of each seed, n for none; the feasible seeds first. `[K, depth]` int.
    feasible_seeds: Number of feasible seeds. `[]` int.
    begin: The first seed of the current chunk. `[]` int.
    required: The seeds of the chunk as required sets. `[C, n]` bool.
    inner: State of the inner optimizer for each of them. Its `problem` fields are None, so that the
      problem is not stored once per seed.
    incumbent: The best set of earlier chunks.
  """

  problem: Problem
  rng: jax.Array
  seeds: jax.Array
  feasible_seeds: jax.Array
  begin: jax.Array
  required: jax.Array
  inner: State
  incumbent: Incumbent


@constructor
def partial_enumeration(inner: Optimizer, depth: int, chunk: int | None = None) -> Optimizer:
  """Completes every feasible set of at most `depth` added elements with `inner`; the best wins.

  Shares of the optimum with one knapsack and monotone submodular F: density greedy reaches 1 - 1/e
  from depth 3 (Sviridenko 2004) or depth 2 (Feldman, Nutov, Shoham 2023; Kulik, Schwartz, Shachnai
  2021), and at most 1/2 from depth 1. `greedy_plus_max` reaches 0.617 from depth 1 (Feldman, Nutov,
  Shoham 2023). The inner optimizer runs O(n^depth) times. With a traceable function the seeds are
  vmapped and split over all devices.

  Args:
    inner: The optimizer that completes a seed, which it sees as the required set.
    depth: The most elements of a seed, 0 to 3.
    chunk: Seeds completed at the same time; None for as many as fit a million numbers of state.

  Returns:
    The optimizer. Its `init` raises ValueError if there are more than two million seeds.

  Raises:
    ValueError: If an argument is out of its range.
  """
  if not 0 <= depth <= 3:
    raise ValueError(f"depth is 0 to 3, got {depth}")
  if chunk is not None:
    at_least_one(chunk=chunk)

  @jax.jit  # never run: `jit` caches the shapes that `eval_shape` finds
  def start_of_seed(problem: Problem, rng: jax.Array) -> Any:
    state = inner.init(problem, rng)
    return state, inner.ask(state)

  def chunk_size(problem: Problem, rng: jax.Array, seeds: int) -> int:
    if chunk is not None:
      return min(chunk, seeds)
    shapes = start_of_seed.eval_shape(problem, rng)
    entries = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    chunks = -(-seeds // max(1, _CHUNK_ENTRIES // entries))
    return -(-seeds // chunks)  # chunks of one size, with the least padding

  def on_seeds(function: Any, state: EnumerationState, *rest: Any) -> Any:
    """Applies a function of an inner state to every seed of the chunk, with its own problem."""

    def call(required: jax.Array, inner_state: State, *rest: Any) -> Any:
      problem = state.problem.replace(required=required)
      return function(inner_state._replace(problem=problem), *rest)

    return jax.vmap(call)(state.required, state.inner, *rest)

  def is_running(state: EnumerationState) -> jax.Array:
    return ~on_seeds(inner.done, state) & is_seed(state)

  def is_seed(state: EnumerationState) -> jax.Array:
    return state.begin + jnp.arange(state.required.shape[0]) < state.feasible_seeds

  def begin_chunk(state: EnumerationState, begin: jax.Array) -> EnumerationState:
    numbers = begin + jnp.arange(state.required.shape[0])
    numbers = jnp.where(numbers < state.feasible_seeds, numbers, 0)

    def start(number: jax.Array) -> tuple[jax.Array, State]:
      problem, key = _of_seed(state.problem, state.seeds, state.rng, number)
      return problem.required, inner.init(problem, key)._replace(problem=None)

    required, inner_states = jax.vmap(start)(numbers)
    return state._replace(begin=begin, required=required, inner=inner_states)

  def init(problem: Problem, rng: jax.Array) -> EnumerationState:
    seeds, count = _feasible_seeds(problem, depth)
    state = EnumerationState(
      problem=problem,
      rng=rng,
      seeds=seeds,
      feasible_seeds=count,
      begin=jnp.int32(0),
      required=jnp.zeros((chunk_size(problem, rng, seeds.shape[0]), problem.n), bool),
      inner=None,
      incumbent=no_incumbent(problem),
    )
    return begin_chunk(state, state.begin)

  def ask(state: EnumerationState) -> tuple[jax.Array, jax.Array]:
    masks, valid = on_seeds(inner.ask, state)
    valid &= is_running(state)[:, None]
    return masks.reshape(-1, state.problem.n), valid.reshape(-1)

  def tell(state: EnumerationState, *answers: jax.Array) -> tuple[EnumerationState, Info]:
    running = is_running(state)
    answers = tuple(answer.reshape(running.size, -1) for answer in answers)
    told, info = on_seeds(tell_inner, state, *answers)
    keep_done = functools.partial(_where_rows, running)
    state = state._replace(inner=jax.tree.map(keep_done, told, state.inner))
    info = info._replace(accepted=info.accepted & running[:, None])
    info = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), info)
    finished = ~is_running(state).any()
    return jax.lax.cond(finished, next_chunk, lambda state: state, state), info

  def tell_inner(state: State, *answers: jax.Array) -> tuple[State, Info]:
    told, info = inner.tell(state, *answers)
    return told._replace(problem=None), info

  def next_chunk(state: EnumerationState) -> EnumerationState:
    state = state._replace(incumbent=best(state))
    return begin_chunk(state, state.begin + state.required.shape[0])

  def done(state: EnumerationState) -> jax.Array:
    return state.begin >= state.feasible_seeds

  def best(state: EnumerationState) -> Incumbent:
    masks, values = on_seeds(inner.best, state)
    return state.incumbent.challenged(masks, jnp.where(is_seed(state), values, -jnp.inf))[0]

  def replicates(state: EnumerationState) -> jax.Array:
    return on_seeds(inner.replicates, state).reshape(-1)

  complete = functools.partial(complete_seed, inner)

  def solve(problem: Problem, value: Any, rng: jax.Array) -> Outcome:
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((problem, rng))):
      return drive(protocol, problem, value, rng)  # a traced call cannot loop over devices
    value = as_argument(value)
    seeds, count = _feasible_seeds(problem, depth)
    size = chunk_size(problem, rng, seeds.shape[0])
    count = int(count)
    begins = range(0, count, size)
    numbers = (np.arange(begin, begin + size, dtype=np.int32) for begin in begins)
    chunks = (np.where(chunk < count, chunk, 0) for chunk in numbers)
    results = parallel.vmap_over_devices(complete, (problem, value, seeds, rng), chunks)
    outcomes = [
      jax.tree.map(operator.itemgetter(slice(count - begin)), outcome)
      for begin, outcome in zip(begins, results)
    ]
    outcome = jax.tree.map(lambda *rows: np.concatenate(rows), *outcomes)
    winner = best_on_host(outcome.value)
    wrong = ~(outcome.finite if outcome.feasible.all() else outcome.feasible)
    return Outcome(
      mask=outcome.mask[winner],
      value=outcome.value[winner],
      evaluations=outcome.evaluations.sum(),
      rounds=sum(chunk_outcome.rounds.max() for chunk_outcome in outcomes),
      finite=outcome.finite.all(),
      feasible=outcome.feasible.all(),
      bad_set=None if outcome.bad_set is None else outcome.bad_set[wrong.argmax()],
      answered=outcome.answered.all(),
      stuck=outcome.stuck.any(),
    )

  protocol = Optimizer(init, ask, tell, done, best, inner.replicates and replicates)
  return protocol._replace(solve=solve)


@full_precision()
def complete_seed(inner: Optimizer, shared: Any, number: jax.Array) -> Outcome:
  """The run of the inner optimizer from one seed.

  Args:
    inner: The inner optimizer.
    shared: The problem, the set function, all seeds `[K, depth]` and the random key of seed 0.
    number: Number of the seed. `[]` int.
  """
  problem, value, seeds, rng = shared
  solve_inner = inner.solve or functools.partial(drive, inner)
  problem, key = _of_seed(problem, seeds, rng, number)
  return solve_inner(problem, value, key)


@functools.partial(jax.jit, static_argnums=1)
def _feasible_seeds(problem: Problem, depth: int) -> tuple[jax.Array, jax.Array]:
  """Sets of at most `depth` elements `[K, depth]`, feasible ones first, and the number of these.

  The empty set comes first, then the most expensive sets. The seeds of a chunk then take about the
  same number of steps, so none waits long for another.
  """
  n = problem.n
  sizes = [math.comb(n, size) for size in range(depth + 1)]
  if sum(sizes) > _MOST_SEEDS:
    raise ValueError(
      f"depth {depth} of {n} elements makes {sum(sizes)} seeds, at most {_MOST_SEEDS} are allowed"
    )
  table = np.full((sum(sizes), max(depth, 1)), n, np.int32)
  row = 0
  for size, count in enumerate(sizes):
    subsets = itertools.chain.from_iterable(itertools.combinations(range(n), size))
    table[row : row + count, :size] = np.fromiter(subsets, np.int32).reshape(count, size)
    row += count
  seeds = jnp.asarray(table)

  budget = problem.budget.astype(jnp.float32)

  def left_of_budgets(elements: jax.Array) -> jax.Array:
    """Sum of the unused shares of all budgets; infinite if the set is not a feasible seed."""
    mask = _seed_set(problem, elements)
    used = jnp.where(budget > 0, problem.cost(mask) / jnp.maximum(budget, 1e-30), 0.0)
    overlaps = jnp.append(problem.required, False)[elements].any()
    return jnp.where(problem.feasible(mask) & ~overlaps, jnp.sum(1 - used), jnp.inf)

  left = jax.lax.map(left_of_budgets, seeds, batch_size=min(1024, len(table)))
  left = left.at[0].set(-jnp.inf)
  return seeds[jnp.argsort(left, stable=True)], jnp.sum(left < jnp.inf)


def _of_seed(
  problem: Problem, seeds: jax.Array, rng: jax.Array, number: jax.Array
) -> tuple[Problem, jax.Array]:
  """The problem with seed `number []` as its required set, and the random key of that seed."""
  required = _seed_set(problem, seeds[number])
  return problem.replace(required=required), jax.random.fold_in(rng, number)


def _seed_set(problem: Problem, elements: jax.Array) -> jax.Array:
  return problem.required.at[elements].set(True, mode="drop")


def _where_rows(condition: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
  """Rows of `new` where `condition [C]`, else of `old`. A seed that is done needs no random key."""
  if jnp.issubdtype(new.dtype, jax.dtypes.prng_key):
    return new
  return jnp.where(condition.reshape(-1, *[1] * (new.ndim - 1)), new, old)

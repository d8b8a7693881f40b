"""The training of a store: each step trains one network of the space, on all devices.

A step takes the parameters of its network and their momentum out of the store. It trains them on
one batch, shared by the devices, and puts both back. All other parameters stay untouched.
"""

import contextlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nas_submod import networks, parallel, preemption, training
from nas_submod.data.loading import Data
from nas_submod.evaluation.shared_weights import sampling, store
from nas_submod.evaluation.shared_weights import settings as shared_settings
from nas_submod.networks.layer import Params
from nas_submod.networks.search_space import SearchSpace
from nas_submod.networks.universal import Universal
from nas_submod.problem import Problem
from nas_submod.training.checkpoints import Checkpoints


class StoreState(NamedTuple):
  """The state of a training of a store between two rounds.

  Attributes:
    train: Step, parameters and optimizer of the whole store; no running statistics.
    counts: How often each element was trained. `[n]` int.
  """

  train: training.TrainState
  counts: jax.Array


def train(
  space: SearchSpace,
  problem: Problem,
  data: Data,
  config: Mapping[str, Any],
  folder: pathlib.Path | None = None,
  number: int = 0,
  on_progress: Callable[[int, int], None] = lambda step, steps: None,
) -> Params:
  """Trains a store; continues from the last checkpoint in its folder.

  The network and the batch of a step depend only on the seed and the step's number, so a resumed
  training equals an uninterrupted one.

  Args:
    space: The space.
    problem: The ground set and the budgets that the networks must fit.
    data: The images; the validation split is not used.
    config: `seed`, and what `settings.from_config` takes.
    folder: Where checkpoints are kept; None keeps none.
    number: Number of the store; gives each store its own seed.
    on_progress: Called with the steps done and all steps.

  Returns:
    The parameters of the store, NumPy arrays.

  Raises:
    FloatingPointError: If a loss or a parameter is not finite; the last good checkpoint stays.
    preemption.Preempted: On SIGTERM, after a checkpoint.
  """
  settings = shared_settings.from_config(config, data)
  recipe, seed = settings.recipe, (config["seed"], number)
  network = networks.build_universal(space, parallel.platform_of())
  rng = jax.random.fold_in(jax.random.key(seed[0]), seed[1])
  sets_key, start_key, train_key = jax.random.split(rng, 3)
  calls = -(-settings.steps_per_call // sampling.ROUND)  # rounds in a call of the program
  devices = parallel.devices_for(recipe.parts)
  # Keys are arguments, so that all stores have equal programs, which compile once.
  key_data = np.asarray(jax.random.key_data(train_key))
  axes = (None, None, None, None, 0, None)
  program = parallel.pmap_data(_make_program(network, recipe), axes, devices, (0,))
  order = training.batch_order(seed, len(data.train.labels), recipe.batch_size, recipe.steps)
  state = jax.jit(lambda key: _start(network, problem, recipe, key))(start_key)
  with preemption.watch() as should_stop, _open(folder) as checkpoints:
    state, done = checkpoints.restore(state) if checkpoints else (state, 0)
    if done >= recipe.steps:
      return jax.device_get(state.train.params)
    draw = _make_draw(space, problem, settings.least_share, calls)
    local = devices // jax.process_count()
    moving, counts = parallel.copy_to_devices(state.train, local), jnp.asarray(state.counts)
    held = parallel.copy_to_devices(data.train, local)
    while done < recipe.steps:
      before = done
      counts, architectures = draw(sets_key, counts, done // sampling.ROUND)
      batches = order[done : done + len(architectures)]
      padded = np.zeros((recipe.batch_size, len(architectures)), np.int32)
      padded[:, : len(batches)] = batches.T
      shards = parallel.shards_to_devices(parallel.own_part(padded), local)
      moving = program(
        moving, key_data, np.asarray(architectures), np.int32(len(batches)), shards, held
      )
      done += len(batches)
      if not np.isfinite(float(moving.loss_sum)):
        raise FloatingPointError(
          f"the training of the shared weights diverged before step {done}: lower "
          "config.evaluation.store.learning_rate"
        )
      on_progress(done, recipe.steps)
      stop = should_stop()
      due = done == recipe.steps or _crosses(settings.checkpoint_every, before, done)
      if checkpoints and (due or stop):
        checkpoints.save(done, StoreState(moving, counts), {})
      if stop:
        raise preemption.Preempted(done)
  return jax.device_get(moving.params)


def _crosses(every: int, before: int, after: int) -> bool:
  """Whether a multiple of `every` lies in `(before, after]`."""
  return after // every > before // every


def _make_draw(
  space: SearchSpace, problem: Problem, least_share: float, rounds: int
) -> Callable[[jax.Array, jax.Array, int], tuple[jax.Array, jax.Array]]:
  """Makes the program `(key, counts [n], first round) -> (counts, architectures of rounds)`."""
  ends = jax.jit(sampling.ends)(problem)

  @jax.jit
  def draw(rng, counts, first):
    def one(counts, number):
      key = jax.random.fold_in(rng, number)
      return sampling.next_round(problem, ends, counts, key, least_share)

    counts, masks = jax.lax.scan(one, counts, first + jnp.arange(rounds))
    return counts, space.architecture(masks.reshape(-1, problem.n))

  return draw


def _open(folder: pathlib.Path | None) -> contextlib.AbstractContextManager[Checkpoints | None]:
  return contextlib.nullcontext() if folder is None else Checkpoints(folder, keep=1)


def _start(
  network: Universal, problem: Problem, recipe: training.Recipe, rng: jax.Array
) -> StoreState:
  params = store.start(network, rng)
  zero = jnp.zeros((), jnp.int32)
  optimizer = recipe.transformation.init(params)
  first = training.TrainState(zero, params, (), optimizer, jnp.zeros(()))
  return StoreState(first, jnp.zeros(problem.n, jnp.int32))


def _make_program(
  network: Universal, recipe: training.Recipe
) -> Callable[..., training.TrainState]:
  """Makes the program that trains some steps.

  Its arguments are the state, the training's key data, architectures `[T, positions]`, the number
  of steps (at most T), this device's rows of each batch `[B, T]`, and all images and labels.
  """
  transformation = recipe.transformation

  def step(state, rng, architecture, images, labels):
    rows = store.where(network, architecture)
    # Optimizer arrays that mirror the store are taken by rows, all others whole.
    rows_of_optimizer = optax.tree.map_params(
      transformation, lambda _, row: row, state.optimizer, rows, transform_non_params=lambda _: ...
    )
    own = training.TrainState(
      step=state.step,
      params=store.take(state.params, rows),
      state=store.zero_statistics(network),
      optimizer=store.take(state.optimizer, rows_of_optimizer),
      loss_sum=state.loss_sum,
    )

    def apply(params, state, x, train):
      return network.apply(params, state, architecture, x, train)

    moved, _ = training.train_step(recipe, apply, own, rng, images, labels, parallel.AXIS)
    return state.replace(
      step=moved.step,
      params=store.put(state.params, rows, moved.params),
      optimizer=store.put(state.optimizer, rows_of_optimizer, moved.optimizer),
      loss_sum=moved.loss_sum,
    )

  def train(state, key_data, architectures, count, rows, held):
    rng = jax.random.wrap_key_data(key_data)

    def one(index, state):
      batch = rows[:, index]
      return step(state, rng, architectures[index], held.images[batch], held.labels[batch])

    return jax.lax.fori_loop(0, count, one, state)

  return train

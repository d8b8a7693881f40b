"""Training of the network that was found: its own program, every device on a part of the batch."""

import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from nas_submod import networks, parallel, resources, training
from nas_submod.data import Data, Split
from nas_submod.objective import check_fit
from nas_submod.spaces import SearchSpace

_EVAL_BATCH = 256
_AXIS = "batch"


def join_validation(data: Data) -> Data:
  """The data with the validation images among the training images."""
  train = Split(*(np.concatenate(parts) for parts in zip(data.train, data.validation)))
  return data._replace(train=train)


def train(
  space: SearchSpace,
  architecture: Sequence[int],
  data: Data,
  config: Mapping[str, Any],
  workdir: pathlib.Path,
  on_progress: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> dict[str, Any]:
  """Trains a network and tests it; goes on from the last checkpoint of the workdir.

  Args:
    space: The space.
    architecture: What to build.
    data: `train` is what it learns from, `test` what it is tested on.
    config: `seed` and `final`, a recipe as for candidates; checkpoints every `steps_per_call`.
    workdir: Where checkpoints are.
    on_progress: Called with steps done, steps in all and the mean training loss so far, nats.

  Returns:
    The content of `metrics.json`.

  Raises:
    ValueError: If the data do not fit the space.
    FloatingPointError: If the loss is not finite; the last good checkpoint stays.
  """
  check_fit(space, data)
  recipe = training.recipe(config["final"], data)
  network = networks.build(space, architecture)
  rng = jax.random.key(config["seed"])
  state = jax.jit(lambda rng: training.start(network.init(rng), recipe.transformation))(rng)
  order = training.batch_order(
    (config["seed"],), len(data.train.labels), recipe.batch_size, recipe.steps
  )
  devices = math.gcd(recipe.batch_size, parallel.device_count())
  shards = order.reshape(recipe.steps, devices, -1).swapaxes(0, 1)

  def steps_until(state, shard, images, labels, stop):
    key = jax.random.fold_in(jax.random.fold_in(rng, 1), jax.lax.axis_index(_AXIS))

    def step(state):
      rows = shard[state.step]
      batch = images[rows], labels[rows]
      return training.train_step(recipe, network.apply, state, key, *batch, axis_name=_AXIS)

    return jax.lax.while_loop(lambda state: state.step < stop, step, state)

  advance = parallel.pmap_data(steps_until, (None, 0, None, None, None), devices, _AXIS)
  began = time.perf_counter()
  chunk = config["final"]["steps_per_call"]
  with ocp.CheckpointManager(
    (workdir / "checkpoints").absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=2)
  ) as manager:
    first = manager.latest_step() or 0
    if first:
      state = manager.restore(first, args=ocp.args.StandardRestore(jax.device_get(state)))
    for stop in [*range((first // chunk + 1) * chunk, recipe.steps, chunk), recipe.steps]:
      state = jax.device_get(advance(state, shards, *data.train, np.int32(stop)))
      loss = float(state.loss_sum) / int(state.step)
      if not math.isfinite(loss):
        raise FloatingPointError(
          f"the training loss is {loss} at step {stop}: lower config.final.learning_rate; "
          f"the checkpoint of step {manager.latest_step()} is kept"
        )
      if stop > first:
        manager.save(stop, args=ocp.args.StandardSave(state))
      on_progress(stop, recipe.steps, loss)
    manager.wait_until_finished()
  seconds = time.perf_counter() - began
  metrics = test(network, recipe, state, data.test)
  return {
    "architecture": [int(option) for option in architecture],
    "text": space.text(architecture),
    "resources": resources.network_cost(space, architecture),
    "test": metrics,
    "train_loss": loss,
    "train_images": len(data.train.labels),
    "steps": recipe.steps,
    "resumed_from_step": first,
    "seconds": seconds,
    "devices": f"{devices} x {jax.local_devices()[0].device_kind}",
  }


def test(
  network: networks.Layer, recipe: training.Recipe, state: training.TrainState, split: Split
) -> dict[str, Any]:
  """Accuracy, top-5 accuracy (shares) and loss (nats) of a network on a split."""

  @jax.jit
  def evaluate(params, statistics, images, labels):
    def step(total, batch):
      metrics = training.eval_step(recipe, network.apply, params, statistics, *batch)
      return jax.tree.map(jnp.add, total, metrics), None

    zeros = training.Metrics(*(jnp.zeros((), kind) for kind in (int, int, float, int)))
    return jax.lax.scan(step, zeros, (images, labels))[0]

  batches = training.batches(split, _EVAL_BATCH)
  total = jax.device_get(evaluate(state.params, state.state, *batches))
  count = int(total.examples)
  return {
    "accuracy": int(total.correct) / count,
    "top5_accuracy": int(total.correct_top5) / count,
    "loss": float(total.loss) / count,
    "images": count,
  }

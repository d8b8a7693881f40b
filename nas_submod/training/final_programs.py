"""The programs of a final training: its first state, a step and an evaluation on all devices."""

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod import networks, parallel, training
from nas_submod.training import feed as feeds


class FinalPrograms(NamedTuple):
  """The two programs, each on all devices; `held` and `batch` are from a `Feed`.

  Attributes:
    train: `(TrainState, held, batch) -> (TrainState, StepMetrics)`.
    evaluate: `(Variables, held, batch) -> Metrics`.
  """

  train: jax.stages.Wrapped
  evaluate: jax.stages.Wrapped


def make_final_programs(
  recipe: training.Recipe,
  network: networks.Layer,
  rng: jax.Array,
  devices: int,
  among: Sequence[jax.Device] | None = None,
) -> FinalPrograms:
  """Makes the programs; the first `devices` of `among` share each batch, see `pmap_data`."""
  network = networks.for_platform(network, parallel.platform_of(among))

  def train(state, held, batch):
    examples = feeds.select_batch(held, batch)
    return training.train_step(
      recipe, network.apply, state, rng, *examples, axis_name=parallel.AXIS
    )

  def evaluate(variables, held, batch):
    examples = feeds.select_batch(held, batch)
    return training.eval_step(
      recipe, network.apply, variables.params, variables.state, *examples, axis_name=parallel.AXIS
    )

  axes = (None, None, 0)
  return FinalPrograms(
    parallel.pmap_data(train, axes, devices, (0,), among),
    parallel.pmap_data(evaluate, axes, devices, among=among),
  )


def initial_variables(network: networks.Layer, rng: jax.Array) -> networks.Variables:
  """Initial values from one random draw, because a draw for each kernel is slow to compile."""
  shapes: list[tuple[int, ...]] = []

  def record(_, shape):
    shapes.append(shape)
    return jnp.zeros(shape)

  jax.eval_shape(lambda: network.init(rng, record))
  ends = np.cumsum([math.prod(shape) for shape in shapes])
  parts = iter(jnp.split(jax.random.normal(rng, (int(ends[-1]),)), ends))
  return network.init(rng, lambda _, shape: next(parts).reshape(shape))


def initial_state(
  network: networks.Layer,
  recipe: training.Recipe,
  rng: jax.Array,
  initial: networks.Variables | None = None,
) -> training.TrainState:
  """The state before the first step; without `initial`, its variables are drawn from `rng`."""
  variables = initial_variables(network, rng) if initial is None else initial
  return training.start(variables, recipe.transformation, recipe.average > 0)


def evaluate(
  programs: FinalPrograms,
  variables: networks.Variables,
  feed: feeds.Feed,
  should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
  """Evaluates a network on all images of a feed.

  Args:
    programs: From `make_final_programs`.
    variables: Variables of the network.
    feed: The images.
    should_stop: Called after each batch.

  Returns:
    Accuracy and top-5 accuracy (shares), loss (nats) and the number of images. None if
    `should_stop` was true.
  """
  total = np.zeros(len(training.Metrics._fields))
  with contextlib.closing(feed.batches(0)) as batches:
    for batch in batches:
      metrics = programs.evaluate(variables, feed.held, batch)
      total += np.array([float(part) for part in metrics])
      if should_stop():
        return None
  correct, correct_top5, loss, examples = total.tolist()
  return {
    "accuracy": correct / examples,
    "top5_accuracy": correct_top5 / examples,
    "loss": loss / examples,
    "images": int(examples),
  }

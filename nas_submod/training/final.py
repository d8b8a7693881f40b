"""Training of the network that was found: its own program, every device on a part of the batch."""

import contextlib
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod import data as datasets
from nas_submod import networks, parallel, preemption, resources, training
from nas_submod.data.loading import Data, Split
from nas_submod.networks.search_space import SearchSpace
from nas_submod.training import check_fit
from nas_submod.training import feed as feeds
from nas_submod.training.checkpoints import Checkpoints
from nas_submod.training.metrics_log import MetricsLog, Window
from nas_submod.validation import checked_seed

AXIS = "batch"  # Of the devices that share a batch.
_WATCHED = ("accuracy", "top5_accuracy", "loss")  # What is logged at every checkpoint.


class Programs(NamedTuple):
  """The two programs, each on all devices; `held` and `batch` are those of a `Feed`.

  Attributes:
    train: `(TrainState, held, batch) -> (TrainState, StepMetrics)`.
    evaluate: `(Variables, held, batch) -> Metrics`.
  """

  train: Callable[..., tuple[training.TrainState, training.StepMetrics]]
  evaluate: Callable[..., training.Metrics]


def make_programs(
  recipe: training.Recipe, network: networks.Layer, rng: jax.Array, devices: int
) -> Programs:
  """Makes the programs; `devices` of all processes share each batch."""

  def train(state, held, batch):
    examples = feeds.take(held, batch)
    return training.train_step(recipe, network.apply, state, rng, *examples, axis_name=AXIS)

  def evaluate(variables, held, batch):
    examples = feeds.take(held, batch)
    return training.eval_step(
      recipe, network.apply, variables.params, variables.state, *examples, axis_name=AXIS
    )

  axes = (None, None, 0)
  return Programs(
    parallel.pmap_data(train, axes, devices, AXIS, donate=(0,)),
    parallel.pmap_data(evaluate, axes, devices, AXIS),
  )


def initial(network: networks.Layer, rng: jax.Array) -> networks.Variables:
  """Initial values, all random numbers drawn at once: a draw for each kernel is slow to compile."""
  shapes: list[tuple[int, ...]] = []

  def record(_, shape):
    shapes.append(shape)
    return jnp.zeros(shape)

  jax.eval_shape(lambda: network.init(rng, record))
  ends = np.cumsum([math.prod(shape) for shape in shapes])
  parts = iter(jnp.split(jax.random.normal(rng, (int(ends[-1]),)), ends))
  return network.init(rng, lambda _, shape: next(parts).reshape(shape))


def choose_splits(data: Data, evaluate_on: str) -> tuple[Data, Split]:
  """What to train on, and what to evaluate on at every checkpoint.

  Args:
    data: The data of a search.
    evaluate_on: "test": the validation images are learned from; "validation": they are held out,
      so that the best checkpoint is chosen without the test images.

  Raises:
    ValueError: If it is neither.
  """
  if evaluate_on == "validation":
    return data, data.validation
  if evaluate_on != "test":
    raise ValueError(f"unknown evaluate_on {evaluate_on!r}; allowed: test, validation")
  return data._replace(train=datasets.join(data.train, data.validation)), data.test


class Plan(NamedTuple):
  """A training that is possible.

  Attributes:
    data: What is trained on and tested on.
    evaluated: What is evaluated at every checkpoint.
    recipe: How it is trained.
    log_every: Steps between lines of the log.
    checkpoint_every: Steps between checkpoints.
    devices: How many share each batch, of all processes.
  """

  data: Data
  evaluated: Split
  recipe: training.Recipe
  log_every: int
  checkpoint_every: int
  devices: int


def plan(space: SearchSpace, data: Data, config: Mapping[str, Any]) -> Plan:
  """Checks what `train` is given; arguments as there.

  Raises:
    ValueError: If the data do not fit the space, or a setting is not possible.
  """
  check_fit(space, data)
  checked_seed("config.seed", config["seed"])
  settings = config["final"]
  data, evaluated = choose_splits(data, settings["evaluate_on"])
  recipe = training.recipe(settings, data)
  intervals = _intervals(settings, len(data.train.labels))
  return Plan(data, evaluated, recipe, *intervals, parallel.devices_for(recipe.batch_size))


def train(
  space: SearchSpace,
  architecture: Sequence[int],
  data: Data,
  config: Mapping[str, Any],
  workdir: pathlib.Path,
  on_progress: Callable[[int, int, float, str], None] = lambda step, steps, loss, doing: None,
) -> dict[str, Any]:
  """Trains a network and tests it; goes on from the last checkpoint of the workdir.

  A step depends on the seed and its number alone, so that a run in pieces is the run in one piece;
  but a checkpoint that is written on notice is not evaluated, and cannot be the best.

  Args:
    space: The space.
    architecture: What to build.
    data: The data of a search.
    config: `seed` and `final`: a recipe (see `training.recipe`), `evaluate_on` (see
      `choose_splits`), `log_every` (steps), `checkpoint_every` (in the unit of the duration) and
      `keep_checkpoints`.
    workdir: Where checkpoints and metrics are.
    on_progress: Called after each step with steps done, steps in all, the loss in nats and what is
      being done, "training" or "evaluating".

  Returns:
    The content of `metrics.json`: the test is that of the last step, never of the best.

  Raises:
    ValueError: If the data do not fit the space, or a setting is not possible.
    FloatingPointError: If a loss, gradient or parameter is not finite; the last good checkpoint
      stays.
    preemption.Preempted: On SIGTERM, after the step or the batch under way and a checkpoint, which
      is not evaluated.
  """
  settings = config["final"]
  data, evaluated, recipe, log_every, checkpoint_every, devices = plan(space, data, config)
  steps = recipe.steps
  network = networks.build(space, architecture)
  rng = jax.random.key(config["seed"])
  averaged = recipe.average > 0
  state = jax.jit(
    lambda rng: training.start(initial(network, rng), recipe.transformation, averaged)
  )(rng)
  programs = make_programs(recipe, network, jax.random.fold_in(rng, 1), devices)
  own = devices // jax.process_count()
  feed = feeds.of_training(data.train, config["seed"], recipe.batch_size, steps, devices, AXIS)
  watched = feeds.of_evaluation(evaluated, devices, AXIS)
  began = time.perf_counter()
  with (
    preemption.watch() as should_stop,  # Until the last checkpoint is on disk.
    Checkpoints(workdir / "checkpoints", settings["keep_checkpoints"]) as checkpoints,
  ):
    state, first = checkpoints.restore(state)
    state = parallel.copy_to_devices(state, own, AXIS)
    with MetricsLog(workdir, first) as log, contextlib.closing(feed.batches(first)) as batches:
      window = Window(recipe, log, checkpoints, first)

      def measure(done, on):
        """What `evaluate` finds; None on notice."""
        on_progress(done, steps, window.last_loss, "evaluating")
        return evaluate(programs, state.best_variables, on, should_stop)

      def write(done, found):
        named = {f"{settings['evaluate_on']}_{name}": found[name] for name in _WATCHED}
        log.write(done, named)
        return {name: found[name] for name in _WATCHED}

      found = None
      for step, batch in zip(range(first, steps), batches):
        state, metrics = programs.train(state, feed.held, batch)
        window.add(metrics)
        done = step + 1
        on_progress(done, steps, window.last_loss, "training")
        stop, due = should_stop(), done == steps or done % checkpoint_every == 0
        if due or stop or done % log_every == 0:
          window.write()
        found = measure(done, watched) if due and not stop else None
        if found is not None:
          checkpoints.save(done, state, write(done, found))
        elif due or stop:
          checkpoints.save(done, state, {})
          raise preemption.Preempted(done)
      if found is None:  # The notice came before it was known, or all was done.
        found = measure(steps, watched)
        if found is not None and not log.holds(steps, f"{settings['evaluate_on']}_loss"):
          write(steps, found)
      test = found
      if found is not None and settings["evaluate_on"] != "test":
        test = measure(steps, feeds.of_evaluation(data.test, devices, AXIS))
      if found is None or test is None:
        raise preemption.Preempted(steps)
      best = checkpoints.best(steps, {name: found[name] for name in _WATCHED})
  return {
    "architecture": [int(option) for option in architecture],
    "text": space.text(architecture),
    "resources": resources.network_cost(space, architecture),
    "test": test,
    "best_checkpoint": best and {"evaluated_on": settings["evaluate_on"], **best},
    "train_loss": float(state.loss_sum) / steps,
    "train_images": len(data.train.labels),
    "steps": steps,
    "resumed_from_step": first,
    "seconds": time.perf_counter() - began,
    "images_per_second": window.images_per_second,
    "devices": f"{devices} x {jax.local_devices()[0].device_kind}",
  }


def _intervals(settings: Mapping[str, Any], train_size: int) -> tuple[int, int]:
  """Steps between log lines and between checkpoints."""
  for name in ("log_every", "checkpoint_every", "keep_checkpoints"):
    if not settings[name] > 0:
      raise ValueError(f"config.final.{name} is {settings[name]}; allowed are positive numbers")
  unit = 1 if settings.get("steps") else train_size // settings["batch_size"]
  return settings["log_every"], max(1, round(settings["checkpoint_every"] * unit))


def evaluate(
  programs: Programs,
  variables: networks.Variables,
  feed: feeds.Feed,
  should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
  """Accuracy, top-5 accuracy (shares) and loss (nats) of a network on all images of a feed.

  Args:
    programs: Of `make_programs`.
    variables: Those of the network.
    feed: The images.
    should_stop: Asked after each batch.

  Returns:
    These and the number of images; None if it was to stop.
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

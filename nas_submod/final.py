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
from nas_submod import feed as feeds
from nas_submod import networks, parallel, preemption, resources, training
from nas_submod.checkpoints import Checkpoints
from nas_submod.data import Data, Split
from nas_submod.metrics_log import MetricsLog
from nas_submod.objective import check_fit
from nas_submod.spaces import SearchSpace

AXIS = "batch"  # Of the devices that share a batch.


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


def train(
  space: SearchSpace,
  architecture: Sequence[int],
  data: Data,
  config: Mapping[str, Any],
  workdir: pathlib.Path,
  on_progress: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> dict[str, Any]:
  """Trains a network and tests it; goes on from the last checkpoint of the workdir.

  A step depends on the seed and its number alone, so that a run in pieces is the run in one piece.

  Args:
    space: The space.
    architecture: What to build.
    data: The data of a search.
    config: `seed` and `final`: a recipe (see `training.recipe`), `evaluate_on` (see
      `choose_splits`), `log_every` (steps), `checkpoint_every` (in the unit of the duration) and
      `keep_checkpoints`.
    workdir: Where checkpoints and metrics are.
    on_progress: Called after each step with steps done, steps in all and the loss, nats.

  Returns:
    The content of `metrics.json`: the test is that of the last step, never of the best.

  Raises:
    ValueError: If the data do not fit the space, or a setting is not possible.
    FloatingPointError: If a loss, gradient or parameter is not finite; the last good checkpoint
      stays.
    preemption.Preempted: On SIGTERM, after the step under way and its checkpoint.
  """
  check_fit(space, data)
  settings = config["final"]
  data, evaluated = choose_splits(data, settings["evaluate_on"])
  recipe = training.recipe(settings, data)
  log_every, checkpoint_every = _intervals(settings, len(data.train.labels))
  devices = parallel.devices_for(recipe.batch_size)
  network = networks.build(space, architecture)
  rng = jax.random.key(config["seed"])
  averaged = recipe.average > 0
  state = jax.jit(
    lambda rng: training.start(initial(network, rng), recipe.transformation, averaged)
  )(rng)
  programs = make_programs(recipe, network, jax.random.fold_in(rng, 1), devices)
  own = devices // jax.process_count()
  feed = feeds.of_training(
    data.train, config["seed"], recipe.batch_size, recipe.steps, devices, AXIS
  )
  watched = feeds.of_evaluation(evaluated, devices, AXIS)
  began = time.perf_counter()
  with (
    Checkpoints(workdir / "checkpoints", settings["keep_checkpoints"]) as checkpoints,
    preemption.watch() as should_stop,
  ):
    state, first = checkpoints.restore(state)
    state = parallel.replicate(state, own, AXIS)
    with MetricsLog(workdir, first) as log, contextlib.closing(feed.batches(first)) as batches:
      window = _Window(recipe, log, checkpoints, first)
      for step, batch in zip(range(first, recipe.steps), batches):
        state, metrics = programs.train(state, feed.held, batch)
        window.add(metrics)
        done = step + 1
        on_progress(done, recipe.steps, window.last_loss)
        stop, last = should_stop(done), done == recipe.steps
        due = last or done % checkpoint_every == 0
        if due or stop or done % log_every == 0:
          window.write()
        if due:
          found = evaluate(programs, state.best_variables, watched)
          del found["images"]
          log.write(done, {f"{settings['evaluate_on']}_{name}": v for name, v in found.items()})
          checkpoints.save(done, state, found)
        elif stop:
          checkpoints.save(done, state, {})
        if stop and not last:
          raise preemption.Preempted(done)
      best = checkpoints.best()
  test = feeds.of_evaluation(data.test, devices, AXIS)
  return {
    "architecture": [int(option) for option in architecture],
    "text": space.text(architecture),
    "resources": resources.network_cost(space, architecture),
    "test": evaluate(programs, state.best_variables, test),
    "best_checkpoint": best and {"evaluated_on": settings["evaluate_on"], **best},
    "train_loss": float(state.loss_sum) / recipe.steps,
    "train_images": len(data.train.labels),
    "steps": recipe.steps,
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


def evaluate(programs: Programs, variables: networks.Variables, feed: feeds.Feed) -> dict[str, Any]:
  """Accuracy, top-5 accuracy (shares) and loss (nats) of a network on all images of a feed."""
  total = np.zeros(len(training.Metrics._fields))
  with contextlib.closing(feed.batches(0)) as batches:
    for batch in batches:
      metrics = programs.evaluate(variables, feed.held, batch)
      total += np.array([float(part) for part in metrics])
  correct, correct_top5, loss, examples = total.tolist()
  return {
    "accuracy": correct / examples,
    "top5_accuracy": correct_top5 / examples,
    "loss": loss / examples,
    "images": int(examples),
  }


class _Window:
  """The steps since the last line of the log, and how many of them may be under way."""

  def __init__(
    self, recipe: training.Recipe, log: MetricsLog, checkpoints: Checkpoints, first: int
  ):
    self._recipe, self._log, self._checkpoints = recipe, log, checkpoints
    self._done = first
    self._steps: list[training.StepMetrics] = []
    # Two programs with collectives at once may deadlock on the threads of a CPU.
    self._ahead = 0 if jax.default_backend() == "cpu" else 1
    self._began = 0.0
    self.last_loss = math.nan
    self.images_per_second: float | None = None

  def add(self, metrics: training.StepMetrics) -> None:
    """Takes in a step that was started; waits for the one before it, on a CPU for itself."""
    self._steps.append(metrics)
    if len(self._steps) > self._ahead:
      self.last_loss = float(self._steps[-1 - self._ahead].loss)
    if len(self._steps) == 1:
      # The first step of a window is not timed: it compiles, or follows an evaluation.
      jax.block_until_ready(metrics)
      self._began = time.perf_counter()

  def write(self) -> None:
    """Writes the means of the steps since the last line.

    Raises:
      FloatingPointError: If one of them is not finite.
    """
    steps = jax.device_get(self._steps)
    seconds = time.perf_counter() - self._began
    norms = [float(step.gradient_norm) for step in steps]
    for index, step in enumerate(steps):
      if not np.isfinite(step).all():
        self._fail(self._done + index, step, norms[index - 1] if index else math.nan)
    self._done += len(steps)
    self._steps = []
    values = {
      "loss": float(np.mean([step.loss for step in steps])),
      "learning_rate": float(self._recipe.learning_rate(self._done - 1)),
      "gradient_norm": float(np.mean(norms)),
    }
    if len(steps) > 1:
      self.images_per_second = (len(steps) - 1) * self._recipe.batch_size / seconds
      values["images_per_second"] = self.images_per_second
    self._log.write(self._done, values)

  def _fail(self, step: int, metrics: training.StepMetrics, norm_before: float) -> None:
    loss, rate = float(metrics.loss), float(self._recipe.learning_rate(step))
    what = f"the gradient is not finite (loss {loss:.4g})"
    if not math.isfinite(loss):
      what = f"the training loss is {loss}"
    raise FloatingPointError(
      f"{what} at step {step + 1}: learning rate {rate:.3g}, gradient norm {norm_before:.3g} the "
      "step before; lower config.final.learning_rate or set config.final.clip_norm; "
      f"the checkpoint of step {self._checkpoints.latest} is kept"
    )

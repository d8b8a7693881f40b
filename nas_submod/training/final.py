"""Trains the network that a search found; all devices share each batch."""

import contextlib
import functools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from nas_submod import data as datasets
from nas_submod import networks, parallel, preemption, resources, training
from nas_submod.data.loading import Data, Split
from nas_submod.fields import SECTIONS, check_section
from nas_submod.networks.search_space import SearchSpace
from nas_submod.training import check_fit
from nas_submod.training import feed as feeds
from nas_submod.training.checkpoints import Checkpoints
from nas_submod.training.final_programs import (
  FinalPrograms,
  evaluate,
  initial_state,
  make_final_programs,
)
from nas_submod.training.metrics_log import MetricsLog, Window
from nas_submod.validation import checked_seed, located

_LOGGED = ("accuracy", "top5_accuracy", "loss")  # Scores in the log and with each checkpoint.


def training_and_evaluation_data(data: Data, evaluate_on: str) -> tuple[Data, Split]:
  """The data to train on, and the split to evaluate at every checkpoint.

  Args:
    data: The data of a search.
    evaluate_on: With "test", the network also trains on the validation images. With "validation",
      these are held out and select the best checkpoint instead of the test images.
  """
  if evaluate_on == "validation":
    return data, data.validation
  return data._replace(train=datasets.join(data.train, data.validation)), data.test


class TrainingSettings(NamedTuple):
  """The checked settings of a final training.

  Attributes:
    data: Splits to train and test on.
    evaluated: Split to evaluate at every checkpoint.
    evaluate_on: Its name, "test" or "validation".
    recipe: How to train.
    log_every: Steps between lines of the log.
    checkpoint_every: Steps between checkpoints.
    keep_checkpoints: Number of latest checkpoints to keep.
    devices: Devices that share each batch, of all processes.
    resources: The resources to report.
  """

  data: Data
  evaluated: Split
  evaluate_on: str
  recipe: training.Recipe
  log_every: int
  checkpoint_every: int
  keep_checkpoints: int
  devices: int
  resources: resources.Resources


def check(space: SearchSpace, data: Data, config: Mapping[str, Any]) -> TrainingSettings:
  """Checks the arguments of `train`, and returns the settings that follow from them.

  Raises:
    ValueError: If the data do not fit the space, or a setting is not possible.
  """
  check_fit(space, data)
  checked_seed("config.seed", config["seed"])
  settings = config["final"]
  check_section("config.final", settings, SECTIONS["final"], False)
  data, evaluated = training_and_evaluation_data(data, settings["evaluate_on"])
  with located("config.final"):
    recipe = training.recipe(settings, data)
  unit = 1 if settings.get("steps") else len(data.train.labels) // settings["batch_size"]
  return TrainingSettings(
    data=data,
    evaluated=evaluated,
    evaluate_on=settings["evaluate_on"],
    recipe=recipe,
    log_every=settings["log_every"],
    checkpoint_every=max(1, round(settings["checkpoint_every"] * unit)),
    keep_checkpoints=settings["keep_checkpoints"],
    devices=parallel.devices_for(recipe.parts),
    resources=resources.from_config(config.get("resources")),
  )


def train(
  space: SearchSpace,
  architecture: Sequence[int],
  data: Data,
  config: Mapping[str, Any],
  workdir: pathlib.Path,
  on_progress: Callable[[int, int, float, str], None] = lambda step, steps, loss, doing: None,
  initial: networks.Variables | None = None,
) -> dict[str, Any]:
  """Trains a network and tests it; continues from the last checkpoint of the workdir.

  A step depends only on the seed and the step number, so a resumed run equals an uninterrupted one.
  The exception is a checkpoint written on SIGTERM: it is not evaluated and cannot be the best.

  Args:
    space: The space.
    architecture: The network to train.
    data: The data of a search.
    config: `seed` and `final`: a recipe (see `training.recipe`), `evaluate_on` (see
      `training_and_evaluation_data`), `log_every` (steps), `checkpoint_every` (in the unit of the
      duration) and `keep_checkpoints`; optionally `resources` to report.
    workdir: The folder of checkpoints and metrics.
    on_progress: Called after each step with the steps done, all steps, the loss in nats and the
      current activity, "training" or "evaluating".
    initial: The variables of `networks.build(space, architecture)` to start from; None draws them.

  Returns:
    The content of `metrics.json`. The test uses the last step, never the best checkpoint.

  Raises:
    ValueError: If the data do not fit the space, or a setting is not possible.
    FloatingPointError: If a loss, gradient or parameter is not finite; the last good checkpoint
      stays.
    preemption.Preempted: On SIGTERM, after the current step or batch and a checkpoint without
      evaluation.
  """
  settings = check(space, data, config)
  recipe, devices = settings.recipe, settings.devices
  network = networks.build(space, architecture)
  rng = jax.random.key(config["seed"])
  state = jax.jit(functools.partial(initial_state, network, recipe))(rng, initial)
  programs = make_final_programs(recipe, network, jax.random.fold_in(rng, 1), devices)
  feed = feeds.of_training(
    settings.data.train, config["seed"], recipe.batch_size, recipe.steps, devices
  )
  began = time.perf_counter()
  with (
    preemption.watch() as should_stop,  # Active until the last checkpoint is on disk.
    Checkpoints(workdir / "checkpoints", settings.keep_checkpoints) as checkpoints,
  ):
    state, first = checkpoints.restore(state)
    state = parallel.copy_to_devices(state, devices // jax.process_count())
    with MetricsLog(workdir, first) as log:
      run = _Run(settings, programs, checkpoints, log, should_stop, on_progress, first)
      state, scores = run.train(state, feed)
      scores = scores or run.evaluate_again(state)
      test = run.test(state, scores)
      best = checkpoints.best(recipe.steps, _logged(scores))
  return {
    "architecture": [int(option) for option in architecture],
    "text": space.text(architecture),
    "resources": resources.network_cost(space, architecture, settings.resources),
    "test": test,
    "best_checkpoint": best and {"evaluated_on": settings.evaluate_on, **best},
    "train_loss": float(state.loss_sum) / recipe.steps,
    "train_images": len(settings.data.train.labels),
    "steps": recipe.steps,
    "resumed_from_step": first,
    "seconds": time.perf_counter() - began,
    "images_per_second": run.images_per_second,
    "devices": f"{devices} x {jax.local_devices()[0].device_kind}",
  }


class _Run:
  """One call of `train`: the steps from `first` on, with their log, evaluations and checkpoints."""

  def __init__(
    self,
    settings: TrainingSettings,
    programs: FinalPrograms,
    checkpoints: Checkpoints,
    log: MetricsLog,
    should_stop: Callable[[], bool],
    on_progress: Callable[[int, int, float, str], None],
    first: int,
  ):
    self._settings, self._programs, self._first = settings, programs, first
    self._checkpoints, self._log = checkpoints, log
    self._should_stop, self._on_progress = should_stop, on_progress
    self._steps = settings.recipe.steps
    self._window = Window(settings.recipe, log, checkpoints, first)
    self._feed = feeds.of_evaluation(settings.evaluated, settings.devices)

  @property
  def images_per_second(self) -> float | None:
    """Training speed since the last line of the log; None if it was not measured."""
    return self._window.images_per_second

  def train(
    self, state: training.TrainState, feed: feeds.Feed
  ) -> tuple[training.TrainState, dict[str, Any] | None]:
    """Takes the remaining steps; returns the state and its scores, None if no step was left."""
    scores = None
    with contextlib.closing(feed.batches(self._first)) as batches:
      for done, batch in zip(range(self._first + 1, self._steps + 1), batches):
        state, metrics = self._programs.train(state, feed.held, batch)
        self._window.add(metrics)
        self._on_progress(done, self._steps, self._window.last_loss, "training")
        stop = self._should_stop()
        due = done == self._steps or done % self._settings.checkpoint_every == 0
        if due or stop or done % self._settings.log_every == 0:
          self._window.write()
        if due or stop:
          scores = self._save(done, state, stop)
    return state, scores

  def _save(self, done: int, state: training.TrainState, stop: bool) -> dict[str, Any]:
    """Evaluates and saves a state; on SIGTERM, saves without evaluation and stops."""
    scores = None if stop else self._evaluate(done, state, self._feed)
    if scores is None:
      self._checkpoints.save(done, state, {})
      raise preemption.Preempted(done)
    self._write_scores(done, scores)
    self._checkpoints.save(done, state, _logged(scores))
    return scores

  def evaluate_again(self, state: training.TrainState) -> dict[str, Any]:
    """The scores of a restored last step; logs them if a SIGTERM had prevented it."""
    scores = self._evaluate(self._steps, state, self._feed)
    if scores is None:
      raise preemption.Preempted(self._steps)
    if not self._log.holds(self._steps, f"{self._settings.evaluate_on}_loss"):
      self._write_scores(self._steps, scores)
    return scores

  def test(self, state: training.TrainState, scores: dict[str, Any]) -> dict[str, Any]:
    """The scores on the test images; `scores` are for the evaluated split."""
    if self._settings.evaluate_on == "test":
      return scores
    feed = feeds.of_evaluation(self._settings.data.test, self._settings.devices)
    found = self._evaluate(self._steps, state, feed)
    if found is None:
      raise preemption.Preempted(self._steps)
    return found

  def _evaluate(
    self, done: int, state: training.TrainState, feed: feeds.Feed
  ) -> dict[str, Any] | None:
    """The scores of a state; None on SIGTERM."""
    self._on_progress(done, self._steps, self._window.last_loss, "evaluating")
    return evaluate(self._programs, state.evaluated_variables, feed, self._should_stop)

  def _write_scores(self, done: int, scores: dict[str, Any]) -> None:
    prefix = self._settings.evaluate_on
    self._log.write(done, {f"{prefix}_{name}": value for name, value in _logged(scores).items()})


def _logged(scores: Mapping[str, Any]) -> dict[str, float]:
  """The scores that go to the log and to the checkpoints."""
  return {name: scores[name] for name in _LOGGED}

"""What a training says of itself on disk: one JSON object a line, and TensorBoard events."""

import json
import math
import os
import pathlib
import time
from collections.abc import Mapping

import jax
import numpy as np
from tensorboardX import SummaryWriter

from nas_submod import training
from nas_submod.training.checkpoints import Checkpoints

METRICS_FILE = "metrics.jsonl"


class MetricsLog:
  """Numbers by step; a context manager. Only process 0 writes."""

  def __init__(self, workdir: pathlib.Path, first: int):
    """Opens the files, and takes out what a run that goes on from step `first` will say again."""
    self._path = workdir / METRICS_FILE
    self._events: SummaryWriter | None = None
    if jax.process_index() == 0:
      self._keep_until(first)
      self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=first + 1)

  def _keep_until(self, step: int) -> None:
    if not self._path.exists():
      return
    content = self._path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1].splitlines(keepends=True)
    kept = [line for line in whole if json.loads(line)["step"] <= step]
    temporary = self._path.with_name(self._path.name + ".part")
    temporary.write_bytes(b"".join(kept))
    temporary.replace(self._path)

  def __enter__(self) -> "MetricsLog":
    return self

  def __exit__(self, *_: object) -> None:
    if self._events is not None:
      self._events.close()

  def holds(self, step: int, name: str) -> bool:
    """Whether a number of a step was written by this process, now or in an earlier run."""
    if not self._path.exists():
      return False
    lines = map(json.loads, self._path.read_bytes().splitlines())
    return any(line["step"] == step and name in line for line in lines)

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Adds the numbers of a step; when it returns they are on disk."""
    if self._events is None:
      return
    with self._path.open("a") as file:
      file.write(json.dumps({"step": step, **values}) + "\n")
      file.flush()
      os.fsync(file.fileno())
    for name, value in values.items():
      self._events.add_scalar(name, value, step)
    self._events.flush()


class Window:
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

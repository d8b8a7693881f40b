"""The log of a training: a file with one JSON object per line, and TensorBoard events."""

import json
import math
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from tensorboardX import SummaryWriter

from nas_submod import training
from nas_submod.files import append_lines, naming, read_lines, write_bytes
from nas_submod.training.checkpoints import Checkpoints

METRICS_FILE = "metrics.jsonl"


class MetricsLog:
  """Logs numbers by step; a context manager. Only process 0 reads and writes the files."""

  def __init__(self, workdir: pathlib.Path, first: int):
    """Opens the files; removes lines that a run resumed at step `first` will write again."""
    self._path, self._folder = workdir / METRICS_FILE, workdir / "tensorboard"
    self._events: SummaryWriter | None = None
    if jax.process_index() == 0:
      self._keep_until(first)
      self._events = SummaryWriter(str(self._folder), purge_step=first + 1)

  def _keep_until(self, step: int) -> None:
    if not self._path.exists():
      return
    kept = [line + b"\n" for line, found in self._read() if found["step"] <= step]
    write_bytes(self._path, b"".join(kept))

  def _read(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yields each line and its content.

    Raises:
      ValueError: If a line has no numeric `step`.
    """
    for number, line in enumerate(read_lines(self._path), 1):
      try:
        found = json.loads(line)
        found["step"] + 0
      except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(
          f"{self._path}: line {number} holds no step: {line[:80]!r}; delete the line"
        ) from error
      yield line, found

  def __enter__(self) -> "MetricsLog":
    return self

  def __exit__(self, *_: object) -> None:
    if self._events is not None:
      with naming(self._folder):
        self._events.close()

  def holds(self, step: int, name: str) -> bool:
    """Returns whether the log has a number for a step; False on processes other than 0."""
    if self._events is None or not self._path.exists():
      return False
    return any(found["step"] == step and name in found for _, found in self._read())

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Appends the numbers of a step; returns once they are on disk."""
    if self._events is None:
      return
    append_lines(self._path, [{"step": step, **values}])
    with naming(self._folder):
      for name, value in values.items():
        self._events.add_scalar(name, value, step)
      self._events.flush()


class Window:
  """The steps since the last line of the log; also limits how many steps run at once."""

  def __init__(
    self, recipe: training.Recipe, log: MetricsLog, checkpoints: Checkpoints, first: int
  ):
    self._recipe, self._log, self._checkpoints = recipe, log, checkpoints
    self._done = first
    self._steps: list[training.StepMetrics] = []
    self._began = 0.0
    self.last_loss = math.nan
    self.images_per_second: float | None = None

  def add(self, metrics: training.StepMetrics) -> None:
    """Adds a started step; waits for the step before it, and on CPU also for this one."""
    self._steps.append(metrics)
    # On CPU, concurrent programs with collectives may deadlock: both wait for threads of one pool.
    ahead = 0 if any(device.platform == "cpu" for device in metrics.loss.devices()) else 1
    if len(self._steps) > ahead:
      self.last_loss = float(self._steps[-1 - ahead].loss)
    if len(self._steps) == 1:
      # The first step is not timed, because it compiles or follows an evaluation.
      jax.block_until_ready(metrics)
      self._began = time.perf_counter()

  def write(self) -> None:
    """Writes the means over the steps since the last line.

    Raises:
      FloatingPointError: If a loss or gradient norm is not finite.
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
    cause = f"the gradient is not finite (loss {loss:.4g})"
    if not math.isfinite(loss):
      cause = f"the training loss is {loss}"
    raise FloatingPointError(
      f"{cause} at step {step + 1}: learning rate {rate:.3g}, gradient norm {norm_before:.3g} one "
      "step earlier; lower config.final.learning_rate or set config.final.clip_norm; "
      f"{self._checkpoints.kept}"
    )

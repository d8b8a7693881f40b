"""Checkpoints of a training, by orbax: the latest few and the best.

Process 0 reads, writes and broadcasts, so hosts need no shared file system.
"""

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import preservation_policy

from nas_submod import files, parallel
from nas_submod.networks.layer import Layer, Variables
from nas_submod.validation import first_line


def _accuracy(metrics: Mapping[str, float]) -> float:
  """The accuracy of a checkpoint; one without evaluation is never the best."""
  return metrics.get("accuracy", -1.0)


def _reason(error: Exception) -> str:
  """A read error in one line, without the settings that tensorstore appends."""
  return first_line(error).partition(" [tensorstore_spec")[0]


_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EIO)


@contextlib.contextmanager
def _writing(folder: pathlib.Path) -> Iterator[None]:
  """Turns a disk error into an OSError that names the folder."""
  try:
    yield
  except Exception as error:  # Orbax raises many types, some from its threads.
    words, number = str(error), getattr(error, "errno", None)
    number = number or next((n for n in _OF_DISKS if os.strerror(n) in words), None)
    if number is None:
      raise
    raise OSError(number, os.strerror(number), str(folder)) from error


class Checkpoints:
  """The checkpoints in a folder; a context manager that waits for pending writes on exit."""

  def __init__(self, folder: pathlib.Path, keep: int):
    """Opens or makes the folder; removes checkpoints that a kill left unfinished.

    Args:
      folder: The folder; only process 0 uses it.
      keep: Number of latest checkpoints to keep, at least 1, in addition to the most accurate one.
    """
    self._folder = folder
    self._manager: ocp.CheckpointManager | None = None
    if jax.process_index() == 0:
      folder.mkdir(parents=True, exist_ok=True)
      best = preservation_policy.BestN(
        get_metric_fn=_accuracy,
        n=1,
        keep_checkpoints_without_metrics=False,  # A kill left a part of them.
      )
      policy = preservation_policy.AnyPreservationPolicy([preservation_policy.LatestN(keep), best])
      # Without this, orbax waits for the other processes at every save.
      alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
      options = ocp.CheckpointManagerOptions(
        create=False,
        cleanup_tmp_directories=True,
        preservation_policy=policy,
        best_fn=_accuracy,  # Without it orbax writes no metrics.
        multiprocessing_options=alone,
      )
      self._manager = _open(folder, options)

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *_: object) -> None:
    if self._manager is not None:
      with _writing(self._folder):
        self._manager.wait_until_finished()
        self._manager.close()

  @property
  def latest(self) -> int:
    """Steps done in the latest checkpoint; 0 if there is none, and on processes other than 0."""
    return 0 if self._manager is None else self._manager.latest_step() or 0

  @property
  def kept(self) -> str:
    """Says which checkpoint a failed training leaves behind."""
    step = self.latest
    return f"the checkpoint of step {step} is kept" if step else "there is no checkpoint yet"

  def best(self, last: int, metrics: Mapping[str, float]) -> dict[str, Any] | None:
    """Step and metrics of the most accurate kept checkpoint; None on processes other than 0.

    Args:
      last: Step of the latest checkpoint.
      metrics: Its metrics; the file lacks them if it was saved on SIGTERM.
    """
    if self._manager is None:
      return None
    with _writing(self._folder):
      self._manager.wait_until_finished()
    steps = [step for step in self._manager.all_steps() if step < last]
    found = [{"step": step, **(self._manager.metrics(step) or {})} for step in steps]
    return max([*found, {"step": last, **metrics}], key=_accuracy)

  def restore(self, state: Any) -> tuple[Any, int]:
    """Restores the latest checkpoint on all processes.

    Args:
      state: Returned if there is no checkpoint; has the structure and shapes of a checkpoint.

    Returns:
      The state as NumPy arrays, and the number of steps done.

    Raises:
      ValueError: If the checkpoint cannot be read.
    """
    state, step = jax.device_get(state), 0
    if found := parallel.on_first_process(lambda: self._read(state)):
      state, step = found
    if jax.process_count() > 1:
      state, found_step = multihost_utils.broadcast_one_to_all((state, np.int32(step)))
      step = int(found_step)
    return state, step

  def _read(self, state: Any) -> tuple[Any, int] | None:
    """Reads the latest checkpoint and its step; None if there is none. For process 0."""
    step = self.latest
    if not step:
      return None
    assert self._manager is not None
    try:
      return self._manager.restore(step, args=ocp.args.StandardRestore(state)), step
    except Exception as error:  # Orbax raises many types for damaged files.
      raise ValueError(
        f"checkpoint {self._manager.directory / str(step)} cannot be read "
        f"({_reason(error)}): delete this folder to continue from the checkpoint before it"
      ) from error

  def save(self, step: int, state: Any, metrics: Mapping[str, float]) -> None:
    """Saves a replicated state; returns once it is copied to the host, before it is on disk.

    Args:
      step: Steps done.
      state: Replicated arrays.
      metrics: `accuracy`, which selects the best checkpoint, and others; empty if not evaluated.

    Raises:
      FloatingPointError: If a number in the state is not finite; earlier checkpoints stay.
      OSError: If this checkpoint or the one before it cannot be written.
    """
    # Host arrays, because orbax refuses arrays on the devices of only one of several processes.
    content = jax.device_get(state)
    for path, leaf in jax.tree_util.tree_leaves_with_path(content):
      if not np.isfinite(leaf).all():
        name = jax.tree_util.keystr(path)
        raise FloatingPointError(f"state{name} is not finite after step {step}; {self.kept}")
    if self._manager is not None and step > self.latest:
      with _writing(self._folder):
        self._manager.save(step, args=ocp.args.StandardSave(content), metrics=dict(metrics))


class Saved(NamedTuple):
  """A network in a checkpoint.

  Attributes:
    step: Training steps.
    variables: The moving average if one is kept. NumPy arrays.
    scores: Accuracy, top-5 accuracy and loss on the evaluated split; empty if saved on SIGTERM.
  """

  step: int
  variables: Variables
  scores: Mapping[str, float]


def _open(folder: pathlib.Path, options: ocp.CheckpointManagerOptions) -> ocp.CheckpointManager:
  """Opens a folder of checkpoints; ValueError names a checkpoint whose metadata are damaged."""
  try:
    return ocp.CheckpointManager(folder.absolute(), options=options)
  except Exception as error:  # Orbax reads the metadata of all, and raises many types.
    read = [*folder.glob("*/metrics/metrics"), *folder.glob("*/_CHECKPOINT_METADATA")]
    if not (damaged := [path for path in read if not _is_json(path)]):
      raise ValueError(f"{folder} cannot be read ({_reason(error)})") from error
    raise ValueError(
      f"{damaged[0]} is damaged ({_reason(error)}): delete the folder of this checkpoint to use "
      "another one"
    ) from error


def _is_json(path: pathlib.Path) -> bool:
  try:
    files.read_json(path)
  except ValueError:
    return False
  except OSError:
    pass  # It cannot be read, which does not mean that it is damaged.
  return True


def read(
  folder: pathlib.Path, network: Layer, averages: bool, wanted: int | str | None = None
) -> Saved:
  """Reads a network without the state of its optimizer; writes nothing.

  Args:
    folder: The folder of a `Checkpoints`.
    network: The network that was trained.
    averages: Whether a moving average was kept.
    wanted: Step of a checkpoint, "best" for the most accurate one, or None for the last one.

  Raises:
    ValueError: If there is no such checkpoint, or it cannot be read.
  """
  options = ocp.CheckpointManagerOptions(create=False, best_fn=_accuracy)
  shapes = jax.eval_shape(network.init, jax.random.key(0))
  template = {"average": shapes} if averages else shapes._asdict()
  arguments = ocp.args.PyTreeRestore(item=template, partial_restore=True)
  with _open(folder, options) as manager:
    steps = sorted(manager.all_steps())
    if not steps:
      raise ValueError(f"{folder} has no checkpoint; experiments.train writes the first one")
    step = steps[-1] if wanted is None else wanted
    if step not in (*steps, "best"):
      kept = ", ".join(map(str, steps))
      raise ValueError(f"{folder} has no checkpoint {step!r}; allowed: best, {kept}")
    try:
      scores = {step: manager.metrics(step) or {} for step in steps}
      if step == "best":
        step = max(steps, key=lambda step: _accuracy(scores[step]))
      found = manager.restore(step, args=arguments)
    except Exception as error:  # Orbax raises many types for damaged files.
      raise ValueError(
        f"checkpoint {folder / str(step)} cannot be read ({_reason(error)})"
      ) from error
  variables = found["average"] if averages else Variables(**found)
  return Saved(int(step), variables, scores[step])

"""The evaluator that trains networks on the devices and scores them on the validation split."""

import pathlib
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from nas_submod import parallel
from nas_submod.compilation import CompilationLog, uncounted
from nas_submod.data.loading import Data
from nas_submod.evaluation.candidates import TooLongError, Trainer
from nas_submod.evaluation.evaluator import Evaluation, EvaluationError, Job, has_diverged
from nas_submod.networks.search_space import SearchSpace
from nas_submod.training import check_fit
from nas_submod.validation import first_line


class TrainingEvaluator:
  """Trains each network briefly, one on each device at a time; yields evaluations round by round.

  A failed training is an evaluation with a cause and no metrics: it diverged, or it raised an error
  twice, such as out of memory. If the start network cannot be trained then either, the network is
  not at fault, and the error is raised.

  Attributes:
    on_progress: Called with the share of the round that is done; 0 before programs are compiled.
  """

  def __init__(
    self,
    space: SearchSpace,
    data: Data,
    config: Mapping[str, Any],
    on_progress: Callable[[float], None] = lambda share: None,
  ):
    """Puts the data on the devices; compiles nothing yet.

    Args:
      space: The space; its images and classes must match the data.
      data: Splits as NumPy arrays.
      config: `seed`, and `train` (see `training.recipe`) with `steps_per_call`. A
        `search.time_limit` above 0 is the largest number of seconds of a training.
      on_progress: The attribute.

    Raises:
      ValueError: If data and space do not fit, or a field of `train` is not possible.
    """
    check_fit(space, data)
    self._space = space
    self.on_progress = on_progress
    self._trainer = Trainer(space, data, config, lambda share: self.on_progress(share))

  def __call__(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
    """Trains the networks of jobs.

    Raises:
      EvaluationError: If no network can be trained.
    """
    devices = parallel.device_count()
    for first in range(0, len(jobs), devices):
      yield from self._round(jobs[first : first + devices])

  def _round(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
    """Trains at most one network per device; after an error, trains each network alone."""
    began, compiling = time.perf_counter(), CompilationLog()
    cause, trained = "", None
    # A lone network is tried twice. The second try is outside `except`, because a caught error
    # keeps the arrays of the failed try in memory.
    for _ in range(2):
      try:
        with compiling.counting():
          trained = self._train(jobs)
        break
      except _TrainingError as error:
        cause = cause or str(error)
      if len(jobs) > 1:
        for job in jobs:
          yield from self._round([job])
        return
    if trained is None:
      self._check_start_network(cause)
      seconds = max(time.perf_counter() - began - compiling.seconds, 0.0)
      key = self._space.key(jobs[0].architecture)
      yield Evaluation(key, jobs[0].replicate, None, seconds, 0, cause=cause)
      return
    loss_sums, metrics = _gather(trained)
    seconds = max(time.perf_counter() - began - compiling.seconds, 0.0)
    for row, job in enumerate(jobs):
      examples, steps = int(metrics.examples[row]), self._trainer.recipe.steps
      found = {
        "accuracy": int(metrics.correct[row]) / examples,
        "loss": float(metrics.loss[row]) / examples,
        "train_loss": float(loss_sums[row]) / steps,
      }
      diverged = has_diverged(found)
      key = self._space.key(job.architecture)
      yield Evaluation(
        key=key,
        replicate=job.replicate,
        metrics=None if diverged else found,
        seconds=seconds / len(jobs),
        steps=steps,
        cause="diverged" if diverged else None,
      )

  def _train(self, jobs: Sequence[Job], steps: int | None = None) -> tuple[Any, Any]:
    """Like `Trainer.train`.

    Raises:
      _TrainingError: On all processes, if a training fails on one of them.
      EvaluationError: If every training would fail.
      OSError: If this process cannot write.
    """
    error: Exception | None = None
    try:
      trained = self._trainer.train(jobs, steps)
    except Exception as raised:
      error = raised
    kind = _FINE if error is None else _FAILED
    if isinstance(error, OSError) or (error is not None and not self._trainer.is_compiled):
      kind = _ENDS_ALL
    # Every process must know of an error, or it would wait for this one in the next collective.
    kinds = _gather(np.array([kind]))
    cause = "another process says why" if error is None else _cause_of(error)
    if (kinds == _ENDS_ALL).any():
      if isinstance(error, OSError):
        raise error
      raise EvaluationError(f"no network can be trained: {cause}") from error
    if (kinds == _FAILED).any():
      if error is not None and jax.process_index() > 0:  # Process 0's journal lacks this cause.
        print(cause, file=sys.stderr)
      if error is not None:  # Its frames hold the arrays of the failed try.
        traceback.clear_frames(error.__traceback__)
      raise _TrainingError(cause)
    return trained

  def _check_start_network(self, cause: str) -> None:
    """Trains the start network for a step, to see whether a network or the machine is at fault.

    Raises:
      EvaluationError: If this fails too.
    """
    start = tuple(int(option) for option in self._space.canonical(np.array(self._space.start)))
    try:
      self._train([Job(start, 0)], steps=1)
    except _TrainingError:
      raise EvaluationError(f"no network can be trained any more: {cause}") from None


class _TrainingError(Exception):
  """A training failed; the message is the cause in one line."""


# Folders of this package and of Python.
_FOLDERS = pathlib.Path(__file__).parent.parent, pathlib.Path(traceback.__file__).parent
_FINE, _FAILED, _ENDS_ALL = range(3)  # How a round ended in one process.


def _cause_of(error: Exception) -> str:
  """One line that says why a training failed, with the place if it is in a user's code."""
  words, line = str(error), first_line(error)
  # XLA reports out of memory under several names.
  names = ("RESOURCE_EXHAUSTED", "OUT_OF_MEMORY", "ALLOC_FAILED")
  if isinstance(error, MemoryError) or any(name in words for name in names):
    return f"out of memory: {line}"
  if isinstance(error, TooLongError):
    return line
  if "Traceback (most recent call last)" in words:  # From code that JAX called in training.
    return words.strip().splitlines()[-1]
  frames = traceback.extract_tb(error.__traceback__)
  places = [f"{pathlib.Path(f.filename).name} line {f.lineno}" for f in frames if _is_users(f)]
  return f"{type(error).__name__}: {line}" + (f" ({places[-1]})" if places else "")


def _is_users(frame: traceback.FrameSummary) -> bool:
  """Whether a frame is in neither this package nor a library."""
  path = pathlib.Path(frame.filename)
  known = any(path.is_relative_to(folder) for folder in _FOLDERS)
  of_library = {"site-packages", "dist-packages"} & set(path.parts)
  return path.is_file() and not known and not of_library


def _gather(tree: Any) -> Any:
  """Calls `parallel.gather` without counting its programs, which train nothing."""
  with uncounted():
    return parallel.gather(tree)

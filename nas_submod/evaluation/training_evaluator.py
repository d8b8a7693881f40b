"""The evaluator that trains networks on the devices and scores them on the validation split."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from nas_submod import parallel
from nas_submod.compilation import CompilationLog, uncounted
from nas_submod.data.loading import Data
from nas_submod.evaluation.candidates import Trainer
from nas_submod.evaluation.evaluator import Evaluation, Job, has_diverged
from nas_submod.evaluation.weights import WeightStore
from nas_submod.networks.search_space import SearchSpace
from nas_submod.training import check_fit
from nas_submod.validation import first_line


class TrainingEvaluator:
  """Trains each network briefly, one on each device at a time; yields evaluations by rounds.

  A training that fails is an evaluation without metrics: its loss was not finite, or the network
  needs more memory than the device has. The cause is kept. Other errors are raised, because a lost
  device says nothing of a network.
  """

  def __init__(
    self,
    space: SearchSpace,
    data: Data,
    config: Mapping[str, Any],
    weights: WeightStore | None = None,
    on_progress: Callable[[float], None] = lambda share: None,
  ):
    """Puts the data on the devices; compiles nothing yet.

    Args:
      space: The space; images and classes must be those of the data.
      data: Splits as NumPy arrays.
      config: `seed`, and `train` (see `training.recipe`) with `steps_per_call`. If `inherit_steps`
        is above 0, the weights of replicate 0 of each network are kept for its children.
      weights: Where weights are kept; needed with `inherit_steps`.
      on_progress: Called with the share of the round that is done.

    Raises:
      ValueError: If data and space do not fit, a setting is unknown, or weights are missing.
    """
    check_fit(space, data)
    inherits = config["train"].get("inherit_steps", 0) > 0
    if inherits and weights is None:
      raise ValueError("config.train.inherit_steps needs a store of weights: journal.weights")
    self._space = space
    self._weights = weights if inherits else None
    self._trainer = Trainer(space, data, config, on_progress)

  def __call__(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
    """Trains the networks of jobs."""
    steps = self._trainer.recipe.steps
    full = [job._replace(steps=job.steps or steps) for job in jobs]
    full.sort(key=lambda job: job.steps or 0)  # A round lasts as long as its longest training.
    devices = parallel.device_count()
    for first in range(0, len(full), devices):
      yield from self._round(full[first : first + devices])

  def _round(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
    """Trains up to one network a device; after an error each network of the round alone."""
    parents = dict.fromkeys(job.parent for job in jobs if job.parent is not None)
    store = self._weights
    error: Exception | None = None
    weights = {} if store is None else {parent: store.read(parent) for parent in parents}
    began, compiling = time.perf_counter(), CompilationLog()
    try:
      with compiling.counting():
        states, metrics = self._trainer.train(jobs, weights)
    except Exception as raised:
      error = raised
    # Every process must know of it, or the others would wait for this one in the next collective.
    kinds = _gather(np.array([_kind_of(error)]))
    if (kinds == _OTHER).any():
      raise error or RuntimeError("another process failed; it says why")
    if (kinds == _OUT_OF_MEMORY).any():
      if len(jobs) > 1:
        for job in jobs:
          yield from self._round([job])
      else:
        seconds = time.perf_counter() - began - compiling.seconds
        yield self._failed(jobs[0], error, seconds)
      return
    if store is None:
      states = states.replace(params=(), state=())
    states, metrics = _gather((states, metrics))
    seconds = time.perf_counter() - began - compiling.seconds
    for row, job in enumerate(jobs):
      examples, steps = int(metrics.examples[row]), job.steps or 0
      found = {
        "accuracy": int(metrics.correct[row]) / examples,
        "loss": float(metrics.loss[row]) / examples,
        "train_loss": float(states.loss_sum[row]) / steps,
      }
      diverged = has_diverged(found)
      key = self._space.key(job.architecture)
      if store is not None and job.replicate == 0 and not diverged and not job.full:
        store.write(key, self._trainer.weights(states, row, job))
      yield Evaluation(
        key=key,
        replicate=job.replicate,
        metrics=None if diverged else found,
        seconds=seconds / len(jobs),
        steps=steps,
        parent=job.parent,
        cause="diverged" if diverged else None,
      )

  def _failed(self, job: Job, error: Exception | None, seconds: float) -> Evaluation:
    cause = "out of memory in another process"
    if error is not None:
      cause = f"out of memory: {first_line(error)}"
      if jax.process_index() > 0:  # Process 0, which writes the journal, does not know it.
        print(cause, file=sys.stderr)
    key = self._space.key(job.architecture)
    return Evaluation(key, job.replicate, None, seconds, 0, job.parent, cause)


_FINE, _OUT_OF_MEMORY, _OTHER = range(3)  # Kinds of errors.


def _kind_of(error: Exception | None) -> int:
  if error is None:
    return _FINE
  # XLA reports out of memory under several names.
  names = ("RESOURCE_EXHAUSTED", "OUT_OF_MEMORY", "ALLOC_FAILED")
  out_of_memory = isinstance(error, MemoryError) or any(name in str(error) for name in names)
  return _OUT_OF_MEMORY if out_of_memory else _OTHER


def _gather(tree: Any) -> Any:
  """`parallel.gather`, whose programs train nothing and are therefore not counted."""
  with uncounted():
    return parallel.gather(tree)

"""Training of candidates: one set of programs for all architectures, one candidate per device."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod import networks, parallel, training
from nas_submod.compilation import compile_together
from nas_submod.data.loading import Data
from nas_submod.evaluation.evaluator import Job
from nas_submod.fields import SECTIONS, check_section
from nas_submod.networks.search_space import SearchSpace

EVAL_BATCH = 256  # images per step of `evaluate`
_CHECKS = 20  # checks of the time limit during a training


class TooLongError(Exception):
  """A training took longer than its time limit."""


class CandidatePrograms(NamedTuple):
  """The three programs of a search; the leading axis `[D]` indexes devices.

  Attributes:
    start: `(seed [D, 2], architecture [D, positions]) -> TrainState`.
    train: `(TrainState, seed, architecture, order [D, steps, B], images, labels, stop)
      -> TrainState`: trains up to step `stop`.
    evaluate: `(TrainState, architecture, images [batches, B, ...], labels) -> Metrics [D]`.
  """

  start: jax.stages.Wrapped
  train: jax.stages.Wrapped
  evaluate: jax.stages.Wrapped


SELDOM = ("start", "evaluate")  # Once a training; `train` runs thousands of steps.


def make_candidate_programs(
  space: SearchSpace, recipe: training.Recipe, devices: tuple[jax.Device, ...] | None = None
) -> CandidatePrograms:
  """Makes the programs that train any architecture of a space.

  Args:
    space: The space.
    recipe: The training of a candidate.
    devices: As for `parallel.pmap_candidates`.
  """
  network = networks.build_universal(space, parallel.platform_of(devices))

  def key_of(seed):
    return jax.random.fold_in(jax.random.key(seed[0]), seed[1])

  def apply_of(architecture):
    return lambda params, state, x, train: network.apply(params, state, architecture, x, train)

  def start(seed, architecture):
    variables = network.init(key_of(seed), architecture)
    return training.start(variables, recipe.transformation)

  def train(train_state, seed, architecture, order, images, labels, stop):
    rng = jax.random.fold_in(key_of(seed), 1)

    def step(state):
      rows = order[state.step]
      batch = images[rows], labels[rows]
      return training.train_step(recipe, apply_of(architecture), state, rng, *batch)[0]

    return jax.lax.while_loop(lambda state: state.step < stop, step, train_state)

  def evaluate(train_state, architecture, images, labels):
    def step(total, batch):
      metrics = training.eval_step(
        recipe, apply_of(architecture), train_state.params, train_state.state, *batch
      )
      return jax.tree.map(jnp.add, total, metrics), None

    return jax.lax.scan(step, training.no_metrics(), (images, labels))[0]

  return CandidatePrograms(
    parallel.pmap_candidates(start, (0, 0), devices=devices),
    parallel.pmap_candidates(train, (0, 0, 0, 0, None, None, None), donate=(0,), devices=devices),
    parallel.pmap_candidates(evaluate, (0, 0, None, None), devices=devices),
  )


class Trainer:
  """Trains networks of a space, one on each device at a time.

  Attributes:
    recipe: How a candidate is trained.
  """

  def __init__(
    self,
    space: SearchSpace,
    data: Data,
    config: Mapping[str, Any],
    on_progress: Callable[[float], None],
  ):
    """Puts the data on the devices; compiles nothing yet. Arguments as for `TrainingEvaluator`."""
    check_section("config.train", config["train"], SECTIONS["train"], False)
    self._on_progress = on_progress
    self._seed = config["seed"]
    self._steps_per_call = config["train"]["steps_per_call"]
    self._time_limit = (config.get("search") or {}).get("time_limit") or 0
    self.recipe = training.recipe(config["train"], data)
    self._programs = make_candidate_programs(space, self.recipe)
    self._train = parallel.copy_to_devices(data.train)
    self._validation = parallel.copy_to_devices(training.batches(data.validation, EVAL_BATCH))
    self._compiled: list[jax.stages.Compiled] = []

  def train(
    self, jobs: Sequence[Job], steps: int | None = None
  ) -> tuple[jax.Array, training.Metrics]:
    """Trains networks, and evaluates them on the validation split.

    Args:
      jobs: At most one per device of all processes.
      steps: Stop after this many steps; None: train to the end.

    Returns:
      The sum of the training losses over all steps in nats, `[D]`, and the validation metrics.
      Both are on the devices of this process.

    Raises:
      TooLongError: If training takes longer than the time limit, not counting compilation.
    """
    # Devices without a job repeat the last one.
    jobs = parallel.own_part([*jobs, *[jobs[-1]] * (parallel.device_count() - len(jobs))])
    replicates = [max(job.replicate, 0) for job in jobs]
    seeds = np.array([(self._seed, replicate) for replicate in replicates], np.uint32)
    architectures = np.array([job.architecture for job in jobs], np.int32)
    size, batch_size = self._train.labels.shape[0], self.recipe.batch_size
    orders = np.stack(
      [
        training.batch_order((self._seed, replicate), size, batch_size, self.recipe.steps)
        for replicate in replicates
      ]
    )
    if not self._compiled:
      self._on_progress(0.0)
      self._compiled = self._compile(seeds, architectures, orders)
    start, train, evaluate = self._compiled
    states = start(seeds, architectures)
    steps, chunk, began = steps or self.recipe.steps, self._steps_per_call, time.perf_counter()
    if self._time_limit:
      chunk = min(chunk, -(-steps // _CHECKS))
    for stop in [*range(chunk, steps, chunk), steps]:
      if 0 < self._time_limit < time.perf_counter() - began:
        raise TooLongError(f"longer than config.search.time_limit={self._time_limit} seconds")
      states = train(states, seeds, architectures, orders, *self._train, np.int32(stop))
      jax.block_until_ready(states.step)
      self._on_progress(stop / steps)
    metrics = evaluate(states, architectures, *self._validation)
    jax.block_until_ready(metrics)  # Device errors are raised here, not later.
    return states.loss_sum, metrics

  @property
  def is_compiled(self) -> bool:
    """Whether the programs are compiled. If not, an error concerns every network."""
    return bool(self._compiled)

  def _compile(
    self, seeds: np.ndarray, architectures: np.ndarray, orders: np.ndarray
  ) -> list[jax.stages.Compiled]:
    """Compiles the programs for arguments of these shapes."""
    start = self._programs.start.lower(seeds, architectures)
    # With several processes pmap lowers only for arrays, not for shapes. The arrays of this process
    # suffice, because the program maps over its own devices only.
    states = parallel.rows_to_devices(
      jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), start.out_info)
    )
    return compile_together(
      lambda: start,
      lambda: self._programs.train.lower(
        states, seeds, architectures, orders, *self._train, np.int32(0)
      ),
      lambda: self._programs.evaluate.lower(states, architectures, *self._validation),
      platform=parallel.platform_of(),
      seldom=[CandidatePrograms._fields.index(name) for name in SELDOM],
    )

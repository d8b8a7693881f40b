"""Speed of the training program of a search, and of programs for a single network."""

import dataclasses
import re
import time
from typing import Any

import jax
import numpy as np

from benchmarks import workload
from configs import digits
from nas_submod import networks, parallel, training
from nas_submod.compilation import CompilationLog, compile_together
from nas_submod.evaluation.candidates import make_candidate_programs
from nas_submod.networks.blocks import Option
from nas_submod.networks.layer import Layer, for_platform
from nas_submod.networks.search_space import SearchSpace
from nas_submod.training import final_programs

_COLLECTIVE = re.compile(
  r"\b(all-reduce|all-gather|all-to-all|reduce-scatter|collective-\w+)(?:-start)?\("
)


def collectives(program: str) -> list[str]:
  """Finds the collective operations in the text of a compiled program."""
  return _COLLECTIVE.findall(program)


def recomputing(space: SearchSpace) -> SearchSpace:
  """Returns the space with blocks that store only their input for the gradient."""

  def of_option(option: Option) -> Option:
    def block(cin, cout, stride):
      layer = for_platform(option.block(cin, cout, stride), parallel.platform_of())
      apply = jax.checkpoint(layer.apply, static_argnums=3)
      return layer._replace(apply=apply, ungrouped=None)

    return option._replace(block=block)

  return dataclasses.replace(space, options=tuple(map(of_option, space.options)))


def half_filled(space: SearchSpace) -> np.ndarray:
  """Returns the network with the last option in the first half of every stage."""
  architecture = np.array(space.start)
  for where in space.stage_slices:
    architecture[where.start : (where.start + where.stop + 1) // 2] = len(space.options)
  return np.asarray(space.canonical(architecture), np.int32)


class Speed:
  """The training program of a search, compiled for all devices.

  Attributes:
    compile: Seconds to compile it.
    collectives: Its collective operations.
  """

  def __init__(
    self, space: SearchSpace, steps: int, batch_size: int, repeats: int, dtype: str = "float32"
  ):
    """Compiles the program; a timing is the fastest of `repeats` calls of `steps` steps."""
    devices, images = parallel.device_count(), workload.random_data(space)
    settings = digits.get_config().train
    settings.update({"steps": steps * repeats, "batch_size": batch_size, "dtype": dtype})
    self.space, self.recipe, self._steps, self._repeats = (
      space,
      training.recipe(settings, images),
      steps,
      repeats,
    )
    self._programs = make_candidate_programs(space, self.recipe)
    self._seeds = np.array([(0, device) for device in range(devices)], np.uint32)
    order = training.batch_order((0, 0), len(images.train.labels), batch_size, self.recipe.steps)
    self._orders = np.tile(order, (devices, 1, 1))
    self._split = parallel.copy_to_devices(images.train)
    states, arguments = self._start(half_filled(space))
    log = CompilationLog()
    with log.counting():
      [self._train] = compile_together(
        lambda: self._programs.train.lower(states, *arguments, np.int32(0)),
        platform=parallel.platform_of(),
      )
    self.compile, self.collectives = log.seconds, collectives(self._train.as_text())

  def _start(self, architecture: np.ndarray) -> tuple[training.TrainState, tuple[Any, ...]]:
    architectures = np.tile(architecture, (len(self._seeds), 1))
    states = self._programs.start(self._seeds, architectures)
    return states, (self._seeds, architectures, self._orders, *self._split)

  def seconds(self, architecture: np.ndarray) -> float:
    """Times a call in which each device trains this network."""
    return self._fastest(self._call(architecture))[0]

  def beside_alone(self, architecture: np.ndarray) -> dict[str, float]:
    """Times the program and programs for this network alone, in turn on one device.

    Returns:
      `seconds` of the program; `alone`, seconds of a program for this network; `again`, seconds of
      such a program that recomputes each block for its gradient; `compile`, seconds to compile
      `alone`; `bytes` that `alone` moves in a step.
    """
    alone, compiled, moved = self._alone(networks.build(self.space, architecture))
    again, *_ = self._alone(networks.build(recomputing(self.space), architecture))
    calls = {"seconds": self._call(architecture), "alone": alone, "again": again}
    found = dict(zip(calls, self._fastest(*calls.values())))
    return found | {"compile": compiled, "bytes": moved}

  def _alone(self, network: Layer) -> tuple[tuple[Any, training.TrainState], float, float]:
    """Makes a call of a program for one network; its compile seconds and bytes of a step."""
    network = for_platform(network, parallel.platform_of())
    order, (images, labels) = self._orders[0], jax.tree.map(np.asarray, self._split)
    key = jax.random.key(0)

    def train(state, order, images, labels, stop):
      def step(state):
        rows = order[state.step]
        batch = images[rows], labels[rows]
        return training.train_step(self.recipe, network.apply, state, key, *batch)[0]

      return jax.lax.while_loop(lambda state: state.step < stop, step, state)

    arguments = tuple(map(jax.numpy.asarray, (order, images, labels)))
    state = training.start(
      final_programs.initial_variables(network, key), self.recipe.transformation
    )
    log = CompilationLog()
    with log.counting():
      [program] = compile_together(
        lambda: jax.jit(train, donate_argnums=0).lower(state, *arguments, np.int32(0)),
        platform=parallel.platform_of(),
      )
    analysis = program.cost_analysis() or {}  # counts the body of a loop once: one step
    moved = analysis.get("bytes accessed", float("nan"))
    return ((lambda state, stop: program(state, *arguments, stop)), state), log.seconds, moved

  def _call(self, architecture: np.ndarray) -> tuple[Any, training.TrainState]:
    states, arguments = self._start(architecture)
    return (lambda state, stop: self._train(state, *arguments, stop)), states

  def _fastest(self, *calls: tuple[Any, training.TrainState]) -> list[float]:
    """Times calls with their first states; calls take turns, because a machine's speed drifts."""
    programs, states = map(list, zip(*calls))
    times = np.full((self._repeats, len(calls)), np.inf)
    for repeat, row in enumerate(times):
      for which, program in enumerate(programs):
        began = time.perf_counter()
        states[which] = program(states[which], np.int32((repeat + 1) * self._steps))
        jax.block_until_ready(states[which].step)
        row[which] = time.perf_counter() - began
    return times.min(0).tolist()

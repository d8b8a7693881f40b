"""The universal network: one program for every set, with the architecture as data.

A position is a `lax.switch` over layers. Its parameters are one vector, as long as the largest
layer needs. The first position of a stage reads the output of the stage's predecessor: the last
stage before it that is not empty, or the stem. If stages may be empty, there are several possible
predecessors, so their outputs are carried along, one array for each shape. The other positions have
equal shapes, so a loop runs the filled ones, and empty ones take no time.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.networks import layers
from nas_submod.networks.choice import Choice, choose
from nas_submod.networks.graph import Shape
from nas_submod.networks.layer import Layer, Params, State, Variables
from nas_submod.networks.search_space import SearchSpace
from nas_submod.networks.single import (
  block,
  has_opening,
  head,
  is_built_in,
  opening_block,
  opening_options,
  opening_stride,
  output_shape,
  predecessors,
  stem,
  walk,
)


class ChoicePart(NamedTuple):
  """A part of the universal network, with parameters of its own.

  Attributes:
    choice: The layers that are possible in each of its slots.
    layers: Their number.
    slots: Number of slots in a row; None for a part that is one layer.
  """

  choice: Choice
  layers: int
  slots: int | None


class Universal(NamedTuple):
  """One network for every set that has blocks in all stages where the start set has some.

  Attributes:
    init: `(rng, architecture [positions]) -> Variables`. Layers that two architectures share start
      at the same values.
    apply: `(params, state, architecture, x, train) -> (logits, state)`.
    specialize: `(variables, architecture) -> Variables` of `build(space, architecture)`.
    stem: The layers before the stages, the first entry of params and state.
    parts: The parts after the stem, in the order of the other entries of params and state.
    indices: `architecture -> layers` that it chooses in each part, `[]` or `[slots]` ints;
      traceable.
  """

  init: Callable[[jax.Array, jax.Array], Variables]
  apply: Callable[[Params, State, jax.Array, jax.Array, bool], tuple[jax.Array, State]]
  specialize: Callable[[Variables, Sequence[int]], Variables]
  stem: Layer
  parts: tuple[ChoicePart, ...]
  indices: Callable[[jax.Array], tuple[jax.Array, ...]]


def _inputs(space: SearchSpace, stage: int) -> tuple[Shape, ...]:
  """The distinct output shapes of the predecessors of a stage."""
  return tuple(dict.fromkeys(output_shape(space, p) for p in predecessors(space, stage)))


def _reading(layer: Layer, place: int) -> Layer:
  """The layer applied to one of several arrays."""

  def apply(params, state, inputs, train):
    return layer.apply(params, state, inputs[place], train)

  ungrouped = layer.ungrouped and (_reading(layer.ungrouped[0], place), layer.ungrouped[1])
  return layer._replace(apply=apply, ungrouped=ungrouped)


def _nothing(inputs: Sequence[Shape], output: Shape) -> Layer:
  """The layer of an empty stage: zeros of its output shape, which later stages do not read.

  An input of the same shape is passed on instead, because later stages may read it.
  """
  if output in inputs:
    return _reading(layers.identity(), inputs.index(output))

  def apply(params, state, inputs, train):
    return jnp.zeros((len(inputs[0]), *output), inputs[0].dtype), state

  return layers.identity()._replace(apply=apply)


class _Stage(NamedTuple):
  """A stage of the universal network."""

  inputs: tuple[Shape, ...]
  output: Shape
  opening: Choice
  openings: int  # layers that `opening` chooses among
  opening_index: np.ndarray  # [stages + 1 predecessors, options + 1]
  others: Choice


def _stage(space: SearchSpace, index: int, platform: str) -> _Stage:
  inputs, output = _inputs(space, index), output_shape(space, index + 1)
  opening: list[Layer] = []
  shapes: list[Shape | None] = []
  # Equal layers share a branch, because compile time grows with the number of branches.
  known: dict[tuple[Shape | None, int, int], int] = {}
  table = np.zeros((len(space.stages) + 1, len(space.options) + 1), np.int32)
  for predecessor in predecessors(space, index):
    for option in opening_options(space, index):
      exists = has_opening(space, index, option)
      shape = output_shape(space, predecessor) if exists else None
      # Images of one pixel have the same shape before and after a stride.
      stride = opening_stride(space, index, predecessor) if exists else 0
      if (shape, option, stride) not in known:
        known[shape, option, stride] = len(opening)
        layer = _nothing(inputs, output)
        if shape:
          layer = opening_block(space, index, predecessor, option)
          layer = _reading(layer, inputs.index(shape))
        opening.append(layer)
        shapes.append(shape if is_built_in(space, option) else None)
      table[predecessor, option] = known[shape, option, stride]
  *_, channels = output
  others = [block(space, option, channels, channels, 1) for option in range(len(space.options) + 1)]
  if platform == "tpu":
    equal = [output if is_built_in(space, option) else None for option in range(len(others))]
    choices = choose(opening, shapes), choose(others, equal)
  else:
    choices = choose(opening), choose(others)
  return _Stage(inputs, output, choices[0], len(opening), table, choices[1])


@functools.cache
def build_universal(space: SearchSpace, platform: str = "cpu") -> Universal:
  """Builds the network that takes the architecture as data.

  Args:
    space: The space.
    platform: The platform that it runs on, such as "tpu". It decides speed and rounding only.
  """
  stages = [_stage(space, index, platform) for index in range(len(space.stages))]
  before_head = predecessors(space, len(stages))
  last_inputs = _inputs(space, len(stages))
  last = choose(
    [_reading(head(space, shape[-1]), place) for place, shape in enumerate(last_inputs)]
  )
  last_index = np.zeros(len(stages) + 1, np.int32)
  for predecessor in before_head:
    last_index[predecessor] = last_inputs.index(output_shape(space, predecessor))
  first = stem(space)

  def layers_of(architecture):
    """Yields each stage, the index of its opening layer and its other options; then the head's."""
    for step in walk(space, jnp.asarray(architecture)):
      if step.opening is None:
        yield None, jnp.asarray(last_index)[step.predecessor], None
      else:
        form = stages[step.stage]
        index = jnp.asarray(form.opening_index)[step.predecessor, step.opening]
        yield form, index, step.others

  def init(rng, architecture):
    begin, end, *rngs = jax.random.split(rng, len(stages) + 2)
    parts = []
    for rng, (form, index, options) in zip([*rngs, end], layers_of(architecture)):
      choice = last if form is None else form.opening
      parts.append(choice.init(jax.random.normal(rng, choice.sizes[:1]), index))
      if form is not None:
        shape = (options.shape[0], form.others.sizes[0])
        noise = jax.random.normal(jax.random.fold_in(rng, 1), shape)
        parts.append(jax.lax.map(lambda slot, form=form: form.others.init(*slot), (noise, options)))
    start = first.init(begin)
    params, state = ([getattr(part, name) for part in parts] for name in Variables._fields)
    return Variables((start.params, *params), (start.state, *state))

  def apply(params, state, architecture, x, train):
    x, moved = first.apply(params[0], state[0], x, train)
    outputs: dict[Shape, jax.Array] = {output_shape(space, 0): x}
    states, parts = [moved], iter(zip(params[1:], state[1:]))
    for form, index, options in layers_of(architecture):
      choice, read = (last, last_inputs) if form is None else (form.opening, form.inputs)
      inputs = tuple(outputs[shape] for shape in read)
      x, moved = choice.apply(*next(parts), index, inputs, train)
      states.append(moved)
      if form is not None:
        count = (options > 0).sum()  # Filled positions come first.
        x, moved = form.others.apply_row(*next(parts), options, count, x, train)
        states.append(moved)
        outputs[form.output] = x
    return x, tuple(states)

  def indices(architecture):
    chosen = [step[1:] for step in layers_of(architecture)]
    return tuple(index for pair in chosen for index in pair if index is not None)

  def specialize(variables, architecture):
    *steps, end = walk(space, np.array(space.check(architecture)))
    vectors = iter([Variables(*pair) for pair in zip(variables.params[1:], variables.state[1:])])
    found = []
    for form, step in zip(stages, steps):
      of_opening, of_others = next(vectors), next(vectors)
      filled = []
      if has_opening(space, step.stage, int(step.opening)):
        index = int(form.opening_index[int(step.predecessor), int(step.opening)])
        filled.append(form.opening.unpack(of_opening, index))
      for slot, option in enumerate(step.others.tolist()):
        if option:
          row = Variables(of_others.params[slot], of_others.state[slot])
          filled.append(form.others.unpack(row, option))
      found.append(filled)
    head_found = last.unpack(next(vectors), int(last_index[int(end.predecessor)]))

    def collect(field):
      blocks_found = tuple(tuple(getattr(layer, field) for layer in stage) for stage in found)
      return (getattr(variables, field)[0], blocks_found, getattr(head_found, field))

    return Variables(collect("params"), collect("state"))

  parts = [
    part
    for form, stage in zip(stages, space.stages)
    for part in (
      ChoicePart(form.opening, form.openings, None),
      ChoicePart(form.others, len(space.options) + 1, stage.positions - 1),
    )
  ]
  parts.append(ChoicePart(last, len(last_inputs), None))
  return Universal(init, apply, specialize, first, tuple(parts), indices)

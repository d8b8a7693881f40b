"""The universal network: one program for every set, with the architecture as data.

A position is a `lax.switch` over layers. Its parameters are one vector, long enough for each layer.
The opening position of a stage has an input that depends on the predecessor of the stage. The other
positions have equal shapes, so a loop runs the filled ones, and empty ones take no time.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.networks.choice import Choice, choose
from nas_submod.networks.layers import Layer, Params, State, Variables
from nas_submod.networks.search_space import SearchSpace
from nas_submod.networks.single import (
  block,
  has_opening,
  head,
  opening_block,
  opening_options,
  output_channels,
  predecessors,
  stem,
  walk,
)


class Place(NamedTuple):
  """The place of a layer in the universal network.

  Attributes:
    part: Index of its vectors among parameters and states.
    slot: Its row in the part; None if the part is one vector.
    choice: The layers that are possible in this place.
    option: Index of the layer in `choice`.
    form: Option, input channels, output channels and stride. Layers of equal form are equal.
  """

  part: int
  slot: int | None
  choice: Choice
  option: int
  form: tuple[int, int, int, int]

  def of(self, variables: Variables) -> Variables:
    """The vectors of the layer, from those of the universal network."""
    vectors = (field[self.part] for field in variables)
    return Variables(*(v if self.slot is None else v[self.slot] for v in vectors))


class Part(NamedTuple):
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
    places: `architecture -> ` the places of its layers: a list for each stage, one for the head.
    stem: The layers before the stages, the first entry of params and state.
    parts: The parts after the stem, in the order of the other entries of params and state.
    indices: `architecture -> ` the layers that it chooses in each part, `[]` or `[slots]` ints;
      traceable.
  """

  init: Callable[[jax.Array, jax.Array], Variables]
  apply: Callable[[Params, State, jax.Array, jax.Array, bool], tuple[jax.Array, State]]
  specialize: Callable[[Variables, Sequence[int]], Variables]
  places: Callable[[Sequence[int]], list[list[Place]]]
  stem: Layer
  parts: tuple[Part, ...]
  indices: Callable[[jax.Array], tuple[jax.Array, ...]]


def _widen(x: jax.Array, channels: int) -> jax.Array:
  """Pads channels with zeros."""
  return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, channels - x.shape[-1])])


def _on_first_channels(layer: Layer, cin: int, width: int, keep: bool) -> Layer:
  """The layer applied to the first `cin` channels of a wider array, with `width` output channels.

  Args:
    layer: The layer.
    cin: Input channels of the layer.
    width: Channels to return.
    keep: Whether to pass the other input channels on; otherwise zeros are added.
  """

  def apply(params, state, x, train):
    y, state = layer.apply(params, state, x[..., :cin], train)
    return jnp.concatenate([y, x[..., cin:]], -1) if keep else _widen(y, width), state

  return layer._replace(apply=apply)


class _Stage(NamedTuple):
  """A stage of the universal network."""

  opening: Choice
  openings: int  # layers that `opening` chooses among
  opening_index: np.ndarray  # [stages + 1 predecessors, options + 1]
  others: Choice


def _stage(space: SearchSpace, index: int, width_in: int, width: int) -> _Stage:
  stage = space.stages[index]
  opening: list[Layer] = []
  # Equal layers share a branch, because compile time grows with the branches.
  known: dict[tuple[int, int], int] = {}
  table = np.zeros((len(space.stages) + 1, len(space.options) + 1), np.int32)
  for predecessor in predecessors(space, index):
    for option in opening_options(space, index):
      empty = option == 0 and not stage.projection
      cin = width_in if empty else output_channels(space, predecessor)
      if (cin, option) not in known:
        known[cin, option] = len(opening)
        layer = opening_block(space, index, predecessor, option)
        opening.append(_on_first_channels(layer, cin, width, keep=False))
      table[predecessor, option] = known[cin, option]
  channels = stage.channels
  others = [
    _on_first_channels(block(space, option, channels, channels, 1), channels, width, keep=True)
    for option in range(len(space.options) + 1)
  ]
  return _Stage(choose(opening), len(opening), table, choose(others))


@functools.cache
def build_universal(space: SearchSpace) -> Universal:
  """Builds the network that takes the architecture as data.

  The output of a stage that may be empty has as many channels as its widest possible output, padded
  with zeros. The next block is chosen by option and true number of input channels.
  """
  width, stages = output_channels(space, 0), []
  for index, stage in enumerate(space.stages):
    width_in = width
    width = max(width, stage.channels) if space.may_be_empty(index) else stage.channels
    stages.append(_stage(space, index, width_in, width))
  last_index = np.zeros(len(space.stages) + 1, np.int32)
  before_head = predecessors(space, len(space.stages))
  last_index[list(before_head)] = range(len(before_head))
  channels_before = [output_channels(space, p) for p in before_head]
  last = choose(
    [_on_first_channels(head(space, c), c, space.classes, keep=False) for c in channels_before]
  )
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
    states, parts = [moved], iter(zip(params[1:], state[1:]))
    for form, index, options in layers_of(architecture):
      choice = last if form is None else form.opening
      x, moved = choice.apply(*next(parts), index, x, train)
      states.append(moved)
      if form is not None:
        count = (options > 0).sum()  # Filled positions come first.
        x, moved = form.others.apply_row(*next(parts), options, count, x, train)
        states.append(moved)
    return x, tuple(states)

  def indices(architecture):
    chosen = [step[1:] for step in layers_of(architecture)]
    return tuple(index for pair in chosen for index in pair if index is not None)

  def places(architecture):
    *steps, end = walk(space, np.array(space.check(architecture)))
    found = []
    for number, predecessor, opening, others in steps:
      form, stage, part = stages[number], space.stages[number], 1 + 2 * number
      channels, predecessor, opening = stage.channels, int(predecessor), int(opening)
      filled = []
      if has_opening(space, number, opening):
        index = int(form.opening_index[predecessor, opening])
        of_opening = opening, output_channels(space, predecessor), channels, stage.stride
        filled.append(Place(part, None, form.opening, index, of_opening))
      for slot, option in enumerate(others.tolist()):
        if option:
          of_other = option, channels, channels, 1
          filled.append(Place(part + 1, slot, form.others, option, of_other))
      found.append(filled)
    before_head = int(end.predecessor)
    of_head = 0, output_channels(space, before_head), space.classes, 1
    head = Place(1 + 2 * len(stages), None, last, int(last_index[before_head]), of_head)
    return [*found, [head]]

  def specialize(variables, architecture):
    *found, (head_found,) = [
      [place.choice.unpack(place.of(variables), place.option) for place in stage]
      for stage in places(architecture)
    ]

    def collect(field):
      blocks_found = tuple(tuple(getattr(layer, field) for layer in stage) for stage in found)
      return (getattr(variables, field)[0], blocks_found, getattr(head_found, field))

    return Variables(collect("params"), collect("state"))

  parts = [
    part
    for form, stage in zip(stages, space.stages)
    for part in (
      Part(form.opening, form.openings, None),
      Part(form.others, len(space.options) + 1, stage.positions - 1),
    )
  ]
  parts.append(Part(last, len(before_head), None))
  return Universal(init, apply, specialize, places, first, tuple(parts), indices)

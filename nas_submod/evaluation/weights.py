"""Trained weights: kept for the networks that start from them, and copied into those.

Layers that a network has in common with its parent are copied to where they stand now (network
morphisms: Wei et al. 2016, Cai et al. 2018). A new block starts as the identity where it can, so
that the network starts as the function of its parent.
"""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import flax.serialization
import jax
import numpy as np

from nas_submod import parallel
from nas_submod.files import write_bytes
from nas_submod.networks.layers import Variables
from nas_submod.networks.universal import Place, Universal


class MissingWeightsError(ValueError):
  """Weights that the search needs are no longer in its workdir."""


class Weights(NamedTuple):
  """The weights of a trained network, NumPy arrays.

  Attributes:
    stem: Its stem as nested dictionaries.
    layers: The vectors of its other layers, in the order of `Universal.places`.
  """

  stem: Any
  layers: list[list[Variables]]


class WeightStore:
  """Weights by the key of their network: files in a folder, or in memory."""

  def __init__(self, folder: pathlib.Path | None):
    """Keeps files in `folder`, made on the first write; None keeps everything in memory."""
    self._folder = folder
    self._memory: dict[str, bytes] = {}

  def write(self, key: str, weights: Weights) -> None:
    """Stores the weights of a network; they are on disk when it returns. Process 0 alone writes."""
    if jax.process_index() > 0:
      return
    layers = [[list(layer) for layer in stage] for stage in weights.layers]
    content = flax.serialization.msgpack_serialize({"stem": weights.stem, "layers": layers})
    if self._folder is None:
      self._memory[key] = content
      return
    self._folder.mkdir(exist_ok=True)
    write_bytes(self._path(self._folder, key), content)

  def read(self, key: str) -> Weights:
    """The weights of a network, on all processes.

    Raises:
      MissingWeightsError: If they are gone.
    """
    try:
      own = parallel.on_first_process(lambda: self._content(key))
    except ValueError as error:
      raise MissingWeightsError(str(error)) from error
    content = parallel.broadcast(own or b"")
    try:
      found: dict[str, Any] = flax.serialization.msgpack_restore(content)
      layers = [[Variables(*layer) for layer in stage] for stage in found["layers"]]
      return Weights(found["stem"], layers)
    except Exception as error:  # The library raises many kinds.
      where = f"the weights of {key}" if self._folder is None else self._path(self._folder, key)
      raise MissingWeightsError(
        f"{where} is damaged: put it back, or start again in another --workdir"
      ) from error

  def delete(self, key: str) -> None:
    """Deletes the weights of a network, if they are there."""
    self._memory.pop(key, None)
    if self._folder is not None:
      self._path(self._folder, key).unlink(missing_ok=True)

  def _content(self, key: str) -> bytes:
    if self._folder is None:
      if key not in self._memory:
        raise MissingWeightsError(f"the weights of {key} are not in memory: search with a workdir")
      return self._memory[key]
    path = self._path(self._folder, key)
    try:
      return path.read_bytes()
    except OSError as error:
      raise MissingWeightsError(
        f"the search needs {path}, which cannot be read ({error.strerror}): put it back, or start "
        "again in another --workdir"
      ) from error

  @staticmethod
  def _path(folder: pathlib.Path, key: str) -> pathlib.Path:
    return folder / f"{key.replace('|', '_')}.msgpack"


def collect(network: Universal, variables: Variables, architecture: Sequence[int]) -> Weights:
  """Takes the weights of a network out of the variables of the universal network."""
  layers = [[place.of(variables) for place in stage] for stage in network.places(architecture)]
  return Weights(flax.serialization.to_state_dict(_stem(variables)), layers)


def graft(
  network: Universal,
  variables: Variables,
  architecture: Sequence[int],
  weights: Weights,
  parent: Sequence[int],
) -> None:
  """Copies a parent's weights into a network, in place.

  A block keeps its fresh values if its form changed: it became the first of its stage or ceased to
  be, or its input has another number of channels.

  Args:
    network: The universal network.
    variables: Its fresh variables for `architecture`, NumPy arrays.
    architecture: The network.
    weights: The parent's weights.
    parent: The parent's architecture: one block less, or another first block in a stage whose
      empty first position is a projection.
  """
  stem = _stem(variables)
  jax.tree.map(np.copyto, stem, flax.serialization.from_state_dict(stem, weights.stem))
  stages = zip(network.places(architecture), network.places(parent), weights.layers)
  for places, parent_places, layers in stages:
    for place, source in _aligned(places, parent_places):
      vectors = place.of(variables)
      if source is None:
        factors = place.choice.identity_factors(place.option)
        if factors is not None:
          vectors.params[:] *= factors
      elif parent_places[source].form == place.form:
        for new, old in zip(vectors, layers[source]):
          used = min(new.size, old.size)  # The rest of both is padding.
          new[:used] = old[:used]


def _stem(variables: Variables) -> Variables:
  return Variables(*(field[0] for field in variables))


def _aligned(
  places: Sequence[Place], parent_places: Sequence[Place]
) -> Iterable[tuple[Place, int | None]]:
  """Pairs each layer of a stage with its index in the parent; None if the layer is new."""
  if len(places) == len(parent_places):
    return zip(places, range(len(places)))
  options = [[place.form[0] for place in stage] for stage in (places, parent_places)]
  same = [one == other for one, other in zip(*options)]
  new = same.index(False) if False in same else len(same)
  return zip(places, [*range(new), None, *range(new, len(parent_places))])

"""Less training: a network starts from the trained weights of one with a block less.

What it has in common with its parent is copied to where it stands now (network morphisms: Wei et
al. 2016, Cai et al. 2018). The new block starts as the identity where it can be one, so that the
network starts as the function that its parent is.
"""

import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import flax.serialization
import jax
import numpy as np

from nas_submod import parallel
from nas_submod.evaluation.journal import Evaluation, Journal
from nas_submod.files import write_bytes
from nas_submod.networks.layers import Variables
from nas_submod.networks.search_space import SearchSpace
from nas_submod.networks.universal import Place, Universal

FOLDER = "weights"
_KEPT = 100  # Networks whose weights are kept.


class MissingWeightsError(ValueError):
  """Weights that the search goes on from are no longer in its workdir."""


class Weights(NamedTuple):
  """What a trained network carries, NumPy arrays.

  Attributes:
    stem: Its stem as nested dictionaries.
    layers: The vectors of its other layers, as `Universal.places` lists them.
  """

  stem: Any
  layers: list[list[Variables]]


def collect(network: Universal, variables: Variables, architecture: Sequence[int]) -> Weights:
  """The weights of a network among those of the universal one."""
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

  A block keeps its fresh values if its form is new: it has become the first of its stage, or no
  longer is, and differs by that; or its input has another number of channels.

  Args:
    network: The universal network.
    variables: Its fresh variables for `architecture`, NumPy arrays.
    architecture: The network.
    weights: Those of the parent.
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
          used = min(new.size, old.size)  # Beyond the layer's own numbers both are padding.
          new[:used] = old[:used]


def _stem(variables: Variables) -> Variables:
  return Variables(*(field[0] for field in variables))


def _aligned(
  places: Sequence[Place], parent_places: Sequence[Place]
) -> Iterable[tuple[Place, int | None]]:
  """Each layer of a stage with the number of that layer in the parent, None if it is new."""
  if len(places) == len(parent_places):
    return zip(places, range(len(places)))
  options = [[place.form[0] for place in stage] for stage in (places, parent_places)]
  same = [one == other for one, other in zip(*options)]
  new = same.index(False) if False in same else len(same)
  return zip(places, [*range(new), None, *range(new, len(parent_places))])


class Ancestors:
  """The networks that others may start from: those a search has used last, with their weights.

  They depend on what the search asked in earlier calls and in which order, on nothing else: run
  again with the same journal, it chooses the same parents. Of every network the training of
  replicate 0 is kept; other replicates of its children start from the same weights, with other
  initial values of the new block and another order of the data, so that they vary as children of
  one parent do. What was not used for long is deleted.
  """

  def __init__(self, space: SearchSpace, journal: Journal, score: Callable[[Evaluation], float]):
    """Starts without any.

    Args:
      space: The space.
      journal: Where evaluations are; weights are kept beside its file, or in memory.
      score: Which parent is the best.
    """
    self._space, self._journal, self._score = space, journal, score
    self._folder = journal.folder and journal.folder / FOLDER
    self._memory: dict[str, bytes] = {}
    self._seen: set[str] = set()
    self._kept: dict[str, None] = {}  # In order of their last use.

  def parent(self, architecture: Sequence[int], replicate: int) -> str | None:
    """Key of the network that a replicate starts from; None: it is trained afresh.

    It is the best one of a block less; for a further replicate that of replicate 0. Of equal ones
    it is the one without the earliest block.
    """
    if replicate > 0 and (first := self._journal.get(self._space.key(architecture), 0)):
      return first.parent if first.parent in self._kept else None
    best, best_score = None, -np.inf
    for position in np.flatnonzero(architecture):
      smaller = np.array(architecture)
      smaller[position] = 0
      try:
        key = self._space.key(smaller.tolist())
      except ValueError:  # A stage that changes the resolution cannot be empty.
        continue
      evaluation = self._journal.get(key, 0)
      if key in self._kept and evaluation and self._score(evaluation) > best_score:
        best, best_score = key, self._score(evaluation)
    return best

  def use(self, evaluations: Iterable[Evaluation]) -> None:
    """Notes what a call asked for, once all of it is in the journal; deletes the least used."""
    for evaluation in evaluations:
      if evaluation.parent in self._kept:
        self._kept[evaluation.parent] = self._kept.pop(evaluation.parent)
      if evaluation.replicate > 0 or evaluation.metrics is None or evaluation.key in self._seen:
        continue
      self._seen.add(evaluation.key)
      self._kept[evaluation.key] = None
    for key in list(self._kept)[: max(len(self._kept) - _KEPT, 0)]:
      del self._kept[key]
      self._memory.pop(key, None)
      if self._folder is not None:
        self._path(self._folder, key).unlink(missing_ok=True)

  def write(self, key: str, weights: Weights) -> None:
    """Keeps the weights of a network; when it returns they are safe."""
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
    found: dict[str, Any] = flax.serialization.msgpack_restore(content)
    layers = [[Variables(*layer) for layer in stage] for stage in found["layers"]]
    return Weights(found["stem"], layers)

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
        f"the search goes on from {path}, which cannot be read ({error.strerror}): put it back, "
        "or start again in another --workdir"
      ) from error

  @staticmethod
  def _path(folder: pathlib.Path, key: str) -> pathlib.Path:
    return folder / f"{key.replace('|', '_')}.msgpack"

"""Whether a network contains the start set of its space."""

from collections.abc import Sequence

import numpy as np

from nas_submod.networks.search_space import SearchSpace


def contains_start(space: SearchSpace, architecture: Sequence[int]) -> bool:
  """Whether the canonical form begins every stage with the start set's blocks."""
  canonical = space.canonical(np.asarray(architecture))
  return all(s in (0, int(c)) for s, c in zip(space.start, canonical))

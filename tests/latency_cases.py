"""Tables of latencies and their costs, for the tests of latency."""

import pathlib

import numpy as np

from nas_submod.networks import spaces
from nas_submod.networks.parts import parts
from nas_submod.resources.latency import from_table

ROOT = pathlib.Path(__file__).parent.parent
TABLES = ROOT.parent / "shared" / "data"  # Where a checkout has them beside it.
DIGITS = spaces.get("digits")


def random_architectures(space, count, seed=0):
  rng = np.random.default_rng(seed)
  drawn = rng.integers(0, len(space.options) + 1, (count, space.positions))
  return np.where(space.start, space.start, drawn)


def milliseconds_of(space):
  """A different number for each part."""
  return {part.name: 1 + 0.37 * index for index, part in enumerate(parts(space))}


def write(path, lines):
  path.write_text("\n".join(lines) + "\n")
  return str(path)


def own_table(path, space, *comments, extra=(), without=()):
  rows = [f"{name},{ms}" for name, ms in milliseconds_of(space).items() if name not in without]
  return write(path, [*comments, "part,milliseconds", *rows, *extra])


def costs(table, space, architectures):
  return from_table(table).cost(space)(space.mask(np.asarray(architectures)))

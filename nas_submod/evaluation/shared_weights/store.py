"""The store: parameters of every block that a position of the space may hold.

It has the form of the universal network's parameters. Where the network holds a vector `[P]` for
the layer of a slot, the store holds one for each possible layer. A part of one slot is
`[layers, P]`; a row of slots is `[slots * layers, P]`. A block whose input may have several numbers
of channels is one layer for each number. All networks share the stem.
"""

from typing import Any

import jax
import jax.numpy as jnp

from nas_submod.networks.layer import Params, State
from nas_submod.networks.universal import ChoicePart, Universal


def start(network: Universal, rng: jax.Array) -> Params:
  """Draws initial values of every block."""
  stem_rng, *rngs = jax.random.split(rng, len(network.parts) + 1)
  parts = [_start_part(part, key) for part, key in zip(network.parts, rngs)]
  return (network.stem.init(stem_rng).params, *parts)


def _start_part(part: ChoicePart, rng: jax.Array) -> jax.Array:
  width, slots = part.choice.sizes[0], 1 if part.slots is None else part.slots
  # The layers of a slot start from the same noise, as in the universal network.
  noise = jax.random.normal(rng, (slots, width))

  def one(layer: jax.Array) -> jax.Array:
    return part.choice.init(noise[layer // part.layers], layer % part.layers).params

  if not slots:
    return jnp.zeros((0, width))
  return jax.lax.map(one, jnp.arange(slots * part.layers))


def where(network: Universal, architecture: jax.Array) -> Any:
  """The rows of the store that hold a network: an index for each array; traceable."""
  stem = jax.tree.map(lambda _: ..., jax.eval_shape(network.stem.init, jax.random.key(0)).params)
  rows = [
    index if part.slots is None else jnp.arange(part.slots) * part.layers + index
    for part, index in zip(network.parts, network.indices(architecture))
  ]
  return (stem, *rows)


def take(stored: Any, rows: Any) -> Any:
  """The values of one network, in the form of the universal network; `rows` from `where`."""
  return jax.tree.map(lambda array, index: array[index], stored, rows)


def put(stored: Any, rows: Any, values: Any) -> Any:
  """The store with new values of one network; all other blocks keep their values."""
  return jax.tree.map(lambda array, index, new: array.at[index].set(new), stored, rows, values)


def zero_statistics(network: Universal) -> State:
  """Running statistics of 0, in the form of the universal network."""
  stem = jax.eval_shape(network.stem.init, jax.random.key(0)).state
  sizes = [() if part.slots is None else (part.slots,) for part in network.parts]
  rows = [jnp.zeros((*slots, part.choice.sizes[1])) for slots, part in zip(sizes, network.parts)]
  return (jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), stem), *rows)

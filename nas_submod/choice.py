"""One of several layers, chosen by an index that is data."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.layers import Layer, Variables


class Choice(NamedTuple):
  """Several layers in one; parameters and state are vectors, long enough for each of them.

  Attributes:
    sizes: Lengths `(P, S)` of the two vectors.
    init: `(standard normal noise [P], index) -> Variables` of vectors.
    apply: `(params [P], state [S], index, x, train) -> (y, state [S])`.
    unpack: `(Variables of vectors, index as a number) -> Variables` of the layer itself.
  """

  sizes: tuple[int, int]
  init: Callable[[jax.Array, jax.Array], Variables]
  apply: Callable[..., tuple[jax.Array, jax.Array]]
  unpack: Callable[[Variables, int], Variables]


def choose(options: Sequence[Layer]) -> Choice:
  """Joins layers of equal output shape; a `lax.switch` picks one.

  Each branch is rematerialised: a switch under differentiation would keep what every branch needs.
  """
  rng = jax.random.key(0)
  forms = [jax.eval_shape(layer.init, rng) for layer in options]
  params_size, state_size = (max(_size(form[i]) for form in forms) for i in range(2))

  def init(noise, index):
    def start(layer):
      def branch(noise):
        mean, mean_state = layer.init(rng, lambda _, shape: jnp.zeros(shape))
        one, _ = layer.init(rng, lambda _, shape: jnp.ones(shape))
        mean, one = _pack(mean, params_size), _pack(one, params_size)
        return mean + (one - mean) * noise, _pack(mean_state, state_size)

      return branch

    return Variables(*jax.lax.switch(index, [start(layer) for layer in options], noise))

  def apply(params, state, index, x, train):
    def step(layer, form):
      def branch(params, state, x):
        y, moved = layer.apply(_unpack(params, form.params), _unpack(state, form.state), x, train)
        return y, _pack(moved, state_size)

      return jax.checkpoint(branch, prevent_cse=False) if train else branch

    branches = [step(layer, form) for layer, form in zip(options, forms)]
    return jax.lax.switch(index, branches, params, state, x)

  def unpack(variables, index):
    form = forms[index]
    return Variables(_unpack(variables.params, form.params), _unpack(variables.state, form.state))

  return Choice((params_size, state_size), init, apply, unpack)


def _size(form: Any) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(form))


def _pack(tree: Any, size: int) -> jax.Array:
  leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)]
  used = sum(leaf.size for leaf in leaves)
  return jnp.concatenate([*leaves, jnp.zeros(size - used)])


def _unpack(vector: jax.Array, form: Any) -> Any:
  leaves, structure = jax.tree.leaves(form), jax.tree.structure(form)
  ends = np.cumsum([leaf.size for leaf in leaves]).tolist()
  parts = jnp.split(vector, ends)[: len(leaves)]
  return jax.tree.unflatten(
    structure, [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves)]
  )

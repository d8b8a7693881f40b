"""One of several layers, chosen by an index that is data."""

import functools
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
    identity_factors: `index as a number -> [P]` of 0 and 1, by which the parameters are multiplied
      to make the layer return its input, still able to learn; None where that is not possible.
  """

  sizes: tuple[int, int]
  init: Callable[[jax.Array, jax.Array], Variables]
  apply: Callable[..., tuple[jax.Array, jax.Array]]
  unpack: Callable[[Variables, int], Variables]
  identity_factors: Callable[[int], np.ndarray | None]


def choose(options: Sequence[Layer]) -> Choice:
  """Joins layers of equal output shape; a `lax.switch` picks one."""
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
    def branch(layer, form):
      def step(params, state, x):
        y, moved = layer.apply(_unpack(params, form.params), _unpack(state, form.state), x, train)
        return y, _pack(moved, state_size)

      return step

    return _switch([branch(*pair) for pair in zip(options, forms)], index, params, state, x)

  def unpack(variables, index):
    form = forms[index]
    return Variables(_unpack(variables.params, form.params), _unpack(variables.state, form.state))

  def identity_factors(index):
    to_identity = options[index].to_identity
    if to_identity is None:
      return None
    ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), forms[index].params)
    factors = [leaf.ravel() for leaf in jax.tree.leaves(to_identity(ones))]
    return np.concatenate([*factors, np.ones(params_size - _size(ones), np.float32)])

  return Choice((params_size, state_size), init, apply, unpack, identity_factors)


def _switch(
  branches: Sequence[Callable[..., Any]],
  index: jax.Array,
  params: jax.Array,
  state: jax.Array,
  x: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """`branches[index](params, state, x)`; what it returns beside y takes no gradient.

  The gradient computes the branch again: differentiated by JAX a switch would keep what every
  branch needs. Said by hand it is traced in half the time of a rematerialised switch.
  """

  @jax.custom_vjp
  def run(params, state, index, x):
    return jax.lax.switch(index, branches, params, state, x)

  def forward(*arguments):
    return run(*arguments), arguments

  def backward(arguments, cotangents):
    params, state, index, x = arguments

    def pull(branch):
      def gradient(params, state, x, cotangent):
        of_branch = functools.partial(_without_state, branch, state)
        _, transpose, _ = jax.vjp(of_branch, params, x, has_aux=True)
        return transpose(cotangent)

      return gradient

    gradients = [pull(branch) for branch in branches]
    of_params, of_x = jax.lax.switch(index, gradients, params, state, x, cotangents[0])
    return of_params, None, None, of_x

  run.defvjp(forward, backward)
  return run(params, state, index, x)


def _without_state(
  branch: Callable[..., Any], state: jax.Array, params: jax.Array, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
  return branch(params, state, x)


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

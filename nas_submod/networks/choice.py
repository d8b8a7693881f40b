"""A layer chosen among several by an index that is data, not part of the program."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.networks.layers import Layer, Variables


class Choice(NamedTuple):
  """Several layers in one. Its parameters and its state are vectors, long enough for any layer.

  Attributes:
    sizes: Lengths `(P, S)` of the two vectors.
    init: `(standard normal noise [P], index) -> Variables` of vectors.
    apply: `(params [P], state [S], index, x, train) -> (y, state [S])`.
    apply_row: `(params [N, P], state [N, S], indices [N], count, x, train) -> (y, state [N, S])`.
      Applies the first `count` of N layers in a row, which must keep the shape of x. The others
      take no time.
    unpack: `(Variables of vectors, index as an int) -> Variables` of the chosen layer.
  """

  sizes: tuple[int, int]
  init: Callable[[jax.Array, jax.Array], Variables]
  apply: Callable[..., tuple[jax.Array, jax.Array]]
  apply_row: Callable[..., tuple[jax.Array, jax.Array]]
  unpack: Callable[[Variables, int], Variables]


def choose(options: Sequence[Layer]) -> Choice:
  """Joins layers of equal output shape; a `lax.switch` chooses one."""
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

  def branches(train):
    def branch(layer, form):
      def step(params, state, x):
        y, moved = layer.apply(_unpack(params, form.params), _unpack(state, form.state), x, train)
        return y, _pack(moved, state_size)

      return step

    return [branch(*pair) for pair in zip(options, forms)]

  def apply(params, state, index, x, train):
    return _switch(branches(train), index, params, state, x)

  def apply_row(params, state, indices, count, x, train):
    if not len(indices):
      return x, state
    return _switch_row(branches(train), indices, count, params, state, x)

  def unpack(variables, index):
    form = forms[index]
    return Variables(_unpack(variables.params, form.params), _unpack(variables.state, form.state))

  return Choice((params_size, state_size), init, apply, apply_row, unpack)


def _switch(
  branches: Sequence[Callable[..., Any]],
  index: jax.Array,
  params: jax.Array,
  state: jax.Array,
  x: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """`branches[index](params, state, x) -> (y, state)`; gradients flow from y to params and x only.

  The custom gradient recomputes the branch, because JAX would store the residuals of every branch.
  It traces in half the time of `jax.checkpoint` around the switch.
  """

  @jax.custom_vjp
  def run(params, state, index, x):
    return jax.lax.switch(index, branches, params, state, x)

  def forward(*arguments):
    return run(*arguments), arguments

  def backward(arguments, cotangents):
    params, state, index, x = arguments
    of_params, of_x = jax.lax.switch(index, _gradients(branches), params, state, x, cotangents[0])
    return of_params, None, None, of_x

  run.defvjp(forward, backward)
  return run(params, state, index, x)


def _switch_row(
  branches: Sequence[Callable[..., Any]],
  indices: jax.Array,
  count: jax.Array,
  params: jax.Array,
  state: jax.Array,
  x: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Applies `_switch` for the first `count` indices in a row; the gradient visits them in reverse.

  JAX cannot differentiate a loop of dynamic length in reverse, so the forward pass stores the input
  of each slot for the custom gradient.
  """

  def of_slots(functions):
    return [lambda slot, p, s, *rest, f=f: f(p[slot], s[slot], *rest) for f in functions]

  def through(params, state, indices, count, x, *inputs):
    """Runs the loop; if an array is given as `inputs`, stores the input of each slot in it."""

    def step(slot, carry):
      x, states, *inputs = carry
      y, moved = jax.lax.switch(indices[slot], of_slots(branches), slot, params, states, x)
      return y, states.at[slot].set(moved), *(seen.at[slot].set(x) for seen in inputs)

    return jax.lax.fori_loop(0, count, step, (x, state, *inputs))

  @jax.custom_vjp
  def run(params, state, indices, count, x):
    return through(params, state, indices, count, x)

  def forward(params, state, indices, count, x):
    empty = jax.lax.empty((len(params), *x.shape), x.dtype)
    y, moved, inputs = through(params, state, indices, count, x, empty)
    return (y, moved), (params, state, indices, count, inputs)

  def backward(arguments, cotangents):
    params, state, indices, count, inputs = arguments

    def step(done, carry):
      of_x, of_params = carry
      slot = count - 1 - done
      calls = of_slots(_gradients(branches))
      found, of_x = jax.lax.switch(indices[slot], calls, slot, params, state, inputs[slot], of_x)
      return of_x, of_params.at[slot].set(found)

    start = cotangents[0], jnp.zeros_like(params)
    of_x, of_params = jax.lax.fori_loop(0, count, step, start)
    return of_params, None, None, None, of_x

  run.defvjp(forward, backward)
  return run(params, state, indices, count, x)


def _gradients(branches: Sequence[Callable[..., Any]]) -> list[Callable[..., Any]]:
  """For each branch, `(params, state, x, cotangent of y) -> (cotangents of params and of x)`."""

  def pull(branch):
    def gradient(params, state, x, cotangent):
      _, transpose, _ = jax.vjp(lambda params, x: branch(params, state, x), params, x, has_aux=True)
      return transpose(cotangent)

    return gradient

  return [pull(branch) for branch in branches]


def _size(form: Any) -> int:
  """Total size of the leaves."""
  return sum(leaf.size for leaf in jax.tree.leaves(form))


def _pack(tree: Any, size: int) -> jax.Array:
  """Concatenates the leaves into a vector, and pads it with zeros."""
  leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)]
  used = sum(leaf.size for leaf in leaves)
  return jnp.concatenate([*leaves, jnp.zeros(size - used)])


def _unpack(vector: jax.Array, form: Any) -> Any:
  """Splits a vector into leaves of the shapes in `form`, the inverse of `_pack`."""
  leaves, structure = jax.tree.leaves(form), jax.tree.structure(form)
  ends = np.cumsum([leaf.size for leaf in leaves]).tolist()

  @jax.custom_vjp
  def unpack(vector):
    parts = jnp.split(vector, ends)
    return [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves)]

  def forward(vector):
    return unpack(vector), None

  def backward(_, gradients):
    # Not a concatenation: XLA's CPU compiler would fuse a sum into it, such as the gradient of a
    # bias, and recompute the sum for every number of the vector.
    packed, begin = jnp.zeros_like(vector), 0
    for gradient in gradients:
      packed = jax.lax.dynamic_update_slice(packed, gradient.ravel(), (begin,))
      begin += gradient.size
    return (packed,)

  unpack.defvjp(forward, backward)
  return jax.tree.unflatten(structure, unpack(vector))

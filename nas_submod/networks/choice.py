"""A layer chosen among several by an index that is data, not part of the program."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod.networks.graph import Shape
from nas_submod.networks.layer import Layer, Variables, trace_of


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


def choose(options: Sequence[Layer], shapes: Sequence[Shape | None] | None = None) -> Choice:
  """Joins layers of equal output shape; a `lax.switch` chooses one.

  Args:
    options: The layers.
    shapes: The shape of one input example of each layer. If given, layers run without groups of
      channels, and those that then have equal traces share a branch: a TPU's compiler takes seconds
      for each branch. None for a layer that shares with no other.
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

  families = _families(options, shapes)
  branch_of, place_of = np.zeros((2, len(options)), np.int32)
  for number, family in enumerate(families):
    for place, option in enumerate(family.merges):
      branch_of[option], place_of[option] = number, place

  def branches(train):
    def branch(family):
      readers = [
        lambda params, merge=merge, form=forms[option]: merge(_unpack(params, form.params))
        for option, merge in family.merges.items()
      ]
      state_form = forms[min(family.merges)].state  # Equal for all options of the family.

      def step(place, params, state, x):
        params = jax.lax.switch(place, readers, params)
        y, moved = family.layer.apply(params, _unpack(state, state_form), x, train)
        return y, _pack(moved, state_size)

      return step

    return [branch(family) for family in families]

  def numbers(index: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(branch_of)[index], jnp.asarray(place_of)[index]

  def apply(params, state, index, x, train):
    return _switch(branches(train), *numbers(index), params, state, x)

  def apply_row(params, state, indices, count, x, train):
    if not len(indices):
      return x, state
    return _switch_row(branches(train), *numbers(indices), count, params, state, x)

  def unpack(variables, index):
    form = forms[index]
    return Variables(_unpack(variables.params, form.params), _unpack(variables.state, form.state))

  return Choice((params_size, state_size), init, apply, apply_row, unpack)


class _Family(NamedTuple):
  """Options that one layer computes.

  Attributes:
    layer: The layer.
    merges: For each option, the function from its parameters to those of the layer.
  """

  layer: Layer
  merges: dict[int, Callable[[Any], Any]]


def _unchanged(params: Any) -> Any:
  return params


def _families(
  options: Sequence[Layer], shapes: Sequence[Shape | None] | None = None
) -> list[_Family]:
  """The families of the options of `choose`, in the order of their first options."""
  key: Any
  merge: Callable[[Any], Any]
  found: dict[Any, _Family] = {}
  for option, layer in enumerate(options):
    key, merge = option, _unchanged
    if shapes is not None:
      layer, merge = layer.ungrouped or (layer, _unchanged)
      if (shape := shapes[option]) is not None:
        form = jax.eval_shape(layer.init, jax.random.key(0))
        key = trace_of(layer, shape), jax.tree.structure(form)
    found.setdefault(key, _Family(layer, {})).merges[option] = merge
  return list(found.values())


def _switch(
  branches: Sequence[Callable[..., Any]],
  index: jax.Array,
  place: jax.Array,
  params: jax.Array,
  state: jax.Array,
  x: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """`branches[index](place, params, state, x) -> (y, state)`; gradients flow to params and x only.

  `place` says which option of the branch it is.

  The custom gradient recomputes the branch, because JAX would store the residuals of every branch.
  It traces in half the time of `jax.checkpoint` around the switch.
  """

  @jax.custom_vjp
  def run(index, place, params, state, x):
    return jax.lax.switch(index, branches, place, params, state, x)

  def forward(*arguments):
    return run(*arguments), arguments

  def backward(arguments, cotangents):
    index, *inputs = arguments
    of_params, of_x = jax.lax.switch(index, _gradients(branches), *inputs, cotangents[0])
    return None, None, of_params, None, of_x

  run.defvjp(forward, backward)
  return run(index, place, params, state, x)


def _switch_row(
  branches: Sequence[Callable[..., Any]],
  indices: jax.Array,
  places: jax.Array,
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
    return [
      lambda slot, q, p, s, *rest, f=f: f(q[slot], p[slot], s[slot], *rest) for f in functions
    ]

  def through(indices, places, count, params, state, x, *inputs):
    """Runs the loop; if an array is given as `inputs`, stores the input of each slot in it."""

    def step(slot, carry):
      x, states, *inputs = carry
      calls = of_slots(branches)
      y, moved = jax.lax.switch(indices[slot], calls, slot, places, params, states, x)
      return y, states.at[slot].set(moved), *(seen.at[slot].set(x) for seen in inputs)

    return jax.lax.fori_loop(0, count, step, (x, state, *inputs))

  @jax.custom_vjp
  def run(*arguments):
    return through(*arguments)

  def forward(indices, places, count, params, state, x):
    empty = jax.lax.empty((len(params), *x.shape), x.dtype)
    y, moved, inputs = through(indices, places, count, params, state, x, empty)
    return (y, moved), (indices, places, count, params, state, inputs)

  def backward(arguments, cotangents):
    indices, places, count, params, state, inputs = arguments

    def step(done, carry):
      of_x, of_params = carry
      slot = count - 1 - done
      calls = of_slots(_gradients(branches))
      given = slot, places, params, state, inputs[slot], of_x
      found, of_x = jax.lax.switch(indices[slot], calls, *given)
      return of_x, of_params.at[slot].set(found)

    start = cotangents[0], jnp.zeros_like(params)
    of_x, of_params = jax.lax.fori_loop(0, count, step, start)
    return None, None, None, of_params, None, of_x

  run.defvjp(forward, backward)
  return run(indices, places, count, params, state, x)


def _gradients(branches: Sequence[Callable[..., Any]]) -> list[Callable[..., Any]]:
  """For each branch, `(place, params, state, x, cotangent of y) -> (cotangents of params, x)`."""

  def pull(branch):
    def gradient(place, params, state, x, cotangent):
      _, transpose, _ = jax.vjp(
        lambda params, x: branch(place, params, state, x), params, x, has_aux=True
      )
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

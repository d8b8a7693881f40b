"""A layer chosen among several by an index."""

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod import networks
from nas_submod.networks import blocks, layers
from nas_submod.networks.choice import _families, choose
from nas_submod.networks.choice import _unpack as unpack


def test_only_the_counted_layers_of_a_row_are_applied():
  def scaled(by):
    def apply(params, state, x, train):
      return x * params["scale"] * by, state

    start = networks.Variables({"scale": jnp.ones(1)}, ())
    return layers.Layer(lambda rng, draw=None: start, apply, lambda shape: (shape, {}))

  row = choose([scaled(jnp.nan), scaled(2.0), scaled(3.0)])
  params, state, indices = jnp.ones((4, 1)), jnp.ones((4, 0)), jnp.array([1, 2, 0, 0])

  @jax.jit
  def loss(params, count):
    return row.apply_row(params, state, indices, count, jnp.ones(2), True)[0].sum()

  for count, product in enumerate((1, 2, 6, np.nan)):
    assert np.array_equal(loss(params, count), 2.0 * product, equal_nan=True)
  np.testing.assert_array_equal(jax.grad(loss)(params, 2)[:, 0], [12, 12, 0, 0])


def test_options_that_differ_in_groups_can_share_a_branch():
  def option(**settings):
    return blocks.inverted_residual(8, 8, 1, expansion=2, **settings)

  options = [
    layers.identity(),
    option(),
    option(expand_groups=2, project_groups=2),
    option(project_groups=4),
    option(project_groups=4, kernel=5),
  ]
  shape = (5, 5, 8)
  merges = [family.merges for family in _families(options, [shape] * 5)]
  assert [list(options) for options in merges] == [[0], [1, 2, 3], [4]]
  assert len(_families(options)) == len(_families(options, [None] * 5)) == 5
  x, indices = jax.random.normal(jax.random.key(1), (2, *shape)), jnp.array([1, 2, 3, 4])
  found = []
  for row in (choose(options), choose(options, [shape] * 5)):
    noise = jax.random.normal(jax.random.key(0), (4, row.sizes[0]))
    params, state = jax.vmap(row.init)(noise, indices)

    def loss(params, x, row=row, state=state):
      y, moved = row.apply_row(params, state, indices, 4, x, True)
      one, _ = row.apply(params[1], state[1], indices[1], y, True)
      return jnp.square(one + y).sum(), (y, moved)

    found.append(jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, x))
  for a, e in zip(*map(jax.tree.leaves, found), strict=True):
    np.testing.assert_allclose(a, e, rtol=0, atol=1e-5 * np.abs(e).max())


def test_gradients_of_a_vector_are_not_concatenated():
  form = {name: jax.ShapeDtypeStruct((size,), jnp.float32) for name, size in (("a", 3), ("b", 1))}

  def loss(vector, x):
    parts = unpack(vector, form)
    return jnp.square(x + parts["a"]).sum() + 5 * parts["b"].sum()

  vector, x = jnp.arange(6.0), jnp.ones((7, 3))
  np.testing.assert_array_equal(jax.grad(loss)(vector, x), [14, 28, 42, 5, 0, 0])
  assert "concatenate" not in str(jax.make_jaxpr(jax.grad(loss))(vector, x))

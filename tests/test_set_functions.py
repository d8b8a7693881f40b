"""Set functions as pytrees; that gains are differences of values is in the conformance list."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from nas_submod import set_functions

SERVICE = np.random.default_rng(0).random((5, 4)).astype(np.float32)
FUNCTIONS = {
  "modular": (set_functions.modular(SERVICE[:, 0]), 1),
  "coverage": (set_functions.coverage(SERVICE > 0.5), 2),
  "facility location": (set_functions.facility_location(SERVICE), 1),
  "concave": (set_functions.concave_over_modular(SERVICE), 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_program_gets_every_array_once(name):
  function, arrays = FUNCTIONS[name]
  assert len(jax.tree.leaves(function)) == arrays


@pytest.mark.parametrize("name", FUNCTIONS)
def test_another_function_of_the_same_shapes_is_the_same_program(name):
  function, _ = FUNCTIONS[name]
  other = jax.tree.map(lambda leaf: jnp.flip(leaf, 0), function)
  assert jax.tree.structure(other) == jax.tree.structure(function)
  traces = []

  @jax.jit
  def value(function, mask):
    traces.append(mask)
    return function(mask)

  mask = jnp.array([True, False, True, False, False])
  np.testing.assert_allclose(value(function, mask), function.value(mask), rtol=1e-6)
  np.testing.assert_allclose(value(other, mask), other.value(mask), rtol=1e-6)
  assert len(traces) == 1


def test_arrays_that_are_equal_but_not_the_same_stay_apart():
  first, second = jnp.ones(3), jnp.ones(3)
  function = set_functions.SetFunction(Partial(jnp.dot, first), Partial(jnp.dot, second))
  leaves, structure = jax.tree.flatten(function)
  assert len(leaves) == 2
  changed = jax.tree.unflatten(structure, [first, 2 * second])
  assert (float(changed.value(first)), float(changed.init(first))) == (3.0, 6.0)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.9])
def test_coverage_of_few_and_of_many_items(share):
  rng = np.random.default_rng(1)
  covers, weights = rng.random((40, 300)) < share, rng.integers(1, 9, 300).astype(np.float32)
  function = set_functions.coverage(covers, weights)
  mask = rng.random(40) < 0.2
  covered = covers[mask].any(axis=0)
  assert float(function(mask)) == weights[covered].sum()
  cover = function.init(jnp.asarray(mask))
  gains = [weights[row & ~covered].sum() for row in covers]
  np.testing.assert_array_equal(function.marginals(cover), gains)
  np.testing.assert_array_equal([function.marginal(cover, e) for e in range(5)], gains[:5])
  element = int(np.argmax(gains))
  np.testing.assert_array_equal(function.commit(cover, element), covered | covers[element])

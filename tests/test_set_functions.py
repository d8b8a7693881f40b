"""Set functions: closed forms, pytrees, and the check of gains."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from nas_submod import set_functions
from nas_submod.optimizers import ties
from nas_submod.set_functions.base import SetFunction

SERVICE = np.random.default_rng(0).random((5, 4)).astype(np.float32)
FUNCTIONS = {
  "modular": (set_functions.modular(SERVICE[:, 0]), 1),
  "coverage": (set_functions.coverage(SERVICE > 0.5), 1),
  "weighted coverage": (set_functions.coverage(SERVICE > 0.5, SERVICE[0]), 2),
  "facility location": (set_functions.facility_location(SERVICE), 1),
  "concave": (set_functions.concave_over_modular(SERVICE), 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_shared_arrays_are_one_leaf(name):
  function, arrays = FUNCTIONS[name]
  assert len(jax.tree.leaves(function)) == arrays


@pytest.mark.parametrize("name", FUNCTIONS)
def test_another_function_of_the_same_shapes_does_not_recompile(name):
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


def test_equal_arrays_of_different_identity_are_separate_leaves():
  first, second = jnp.ones(3), jnp.ones(3)
  gains = [Partial(jnp.dot, second)] * 3
  function = set_functions.SetFunction(Partial(jnp.dot, first), *gains)
  leaves, structure = jax.tree.flatten(function)
  assert len(leaves) == 2
  changed = jax.tree.unflatten(structure, [first, 2 * second])
  assert (float(changed.value(first)), float(changed.init(first))) == (3.0, 6.0)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.9])
@pytest.mark.parametrize("items", [0, 1, 32, 300])
@pytest.mark.parametrize("weighted", [False, True])
def test_coverage_of_few_and_of_many_items(share, items, weighted):
  rng = np.random.default_rng(1)
  covers, weights = rng.random((40, items)) < share, rng.integers(1, 9, items).astype(np.float32)
  if not weighted:
    weights = np.ones_like(weights)
  function = set_functions.coverage(covers, weights if weighted else None)
  mask = rng.random(40) < 0.2
  covered = covers[mask].any(axis=0)
  assert float(function(mask)) == weights[covered].sum()
  state = function.init(jnp.asarray(mask))
  gains = [weights[row & ~covered].sum() for row in covers]
  np.testing.assert_array_equal(function.gains(state), gains)
  np.testing.assert_array_equal([function.gain(state, e) for e in range(5)], gains[:5])
  element = int(np.argmax(gains))
  together = function.add(state, element)
  np.testing.assert_array_equal(together, function.init(mask | (np.arange(40) == element)))


def test_coverage_refuses_wrong_shapes():
  with pytest.raises(ValueError, match="covers must be a matrix"):
    set_functions.coverage(np.ones(3, bool))
  with pytest.raises(ValueError, match="weights has 2 items, covers has 3"):
    set_functions.coverage(np.ones((4, 3), bool), np.ones(2))


@pytest.mark.parametrize(("platform", "loops"), [("cpu", 1), ("tpu", 0), ("cuda", 0)])
def test_a_program_has_the_sums_of_the_platform_it_is_lowered_for(platform, loops):
  function = set_functions.facility_location(np.ones((20, 12), np.float32))
  traced = jax.jit(jax.vmap(function.value)).trace(np.ones((4, 20), bool))
  text = traced.lower(lowering_platforms=(platform,)).as_text()
  assert text.count("stablehlo.while") == loops


@pytest.mark.parametrize("customers", [1, 8, 19])
def test_facility_location_of_many_sets_at_once(customers):
  rng = np.random.default_rng(2)
  service = rng.random((9, customers)).astype(np.float32)
  function, masks = set_functions.facility_location(service), rng.random((20, 9)) < 0.2
  masks[0] = False
  served = [service[mask].max(axis=0, initial=0) for mask in masks]
  gains = [np.maximum(service - had, 0).sum(axis=1) for had in served]
  covers = jax.vmap(function.init)(masks)
  np.testing.assert_array_equal(covers, served)
  np.testing.assert_allclose(jax.vmap(function)(masks), np.sum(served, axis=1), rtol=1e-6)
  found = jax.vmap(function.gains)(covers)
  np.testing.assert_allclose(found, gains, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(np.asarray(found)[masks], 0)  # exactly 0 for elements of the set
  functions = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), function)
  of_both = jax.vmap(jax.vmap(lambda f, state: f.gains(state), (None, 0)), (0, None))
  twice = [np.maximum(2 * service - had, 0).sum(axis=1) for had in served]
  np.testing.assert_allclose(of_both(functions, covers), [gains, twice], rtol=1e-5, atol=1e-6)


def test_gains_of_many_sets_at_once_are_exact_up_to_ties():
  rng = np.random.default_rng(3)
  service = rng.random((12, 2_000)).astype(np.float32)
  service[:, ::250] = 1e5  # rounding hides other customers beside these
  function = set_functions.facility_location(service)
  masks = rng.random((30, 12)) < 0.3
  served = np.where(masks[:, :, None], service, 0).max(axis=1)
  gains = np.maximum(service - served[:, None].astype(np.float64), 0).sum(axis=2)
  found = jax.vmap(function.gains)(jax.vmap(function.init)(masks))
  room = ties.ROUNDING * np.maximum(served, service[:1]).sum(axis=1, dtype=np.float64)
  assert (np.abs(found - gains) < room[:, None]).all()


@pytest.mark.parametrize("covers", [[[0.2, np.nan], [1, 0]], [[2, 0]], [[1], [1, 0]]])
def test_covers_are_true_or_false(covers):
  with pytest.raises(ValueError, match="covers must be a matrix of True and False"):
    set_functions.coverage(covers)


@pytest.mark.parametrize("service", [[["a"]], [[1.0], [1.0, 2.0]], [["1"]]])
def test_arguments_that_are_not_arrays_of_numbers_are_refused(service):
  with pytest.raises(
    ValueError, match="service must be 2-dimensional, finite and nonnegative, got"
  ):
    set_functions.facility_location(service)


def test_numbers_beyond_float32_are_refused():
  with pytest.raises(ValueError, match=r"weights must be .*, got the number inf"):
    set_functions.modular([1e39, 1.0])
  with pytest.raises(ValueError, match=r"weights must be 1-dimensional, .*, got shape \(1, 2\)"):
    set_functions.modular([[1.0, 1.0]])


def test_a_check_accepts_weak_types():
  weights = jnp.arange(4.0)
  function = SetFunction(
    value=lambda mask: weights @ mask,
    init=lambda mask: {"mask": jnp.asarray(mask), "size": 0},
    gains=lambda state: weights * ~state["mask"],
    add=lambda state, e: {"mask": state["mask"].at[e].set(True), "size": state["size"] + 1},
    n=4,
  )
  function.check()


def test_a_table_is_a_vector():
  for values in (3.0, np.zeros((2, 2)), np.zeros(3)):
    with pytest.raises(ValueError, match=r"a table needs 2, 4, 8, \.\.\. values"):
      set_functions.table(values)
  with pytest.raises(ValueError, match="values must be numbers or -inf, got nan"):
    set_functions.table([0.0, -np.inf, np.nan, np.inf])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_transformations_keep_the_number_of_elements(name):
  function, _ = FUNCTIONS[name]
  assert function.n == jax.tree.map(lambda leaf: 2 * leaf, function).n == 5


@pytest.mark.parametrize("name", FUNCTIONS)
def test_closed_forms_pass_their_check(name):
  FUNCTIONS[name][0].check()


@pytest.mark.parametrize(
  ("member", "wrong"),
  [
    ("gains", lambda state: jnp.arange(5.0)),
    ("gain", lambda state, element: jnp.float32(1)),
    ("add", lambda state, element: state),
  ],
)
def test_a_check_names_the_member_that_is_wrong(member, wrong):
  function = dataclasses.replace(FUNCTIONS["concave"][0], **{member: wrong})
  with pytest.raises(ValueError, match=f"^{member}( or init)? is wrong: element . gains"):
    function.check()


def test_a_check_refuses_values_that_are_not_finite():
  function = dataclasses.replace(FUNCTIONS["concave"][0], value=lambda mask: mask.sum() * jnp.nan)
  with pytest.raises(ValueError, match=r"value is not finite at the set \[\] or at a set"):
    function.check()


@pytest.mark.parametrize(
  ("member", "wrong", "words"),
  [
    ("value", lambda mask: mask * 1.0, r"value must return an array of shape \(\), got .*\(5,\)"),
    ("gains", lambda state: jnp.zeros(4), r"gains must return .* \(5,\), got .*\(4,\)"),
    ("gain", lambda state, element: jnp.zeros(2), r"gain must return .* \(\), got"),
    ("add", lambda state, element: state[:2], "add must return a state as init does"),
  ],
)
def test_a_check_names_the_member_of_the_wrong_shape(member, wrong, words):
  function = dataclasses.replace(FUNCTIONS["concave"][0], **{member: wrong})
  with pytest.raises(ValueError, match=words):
    function.check()


def test_a_check_names_the_member_of_another_ground_set():
  function = dataclasses.replace(set_functions.facility_location(SERVICE), n=7)
  with pytest.raises(ValueError, match="init cannot be traced for sets of 7 elements: "):
    function.check()


def test_a_check_needs_gains_and_a_size():
  for function in (set_functions.table(np.arange(8.0)), SetFunction(*[jnp.sum] * 4)):
    with pytest.raises(ValueError, match="check needs a function with gains, and n"):
      function.check()

"""The ways to write an architecture, spaces from configs, and their errors."""

import itertools
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from nas_submod import networks, resources
from nas_submod.networks import blocks, layers, spaces
from nas_submod.networks.search_space import SearchSpace, Stage
from tests.start_sets import contains_start

OWN = {
  "name": "mine",
  "image_shape": (8, 8, 3),
  "classes": 4,
  "stem_channels": 4,
  "stages": ((4, 2, 1), {"channels": 8, "positions": 3, "stride": 2}),
  "options": ({"expansion": 3}, {"expansion": 6, "kernel": 5, "squeeze_excite": True}),
  "start": ". | e3",
}


@st.composite
def drawn(draw):
  space = spaces.get(draw(st.sampled_from(sorted(spaces.SPACES))))
  options = st.integers(0, len(space.options))
  values = draw(st.lists(options, min_size=space.positions, max_size=space.positions))
  return space, tuple(s or v for s, v in zip(space.start, values))


@settings(deadline=None)
@given(drawn())
def test_mask_text_and_key_are_the_same_architecture(case):
  space, architecture = case
  assert space.parse(space.text(architecture)) == architecture
  mask = space.mask(architecture)
  assert mask.sum() == np.count_nonzero(architecture)
  assert tuple(space.architecture(mask)) == architecture
  assert space.from_key(space.key(architecture)) == tuple(space.canonical(architecture))


@settings(deadline=None)
@given(drawn())
def test_canonical_form_is_idempotent_keeps_order_and_cost(case):
  space, architecture = case
  canonical = space.canonical(architecture)
  np.testing.assert_array_equal(space.canonical(canonical), canonical)
  assert space.key(canonical) == space.key(architecture)
  assert resources.network_cost(space, canonical) == resources.network_cost(space, architecture)
  for where in space.stage_slices:
    kept = [option for option in architecture[where] if option]
    assert [option for option in canonical[where] if option] == kept


@settings(deadline=None, max_examples=10)
@given(drawn())
def test_numpy_and_jax_agree(case):
  space, architecture = case
  mask = space.mask(jnp.array(architecture))
  np.testing.assert_array_equal(mask, space.mask(architecture))
  canonical = space.canonical_mask(mask)
  assert isinstance(canonical, jax.Array)
  np.testing.assert_array_equal(canonical, space.mask(space.canonical(architecture)))


@pytest.mark.parametrize(
  ("projection", "start"),
  [(False, (0, 0, 0, 1, 0)), (True, (0, 0, 0, 1, 0)), (True, (0, 2, 0, 0, 0))],
)
def test_number_of_distinct_networks_by_enumeration(projection, start):
  space = SearchSpace(
    name="small",
    image_shape=(4, 4, 1),
    classes=2,
    stem_channels=2,
    stages=(Stage(2, 3, projection=projection), Stage(4, 2)),
    options=(blocks.option(expansion=1), spaces.get("digits").options[0]),
    start=start,
  )
  every = itertools.product(range(3), repeat=space.positions)
  assert space.distinct() == len({space.key(a) for a in every if contains_start(space, a)})


def test_first_step_of_rcnet_has_36_distinct_networks():
  space = spaces.get("rcnet_cifar100")
  start = np.array(space.start)
  keys = {
    space.key(np.where(np.arange(36) == position, option, start))
    for position in np.flatnonzero(start == 0)
    for option in range(1, 7)
  }
  assert len(keys) == 36
  assert space.elements == 216


def test_a_users_space_from_a_config():
  space = spaces.from_config(ConfigDict(OWN))
  assert space.text(space.start) == ". . | e3 . ."
  assert [option.name for option in space.options] == ["e3", "e6k5se"]
  assert spaces.from_config({"name": "digits", "classes": 3}).classes == 3
  assert spaces.from_config({"name": "digits"}) is not None


def changed(**fields):
  return {key: value for key, value in {**OWN, **fields}.items() if value is not ...}


@pytest.mark.parametrize(
  ("config", "message"),
  [
    (changed(width=3), "unknown field 'width' of a space; allowed: name"),
    (changed(classes=...), "needs classes"),
    (changed(stages=({"channels": 8, "poss": 2},)), "'poss': 2.*allowed fields: channels, pos"),
    (changed(start=". | e9"), "unknown option 'e9'; allowed: ., e3"),
    (changed(start=". . . | e3"), "stage 1 has 2 positions, not 3"),
    (changed(start="e3"), "1 stages in 'e3'; the space has 2"),
    (changed(start=". | . e3"), "pushed to the left"),
    (changed(options=({"expansion": 3}, {"expansion": 3})), "distinct one-word names"),
    (changed(options=({"kernel": 3},)), "needs its expansion"),
    (changed(options=("e3",)), "holds 'e3'; allowed: dictionaries"),
    (changed(options=({"expansion": 3, "width": 1},)), "unknown setting 'width' of a block"),
    (changed(stages=((4, 2), (8, 0)), start=...), "at least one position"),
    (changed(stages=((4, 2, 3), (8, 2, 2))), "stride 1 or 2"),
  ],
)
def test_wrong_spaces_are_refused(config, message):
  with pytest.raises(ValueError, match=message):
    spaces.from_config(config)


@pytest.mark.parametrize(
  ("architecture", "message"),
  [
    ([1] * 11, "architecture has 11 positions; space digits has 12"),
    ([7, *[1] * 11], "unknown option 7 at position 0"),
    ([1, -1, *[1] * 10], "unknown option -1 at position 1"),
    ([1] * 8 + [0] * 4, "stage 3 is empty; networks of space digits need a block there"),
  ],
)
def test_wrong_architectures_are_refused(architecture, message):
  with pytest.raises(ValueError, match=message):
    resources.network_cost(spaces.get("digits"), architecture)


def test_unknown_space():
  with pytest.raises(ValueError, match="unknown space 'x'; allowed: rcnet_cifar100"):
    spaces.get("x")


def plain_block(cin, cout, stride, *, kernel, widths=()):
  inner = widths[0] if widths else cout
  return layers.serial(layers.conv(cin, inner, kernel, stride), layers.conv(inner, cout))


def no_block(cin, cout, stride):
  return cin


ALLOWED = "inverted_residual, residual, depthwise_separable, module:function"
PLAIN = {"block": "tests.test_spaces:plain_block", "name": "plain", "kernel": 3, "widths": [5]}


def test_a_users_block_from_a_config():
  config = ConfigDict(changed(options=({"expansion": 3}, PLAIN), start=". | plain"))
  space = spaces.from_config(config)
  assert space == spaces.from_config(json.loads(json.dumps(config.to_dict())))
  assert pickle.loads(pickle.dumps(space)) == space and hash(space) == hash(
    pickle.loads(pickle.dumps(space))
  )
  architecture = space.parse("plain e3 | plain")
  variables = jax.eval_shape(networks.build(space, architecture).init, jax.random.key(0))
  counted = sum(leaf.size for leaf in jax.tree.leaves(variables.params))
  assert resources.network_cost(space, architecture)["params"] == counted
  first, last = 9 * 4 * 5 + 5 * 4, 9 * 4 * 5 + 5 * 8  # 3x3 to 5 channels, then 1x1.
  less = resources.network_cost(space, space.parse("e3 | plain"))["params"]
  assert counted - less == first
  found = blocks.imported_option(**PLAIN).block(4, 8, 2).cost((8, 8, 4))
  assert found == ((4, 4, 8), {"params": last, "madds": last * 16})


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"block": "plain"}, f"^unknown block 'plain'; allowed: {ALLOWED}$"),
    ({"block": plain_block}, f"^unknown block <function .*; allowed: {ALLOWED}$"),
    ({"block": ["residual"]}, f"^unknown block .*'residual'.*Allowed: {ALLOWED}$"),
    ({"block": "no.module:f"}, "no.module cannot be imported from the working directory"),
    ({"block": "tests.test_spaces:f"}, "no block 'f'; allowed there: .*plain_block, no_block"),
    ({"name": None}, "plain_block' needs a name, one unique word; got None"),
    ({"width": 3}, "unexpected keyword argument 'width'; allowed after .*: kernel, widths"),
    ({"widths": {"a": 1}}, "widths holds .*; allowed: numbers, text, lists of them"),
    ({"block": "tests.test_spaces:no_block"}, "unexpected keyword .*; allowed .*: none"),
  ],
)
def test_wrong_blocks_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    spaces.from_config(changed(options=({"expansion": 3}, {**PLAIN, **changes})))


def test_built_in_blocks_by_name():
  options = (
    {"block": "residual"},
    {"block": "residual", "kernel": 5},
    {"block": "depthwise_separable", "kernel": 5, "squeeze_excite": True},
    {"block": "depthwise_separable", "name": "mine"},
    {"block": "inverted_residual", "expansion": 2},
    {"expansion": 4, "kernel": 5, "project_groups": 2},
  )
  config = ConfigDict(changed(options=options, start=". | res"))
  space = spaces.from_config(config)
  names = [option.name for option in space.options]
  assert names == ["res", "resk5", "dsk5se", "mine", "e2", "e4k5p2"]
  assert space == spaces.from_config(json.loads(json.dumps(config.to_dict())))
  block = space.options[2].block(4, 8, 2)
  own = blocks.depthwise_separable(4, 8, 2, kernel=5, squeeze_excite=True)
  assert block.cost((8, 8, 4)) == own.cost((8, 8, 4))


@pytest.mark.parametrize(
  ("option", "message"),
  [
    ({"block": "residual", "width": 3}, "unknown setting 'width' of a block residual; allowed: k"),
    (
      {"block": "inverted_residual"},
      "inverted_residual needs its expansion, e.g. dict.expansion=6",
    ),
    (
      {"block": "residual", "kernel": 2.5},
      "block residual: kernel must be a whole number, got 2.5",
    ),
    ({"block": "residual", "kernel": 4}, "block residual: kernel must be odd, got 4"),
    ({"expansion": 0}, "block inverted_residual: expansion must be at least 1, got 0"),
    ({"block": "depthwise_separable", "squeeze_excite": 1}, "must be True or False, got 1"),
  ],
)
def test_wrong_settings_of_built_in_blocks_are_refused(option, message):
  with pytest.raises(ValueError, match=message):
    spaces.from_config(changed(options=({"expansion": 3}, option)))


def test_a_block_needs_its_arguments_and_returns_a_layer():
  with pytest.raises(ValueError, match=r"missing a required .*: 'kernel'; allowed after"):
    blocks.imported_option(block="tests.test_spaces:plain_block", name="plain")
  option = blocks.imported_option(block="tests.test_spaces:no_block", name="none")
  with pytest.raises(ValueError, match=r"no_block' returned int; allowed: a .*\.networks\.layers"):
    option.block(1, 1, 1)


def test_option_objects_are_allowed_in_python_alone():
  fields = changed(options=(blocks.option(expansion=3),))
  assert spaces.from_config(fields).options[0].name == "e3"
  with pytest.raises(ValueError, match=r"Option e3, which config\.json cannot hold: name"):
    spaces.from_config(ConfigDict(fields))


@pytest.mark.parametrize("name", ["2", "a|b", "[1]"])
def test_a_name_that_reads_as_something_else_is_refused(name):
  options = (blocks.option(expansion=2)._replace(name=name),)
  with pytest.raises(ValueError, match="cannot name an option; allowed: words"):
    SearchSpace("x", (4, 4, 1), 2, 2, (Stage(2, 1),), options)


def test_an_unset_field_of_a_stage_has_its_default():
  stage = {"channels": 8, "positions": 1, "stride": None, "projection": None}
  space = spaces.from_config({"name": "digits", "stages": (stage,), "options": ({"expansion": 2},)})
  assert space.stages == (Stage(8, 1),)

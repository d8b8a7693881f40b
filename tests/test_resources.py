"""Costs against published numbers and counted parameters."""

import csv
import json
import os
import pathlib

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_submod import networks, resources
from nas_submod.networks import spaces

RCNET = json.loads((pathlib.Path(__file__).parent / "data" / "rcnet.json").read_text())["nets"]
MACRO = {  # NAS-Bench-Macro: params and FLOPs, which include the 12,800 of the classifier.
  "00000000": (387882, 7713280),
  "00000001": (791594, 14115328),
  "00000002": (1219370, 20910592),
}


@pytest.mark.parametrize("name", RCNET)
def test_published_networks_cost_exactly_what_is_published(name):
  net = RCNET[name]
  space = spaces.get(f"rcnet_{net['dataset']}")
  found = resources.network_cost(space, net["arch"])
  assert found == {"params": net["params"], "madds": net["madds"]}


def check_macro(architecture, params, flops):
  space = spaces.get("nas_bench_macro")
  found = resources.network_cost(space, [int(digit) for digit in architecture])
  assert found == {"params": params, "madds": flops - 12_800}


@pytest.mark.parametrize("architecture", MACRO)
def test_nas_bench_macro_costs(architecture):
  check_macro(architecture, *MACRO[architecture])


@pytest.mark.skipif("NAS_SUBMOD_DATA" not in os.environ, reason="NAS_SUBMOD_DATA names no folder")
def test_nas_bench_macro_costs_of_all_networks():
  path = pathlib.Path(os.environ["NAS_SUBMOD_DATA"]) / "nas_bench_macro.csv"
  with path.open() as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 6_561
  space = spaces.get("nas_bench_macro")
  architectures = np.array([[int(digit) for digit in row["arch"]] for row in rows])
  expected = [[int(row["params"]), int(row["flops"]) - 12_800] for row in rows]
  np.testing.assert_array_equal(resources.network_costs(space, architectures), expected)
  canonical = [[int(digit) for digit in row["canonical"]] for row in rows]
  np.testing.assert_array_equal(space.canonical(architectures), canonical)
  assert space.distinct() == len({space.key(a) for a in architectures}) == 3_969


@st.composite
def architectures(draw):
  space = spaces.get(draw(st.sampled_from(sorted(spaces.SPACES))))
  options = st.integers(0, len(space.options))
  values = draw(st.lists(options, min_size=space.positions, max_size=space.positions))
  return space, [s or v for s, v in zip(space.start, values)]


@settings(deadline=None, max_examples=40)
@given(architectures())
def test_params_are_counted_leaves_and_all_forms_and_paths_agree(drawn):
  space, architecture = drawn
  cost = resources.network_cost(space, architecture)
  variables = jax.eval_shape(networks.build(space, architecture).init, jax.random.key(0))
  assert cost["params"] == sum(leaf.size for leaf in jax.tree.leaves(variables.params))
  layer_cost = networks.build(space, architecture).cost(space.image_shape)
  assert layer_cost == ((space.classes,), cost)
  assert resources.network_cost(space, space.canonical(np.array(architecture))) == cost
  traced = jax.jit(resources.mask_cost(space, ("madds", "params")))(space.mask(architecture))
  assert traced.tolist() == [cost["madds"], cost["params"]]


def test_unknown_resource_is_refused():
  with pytest.raises(ValueError, match="unknown resource 'joules'; allowed: params, madds"):
    resources.mask_cost(spaces.get("digits"), ("joules",))

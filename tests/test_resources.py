"""Costs against published numbers and counted parameters."""

import csv
import functools
import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nas_submod as ns
from nas_submod import networks, resources
from nas_submod.networks import layers, spaces
from nas_submod.networks.blocks import Option
from nas_submod.resources import Resource

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
  assert (found["params"], found["madds"]) == (net["params"], net["madds"])


def check_macro(architecture, params, flops):
  space = spaces.get("nas_bench_macro")
  found = resources.network_cost(space, [int(digit) for digit in architecture])
  assert (found["params"], found["madds"]) == (params, flops - 12_800)


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
  costs = resources.network_costs(space, architectures, ("params", "madds"))
  np.testing.assert_array_equal(costs, expected)
  canonical = [[int(digit) for digit in row["canonical"]] for row in rows]
  np.testing.assert_array_equal(space.canonical(architectures), canonical)
  assert space.distinct() == len({space.key(a) for a in architectures}) == 3_969


@st.composite
def architectures(draw):
  space = spaces.get(draw(st.sampled_from(sorted(spaces.SPACES))))
  options = st.integers(0, len(space.options))
  values = draw(st.lists(options, min_size=space.positions, max_size=space.positions))
  return space, [s or v for s, v in zip(space.start, values)]


@functools.cache
def traced_cost(space):
  return jax.jit(resources.mask_cost(space, ("madds", "params")))


@settings(deadline=None, max_examples=20)
@given(architectures())
def test_params_are_counted_leaves_and_all_forms_and_paths_agree(drawn):
  space, architecture = drawn
  cost = resources.network_cost(space, architecture)
  variables = jax.eval_shape(networks.build(space, architecture).init, jax.random.key(0))
  assert cost["params"] == sum(leaf.size for leaf in jax.tree.leaves(variables.params))
  layer_cost = networks.build(space, architecture).cost(space.image_shape)
  assert layer_cost == ((space.classes,), cost)
  assert resources.network_cost(space, space.canonical(np.array(architecture))) == cost
  traced = traced_cost(space)(space.mask(architecture))
  assert traced.dtype == jnp.int32 and traced.tolist() == [cost["madds"], cost["params"]]


def test_unknown_resource_is_refused():
  with pytest.raises(ValueError, match="unknown resource 'joules'; allowed: params, madds"):
    resources.mask_cost(spaces.get("digits"), ("joules",))


# A space with more multiply-adds than int32 holds: 3,938,091,008 with option 6 everywhere.
LARGE = spaces.from_config({"name": "rcnet_imagenet", "image_shape": (512, 512, 3)})


def random_networks(space, count):
  rng = np.random.default_rng(0)
  found = rng.integers(0, len(space.options) + 1, (count, space.positions))
  found *= rng.random(found.shape) < rng.random((count, 1))
  return np.where(space.start, space.start, found)


def problem(space, budget):
  cost, limits = resources.knapsacks(space, budget)
  return ns.Problem(groups=space.groups, cost=cost, budget=limits, required=space.required)


@jax.jit
def feasible_sets(problem, masks):
  return jax.vmap(problem.feasible)(masks)


def check_feasibility(space, budget, networks):
  """Compares `Problem.feasible` with the costs on the host; returns the share of feasible sets."""
  feasible = feasible_sets(problem(space, budget), space.mask(networks))
  costs = resources.network_costs(space, networks, tuple(budget))
  np.testing.assert_array_equal(feasible, (costs <= list(budget.values())).all(-1))
  return feasible.mean()


def test_costs_beyond_int32_are_exact_in_larger_units():
  assert resources.network_cost(LARGE, [6] * 36)["madds"] == 3_938_091_008
  networks = np.concatenate([random_networks(LARGE, 300), [[6] * 36]])
  for madds in (2_000_000_000, 3_938_091_007, 3_938_091_008):
    assert 0 < check_feasibility(LARGE, {"madds": madds, "params": 9_000_000}, networks) < 1
  assert np.median(resources.network_costs(LARGE, networks, ["madds"])) > 1e9


def test_costs_beyond_int32_are_refused_in_units_of_one():
  cost = resources.mask_cost(LARGE, ("madds",))
  assert cost(LARGE.mask(np.array([6] * 36))).tolist() == [3_938_091_008]
  with pytest.raises(ValueError, match=r"madds of .* may reach 4,695,867,392; .* 2,147,483,647; "):
    jax.eval_shape(cost, jnp.asarray(LARGE.required))


def test_costs_beyond_int32_in_every_unit_are_refused():
  space = spaces.from_config({"name": "rcnet_imagenet", "image_shape": (99_991, 99_991, 3)})
  with pytest.raises(ValueError, match=r"^madds of a .* allowed: up to [\d,]+; take smaller"):
    resources.knapsacks(space, {"madds": 1e15})


def test_budgets_bind_exactly():
  space = spaces.get("digits")
  networks = random_networks(space, 200)
  costs = resources.network_costs(space, networks, ("params", "madds"))
  middle = np.sort(costs, axis=0)[100].tolist()
  for less in (0, 1):
    budget = {"params": middle[0] - less, "madds": middle[1] + 0.5}
    assert 0 < check_feasibility(space, budget, networks) < 1


def _widest(unit):
  """A cost that is a maximum over positions, not a sum."""

  def cost(space):
    weights = np.arange(1, space.elements + 1) * unit
    weights = weights.astype(np.int64 if isinstance(unit, int) else np.float64)

    def of_mask(mask):
      module = jnp if isinstance(mask, jax.Array) else np
      return module.where(mask, module.asarray(weights), 0).max(-1)

    return of_mask

  return cost


@pytest.mark.parametrize("name", resources.RESOURCES)
@pytest.mark.parametrize("space_name", ["digits", "nas_bench_macro"])
def test_every_resource_agrees_with_itself_and_never_falls(name, space_name):
  space = spaces.get(space_name)
  try:
    cost = resources.mask_cost(space, (name,))
  except resources.NotApplicableError as error:
    pytest.skip(str(error))
  masks = space.mask(random_networks(space, 64))
  expected = cost(masks)
  traced = jax.jit(jax.vmap(cost))(jnp.asarray(masks))
  np.testing.assert_allclose(traced, expected, rtol=1e-6)
  assert (expected >= cost(np.asarray(space.required))).all()


def test_a_resource_is_one_line_in_the_table(monkeypatch):
  space = spaces.get("digits")
  latency = Resource("latency", "milliseconds", _widest(0.37))
  monkeypatch.setitem(resources.RESOURCES, "latency", latency)
  monkeypatch.setitem(resources.RESOURCES, "peak", Resource("peak", "bytes", _widest(1 << 20)))
  networks = random_networks(space, 200)
  last = int(np.flatnonzero(space.mask(networks[0]))[-1]) + 1
  cost = resources.network_cost(space, networks[0])
  assert list(cost) == ["params", "madds", "latency", "peak"]
  assert cost["latency"] == last * 0.37 and cost["peak"] == last << 20
  budget = resources.check_budget(space, {"latency": 21.5, "peak": 60 << 20, "params": 20_000.5})
  assert budget == {"latency": 21.5, "peak": 60 << 20, "params": 20_000.5}
  assert 0 < check_feasibility(space, budget, networks) < 1


def test_whole_costs_stay_exact_beside_floats(monkeypatch):
  monkeypatch.setitem(resources.RESOURCES, "latency", Resource("latency", "ms", _widest(0.37)))
  space = spaces.get("rcnet_cifar100")
  networks = random_networks(space, 200)
  limit = int(np.median(resources.network_costs(space, networks, ["madds"])))
  found = problem(space, {"latency": 1_000.0, "madds": limit})
  assert found.budget.dtype == jnp.float32 and limit > 2**24
  for madds in (limit, limit - 1):  # One less is within the tolerance of float32 costs.
    assert 0 < check_feasibility(space, {"latency": 1_000.0, "madds": madds}, networks) < 1


def test_budgets_keep_their_fractions():
  found = resources.check_budget(
    spaces.get("digits"), {"params": 12_000.9, "madds": 1e6, "latency": None}
  )
  assert found == {"params": 12_000.9, "madds": 1_000_000} and isinstance(found["madds"], int)


@pytest.mark.parametrize(
  ("budget", "message"),
  [
    ({}, "config.budget is empty; allowed: params, madds"),
    ({"params": None}, "config.budget is empty; allowed: params, madds"),
    ({"flops": 3}, "unknown resource 'flops' in config.budget; allowed: params, madds"),
    *(
      ({"params": value}, f"config.budget.params is {value!r}; allowed are positive numbers")
      for value in (0, -1, np.inf, np.nan, "9000", True, [9_000])
    ),
    ({"params": 700.5}, "the start set is over budget: params 2,002 > 700.5; allow at least 2,002"),
  ],
)
def test_wrong_budgets_are_refused(budget, message):
  with pytest.raises(ValueError) as error:
    resources.check_budget(spaces.get("digits"), budget)
  assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_a_block_of_another_shape_is_refused():
  def block(cin, cout, stride):
    return layers.conv(cin, cout, 3)

  space = spaces.from_config(
    {"name": "digits", "options": [Option("flat", block)], "start": "|| flat"}
  )
  with pytest.raises(
    ValueError, match=r"block flat makes \(4, 4, 32\) of an image \(4, 4, 16\); all"
  ):
    resources.network_cost(space, space.start)

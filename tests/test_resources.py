"""Costs against published numbers and counted parameters."""

import csv
import functools
import itertools
import json
import math
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

import nas_submod as ns
from configs import own_data
from nas_submod import networks, resources
from nas_submod.networks import architectures as named_architectures
from nas_submod.networks import layers, spaces
from nas_submod.networks.blocks import Option
from nas_submod.networks.graph import fuse
from nas_submod.resources import Resource, cost_bounds
from nas_submod.resources.memory import peak_numbers

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
  shape, layer_cost = networks.build(space, architecture).cost(space.image_shape)
  assert shape == (space.classes,) and layer_cost.items() <= cost.items()
  assert resources.network_cost(space, space.canonical(np.array(architecture))) == cost
  traced = traced_cost(space)(space.mask(architecture))
  assert traced.dtype == jnp.int32 and traced.tolist() == [cost["madds"], cost["params"]]


def test_unknown_resource_is_refused():
  with pytest.raises(
    ValueError, match="unknown resource 'joules'; allowed: params, madds, flash, memory"
  ):
    resources.mask_cost(spaces.get("digits"), ("joules",))


# A space with more multiply-adds than int32 holds: 3,938,091,008 with option 6 everywhere.
LARGE = spaces.from_config({"name": "rcnet_imagenet", "image_shape": (512, 512, 3)})


def random_networks(space, count):
  rng = np.random.default_rng(0)
  found = rng.integers(0, len(space.options) + 1, (count, space.positions))
  found *= rng.random(found.shape) < rng.random((count, 1))
  return np.where(space.start, space.start, found)


def problem(space, budget, table=resources.RESOURCES):
  cost, limits = resources.knapsacks(space, budget, table)
  return ns.Problem(groups=space.groups, cost=cost, budget=limits, required=space.required)


@jax.jit
def feasible_sets(problem, masks):
  return jax.vmap(problem.feasible)(masks)


def check_fits(space, budget, networks, table=resources.RESOURCES):
  """Compares `Problem.feasible` with the costs on the host; returns the share of feasible sets."""
  feasible = feasible_sets(problem(space, budget, table), space.mask(networks))
  costs = resources.network_costs(space, networks, tuple(budget), table)
  np.testing.assert_array_equal(feasible, (costs <= list(budget.values())).all(-1))
  return feasible.mean()


def test_costs_beyond_int32_are_exact_in_larger_units():
  assert resources.network_cost(LARGE, [6] * 36)["madds"] == 3_938_091_008
  networks = np.concatenate([random_networks(LARGE, 300), [[6] * 36]])
  for madds in (2_000_000_000, 3_938_091_007, 3_938_091_008):
    assert 0 < check_fits(LARGE, {"madds": madds, "params": 9_000_000}, networks) < 1
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
    assert 0 < check_fits(space, budget, networks) < 1


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


LATENCY = Resource("latency", "ms", _widest(0.37))
TABLE = dict(resources.RESOURCES) | {
  "latency": LATENCY,
  "peak": Resource("peak", "bytes", _widest(1 << 20), additive=False),
}


def test_any_resources_limit_together():
  space = spaces.get("digits")
  networks = random_networks(space, 200)
  last = int(np.flatnonzero(space.mask(networks[0]))[-1]) + 1
  cost = resources.network_cost(space, networks[0], TABLE)
  assert list(cost) == ["params", "madds", "flash", "memory", "latency", "peak"]
  assert cost["latency"] == last * 0.37 and cost["peak"] == last << 20
  given = {"latency": 21.5, "peak": 60 << 20, "params": 20_000.5, "memory": 3_000}
  budget = resources.check_budget(space, given, TABLE)
  assert budget == given
  assert 0 < check_fits(space, budget, networks, TABLE) < 1


def test_whole_costs_stay_exact_beside_floats():
  space = spaces.get("rcnet_cifar100")
  networks = random_networks(space, 200)
  limit = int(np.median(resources.network_costs(space, networks, ["madds"])))
  found = problem(space, {"latency": 1_000.0, "madds": limit}, TABLE)
  assert found.budget.dtype == jnp.float32 and limit > 2**24
  assert bool(jnp.isfinite(found.additions(found.required).cost).all())
  for madds in (limit, limit - 1):  # One less is within the tolerance of float32 costs.
    budget = {"latency": 1_000.0, "madds": madds}
    assert 0 < check_fits(space, budget, networks, TABLE) < 1


def test_budgets_keep_their_fractions():
  found = resources.check_budget(
    spaces.get("digits"), {"params": 12_000.9, "madds": 1e6, "latency": None}
  )
  assert found == {"params": 12_000.9, "madds": 1_000_000} and isinstance(found["madds"], int)


@pytest.mark.parametrize(
  ("budget", "message"),
  [
    ({}, "config.budget is empty; allowed: params, madds, flash, memory"),
    ({"params": None}, "config.budget is empty; allowed: params, madds, flash, memory"),
    (
      {"flops": 3},
      "unknown resource 'flops' in config.budget; allowed: params, madds, flash, memory, or one of",
    ),
    (
      {"latency_ms": 3},
      "config.budget.latency_ms needs a table of latencies: python -m",
    ),
    *(
      ({"params": value}, f"config.budget.params is {value!r}; allowed are positive numbers")
      for value in (0, -1, np.inf, np.nan, "9000", True, [9_000])
    ),
    (
      {"params": 9e9, "memory": 300.5},
      "the start set '. . . . | . . . . | e3 . . .' is over budget: memory 512 > 300.5; raise the "
      "budget, or try to start with fewer blocks",
    ),
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


# Numbers measured in the arena of TFLite Micro, or published for MLPerf Tiny.
PUBLISHED = {
  ("rcnet_cifar100", "rcnet"): {"memory": 319_488},
  ("rcnet_imagenet", "rcnet"): {"memory": 1_505_280},
  ("mlperf_tiny", "resnet8"): {"params": 77_706, "madds": 12_500_992, "memory": 49_152},
}


@pytest.mark.parametrize(("space_name", "network"), PUBLISHED)
def test_memory_and_folded_parameters_are_the_published_ones(space_name, network):
  space = spaces.get(space_name)
  architecture = named_architectures.read(space, network)
  table = resources.from_config({"params": "folded"})
  found = resources.network_cost(space, architecture, table)
  assert PUBLISHED[space_name, network].items() <= found.items()
  copies = resources.from_config({"memory": "tflite_micro"})
  more = resources.network_cost(space, architecture, copies)["memory"]
  assert more == (2_451_840 if space_name == "rcnet_imagenet" else found["memory"])


def test_costs_of_inverted_residuals_by_hand():
  """The network `by_hand` of mlperf_tiny, whose strides are passed on by no stage."""
  space = spaces.get("mlperf_tiny")
  params, madds = 27 * 16 + 16, 27 * 16 * 32**2  # The stem, each kernel with its bias.
  sides = [(16, 16, 1, 32, 32)]  # Channels, expansion, sides before and after the stride.
  sides += [(16, 24, 2, 32, 16), *[(24, 24, 3, 16, 16)] * 5]
  sides += [(24, 40, 3, 16, 8), *[(40, 40, 4, 8, 8)] * 3]
  for cin, cout, expansion, before, after in sides:
    inner = expansion * cin
    if expansion > 1:
      params, madds = params + (cin + 1) * inner, madds + cin * inner * before**2
    params += (9 + 1) * inner + (inner + 1) * cout
    madds += (9 * inner + inner * cout) * after**2
  params += 41 * 10
  architecture = named_architectures.read(space, "by_hand")
  found = resources.network_cost(space, architecture, resources.from_config({"params": "folded"}))
  # At the first stride: 16 and 32 channels of 32x32; or the 32, and their copy of 34x34.
  memory = 48 * 32**2
  assert [found[name] for name in ("params", "madds", "memory")] == [params, madds, memory]
  copies = resources.from_config({"memory": "tflite_micro"})
  assert resources.network_cost(space, architecture, copies)["memory"] == 32 * (32**2 + 34**2)


def aligned(count):
  return (count + 15) // 16 * 16


def peak_by_hand(graph, micro):
  """Peak memory of a graph in bytes of int8, by its definition."""
  size = [math.prod(shape) for shape in (graph.shape, *(o.shape for o in graph.operations))]
  size = [aligned(count) if micro else count for count in size]
  peak = 0
  for step, operation in enumerate(graph.operations):
    later = {i for after in graph.operations[step + 1 :] for i in after.inputs}
    inputs = set(operation.inputs) | {i for i in later if i <= step}
    alive = sum(size[i] for i in inputs) + size[step + 1]
    if micro and operation.kind == "pool":
      alive += aligned(4 * operation.shape[-1]) + 32
    if micro and operation.stride == 2 and operation.kernel > 1:  # Of an even side.
      height, width, channels = graph.shape_of(operation.inputs[0])
      copy = aligned((height + operation.kernel - 1) * (width + operation.kernel - 1) * channels)
      kept = sum(size[i] for i in inputs & later)
      alive = copy + max(alive - size[step + 1], kept + size[step + 1])
    peak = max(peak, alive)
  return peak


SQUEEZED = spaces.from_config(
  {
    "name": "squeezed",
    "image_shape": (16, 16, 3),
    "classes": 5,
    "stem_channels": 8,
    "stages": ((8, 2), (16, 3, 2), (12, 2)),
    "options": (
      {"expansion": 3, "squeeze_excite": True},
      {"block": "residual"},
      {"expansion": 2, "kernel": 5},
    ),
    "start": ". | e3se | .",
  }
)


@pytest.mark.parametrize("name", ["digits", "rcnet_cifar100", "nas_bench_macro", "squeezed"])
def test_flash_and_memory_are_those_of_the_built_network(name):
  space = SQUEEZED if name == "squeezed" else spaces.get(name)
  for architecture in random_networks(space, 12):
    layer = networks.build(space, architecture)
    graph = fuse(layers.trace_of(layer, space.image_shape))
    params = jax.tree.leaves_with_path(jax.eval_shape(layer.init, jax.random.key(0)).params)
    kernels = sum(leaf.size for path, leaf in params if "kernel" in str(path[-1]))
    biases = sum(o.shape[-1] for o in graph.operations if o.kind in ("conv", "dense"))
    for memory, copies in (("int8", False), ("tflite_micro", True)):
      table = resources.from_config({"memory": memory, "params": "folded"})
      found = resources.network_cost(space, architecture, table)
      assert found["memory"] == peak_by_hand(graph, copies)
      assert (found["params"], found["flash"]) == (kernels + biases, kernels + 4 * biases)
    floats = resources.from_config({"memory": "float32", "flash": "float32"})
    found = resources.network_cost(space, architecture, floats)
    assert found["memory"] == 4 * peak_by_hand(graph, False)
    assert found["flash"] == 4 * (kernels + biases)


def test_a_padded_copy_is_made_where_tflite_pads_otherwise():
  for side, copies in ((8, 100), (7, 0)):
    graph = fuse(layers.trace_of(layers.conv(1, 4, 3, stride=2), (side, side, 1)))
    assert peak_numbers(graph) == side**2 + 4 * 16
    assert peak_numbers(graph, micro=True) == max(64, aligned(copies)) + 64


def test_memory_beyond_int32_is_exact():
  large = spaces.from_config({"name": "rcnet_imagenet", "image_shape": (16_384, 16_384, 3)})
  table = resources.from_config({"memory": "float32"})
  networks = random_networks(large, 200)
  networks[0] = large.start
  costs = resources.network_costs(large, networks, ["memory"], table)
  assert costs.min() > 2**31 and costs.dtype == np.int64
  least, *_, most = np.unique(costs).tolist()
  for memory in (least, most - 1):
    assert 0 < check_fits(large, {"memory": memory}, networks, table) < 1
  with pytest.raises(ValueError, match=r"memory of a network of .* allowed in JAX"):
    resources.mask_cost(large, ["memory"], table)(jnp.asarray(large.required))


def test_a_block_without_a_trace_has_no_memory_but_params():
  def plain(cin, cout, stride):
    return layers.conv(cin, cout, 3, stride)._replace(trace=None)

  options = [Option("mine", plain), {"expansion": 3}]
  space = spaces.from_config({"name": "digits", "options": options, "start": "|| e3"})
  assert list(resources.network_cost(space, space.start)) == ["params", "madds"]
  assert resources.check_budget(space, {"params": 1e4}) == {"params": 10_000}
  with pytest.raises(ValueError, match=r"^memory is not known: block mine has a layer without"):
    resources.check_budget(space, {"params": 1e4, "memory": 1e4})


def filled(space):
  return lambda mask: mask.sum(-1)


FILLED = Resource("any name", "blocks", filled, additive=True)


def no_cost(space):
  return 3


def one_number(space):
  return lambda mask: mask.sum()


def ragged(space):
  return lambda mask: [[1, 2], [3]]


def infinite(space):
  return lambda mask: np.inf * mask.any(-1)


def only_numpy(space):
  return lambda mask: np.asarray(mask).sum(-1)


def other_in_jax(space):
  return lambda mask: mask.sum(-1) + isinstance(mask, jax.Array)


NUMBER = 3


def test_a_resource_of_ones_own_comes_from_a_config():
  space = spaces.get("digits")
  table = resources.from_config({"blocks": f"{__name__}:FILLED", "mine": f"{__name__}:filled"})
  assert list(table) == ["params", "madds", "flash", "memory", "blocks", "mine"]
  assert table["blocks"][:2] == ("blocks", "blocks") and table["blocks"].additive
  assert not table["mine"].additive
  assert resources.network_cost(space, [1] * 12, table)["mine"] == 12
  budget = resources.check_budget(space, ConfigDict(resources.budgets(params=9e9, mine=4.5)), table)
  assert budget == {"params": 9_000_000_000, "mine": 4.5}
  assert 0 < check_fits(space, {"mine": 4}, random_networks(space, 50), table) < 1
  again = resources.from_config({"mine": f"{__name__}:filled", "blocks": f"{__name__}:FILLED"})
  assert all(again[name] is resource for name, resource in table.items())


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"memory": "int4"}, "config.resources.memory is 'int4'; allowed: int8, float32, tflite_micro"),
    ({"flash": 8}, "config.resources.flash is 8; allowed: int8, float32"),
    ({"params": ["all"]}, r"config.resources.params is \['all'\]; allowed: learned, folded"),
    ({"madds": "x:y"}, "config.resources.madds cannot be set; allowed: params, flash, memory, lat"),
    ({"mine": "energy"}, "unknown resource 'energy'; allowed: module:name of a Resource .* 'mine'"),
    ({"mine": "no.module:x"}, "resource 'no.module:x': no.module cannot be imported"),
    ({"mine": f"{__name__}:nothing"}, "has no resource 'nothing'; allowed there: .*filled"),
    ({"mine": f"{__name__}:NUMBER"}, "has no resource 'NUMBER'; allowed there: "),
    ({"mine": f"{__name__}:no_cost"}, "the cost of mine must be a function mask .* got 3$"),
    (
      {"mine": f"{__name__}:one_number"},
      r"the cost of mine must be .* got int64 \(\) for masks",
    ),
    ({"mine": f"{__name__}:ragged"}, "the cost of mine must be .*: ValueError setting an array"),
    ({"mine": f"{__name__}:infinite"}, "mine of the start network is inf; allowed: finite"),
    ({"mine": f"{__name__}:other_in_jax"}, "the start network is 1 in NumPy, but 2.0 in JAX"),
    ({"mine": f"{__name__}:only_numpy"}, "the cost of mine must be .* in JAX too .* traced array"),
  ],
)
def test_wrong_settings_are_refused_in_one_line(settings, message):
  with pytest.raises(ValueError, match=message) as error:
    table = resources.from_config(settings)
    resources.check_budget(spaces.get("digits"), {"mine": 100}, table)
  assert "\n" not in str(error.value)


# Networks of every kind: narrowing stages, projections, strides of empty stages, a start set behind
# an empty position.
SMALL = [
  {"stages": ((8, 2), (16, 2, 2), (4, 2)), "start": ". | e2k5 | ."},
  {"stages": ((24, 2, 2), (4, 2), (16, 2, 2)), "start": ". | . | ."},
  {"stages": ((8, 3, 2, True), (24, 2), (4, 2)), "start": ". res . | . | res"},
]


@pytest.mark.parametrize("fields", SMALL)
@pytest.mark.parametrize("name", ["params", "memory"])
def test_bounds_over_a_space_are_those_of_all_its_networks(name, fields):
  options = {"expansion": 2, "kernel": 5}, {"block": "residual"}
  common = {"name": "small", "image_shape": (9, 8, 3), "classes": 5, "stem_channels": 8}
  space = spaces.from_config(common | {"options": options} | fields)
  choices = [[s] if s else [0, 1, 2] for s in space.start]
  networks = np.array(list(itertools.product(*choices)))
  costs = resources.network_costs(space, networks, [name])[:, 0]
  canonical, table = space.canonical(networks), resources.RESOURCES[name].table(space)
  assert cost_bounds.least_and_most(space, table) == (costs.min(), costs.max())
  least = {}
  for stage, where in enumerate(space.stage_slices):
    for option in (1, 2):
      for first in (True, False):
        part = canonical[:, where][:, :1] if first else canonical[:, where][:, 1:]
        if (having := (part == option).any(axis=1)).any():
          least[cost_bounds.Place(stage, first, option)] = costs[having].min()
  assert cost_bounds.least_with(space, table) == least
  for limit in (costs[0], *np.quantile(costs, [0.1, 0.5, 0.9])):
    hidden = set()
    for position, option in itertools.product(range(space.positions), (1, 2)):
      having = networks[:, position] == option
      alone = having & (np.count_nonzero(networks, 1) == np.count_nonzero(space.start) + 1)
      if having.any() and not space.start[position]:
        stage = next(i for i, w in enumerate(space.stage_slices) if position < w.stop)
        if costs[alone] > limit >= costs[having].min():
          hidden.add((stage, position == space.stage_slices[stage].start, option))
    assert set(cost_bounds.opened_by_others(space, table, limit)) == hidden


@pytest.mark.parametrize(
  ("memory", "advice"),
  [(60e3, ""), (66e3, ", or start with more blocks: they can lower the cost to memory 65,536")],
)
def test_another_start_is_advised_where_it_helps(memory, advice):
  config = own_data.get_config()
  config.space.start = ". | . | ."
  space = spaces.from_config(config.space)
  lean = resources.network_cost(space, space.parse(". | e3 | e3"))["memory"]
  assert lean == 65_536 < resources.network_cost(space, space.start)["memory"] == 278_528
  with pytest.raises(ValueError) as error:
    resources.check_budget(space, {"params": 9e9, "memory": memory})
  assert str(error.value) == (
    "the start set '. . . . | . . . . | . . . .' is over budget: memory 278,528 > "
    f"{memory:,.0f}; raise the budget{advice}"
  )


def test_all_budgets_that_the_start_exceeds_are_named():
  with pytest.raises(ValueError, match=r": params [\d,]+ > 10, memory 512 > 500; raise these"):
    resources.check_budget(spaces.get("digits"), {"params": 10, "madds": 9e9, "memory": 500})

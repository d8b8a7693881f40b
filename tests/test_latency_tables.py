"""Latency tables of others, by layer or by block, and tables that complete them."""

import csv
import itertools

import numpy as np
import pytest

from nas_submod.networks import spaces
from nas_submod.resources.latency import from_table
from tests.latency_cases import (
  DIGITS,
  TABLES,
  costs,
  random_architectures,
  write,
)

# Tables by layer and option

LAYERS = ("8,4,4,1", "8,4,8,2", "4,8,8,1")
OPS = ("k3_e1", "k3_e3_g2", "skip")
LAYER_HEADER = "device,base_ms,layer,in_size,cin,cout,stride,op,delta_vs_skip"


def layer_space(**fields):
  options = (
    {"expansion": 1, "project_skip": False},
    {"expansion": 3, "expand_groups": 2, "project_groups": 2, "project_skip": False},
  )
  return spaces.from_config({
    "name": "by_layer", "image_shape": (8, 8, 1), "classes": 3, "stem_channels": 4,
    "stages": ((4, 1, 1), (8, 2, 2, True)), "options": options, **fields,
  })  # fmt: skip


def layer_rows(device="a", base=2.0):
  return {
    (layer, op): f"{device},{base},{layer},{LAYERS[layer]},{op},"
    f"{0 if op == 'skip' else round(0.1 + layer + 0.25 * index, 3)}"
    for layer, (index, op) in itertools.product(range(3), enumerate(OPS))
  }


def test_a_table_by_layer_adds_its_differences_to_the_base(tmp_path):
  lines = [LAYER_HEADER, *layer_rows().values(), *layer_rows("b", base=5.0).values()]
  table = write(tmp_path / "t.csv", lines)
  space = layer_space()
  assert costs(f"{table}:a", space, [0, 0, 0]) == 2.0
  assert costs(f"{table}:b", space, [1, 0, 0]) == pytest.approx(5 + 0.1)
  assert costs(f"{table}:a", space, [2, 1, 2]) == pytest.approx(2 + 0.35 + 1.1 + 2.35)
  with pytest.raises(ValueError, match="no device 'c'; allowed: a, b"):
    from_table(f"{table}:c")


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({(1, "k3_e1"): "a,2.0,1,8,4,8,2,k3_e1,-0.1"}, "line 5: delta_vs_skip is '-0.1'"),
    ({(1, "k3_e1"): "a,2.5,1,8,4,8,2,k3_e1,0.1"}, "line 5: 2.5 ms here, but 2.0 ms for the"),
    (
      {(1, "k3_e1"): "a,2.0,1,8,4,9,2,k3_e1,0.1"},
      "line 6: layer 1 is 8x8x4->8/2, above 8x8x4->9/2",
    ),
    ({(0, "skip"): "a,2.0,0,8,4,4,1,skip,0.1"}, "line 4: skip has 0.1 ms; allowed"),
    ({(0, "skip"): "a,2.0,0,8,4,4,1,conv,0.1"}, "line 4: op is 'conv'; allowed: skip, or such as"),
    (
      {(0, "skip"): "a,2.0,0,8,4,4,1,k3_e1,0.2"},
      "line 4: 0.2 ms here, but 0.1 ms for the same in .* line 2",
    ),
    ({(1, op): None for op in OPS}, "lacks layer 1"),
    (
      {(2, "again"): layer_rows()[2, OPS[1]].rpartition(",")[0] + ",9"},
      "line 11: 9.0 ms here, but .* ms for the same in .* line ",
    ),
    (
      {(2, "k3_e1"): "a,2.0,2,4,8,0,1,k3_e1,0.1"},
      "line 8: cout is 0; allowed: whole numbers from 1",
    ),
    ({(2, "k3_e1"): "a,2.0,2,4,8,8,1,k2_e1,0.1"}, "line 8: conv: kernel 2 is even"),
    ({(2, "k3_e1"): "a,2.0,2,4,8,8,1,k3_e0,0.1"}, "line 8: op is 'k3_e0'"),
    ({(3, "skip"): "a,2.0,3,4,8,8,1,skip,0"}, "lacks an option of layer 3: the one in .* line 8"),
  ],
)
def test_a_wrong_table_by_layer_is_refused(tmp_path, change, message):
  rows = [row for row in (layer_rows() | change).values() if row]
  with pytest.raises(ValueError, match=message):
    from_table(write(tmp_path / "t.csv", [LAYER_HEADER, *rows]))
  header = LAYER_HEADER.replace("base_ms", "base")
  with pytest.raises(ValueError, match="lacks the column base_ms"):
    from_table(write(tmp_path / "t.csv", [header, *rows]))


def test_a_table_by_layer_names_the_blocks_that_it_lacks(tmp_path):
  rows = layer_rows()
  del rows[2, "k3_e3_g2"]
  table = write(tmp_path / "t.csv", [LAYER_HEADER, *rows.values()])
  with pytest.raises(ValueError, match="lacks 1 of the 12 parts of space by_layer: stage2/e3g2p2"):
    from_table(table).cost(layer_space())
  table = write(tmp_path / "t.csv", [LAYER_HEADER, *layer_rows().values()])
  for option in (
    {"block": "depthwise_separable"},  # The table's expansion 1 has the first convolution.
    {"expansion": 3, "expand_groups": 2},
    {"expansion": 1, "squeeze_excite": True},
    {"block": "residual"},
  ):
    with pytest.raises(ValueError, match="lacks 4 of the 8 parts"):
      from_table(table).cost(layer_space(options=(option,)))
  with pytest.raises(ValueError, match="changes shapes at 8x8x4->8/2; the space at 8x8x4->6/2"):
    from_table(table).cost(layer_space(stages=((4, 1, 1), (6, 2, 2, True))))


def fbnet_space():
  """The space of FBNet for 32x32 images: 22 layers of eight options."""
  options = [
    {
      "expansion": expansion, "kernel": kernel, "expand_groups": groups, "project_groups": groups,
      "project_skip": False, "name": f"k{kernel}_e{expansion}" + (groups > 1) * f"_g{groups}",
    }
    for kernel in (3, 5)
    for expansion, groups in ((1, 1), (1, 2), (3, 1), (6, 1))
  ]  # fmt: skip
  stages = [(16, 1, 1), (24, 4, 1, True), (32, 4, 2, True), (64, 4, 2, True)]
  return spaces.from_config({
    "name": "fbnet", "image_shape": (32, 32, 3), "classes": 100, "stem_channels": 16,
    "stages": (*stages, (112, 4, 1, True), (184, 4, 2, True), (352, 1, 1, True)),
    "options": options, "head_channels": 1504,
  })  # fmt: skip


def shared(name):
  if not (TABLES / name).is_file():
    pytest.skip(f"no {TABLES / name}: the tables of others are not part of the package")
  return TABLES / name


@pytest.mark.parametrize("device", ["eyeriss", "fpga", "pixel3", "raspi4"])
def test_the_sums_of_a_shared_table_by_layer(device):
  path, space = shared("cifar_block_latency.csv"), fbnet_space()
  assert space.positions == 22
  rows = [row for row in csv.DictReader(path.read_text().splitlines()) if row["device"] == device]
  delta = {(int(row["layer"]), row["op"]): float(row["delta_vs_skip"]) for row in rows}
  names = ["skip", *(option.name for option in space.options)]
  architectures = random_architectures(space, 20)
  expected = [
    float(rows[0]["base_ms"]) + sum(delta[i, names[o]] for i, o in enumerate(architecture))
    for architecture in architectures
  ]
  np.testing.assert_allclose(costs(f"{path}:{device}", space, architectures), expected, rtol=1e-9)


# Tables by block and size

BLOCK_HEADER = "device,net_input,op,input,output,expand,kernel,stride,idskip,se,hs,mean_ms"
BLOCK_ROWS = {
  "Conv": "a,8,Conv,8x8x3,8x8x16,,,,,,,4",
  "down": "a,8,expanded_conv,8x8x16,4x4x24,3,5,2,0,,,1.5",
  "same": "a,8,expanded_conv,4x4x24,4x4x24,3,5,1,1,,,2.25",
  "wide": "a,8,Conv_1,4x4x24,4x4x32,,,,,,,3",
  "Logits": "a,8,Logits,4x4x32,7,,,,,,,0.5",
}


def block_space(**fields):
  return spaces.from_config({
    "name": "by_block", "image_shape": (8, 8, 3), "classes": 7, "stem_channels": 16,
    "stages": ((24, 3, 2),), "options": ({"expansion": 3, "kernel": 5},), "start": "e3k5",
    "head_channels": 32, **fields,
  })  # fmt: skip


def test_a_table_by_block_matches_sizes_and_settings(tmp_path):
  table, space = tmp_path / "t.csv", block_space()
  write(table, [BLOCK_HEADER, *BLOCK_ROWS.values()])
  expected = 4 + 1.5 + 2.25 + 3 + 0.5
  assert costs(str(table), space, [1, 1, 0]) == pytest.approx(expected)
  # Inner channels instead of ratios, a pool of its own, and rows for images of another size.
  channels = [row.replace(",3,5,", ",48,5,") for row in BLOCK_ROWS.values()]
  channels[2] = channels[2].replace(",48,5,", ",72,5,")
  pool = ["a,8,AvgPool2D,4x4x32,1x1x32,,,,,,,0.25", "a,8,Logits,1x1x32,7,,,,,,,0.125"]
  other = [row.replace("a,8,", "a,9,").replace("1.5", "9") for row in channels]
  write(table, [BLOCK_HEADER, *channels[:-1], *pool, *other])
  assert costs(str(table), space, [1, 1, 0]) == pytest.approx(expected - 0.5 + 0.375)


@pytest.mark.parametrize(
  ("fields", "lacks"),
  [
    ({"stem_channels": 8}, "2 of the 4 parts of space by_block: stem, stage1/from_stem/e3k5"),
    ({"options": ({"expansion": 3},), "start": "e3"}, "2 of the 4 parts"),
    ({"options": ({"expansion": 3, "kernel": 5, "project_groups": 2},), "start": "e3k5p2"}, "2 of"),
    ({"options": ({"expansion": 3, "kernel": 5, "squeeze_excite": True},), "start": "e3k5se"}, "2"),
    ({"stem_block_channels": 16}, "1 of the 4 parts of space by_block: stem"),
    ({"classes": 8}, "1 of the 4 parts of space by_block: head/from_stage1"),
  ],
)
def test_a_table_by_block_names_the_parts_that_it_lacks(tmp_path, fields, lacks):
  table = write(tmp_path / "t.csv", [BLOCK_HEADER, *BLOCK_ROWS.values()])
  with pytest.raises(ValueError, match=f"lacks {lacks}"):
    from_table(table).cost(block_space(**fields))


def test_blocks_with_hard_swish_match_nothing(tmp_path):
  rows = BLOCK_ROWS | {"same": BLOCK_ROWS["same"].replace(",1,1,,,", ",1,1,0,1,")}
  table = write(tmp_path / "t.csv", [BLOCK_HEADER, *rows.values()])
  with pytest.raises(ValueError, match="lacks 1 of the 4 parts of space by_block: stage1/e3k5"):
    from_table(table).cost(block_space())


def test_a_block_without_expansion_has_no_first_convolution(tmp_path):
  rows = [row.replace(",3,5,", ",1,5,") for row in BLOCK_ROWS.values()]
  table = write(tmp_path / "t.csv", [BLOCK_HEADER, *rows])
  separable = {"block": "depthwise_separable", "kernel": 5}
  space = block_space(options=(separable,), start="dsk5")
  assert costs(table, space, [1, 1, 0]) == pytest.approx(4 + 1.5 + 2.25 + 3 + 0.5)
  with pytest.raises(ValueError, match="lacks 2 of the 4 parts"):
    from_table(table).cost(block_space(options=({"expansion": 1, "kernel": 5},), start="e1k5"))


@pytest.mark.parametrize(
  ("row", "message"),
  [
    ("a,8,Conv,8x8x3,8x8x16,,,,,,,5", "line 7: 5.0 ms here, but 4.0 ms for the same in .* line 2"),
    ("a,8,Pool,8x8x3,8x8x16,,,,,,,5", "line 7: op is 'Pool'; allowed: expanded_conv, Conv"),
    ("a,8,Conv,8x8,8x8x16,,,,,,,5", "line 7: input is '8x8'; allowed: a shape"),
    ("a,8,expanded_conv,8x8x16,4x4x24,6,,2,0,,,5", "line 7: kernel is empty; allowed: a number"),
    ("a,8,expanded_conv,8x8x16,4x4x24,6,2.5,2,0,,,5", "line 7: kernel is 2.5; allowed: whole"),
    ("a,8,expanded_conv,8x8x16,4x4x24,6,3,2,2,,,5", "line 7: idskip is 2; allowed: 0 or 1"),
    ("a,8,expanded_conv,8x8x16,0x4x24,6,3,2,0,,,5", "line 7: output is '0x4x24'; allowed: a shape"),
    ("a,,Conv,9x9x3,8x8x16,,,,,,,5", "line 7: net_input is empty; allowed: a number"),
    ("a,0,Conv,9x9x3,8x8x16,,,,,,,5", "line 7: net_input is 0; allowed: whole numbers from 1"),
    (BLOCK_ROWS["same"] + "1", "line 7: 2.251 ms here, but 2.25 ms for the same in .* line 4"),
  ],
)
def test_a_wrong_table_by_block_is_refused(tmp_path, row, message):
  with pytest.raises(ValueError, match=message):
    from_table(write(tmp_path / "t.csv", [BLOCK_HEADER, *BLOCK_ROWS.values(), row]))


def test_a_table_completes_another(tmp_path):
  rows = [row for name, row in BLOCK_ROWS.items() if name != "Conv"]
  write(tmp_path / "theirs.csv", [BLOCK_HEADER, *rows, *(r.replace("a,8", "b,8") for r in rows)])
  table = write(tmp_path / "mine.csv", ["# base: theirs.csv:a", "part,milliseconds", "stem,10"])
  assert costs(table, block_space(), [1, 0, 0]) == pytest.approx(10 + 1.5 + 3 + 0.5)
  write(tmp_path / "theirs.csv", [BLOCK_HEADER, *(r.replace(",1.5", ",2.5") for r in rows)])
  assert costs(table, block_space(), [1, 0, 0]) == pytest.approx(10 + 2.5 + 3 + 0.5)
  write(tmp_path / "theirs.csv", ["# base: other.csv", "part,milliseconds", "stem,10"])
  with pytest.raises(
    ValueError, match=r"theirs.csv is the base of .*mine.csv and names a base itself"
  ):
    from_table(write(tmp_path / "mine.csv", ["# base: theirs.csv", "part,ms", "stem,11"]))


def test_a_shared_table_by_block_covers_all_of_its_space_but_the_stem(tmp_path):
  path = shared("imagenet_block_latency.csv")
  options = [
    {"expansion": expansion, "kernel": kernel, "project_skip": False}
    for expansion, kernel in itertools.product((3, 6), (3, 5, 7))
  ]
  stages = [(24, 4, 2), (40, 4, 2), (80, 4, 2), (96, 4), (192, 4, 2), (320, 1)]
  space = spaces.from_config({
    "name": "proxyless", "image_shape": (224, 224, 3), "classes": 1000, "stem_channels": 32,
    "stem_stride": 2, "stem_block_channels": 16, "stages": stages, "options": options,
    "start": " | ".join(["e3"] * 6), "head_channels": 1280,
  })  # fmt: skip
  # The table's block of expansion 1 has no first convolution; that of the stem has one.
  with pytest.raises(ValueError, match=r"lacks 1 of the 68 parts of space proxyless: stem$"):
    from_table(f"{path}:pixel1").cost(space)
  table = write(tmp_path / "t.csv", [f"# base: {path}:pixel1", "part,milliseconds", "stem,8.5"])
  rows = csv.DictReader(path.read_text().splitlines())
  ms = {row["key"]: float(row["mean_ms"]) for row in rows if row["device"] == "pixel1"}

  def block(sizes, expansion, kernel, stride):
    return ms[
      f"expanded_conv-{sizes}-expand:{expansion}-kernel:{kernel}-stride:{stride}"
      f"-idskip:{int(sizes == 'input:7x7x192-output:7x7x192')}"
    ]

  expected = (
    8.5
    + block("input:112x112x16-output:56x56x24", 3, 3, 2)
    + block("input:56x56x24-output:28x28x40", 3, 3, 2)
    + block("input:28x28x40-output:14x14x80", 6, 5, 2)
    + block("input:14x14x80-output:14x14x96", 3, 3, 1)
    + block("input:14x14x96-output:7x7x192", 3, 3, 2)
    + block("input:7x7x192-output:7x7x192", 6, 7, 1)
    + block("input:7x7x192-output:7x7x320", 3, 3, 1)
    + ms["Conv_1-input:7x7x320-output:7x7x1280"]
    + ms["Logits-input:7x7x1280-output:1000"]
  )
  assert costs(table, space, space.parse("e3 | e3 | e6k5 | e3 | e3 e6k7 | e3")) == pytest.approx(
    expected, rel=1e-9
  )
  with pytest.raises(ValueError, match="several devices: pixel1, galaxy_note10, pixel_v2"):
    from_table(str(path))
  with pytest.raises(ValueError, match="is for images of 160, 176, 192, 208, 224 pixels"):
    from_table(f"{path}:galaxy_note10").cost(DIGITS)

"""Latency: tables of several styles, the correction, and the measurement of a table."""

import csv
import itertools
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from nas_submod import networks, resources
from nas_submod.export import timing
from nas_submod.networks import blocks, layers, spaces
from nas_submod.networks.parts import fingerprint, parts
from nas_submod.resources.latency import fit, from_table, measured, pieces, samples
from nas_submod.resources.latency.sheet import parse
from tests import tiny_config

ROOT = pathlib.Path(__file__).parent.parent
TABLES = ROOT.parent / "shared" / "data"  # Where a checkout has them beside it.
DIGITS = spaces.get("digits")


def random_architectures(space, count, seed=0):
  rng = np.random.default_rng(seed)
  drawn = rng.integers(0, len(space.options) + 1, (count, space.positions))
  return np.where(space.start, space.start, drawn)


def milliseconds_of(space):
  """A different number for each part."""
  return {part.name: 1 + 0.37 * index for index, part in enumerate(parts(space))}


def write(path, lines):
  path.write_text("\n".join(lines) + "\n")
  return str(path)


def own_table(path, space, *comments, extra=(), without=()):
  rows = [f"{name},{ms}" for name, ms in milliseconds_of(space).items() if name not in without]
  return write(path, [*comments, "part,milliseconds", *rows, *extra])


def costs(table, space, architectures):
  return from_table(table).cost(space)(space.mask(np.asarray(architectures)))


# Parts


@pytest.mark.parametrize(("name", "count"), [("digits", 56), ("rcnet_cifar100", 81)])
def test_a_space_has_its_parts_and_networks_consist_of_them(name, count):
  space = spaces.get(name)
  found = {part.name: part for part in parts(space)}
  assert len(found) == count == len(parts(space))
  for architecture in random_architectures(space, 3):
    names = fit.parts_of(space, architecture)
    _, whole = networks.build(space, architecture).cost(space.image_shape)
    pieces_cost = [found[n].layer.cost(found[n].shape)[1] for n in names]
    assert {k: sum(cost[k] for cost in pieces_cost) for k in whole} == whole


def test_names_say_stage_predecessor_and_option():
  names = fit.parts_of(DIGITS, DIGITS.parse("e3 e6 | . | e3p2 e3"))
  expected = ["stem", "stage1/from_stem/e3", "stage1/e6", "stage3/from_stage1/e3p2", "stage3/e3"]
  assert names == [*expected, "head/from_stage3"]
  macro = spaces.get("nas_bench_macro")
  assert fit.parts_of(macro, macro.start)[1:] == [
    "stage1/from_stem/.", "stage2/from_stage1/.", "stage3/from_stage2/.", "head/from_stage3"
  ]  # fmt: skip


def test_the_fingerprint_changes_with_the_parts_alone():
  assert fingerprint(DIGITS) == fingerprint(
    spaces.from_config({"name": "digits", "start": "|| e3"})
  )
  for field in ({"stem_channels": 16}, {"classes": 11}, {"image_shape": (16, 16, 1)}):
    assert fingerprint(spaces.from_config({"name": "digits", **field})) != fingerprint(DIGITS)


# Tables of parts by name


def test_latency_is_the_sum_of_the_parts_less_the_correction(tmp_path):
  table = own_table(tmp_path / "t.csv", DIGITS, "# correction_ms: 0.25")
  architectures = random_architectures(DIGITS, 40)
  by_part = milliseconds_of(DIGITS)
  expected = []
  for architecture in architectures:
    names = fit.parts_of(DIGITS, architecture)
    expected.append(sum(by_part[name] for name in names) - 0.25 * (len(names) - 1))
  found = costs(table, DIGITS, architectures)
  assert found.dtype == np.float64
  np.testing.assert_allclose(found, expected, rtol=1e-12)
  cost = from_table(table).cost(DIGITS)
  traced = jax.jit(jax.vmap(cost))(DIGITS.mask(jax.numpy.asarray(architectures)))
  assert traced.dtype == np.float32
  np.testing.assert_allclose(traced, expected, rtol=1e-6)


def test_an_unchanged_file_gives_the_same_cost_so_that_programs_compile_once(tmp_path):
  table = own_table(tmp_path / "t.csv", DIGITS)
  assert from_table(table).cost(DIGITS) is from_table(table).cost(DIGITS)
  before = from_table(table)
  own_table(tmp_path / "t.csv", DIGITS, "# correction_ms: 0.5")
  assert from_table(table) is not before


@pytest.mark.parametrize("header", ["name,ms", "Part , Milliseconds", "latency_ms,part,note"])
def test_other_names_of_columns_are_understood(tmp_path, header):
  rows = milliseconds_of(DIGITS).items()
  swapped = header.startswith("latency")
  lines = [f"{ms},{name},x" if swapped else f"{name}, {ms}" for name, ms in rows]
  table = write(tmp_path / "t.csv", [header, "", *lines])
  plain = own_table(tmp_path / "plain.csv", DIGITS)
  assert costs(table, DIGITS, DIGITS.start) == costs(plain, DIGITS, DIGITS.start)


def test_whole_networks_in_a_table_fit_its_correction(tmp_path):
  by_part, correction = milliseconds_of(DIGITS), 0.4
  keys = [DIGITS.key(a) for a in random_architectures(DIGITS, 5)]
  whole = dict(zip(keys, fit.predict(DIGITS, keys, by_part, correction)))
  extra = [f"network/{key},{float(ms)!r}" for key, ms in whole.items()]
  table = own_table(tmp_path / "t.csv", DIGITS, extra=[*extra, f"check/{keys[0]},99"])
  known = own_table(tmp_path / "known.csv", DIGITS, f"# correction_ms: {correction}")
  new = random_architectures(DIGITS, 9, seed=1)
  np.testing.assert_allclose(costs(table, DIGITS, new), costs(known, DIGITS, new), rtol=1e-9)
  # It is never below 0, nor above the smallest part.
  for factor, limit in ((2.0, 0.0), (0.01, min(by_part.values()))):
    scaled = {key: factor * ms for key, ms in whole.items()}
    assert fit.fit_correction(DIGITS, by_part, scaled) == limit


def test_a_written_table_reads_as_it_was(tmp_path):
  found = measured.Measured(
    {"stem": 1.5, 'odd, "name"': 0.25}, {"1.0|1": 3.0}, {"0.0|1": 2.5}, 0.125
  )
  path = tmp_path / "t.csv"
  measured.write_measured(path, found, {"device": "a, b: c\nd"})
  sheet = parse(str(path), path.read_text())
  assert measured.read_measured(sheet) == found
  assert sheet.comments["device"] == "a, b: c d"


WRONG = {
  "empty": ([], "has no rows"),
  "only_a_header": (["part,ms"], "has no rows"),
  "columns": (["a,b", "1,2"], "has the columns a, b; allowed, separated by commas: part and"),
  "column_twice": (["part,ms,ms", "stem,1,1"], "line 1: a column stands there twice"),
  "short_row": (["part,ms", "stem"], "line 2: 1 values; allowed: 2"),
  "gap": (["part,ms", "stem,"], "line 2: ms is empty; allowed: a number"),
  "text": (["part,ms", "stem,fast"], "line 2: ms is 'fast'; allowed: a number"),
  "nan": (["part,ms", "stem,nan"], "line 2: ms is 'nan'"),
  "infinite": (["part,ms", "stem,inf"], "line 2: ms is 'inf'"),
  "negative": (["# c", "part,ms", "stem,-1"], "line 3: ms is '-1'; allowed: a number of at"),
  "twice": (["part,ms", "stem,1", "stem,2"], "line 3: 2.0 ms here, but 1.0 ms for .* line 2"),
  "twice_the_same": (["part,ms", "stem,1", "stem,1"], "line 3: 1.0 ms here, but 1.0 ms"),
  "underscore": (["part,ms", "stem,1_0"], "line 2: ms is '1_0'; allowed: a number"),
  "long_cell": (["part,ms", "s" * 140_000 + ",1"], "line 2: field larger than field limit"),
  "semicolons": (["part;ms", "stem;1"], "columns part;ms; allowed, separated by commas: part and"),
  "no_device": (["part,ms,device", "stem,1,a", "x,1,"], "line 3: device is empty; allowed: one of"),
  "no_name": (["part,ms", ",1"], "line 2: part is empty"),
  "network_of_0": (["part,ms", "network/1,0"], "line 2: ms is 0; allowed for a network: a"),
  "correction": (["# correction_ms: 3", "part,ms", "stem,1"], "correction_ms is 3; allowed: 0 to"),
  "correction_text": (["# correction_ms: x", "part,ms", "stem,1"], "correction_ms is x; allowed"),
  "correction_twice": (
    ["# correction_ms: 0", "# Correction_MS: 1", "part,ms", "stem,1"],
    "line 2: correction_ms is 0 above and 1 here",
  ),
  "correction_without_colon": (["# correction_ms=1", "part,ms", "x,1"], "line 1: .* allowed: # c"),
  "correction_misspelt": (["# corection_ms: 0", "part,ms", "x,1"], "line 1: .* allowed: # c"),
  "quoted_nothing": (['"",""', "part,ms"], "has no rows"),
  "correction_row": (["part,ms", "correction_ms,1"], "line 2: correction_ms is no part; write"),
  "two_numbers": (["part,milliseconds,ms", "stem,1,2"], "milliseconds and ms, which mean the same"),
  "two_devices": (["part,ms,device", "stem,1,a", "stem,1,b"], "several devices: a, b; choose"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_table_is_refused_in_one_line(tmp_path, kind):
  lines, message = WRONG[kind]
  with pytest.raises(ValueError, match=message) as error:
    from_table(write(tmp_path / "t.csv", lines))
  assert "\n" not in str(error.value) and "t.csv" in str(error.value)


def test_a_file_of_a_spreadsheet_and_a_home_folder_are_read(tmp_path, monkeypatch):
  plain = own_table(tmp_path / "plain.csv", DIGITS)
  rows = [f"{name},{ms},," for name, ms in milliseconds_of(DIGITS).items()]
  write(tmp_path / "t.csv", ["part,ms,,", *rows])
  monkeypatch.setenv("HOME", str(tmp_path))
  assert costs("~/t.csv", DIGITS, DIGITS.start) == costs(plain, DIGITS, DIGITS.start)
  (tmp_path / "t.csv").write_text("part,ms", "utf-16")
  with pytest.raises(ValueError, match=r"t.csv is not a CSV file in UTF-8"):
    from_table(str(tmp_path / "t.csv"))
  wrong = own_table(tmp_path / "wrong.csv", DIGITS, extra=["network/x,5"])
  with pytest.raises(ValueError, match=r"wrong.csv: 'x' is no network of space digits"):
    costs(wrong, DIGITS, DIGITS.start)


def test_a_wrong_path_or_device_is_refused(tmp_path):
  table = own_table(tmp_path / "t.csv", DIGITS)
  for given, message in (
    (f"{tmp_path}/none.csv", "there is no latency table"),
    (str(tmp_path), "cannot be read"),
    (f"{table}:a", "no column device to choose 'a' from"),
    (3, "config.resources.latency is 3; allowed: the path"),
  ):
    with pytest.raises(ValueError, match=message):
      from_table(given)


def test_devices_may_have_colons_and_spaces(tmp_path):
  rows = [f"{name},1,{device}" for device in ("pi:4 b", "b") for name in milliseconds_of(DIGITS)]
  table = write(tmp_path / "a:b.csv", ["part,ms,device", *rows])
  assert costs(f"{table}:pi:4 b", DIGITS, DIGITS.start) == len(fit.parts_of(DIGITS, DIGITS.start))
  with pytest.raises(ValueError, match="no device 'c'; allowed: pi:4 b, b"):
    from_table(f"{table}:c")


def test_a_spreadsheet_keeps_the_comments(tmp_path):
  space = f"# space: digits {fingerprint(DIGITS)},"
  table = own_table(
    tmp_path / "t.csv", DIGITS, "# correction_ms: 0.25,", '"# versions: a, b",', space
  )
  known = own_table(tmp_path / "known.csv", DIGITS, "# correction_ms: 0.25")
  assert costs(table, DIGITS, DIGITS.start) == costs(known, DIGITS, DIGITS.start)
  with pytest.raises(ValueError, match="belongs to space digits with other blocks"):
    from_table(table).cost(spaces.from_config({"name": "digits", "stem_channels": 16}))


def test_a_table_of_another_style_is_not_one_of_parts():
  with pytest.raises(
    ValueError, match=r"t\.csv has the columns layer, op; allowed: part and milli"
  ):
    measured.read_measured(parse("t.csv", "layer,op\n1,skip"))


def test_what_a_table_lacks_for_a_space_is_named(tmp_path):
  names = list(milliseconds_of(DIGITS))
  table = own_table(tmp_path / "t.csv", DIGITS, without=names[3:9])
  message = (
    f"lacks 6 of the 56 parts of space digits: {names[3]}, {names[4]}, {names[5]} and 3 more"
  )
  with pytest.raises(ValueError, match=message):
    from_table(table).cost(DIGITS)


def test_a_table_of_another_space_is_refused(tmp_path):
  table = own_table(tmp_path / "t.csv", DIGITS, f"# space: digits {fingerprint(DIGITS)}")
  wider = spaces.from_config({"name": "digits", "stem_channels": 16})
  assert costs(table, DIGITS, DIGITS.start) > 0
  with pytest.raises(
    ValueError, match="belongs to space digits with other blocks, channels or ima"
  ):
    from_table(table).cost(wider)


def test_a_network_of_another_space_in_a_table_is_refused(tmp_path):
  table = own_table(tmp_path / "t.csv", DIGITS, extra=["network/1.2|3,5"])
  with pytest.raises(ValueError, match=r"'1\.2\|3' is no network of space digits"):
    from_table(table).cost(DIGITS)


# Pieces of a part


def test_parts_are_sums_of_known_pieces():
  shape = 4, 4, 8
  block = blocks.inverted_residual(8, 8, 1, expansion=3, squeeze_excite=True)
  tail = layers.global_average_pool(), layers.dense(8, 3)
  part = parts(DIGITS)[0]._replace(layer=layers.serial(block, block, *tail), shape=shape)
  whole = pieces.piece(layers.serial(*tail), shape)
  known = {pieces.piece(block, shape): 2.0, pieces.piece(tail[0], shape): 0.5}
  assert pieces.milliseconds(part, known) is None
  assert pieces.milliseconds(part, known | {pieces.piece(tail[1], (8,)): 0.25}) == 4.75
  assert pieces.milliseconds(part, known | {whole: 1.0}) == 5.0
  # The first convolution of a block is no piece of it: the shortcut reads what is before.
  first = pieces.piece(blocks.conv_bn(8, 24), shape)
  rest = pieces.piece(layers.serial(*tail), shape)
  assert pieces.milliseconds(part, {first: 1.0, rest: 1.0}) is None
  for other in (
    blocks.inverted_residual(8, 8, 1, expansion=3),
    blocks.inverted_residual(8, 8, 1, expansion=3, squeeze_excite=True, project_groups=2),
    layers.serial(block, layers.relu()),
  ):
    assert pieces.piece(other, shape) not in known


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
      {(2, "again"): layer_rows()[2, "skip"]},
      "line 11: 0.0 ms here, but 0.0 ms for the same in .* line 10",
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
    (BLOCK_ROWS["same"], "line 7: 2.25 ms here, but 2.25 ms for the same in .* line 4"),
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
    ValueError, match=r"theirs.csv has a base, and is one of .*mine.csv; allowed: one"
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


# Networks that fit and check


def test_samples_are_distinct_networks_and_checks_have_equal_multiply_adds():
  drawn = samples.draw(DIGITS, 13, 12, madds=150e3)
  assert len(drawn.fit) == 13 and len(drawn.check) == 12
  assert not set(drawn.fit) & set(drawn.check)
  for key, madds in (drawn.fit | drawn.check).items():
    assert DIGITS.contains_start(DIGITS.from_key(key))
    assert resources.network_cost(DIGITS, DIGITS.from_key(key))["madds"] == madds
  checks = list(drawn.check.values())
  assert max(checks) < 1.02 * min(checks) and abs(np.mean(checks) - 150e3) < 3e3
  assert max(drawn.fit.values()) > 4 * min(drawn.fit.values())
  tiny = spaces.from_config(tiny_config.get_config().space)
  few = samples.draw(tiny, 100, 100)
  assert len(few.fit) + len(few.check) == tiny.distinct()


def test_accuracy_counts_relative_errors_and_ranks():
  found = fit.accuracy(np.array([1.1, 1.8, 3.0]), np.array([1.0, 2.0, 3.0]))
  assert found == pytest.approx((0.2 / 3, 0.1, 1.0))
  assert np.isnan(fit.accuracy(np.ones(2), np.array([1.0, 2.0])).rank)
  assert fit.scaled(np.array([2.0, 4.0]), np.array([1.0, 2.0])) == pytest.approx(0.5)


# The measurement


def test_sweeps_run_everything_once_and_continue_from_the_log(tmp_path, monkeypatch):
  calls, clock = [], itertools.count()
  monkeypatch.setattr(timing.time, "thread_time", lambda: next(clock) * 1e-3)
  runs = {name: lambda name=name: calls.append(name) for name in "abc"}
  log = tmp_path / "log.jsonl"

  def interrupt(done):
    if done == 13:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    timing.round_robin(runs, 30, log=log, settings={"x": 1}, show=interrupt)
  assert len(log.read_text().splitlines()) == 1 + 13
  times = timing.round_robin(runs, 30, log=log, settings={"x": 1})
  assert times == pytest.approx({"a": 1.0, "b": 1.0, "c": 1.0})
  assert len(log.read_text().splitlines()) == 1 + 30
  turns = [tuple(calls[i : i + 3]) for i in range(0, len(calls), 3)]
  assert len(turns) == 30 + 2  # One more at each start, which does not count.
  assert all(sorted(turn) == ["a", "b", "c"] for turn in turns) and len(set(turns)) > 1
  with pytest.raises(ValueError, match="holds sweeps of other settings, parts or versions"):
    timing.round_robin(runs, 30, log=log, settings={"x": 2})
  log.write_text("no log\n")
  with pytest.raises(ValueError, match="holds sweeps of other settings, parts or versions"):
    timing.round_robin(runs, 30, log=log)


def test_no_more_sweeps_count_than_are_asked_for(tmp_path, monkeypatch):
  times = iter([0.0, *[1.0] * 20, *[5.0] * 40])
  monkeypatch.setattr(timing, "sweep", lambda runs, rng, clock: [next(times)])
  monkeypatch.setattr(timing, "PERCENTILE", 100)
  log = tmp_path / "log.jsonl"
  assert timing.round_robin({"a": print}, 60, log=log) == {"a": 5.0}
  assert timing.round_robin({"a": print}, 20, log=log) == {"a": 1.0}


def test_programs_are_loaded_anew_and_percentiles_averaged(monkeypatch):
  # The first sweep of each set of programs does not count.
  times = iter([9.0, *[5.0] * 50, 9.0, *[3.0] * 50])
  monkeypatch.setattr(timing, "sweep", lambda runs, rng, clock: [next(times)])
  renewed = []
  found = timing.round_robin({"a": print}, 100, renew=lambda: renewed.append(1) or {"a": print})
  assert found == {"a": 4.0} and renewed == [1]


def command(*flags):
  line = [sys.executable, "-m", "experiments.measure_latency", "--config=tests/tiny_config.py"]
  return subprocess.run([*line, *flags], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
  ("path", "message"),
  [(".", "is a folder; allowed: the path of a file"), ("setup/t.csv", "cannot be written: ")],
)
def test_a_wrong_output_is_refused_before_anything_is_measured(tmp_path, path, message):
  (tmp_path / "setup").touch()
  done = command(f"--output={tmp_path / path}")
  assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_a_measured_table_limits_a_search(tmp_path):
  pytest.importorskip("onnx", reason="needs the extra export")
  pytest.importorskip("onnxruntime", reason="needs the extra export")
  table = tmp_path / "table.csv"
  done = command(f"--output={table}", "--sweeps=3", "--networks=3", "--checks=4")
  assert done.returncode == 0, done.stderr
  assert "3 to fit, of all sizes" in done.stdout and "4 to check" in done.stdout
  assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
  space = spaces.from_config(tiny_config.get_config().space)
  sheet = parse(str(table), table.read_text())
  assert sheet.comments["runtime"].startswith("onnxruntime 1.")
  assert {"device", "threads", "date", "versions", "space", "correction_ms"} <= set(sheet.comments)
  found = measured.read_measured(sheet)
  assert (len(found.parts), len(found.networks), len(found.checks)) == (len(parts(space)), 3, 4)
  known = resources.from_config({"latency": str(table)})
  costs = resources.network_cost(space, space.start, known)
  assert 0 < costs["latency_ms"] < sum(found.parts.values())
  assert known["latency_ms"].additive


@pytest.mark.slow
def test_parts_are_exported_and_filled_in_elsewhere(tmp_path):
  for package in ("onnx", "onnxruntime", "ai_edge_litert"):
    pytest.importorskip(package, reason="needs the extras export and tflite")
  space = spaces.from_config(tiny_config.get_config().space)
  done = command(f"--export_parts={tmp_path}", "--networks=2", "--checks=1")
  assert done.returncode == 0, done.stderr
  again = command(f"--export_parts={tmp_path}")
  assert again.returncode == 2 and "parts.csv exists, and may hold measurements" in again.stderr
  count = len(parts(space)) + 3
  assert len(list(tmp_path.glob("*.onnx"))) == len(list(tmp_path.glob("*.tflite"))) == count
  rows = list(csv.DictReader((tmp_path / "parts.csv").read_text().splitlines()[5:]))
  for row in rows:
    timing.prepare_onnxruntime(tmp_path / f"{row['file']}.onnx")()
    timing.prepare_litert(tmp_path / f"{row['file']}.tflite")()
  filled = [f"{row['part']},{1 if '/0.' not in row['part'] else 2.5}" for row in rows]
  table = write(tmp_path / "filled.csv", ["name,ms", *filled])
  with pytest.raises(ValueError, match="line 7: milliseconds is empty; allowed: a number"):
    from_table(f"{tmp_path}/parts.csv")
  done = command(f"--from_csv={table}", f"--output={tmp_path}/out.csv")
  assert done.returncode == 0, done.stderr
  assert "# correction_ms: " in (tmp_path / "out.csv").read_text()

"""Latency: parts, tables of parts by name, and the correction."""

import jax
import numpy as np
import pytest

from nas_submod import networks
from nas_submod.networks import blocks, layers, spaces
from nas_submod.networks.parts import fingerprint, parts
from nas_submod.resources.latency import by_part, fit, from_table, pieces
from nas_submod.resources.latency.sheet import parse
from tests.latency_cases import (
  DIGITS,
  costs,
  milliseconds_of,
  own_table,
  random_architectures,
  write,
)

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
  found = by_part.Measured(
    {"stem": 1.5, 'odd, "name"': 0.25}, {"1.0|1": 3.0}, {"0.0|1": 2.5}, 0.125
  )
  path = tmp_path / "t.csv"
  by_part.write_measured(path, found, {"device": "a, b: c\nd"})
  sheet = parse(str(path), path.read_text())
  assert by_part.read_measured(sheet) == found
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
  "equals": (["# correction_ms = 0.005", "part,ms", "stem,1"], "line 1: .*; allowed: # correction"),
  "network": (["part,ms", "stem,1", "Network/1.2,3"], "line 3: .*; allowed: network/KEY"),
  "underscore": (["part,ms", "stem,1_0"], "line 2: ms is '1_0'; allowed: a number"),
  "long_cell": (["part,ms", "s" * 140_000 + ",1"], "line 2: field larger than field limit"),
  "semicolons": (["part;ms", "stem;0,5"], "columns are separated by semicolons or tabs; allowed: "),
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
    by_part.read_measured(parse("t.csv", "layer,op\n1,skip"))


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

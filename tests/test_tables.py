"""Tables of trained networks."""

import pathlib

import jax
import numpy as np
import pytest

from benchmarks import tables
from tests.tiny_table import SIZES, optimum_of, tiny_rows, write

FORMATS = {
  "digits": {},
  "dashes": {"name": "{}-{}-{}"},
  "bars_two_digits": {"name": "|{}|{}|{}|", "canonical": False, "shift": 9},
  "commas_fractions": {"name": "{},{},{}", "canonical": False, "scale": 0.01},
  "seeds": {"trainings": ("seed0", "seed1")},
}


@pytest.mark.parametrize(
  ("style", "dense"), [*((style, True) for style in FORMATS), ("bars_two_digits", False)]
)
def test_every_row_is_found_in_every_format(tmp_path, monkeypatch, style, dense):
  if not dense:
    monkeypatch.setattr(tables, "_DENSE", 0)
  rows = tiny_rows(**FORMATS[style])
  table = tables.Table(write(tmp_path / "t.csv", rows))
  unit = 100 if style == "commas_fractions" else 1
  assert table.cost_names == ["params", "flops"]
  assert np.bincount(table.groups).tolist() == [size - 1 for size in SIZES]
  n = len(table.groups)
  masks = (np.arange(2**n)[:, None] >> np.arange(n)) % 2 == 1
  masks = masks[[np.bincount(table.groups[m], minlength=3).max() <= 1 for m in masks]]
  [instance] = table.instances([(0.7, 0.8)])
  looks = jax.jit(
    jax.vmap(lambda mask: (table.row(mask), instance.case.mean(mask), table.cost(mask)))
  )
  found, means, costs = jax.device_get(looks(masks))
  assert sorted(found) == list(range(len(rows)))
  assert instance.optimum == pytest.approx(unit * optimum_of(rows, (0.7, 0.8)), rel=1e-6)
  np.testing.assert_allclose(means, table.scores[found].mean(axis=1), rtol=1e-6)
  np.testing.assert_array_equal(costs, table.costs[found])


def test_canonical_form_is_the_row_the_table_names(tmp_path):
  rows = tiny_rows()
  table = tables.Table(write(tmp_path / "t.csv", rows))
  eye = np.eye(5, dtype=bool)
  moved = eye[3]  # 001: option 1 of the last position
  np.testing.assert_array_equal(table.canonical(moved), eye[2])  # is 010
  np.testing.assert_array_equal(table.canonical(eye[4]), eye[4])


def test_a_set_missing_in_the_table_is_infeasible(tmp_path):
  rows = [row for row in tiny_rows() if row["arch"] not in ("000", "110")]
  table = tables.Table(write(tmp_path / "t.csv", rows))
  [instance] = table.instances([(1.0, 1.0)])
  problem = instance.case.problem
  hole = np.array([True, False, True, False, False])
  assert not problem.feasible(hole)
  assert problem.feasible(np.array([True, False, False, False, False]))
  assert problem.feasible(problem.required) and instance.case.mean(problem.required) == -np.inf


def test_one_accuracy_is_measured_and_the_others_judge(tmp_path):
  rows = [row | {"acc0": 100 - row["acc0"]} for row in tiny_rows()]  # ranks the other way round
  path = write(tmp_path / "t.csv", rows)
  table = tables.Table(path, measured="acc0")
  [instance] = table.instances([(1.0, 1.0)])
  of_others = [(row["acc1"] + row["acc2"]) / 2 for row in rows]
  assert instance.optimum == pytest.approx(max(of_others))
  masks = np.vstack([np.zeros(5, bool), np.eye(5, dtype=bool)])
  at = [int(table.row(mask)) for mask in masks]
  case, rng = instance.case, jax.random.key(0)
  for found, wanted in (
    ([case.mean(mask) for mask in masks], [rows[row]["acc0"] for row in at]),
    ([case.draw(mask, rng) for mask in masks], [rows[row]["acc0"] for row in at]),
    ([case.judge(mask) for mask in masks], [of_others[row] for row in at]),
  ):
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
  fractions = [row | {"acc1": row["acc1"] / 100, "acc2": row["acc2"] / 100} for row in rows]
  mixed = tables.Table(write(tmp_path / "mixed.csv", fractions), measured="acc0")
  np.testing.assert_allclose(mixed.final, table.final)
  np.testing.assert_allclose(mixed.scores, table.scores)
  with pytest.raises(ValueError, match=r"--measured=acc7: .* has acc0, acc1, acc2"):
    tables.Table(path, measured="acc7")
  alone = write(tmp_path / "alone.csv", tiny_rows(trainings=("acc0",)))
  with pytest.raises(ValueError, match=r"others are needed; .* has acc0"):
    tables.Table(alone, measured="acc0")


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda rows: [{"a": 1}], "no column arch"),
    (lambda rows: [{"arch": "01", "params": 1}], "no accuracies"),
    (lambda rows: [{"arch": "01", "acc0": 1}], "of costs"),
    (lambda rows: [*rows, rows[0] | {"acc1": ""}], r'line 20: acc1 is ""'),
    (lambda rows: [*rows, rows[0] | {"arch": "0x1"}], r'line 20: "0x1"'),
    (lambda rows: [*rows, rows[0] | {"arch": "01"}], "line 20 has an architecture of 2 pos"),
    (lambda rows: [*rows, rows[0] | {"acc1": 99}], "architecture 0-0-0 in lines 2 and 20"),
    (lambda rows: [rows[0] | {"params": "nan"}, *rows[1:]], 'line 2: params is "nan"'),
    (lambda rows: [row | {"acc0 ": 1} for row in rows], "has the column acc0 twice"),
    (lambda rows: [*rows, rows[0] | {"acc1": "9,5"}], r'line 20: acc1 is "9,5".*write 0\.5, not'),
    (lambda rows: [*rows, rows[0] | {"acc1": 900}], "line 20: acc1 is 900; allowed: percent from"),
    (
      lambda rows: [*({**row, "acc1": row["acc1"] / 100} for row in rows[:-1]), rows[-1]],
      "line 19: acc1 is .*, where others are fractions; allowed: all in percent, or none",
    ),
  ],
)
def test_a_broken_table_is_named(tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    tables.Table(write(tmp_path / "t.csv", change(tiny_rows())))


def test_a_table_of_a_spreadsheet_or_of_pandas_is_read(tmp_path):
  plain = write(tmp_path / "plain.csv", tiny_rows())
  lines = pathlib.Path(plain).read_text().splitlines()
  other = tmp_path / "other.csv"
  other.write_text("\r\n".join(f"{line},," for line in [lines[0], "", *lines[1:]]), "utf-8-sig")
  lists = write(tmp_path / "lists.csv", tiny_rows("[{}, {}, {}]"))
  twice = [*tiny_rows("{} {} {}"), tiny_rows("{} {} {}")[0]]
  spaces = write(tmp_path / "spaces.csv", [{"": i} | row for i, row in enumerate(twice)])
  wanted = tables.Table(plain)
  tabs, longer = tmp_path / "tabs.csv", tmp_path / "longer.csv"
  tabs.write_text("\n".join(['  # by me;;;;"see', *(line.replace(",", "\t") for line in lines)]))
  longer.write_text("\n".join([lines[0], *(f"{line}," for line in lines[1:])]))
  for path in (str(other), lists, spaces, str(tabs), str(longer)):
    found = tables.Table(path)
    np.testing.assert_array_equal(found.final[:18], wanted.final)
    assert found.cost_names == wanted.cost_names


def test_a_file_that_is_no_csv_in_utf_8_is_named(tmp_path):
  (tmp_path / "t.csv").write_text("arch,acc0\n", "utf-16")
  with pytest.raises(ValueError, match=r"t.csv is not a CSV file in UTF-8"):
    tables.Table(str(tmp_path / "t.csv"))
  lines = ["arch,acc0,params", "0,1,1", "", "x1,1,2"]
  (tmp_path / "t.csv").write_text("\n".join(lines))
  with pytest.raises(ValueError, match=r'line 4: "x1" is not a list .* 0120, or numbers such as'):
    tables.Table(str(tmp_path / "t.csv"))


def test_rows_of_one_network_have_equal_numbers(tmp_path):
  path = tmp_path / "t.csv"
  path.write_text("arch,canonical,acc0,params\n01,10,70,5\n10,10,60,5\n00,00,10,0\n")
  with pytest.raises(ValueError, match="canonical form 1-0 in lines 2 and 3, with differ"):
    tables.Table(str(path), ["params"])


def test_a_canonical_form_is_an_architecture_and_its_own_form(tmp_path):
  path = tmp_path / "t.csv"
  for form in ("30", "01"):
    path.write_text(f"arch,canonical,acc0,params\n00,00,10,0\n01,10,70,5\n10,{form},70,5\n")
    with pytest.raises(ValueError, match=r"line [34]: canonical is .-.; allowed: known"):
      tables.Table(str(path))


def test_accuracies_are_found_by_their_usual_names(tmp_path):
  path = tmp_path / "t.csv"
  for names, wanted in (
    ("val_acc0,test_acc0,test_acc1,mean_acc", [12.0, 13.0]),
    ("val-acc-0,Val-acc-1,mean_acc,Accuracy", [11.0, 12.0]),
    ("other,Test_Acc,val_acc,more", [12.0]),
    ("other,val_acc,Accuracy,more", [13.0]),
  ):
    path.write_text(f"arch,{names},params\n0,11,12,13,14,1\n1,5,6,7,8,2\n")
    assert tables.Table(str(path), ["params"]).scores[0].tolist() == wanted
  path.write_text("arch,score,params\n0,1,2\n1,2,3\n")
  with pytest.raises(ValueError, match="has no accuracies, only arch, score, params: a column"):
    tables.Table(str(path))


def test_columns_that_cannot_be_costs_are_left_out(tmp_path):
  path = tmp_path / "t.csv"
  path.write_text("id,Arch,acc0,acc1,val_acc,seed_of_run,params\n1,00,9,9,9,7,1\n2,01,8,8,8,7,2\n")
  table = tables.Table(str(path))
  assert (table.cost_names, table.left_out) == (["params"], ["id", "val_acc", "seed_of_run"])
  assert tables.Table(str(path), ["val_acc"]).cost_names == ["val_acc"]
  with pytest.raises(ValueError, match="--costs=acc1: that column is no cost"):
    tables.Table(str(path), ["acc1"])
  with pytest.raises(ValueError, match="has no column Params; allowed: id, val_acc, seed_of_run,"):
    tables.Table(str(path), ["Params"])
  path.write_text('arch,acc0,flops,params,batch\n0,9,"1,000",6,5\n1,8,"2,000",7,5\n')
  table = tables.Table(str(path))
  assert table.cost_names == ["params"]
  assert table.left_out == ["flops (no numbers)", "batch (the same throughout)"]
  with pytest.raises(ValueError, match=r"the least costs are: params 86%\. --costs chooses"):
    table.instances(tables.diagonal(1))

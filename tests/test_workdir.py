"""A workdir belongs to what decides its results: a config, images, a table, code; one at a time."""

import errno
import fcntl
import importlib.metadata
import json
import subprocess
import sys

import numpy as np
import pytest

from nas_submod import identity, parallel
from nas_submod.networks import spaces
from nas_submod.networks.parts import parts
from nas_submod.origin import origin
from nas_submod.resources import budgets
from nas_submod.search import inputs as search_inputs
from nas_submod.search import make_setup
from nas_submod.workdir import check_workdir, locked, make_workdir, plain_of
from tests import tiny_config, tiny_data


def test_a_run_that_was_stopped_before_any_result_may_be_changed(tmp_path):
  """Only under a lock, and not if a file or a folder holds something computed."""
  workdir, other = tmp_path / "run", {"seed": 1}
  make_workdir(workdir, {"seed": 0}, inputs={"validation images": "1"})
  (workdir / "evaluations.jsonl").touch()
  (workdir / "result.json.12.part").write_text("{")
  with pytest.raises(ValueError, match="seed is 0 there and 1 here"):
    make_workdir(workdir, other)
  make_workdir(workdir, other, inputs={"validation images": "2"}, may_replace=True)
  assert json.loads((workdir / "config.json").read_text()) == other
  (workdir / "shared_weights").mkdir()
  with pytest.raises(ValueError, match="seed is 1 there and 0 here"):
    make_workdir(workdir, {"seed": 0}, may_replace=True)
  (workdir / "shared_weights").rmdir()
  (workdir / "evaluations.jsonl").write_text("{}\n")
  with pytest.raises(ValueError, match="seed is 1 there and 0 here"):
    make_workdir(workdir, {"seed": 0}, may_replace=True)


def test_workdir_belongs_to_one_config(tmp_path):
  config = {"seed": 0, "train": {"steps": 3, "milestones": (1, 2)}}
  workdir = make_workdir(tmp_path, config)
  assert make_workdir(workdir, config) == workdir
  with pytest.raises(ValueError, match=r"train\.steps is 3 there and 4 here"):
    make_workdir(workdir, {**config, "train": {"steps": 4, "milestones": (1, 2)}})
  with pytest.raises(ValueError, match="extra is None there and 1 here"):
    make_workdir(workdir, {**config, "extra": 1})


def test_a_field_of_a_store_that_is_missing_is_not_off(tmp_path):
  def of(**store):
    train = {"momentum": 0.9}
    return {"train": train, "evaluation": {"method": "shared_weights", "store": store}}

  workdir = make_workdir(tmp_path, of(steps=3))
  make_workdir(workdir, of(steps=3, momentum=None))
  with pytest.raises(ValueError, match=r"evaluation.store.momentum is 0.9 there and 0 here"):
    make_workdir(workdir, of(steps=3, momentum=0))


@pytest.mark.parametrize("wrap", [lambda config: config, lambda config: {"config": config}])
def test_a_workdir_without_resources_has_the_default_ones(tmp_path, wrap):
  workdir = make_workdir(tmp_path, wrap({"seed": 0}))
  resources = {"params": "learned", "flash": "int8", "memory": "int8", "latency": None}
  make_workdir(workdir, wrap({"seed": 0, "resources": resources}))
  with pytest.raises(ValueError, match=r"resources\.params is 'learned' there and 'folded' here"):
    make_workdir(workdir, wrap({"seed": 0, "resources": resources | {"params": "folded"}}))


def test_workdir_that_cannot_be_written(tmp_path):
  (tmp_path / "file").touch()
  with pytest.raises(ValueError, match="cannot be written: Not a directory"):
    make_workdir(tmp_path / "file" / "run", {})


def test_a_config_that_is_not_plain_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r'Object of type object.*named "module:function"'):
    make_workdir(tmp_path / "run", {"space": {"options": [object()]}})
  assert not (tmp_path / "run").exists()


def changed(changes):
  """The tiny config with changes, as plain values."""
  config = tiny_config.get_config()
  config.update_from_flattened_dict(changes)
  return plain_of(config.to_dict())


SHARED = {"evaluation.method": "shared_weights"}
GUIDED = {"search.options": {"features": "shared_weights"}}


@pytest.mark.parametrize(
  ("before", "change", "decides"),
  [
    ({}, {"search.max_evaluations": 9, "search.optimizer": "greedy", "search.finalists": 3}, ""),
    ({}, {"final.epochs": 7.0, "budget.params": 900.0, "resources.params": "folded"}, ""),
    ({}, {"data.source": "npz:elsewhere.npz", "train.steps_per_call": 3, "score": "accuracy"}, ""),
    ({}, {"evaluation.store.steps": 7}, ""),
    ({}, {"train.steps": 13}, "train.steps is 12 there and 13 here"),
    ({}, {"seed": 1}, "seed is 0 there and 1 here"),
    ({}, {"data.validation_size": 90}, "data.validation_size is 100 there and 90 here"),
    ({}, {"space.stem_channels": 8}, "space.stem_channels is 4 there and 8 here"),
    ({}, SHARED, "evaluation.method is 'training' there and 'shared_weights' here"),
    ({}, GUIDED, "evaluation.method is 'training' there and 'training, guided by shared weights'"),
    (SHARED, {"evaluation.pool": 100, "search.max_evaluations": 9}, ""),
    (SHARED, {"evaluation.store.steps": 7}, "evaluation.store.steps is 16000 there and 7 here"),
    (SHARED, {"budget.params": 900.0}, "budget.params is 1000.0 there and 900.0 here"),
    # Earlier versions had this field, off.
    ({}, {"train.inherit_steps": 0}, ""),
  ],
)
def test_what_does_not_change_the_value_of_an_evaluation_may_change(
  before, change, decides, tmp_path
):
  old, new = changed(before), changed({**before, **change})
  make_workdir(tmp_path, old, identity.of_evaluations, {})
  marks = [identity.fingerprint_of(identity.of_evaluations(config), {}) for config in (old, new)]
  assert (marks[0] == marks[1]) == (not decides)
  if decides:
    with pytest.raises(ValueError, match="holds another run: ") as error:
      make_workdir(tmp_path, new, identity.of_evaluations, {})
    assert decides in str(error.value)
  else:
    make_workdir(tmp_path, new, identity.of_evaluations, {})
  kept = json.loads((tmp_path / "config.json").read_text())
  assert kept == (old if decides else new)  # The newest that was taken.


@pytest.mark.parametrize(
  ("change", "decides"),
  [
    ({"search.optimizer": "greedy", "train.steps": 3, "final.log_every": 1}, ""),
    ({"final.checkpoint_every": 0.25, "final.keep_checkpoints": 5, "budget.params": 1.0}, ""),
    ({"final.epochs": 2.0}, "config.final.epochs is 1.0 there and 2.0 here"),
    ({"final.evaluate_on": "validation"}, "evaluate_on is 'test' there and 'validation' here"),
  ],
)
def test_what_does_not_change_a_final_training_may_change(change, decides, tmp_path):
  for changes in ({}, change):
    content = {"config": changed(changes), "architecture": [0, 1]}
    if changes and decides:
      with pytest.raises(ValueError, match="holds another run: ") as error:
        make_workdir(tmp_path, content, identity.of_training, {})
      assert decides in str(error.value)
    else:
      make_workdir(tmp_path, content, identity.of_training, {})
  other = {"config": content["config"] if not decides else changed({}), "architecture": [1, 1]}
  with pytest.raises(ValueError, match="architecture is "):
    make_workdir(tmp_path, other, identity.of_training, {})


def inputs_of(source, **resources):
  config = tiny_config.get_config()
  config.data.update({"source": source, "train_size": None, "validation_size": 20})
  config.resources.update(resources)
  if "latency" in resources:
    config.budget = budgets(params=1e3, latency_ms=10.0)
  return search_inputs.of_search(make_setup(config))


def differing(before, after):
  return sorted(name for name in before.keys() | after if before.get(name) != after.get(name))


def test_images_that_were_replaced_are_told(tmp_path):
  """The path stays; the first pixel of a training image, a label, or the test set is another."""
  arrays = tiny_data.arrays(train=60, test=10, classes=10, shape=(8, 8))
  before = inputs_of(tiny_data.save(tmp_path, **arrays))
  (tmp_path / "moved").mkdir()
  assert inputs_of(tiny_data.save(tmp_path / "moved", **arrays)) == before

  other = {**arrays, "x_test": arrays["x_test"] + 1}
  assert inputs_of(tiny_data.save(tmp_path, **other)) == before  # A search does not see it.
  images = arrays["x_train"].copy()
  images[:, 0, 0] ^= 1
  found = inputs_of(tiny_data.save(tmp_path, **{**arrays, "x_train": images}))
  assert differing(before, found) == ["training images", "validation images"]
  make_workdir(tmp_path, {}, inputs=before)
  with pytest.raises(ValueError, match=r"whose training images differ: 40 of 8 x 8 x 1, .* there"):
    check_workdir(tmp_path, {}, inputs=found)


def test_a_table_or_code_that_was_replaced_is_told(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(tmp_path)
  arrays = tiny_data.arrays(train=60, test=10, classes=10, shape=(8, 8))
  source, space = tiny_data.save(tmp_path, **arrays), spaces.from_config(changed({})["space"])
  module, table = tmp_path / "energy_of_mine.py", tmp_path / "table.csv"
  given = {"latency": str(table), "energy": "energy_of_mine:energy"}

  def write(code, milliseconds):
    module.write_text(f"def energy(space):\n  return lambda mask: {code}\n")
    rows = [f"{part.name},{milliseconds}" for part in parts(space)]
    table.write_text("\n".join(["part,milliseconds", *rows]))
    return inputs_of(source, **given)

  before = write("2 * mask.sum(-1)", 0.5)
  assert write("2 * mask.sum(-1)  # mJ", "0.50") == before  # They say the same.
  assert differing(before, write("3 * mask.sum(-1)", 0.5)) == ["costs: code of energy_of_mine"]
  assert differing(before, write("2 * mask.sum(-1)", 0.6)) == ["costs: latencies of the table"]


def test_costs_may_be_limited_later_and_decide_no_value(tmp_path):
  known = {"validation images": "1"}
  limited = known | {"costs: latencies of the table": "2"}
  make_workdir(tmp_path, {}, inputs=known)
  make_workdir(tmp_path, {}, inputs=limited)
  with pytest.raises(ValueError, match="latencies of the table differ: 2 there, 3 here"):
    make_workdir(tmp_path, {}, inputs=known | {"costs: latencies of the table": "3"})
  found = [identity.fingerprint_of({}, given) for given in (known, limited)]
  assert found[0] == found[1] != identity.fingerprint_of({}, {"validation images": "2"})


@pytest.mark.parametrize(
  "other",
  [
    {"name": "digits", "stem_block_channels": 0},
    {"name": "digits", "options": [{"expansion": 6, "shuffle": False}]},
  ],
)
def test_a_zero_in_a_space_is_not_what_is_missing(other, tmp_path):
  missing = {key: value for key, value in other.items() if key != "stem_block_channels"}
  missing |= {"options": [{"expansion": 6}]} if "options" in other else {}
  parts = [identity.of_evaluations({"space": space}) for space in (missing, other)]
  assert len({identity.fingerprint_of(part, {}) for part in parts}) == 2
  make_workdir(tmp_path, {"space": missing}, identity.of_evaluations)
  with pytest.raises(ValueError, match="holds another run: space"):
    make_workdir(tmp_path, {"space": other}, identity.of_evaluations)


def test_a_full_disk_on_the_first_process_is_told_to_all():
  def write():
    raise OSError(28, "No space left on device")

  with pytest.raises(ValueError, match="No space left on device"):
    parallel.on_first_process(write)


def test_a_lock_deletes_only_unfinished_files_of_its_own(tmp_path):
  for name in ("result.json.123.part", "movie.mp4.part"):
    (tmp_path / name).touch()
  with locked(tmp_path):
    assert not (tmp_path / "result.json.123.part").exists()
  assert (tmp_path / "movie.mp4.part").exists()


def test_what_was_computed_by_an_unknown_config_is_not_taken(tmp_path):
  (tmp_path / "checkpoints").mkdir()
  with pytest.raises(ValueError, match=r"has checkpoints but no config\.json"):
    make_workdir(tmp_path, {}, inputs={})
  (tmp_path / "config.json").write_text("{}")
  with pytest.raises(ValueError, match=r"has no inputs\.json"):
    make_workdir(tmp_path, {}, inputs={})


def test_a_second_process_is_refused_and_a_dead_one_holds_nothing(tmp_path):
  code = f"""
import os, pathlib
from nas_submod.workdir import locked
with locked(pathlib.Path({str(tmp_path)!r})):
  print("held", flush=True)
  input()
  os.kill(os.getpid(), 9)
"""
  process = subprocess.Popen(
    [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
  )
  assert process.stdout.readline() == "held\n"
  words = f"is in use by process {process.pid} of ."
  with pytest.raises(ValueError, match=words), locked(tmp_path):
    pass
  process.communicate("\n")
  (tmp_path / "result.json.123.part").touch()
  with locked(tmp_path):
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
  assert not list(tmp_path.iterdir())


def test_a_lock_whose_file_was_deleted_is_taken_anew(tmp_path, monkeypatch):
  """The holder deletes the file between the opening and the locking by another process."""
  flock, deleted = fcntl.flock, []

  def delete_first(file, operation):
    if not deleted:
      deleted.append((tmp_path / ".lock").unlink())
    return flock(file, operation)

  monkeypatch.setattr(fcntl, "flock", delete_first)
  with locked(tmp_path):
    assert deleted and (tmp_path / ".lock").exists()


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, capsys):
  def flock(file, operation):
    raise OSError(errno.ENOLCK, "No locks available")

  monkeypatch.setattr(fcntl, "flock", flock)
  with locked(tmp_path):
    pass
  said = capsys.readouterr().err
  assert said.startswith(f"workdir {tmp_path}: its file system has no locks (No locks available)")
  assert said.count("\n") == 1


def test_numbers_of_numpy_in_a_config_are_plain():
  given = {"seed": np.int64(1), "budget": {"params": np.float32(2)}, "front": np.array([1, 2])}
  assert plain_of(given) == {"seed": 1, "budget": {"params": 2.0}, "front": [1, 2]}
  with pytest.raises(ValueError, match="the config holds a Python object"):
    plain_of({"seed": object()})


def test_a_checkout_that_is_not_installed_has_an_origin(monkeypatch):
  def missing(name):
    raise importlib.metadata.PackageNotFoundError(name)

  monkeypatch.setattr(importlib.metadata, "version", missing)
  found = origin("experiments.search", ["--seed=1"])
  assert found["versions"]["nas-submod"] == "not installed"
  assert found["command"] == "python -m experiments.search --seed=1"

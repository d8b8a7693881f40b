"""The programs that a TPU would run, compiled without one."""

import importlib.util
import pathlib
import subprocess
import sys
import types

import jax
import numpy as np
import pytest
from absl import flags

from benchmarks import tpu, tpu_programs
from configs import digits

ROOT = pathlib.Path(__file__).parent.parent


HAS_COMPILER = importlib.util.find_spec("libtpu") is not None
needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="needs libtpu: pip install '.[tpu]'")


def compiled(*flags):
  """The exit code and the rows of benchmarks.tpu for digits, by program and column."""
  command = [sys.executable, "-m", "benchmarks.tpu", "--config=configs/digits.py", *flags]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  lines = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in done.stdout.splitlines()
    if line.startswith("|")
  ]
  assert lines, done.stderr
  rows = {cells[0]: dict(zip(lines[0], cells)) for cells in lines[2:]}
  return done.returncode, rows, done.stdout


@needs_compiler
@pytest.mark.slow
def test_programs_of_digits_compile_for_a_tpu():
  code, rows, said = compiled("--training_images=1437")
  assert code == 0
  final = ["final_start", "final", "final_evaluate"]
  others = ["enumeration", "shared_weights"]
  assert list(rows) == ["start", "train", "evaluate", "alone", *final, *others]
  kinds = {name: row["collectives"] for name, row in rows.items()}
  assert "all-reduce" in kinds.pop("final")  # It shares each batch.
  assert "all-reduce" in kinds.pop("final_evaluate")
  assert set(kinds.values()) == {"none"}
  assert all(0 < float(row["memory MB"]) < 1_000 for row in rows.values())
  assert "estimate, if each candidate were the network of alone: about " in said
  single = [rows[name] for name in ("alone", "final")]
  assert all(0.01 < float(row["expected ms"]) < 1 for row in single)


@needs_compiler
@pytest.mark.slow
def test_final_training_compiles_for_four_hosts():
  code, rows, said = compiled("--training_images=1437", "--topology=v5e:4x4", "--programs=final")
  assert code == 0
  assert "16 x TPU v5 lite" in said
  assert "all-reduce" in rows["final"]["collectives"]


@pytest.mark.skipif(HAS_COMPILER, reason="libtpu is installed")
def test_a_missing_compiler_is_named():
  with pytest.raises(ValueError, match="pip install"):
    tpu_programs.find_devices("v5e:2x2")


def test_the_images_that_stand_in_for_the_data_are_accepted():
  devices = tuple(jax.devices())
  target = tpu_programs.make_target(digits.get_config("smoke"), devices, 700, ".|.|e3")
  data = target.setup.data
  assert len(data.train.labels) + len(data.validation.labels) == 700


def test_a_bound_is_the_slower_of_arithmetic_and_memory():
  chip = tpu_programs.CHIPS["TPU v5 lite"]
  row = tpu.Row(0, 0, 0, 0, flops=197e9, bytes_moved=819e5, cycles=3_000_000, collectives={})
  assert row.roofline(chip) == pytest.approx(1e-3)
  assert row.expected(chip) == pytest.approx(2e-3, rel=0.01)  # Its clock has 1.5 GHz.
  assert row._replace(bytes_moved=819e7).roofline(chip) == pytest.approx(1e-2)


def test_a_program_that_communicates_or_does_not_fit_is_a_fault():
  chip = tpu_programs.CHIPS["TPU v5 lite"]
  fine = tpu.Row(0, 0, 0, 15 * 10**9, flops=0, bytes_moved=0, cycles=0, collectives={})
  talks = fine._replace(collectives={"all-reduce": 1})
  assert tpu.fault({"train": fine, "final": talks}, chip) is None
  assert "train holds a collective" in tpu.fault({"start": fine, "train": talks}, chip)
  assert "final does not fit" in tpu.fault({"final": fine._replace(memory=17 * 10**9)}, chip)
  assert "refused train" in tpu.fault({"final": fine}, chip, ["train"])


@pytest.mark.parametrize(
  ("reduce", "said"), [(True, "train holds a collective"), (False, "the compiler refused alone")]
)
def test_the_command_exits_with_1_if_a_program_has_a_fault(reduce, said, monkeypatch, capsys):
  devices = tuple(jax.devices()[:2])

  def refused():
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 17 GB of 16 GB")

  def summed():
    program = jax.pmap(lambda x: jax.lax.psum(x, "i") if reduce else x, "i", devices=devices)
    return program.lower(np.ones((2, 8), np.float32))

  setup = types.SimpleNamespace(space=types.SimpleNamespace(text=lambda architecture: "e3"))
  target = types.SimpleNamespace(
    setup=setup, architecture=(), devices=devices, chip=tpu_programs.CHIPS["TPU v5 lite"]
  )
  programs = {"alone": refused, "train": summed} if not reduce else {"train": summed}
  monkeypatch.setattr(tpu_programs, "find_devices", lambda topology: devices)
  monkeypatch.setattr(tpu_programs, "make_target", lambda *_: target)
  monkeypatch.setattr(tpu_programs, "all_of", lambda target: programs)
  monkeypatch.setattr(jax.config, "update", lambda *_: None)
  if not flags.FLAGS.is_parsed():
    flags.FLAGS(["test"])
  with pytest.raises(SystemExit) as ended:
    tpu.main(digits.get_config())
  printed = capsys.readouterr()
  assert ended.value.code == 1 and said in printed.err
  assert "| train |" in printed.out  # A refused program does not end the command.


def test_a_program_that_is_measured_has_its_memory_and_collectives():
  devices = tuple(jax.devices()[:4])
  program = jax.pmap(lambda x: jax.lax.psum(x, "i"), "i", devices=devices)
  row = tpu.measure(lambda: program.lower(np.ones((4, 1_000), np.float32)), "cpu")
  assert row.collectives == {"all-reduce": 1}
  assert row.memory >= 8_000  # An argument and a result of 4,000 bytes on each device.

"""What command lines take: config files wherever they are, and flags in every form."""

import os
import pathlib
import subprocess
import sys

import pytest
from absl import flags

from configs import digits
from experiments import common, config_file, sweep
from experiments.common import config_flags  # noqa: F401 (defines the flag --flagfile)
from nas_submod import precision

ROOT = pathlib.Path(__file__).parent.parent
DIGITS = "--config=configs/digits.py"


@pytest.mark.parametrize(
  ("given", "expected"),
  [
    ([], [DIGITS]),
    (["--dry_run"], [DIGITS, "--dry_run"]),
    (["--config.seed=1", f"{DIGITS}:smoke"], [f"{DIGITS}:smoke", "--config.seed=1"]),
    (["--config", "configs/digits.py:device"], [f"{DIGITS}:device"]),
    (["--config=none.py", DIGITS], [DIGITS]),  # The last one.
    (["--flagfile=flags", f"{DIGITS}:smoke"], [f"{DIGITS}:smoke", "--config.seed=3"]),
    (['--config.space={"lazy": true}'], [DIGITS, "--config.space={'lazy': True}"]),
    (["--config.space={'lazy': None}"], [DIGITS, "--config.space={'lazy': None}"]),
    (["--config.space={race"], [DIGITS, "--config.space={race"]),
  ],
)
def test_arguments_in_every_form(given, expected, tmp_path, monkeypatch):
  monkeypatch.chdir(ROOT)
  (tmp_path / "flags").write_text("--config=configs/fashion_mnist.py\n--config.seed=3\n")
  given = [argument.replace("flags", str(tmp_path / "flags")) for argument in given]
  assert config_file.arguments(["search", *given]) == ["search", *expected]


def test_an_installed_config_is_found_from_any_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert config_file.find("configs/digits.py") == ROOT / "configs" / "digits.py"
  (tmp_path / "configs").mkdir()
  (tmp_path / "configs" / "mine.py").touch()
  assert config_file.find("configs/mine.py") == pathlib.Path("configs/mine.py")
  assert config_file.find("configs/digits.py") == ROOT / "configs" / "digits.py"
  (tmp_path / "configs" / "digits.py").touch()
  assert config_file.find("configs/digits.py") == pathlib.Path("configs/digits.py")
  monkeypatch.setenv("HOME", str(tmp_path))
  assert config_file.find("~/configs/mine.py") == tmp_path / "configs" / "mine.py"
  with pytest.raises(ValueError, match=r'file configs/digit.py\. Did you mean "configs/digits'):
    config_file.find("configs/digit.py")
  with pytest.raises(ValueError, match=r"gs://bucket/digits.py is not on this machine"):
    config_file.find("gs://bucket/digits.py")


def test_a_package_of_the_same_name_does_not_hide_the_installed_configs(tmp_path):
  (tmp_path / "configs").mkdir()
  (tmp_path / "configs" / "__init__.py").touch()
  mine = tmp_path / "configs" / "mine.py"
  mine.write_text("from configs import digits\n\ndef get_config():\n  return digits.get_config()\n")
  code = "from experiments import config_file\nconfig_file.share_installed_configs()\n"
  code += "print(config_file.fault('configs/mine.py'))"
  # As with `python -m`, the working directory comes first.
  paths = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=tmp_path, env=paths, capture_output=True, text=True
  )
  assert done.stdout == "None\n", done.stderr


def test_a_sweep_passes_on_the_flags_of_its_searches():
  given = [f"{DIGITS}:smoke", "--config.budget.params=9", "--cpu_devices=1", "--config.seed", "2"]
  assert {"pareto", "dry_run", "verbose"} <= set(flags.FLAGS)
  own = ["--run", "--workdir=runs/sweep", "--workdir", "runs/sweep", "--norun", "--run=true"]
  assert sweep._passed([*given[:1], *own, *given[1:]]) == given


def test_different_entries_of_a_sweep_have_different_workdirs(monkeypatch):
  monkeypatch.setattr(sweep.common, "workdir", lambda: pathlib.Path("runs"))
  entries = [{}, {"train.momentum": 0.5}, {"final.momentum": 0.5}]
  entries += [{"search.options": {"a": value}} for value in ("x/y", "x y", "x" * 200, "x" * 201)]
  found = [sweep._workdir(entry) for entry in entries]
  assert len(set(found)) == len(entries)
  for flag in found:
    name = flag.removeprefix("--workdir=runs/")
    assert len(name) < 255 and "/" not in name
  assert found[1] == "--workdir=runs/train.momentum=0.5"


@pytest.mark.parametrize(
  ("error", "line", "code"),
  [
    (OSError(28, "No space left on device", "a/b"), "error: a/b: No space left on device; go", 1),
    (OSError(28, "No space left on device"), "error: No space left on device; go", 1),
    (KeyboardInterrupt(), "stopped; go", 130),
  ],
)
def test_an_error_of_the_system_ends_with_one_line_and_what_to_do(error, line, code, monkeypatch):
  said = []
  monkeypatch.setattr(common, "stop", lambda *message: said.append(message))
  with common.one_line("; go"):
    raise error
  assert said == [(line, code)]


def test_settings_of_jax_that_change_numbers_are_told():
  import jax

  assert precision.other_settings() == {}
  with jax.enable_x64(True):
    assert precision.other_settings() == {"jax_enable_x64": True}


def test_the_flags_of_a_config_are_told_from_others():
  line = "--config a.py:device --workdir=x --config.seed 3 --noconfig.data.flip --config.final.flip"
  expected = "--config a.py:device --config.seed 3 --noconfig.data.flip --config.final.flip"
  assert common.flags_of_config(line.split()) == expected.split()


def test_none_unsets_a_field_of_a_config():
  config = digits.get_config()
  config_file.unset(config, "budget.madds")
  assert config.budget.madds is None and config.budget.params == 12_000
  for name in ("budget.madd", "seed.x", "nothing.x"):
    with pytest.raises(KeyError):
      config_file.unset(config, name)


@pytest.mark.parametrize(
  ("line", "others", "unset"),
  [
    ("--config.a.b=None --config.seed 3", "--config.seed 3", ["a.b"]),
    ("--config.a.b None --config.c", "--config.c", ["a.b"]),
    ("--config.a.b=3 --config.a.b=None", "--config.a.b=3", ["a.b"]),
    ("--config.a.b=None --config.a.b=3", "--config.a.b=3", []),
    ("--config.a.b=None --config.a={}", "--config.a={}", []),
    ("--config.a.b=None --noconfig.a.bc --x=None", "--noconfig.a.bc --x=None", ["a.b"]),
  ],
)
def test_the_last_flag_of_a_field_counts(line, others, unset):
  assert config_file.without_unset(line.split()) == (others.split(), unset)


@pytest.mark.parametrize(
  ("module", "flag", "message"),
  [
    ("search", "--flagfile=none", "error: Unable to open flagfile: [Errno 2]"),
    ("search", "--budget.params=9", "error: unknown flag --budget.params; did you mean --config.b"),
    (
      "search",
      "--config.budget.params=100k",
      "error: flag --config.budget.params=100k: could not convert string to float: '100k'; allowe",
    ),
    (
      "search",
      "--config.train.stps=None",
      'error: the config has no field stps. Did you mean "st',
    ),
    ("search", "--process_id=0", "error: --coordinator_address, --num_processes and --process_id"),
    ("report", "--nothing", "error: Unknown command line flag 'nothing'"),
    ("prepare", "--data_dir=x", "error: flag --dataset=None"),
  ],
)
def test_a_wrong_flag_is_one_line(module, flag, message):
  command = [sys.executable, "-m", f"experiments.{module}", flag]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
  assert done.returncode == 2, done.stderr
  assert done.stderr.count("\n") == 1 and done.stderr.startswith(message)

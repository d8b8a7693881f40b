"""The wheel: built, installed, and used from a folder that is not the checkout."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

import pytest

from tests.test_structure import ROOT

pytestmark = pytest.mark.faults
_OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
_SPACE = {"name": "digits", "stages": [[8, 1], [16, 1]], "options": [{"expansion": 3}]}
_QUICK = (
  "--config=configs/digits.py:smoke",
  f"--config.space={json.dumps(_SPACE | {'start': '. | e3'})}",
  "--config.search.finalists=1",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
  folder = tmp_path_factory.mktemp("wheel")
  source = shutil.copytree(
    ROOT, folder / "source", ignore=shutil.ignore_patterns(".git", "build", "runs", "*.egg-info")
  )
  command = [
    sys.executable,
    "-m",
    "pip",
    "wheel",
    "-q",
    "--no-deps",
    "-w",
    str(folder),
    str(source),
  ]
  subprocess.run(command, check=True, capture_output=True)
  [found] = folder.glob("*.whl")
  return found


def installed(version: str, wheel: pathlib.Path, folder: pathlib.Path) -> str:
  """An environment with the wheel; returns its Python.

  Another version of Python downloads all dependencies. This one takes those that are here, but not
  the checkout, whose file of links is not read.
  """
  found = sys.executable if version == _OWN else shutil.which(f"python{version}")
  if found is None or subprocess.run([found, "--version"], capture_output=True).returncode:
    pytest.skip(f"there is no Python {version}")
  subprocess.run([found, "-m", "venv", str(folder)], check=True)
  python = str(folder / "bin" / "python")
  options = []
  if version == _OWN:
    options = ["--no-deps"]
    [site] = folder.glob("lib/python*/site-packages")
    (site / "here.pth").write_text(sysconfig.get_path("purelib") + "\n")
  subprocess.run([python, "-m", "pip", "install", "-q", *options, str(wheel)], check=True)
  return python


@pytest.mark.parametrize("version", ["3.11", "3.13"])
def test_a_search_from_another_folder(version, wheel, tmp_path):
  python = installed(version, wheel, tmp_path / "environment")
  folder = tmp_path / "elsewhere"
  folder.mkdir()
  # The flags of XLA are those of the JAX that runs the tests.
  left_out = "PYTHONPATH", "XLA_FLAGS"
  environment = {name: value for name, value in os.environ.items() if name not in left_out}

  def call(*arguments: str) -> str:
    done = subprocess.run(
      [python, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

  place = call("-c", "import nas_submod; print(nas_submod.__file__)").strip()
  assert pathlib.Path(place).is_relative_to(tmp_path / "environment")
  assert "No broken requirements" in call("-m", "pip", "check")
  assert "\nvalue " in call("-m", "experiments.search", *_QUICK, "--workdir=run")
  result = json.loads((folder / "run" / "result.json").read_text())
  assert result["architecture"] and (folder / "run" / "report.html").exists()

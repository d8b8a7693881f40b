"""Prints the searches that a config's `sweep()` lists, or runs them one after another.

python -m experiments.sweep --config=configs/digits.py [--workdir=runs/sweep] [--run]
"""

import shlex
import subprocess
import sys
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from experiments import common

RUN = flags.DEFINE_bool("run", False, "Run the commands instead of printing them.")


def commands() -> list[list[str]]:
  """The command of each entry of `sweep()`; each has its own workdir."""
  path = common.config_file()
  module = common.load_module(path)
  if not hasattr(module, "sweep"):
    common.fail(f"{path} has no sweep(); configs/digits.py shows one")
  base = [sys.executable, "-m", "experiments.search", f"--config={path}"]
  return [[*base, *overrides(entry)] for entry in module.sweep()]


def overrides(entry: dict[str, Any]) -> list[str]:
  """The flags of one entry, which maps dotted names of config fields to values."""
  name = "_".join(f"{key.split('.')[-1]}={value}" for key, value in entry.items())
  values = [f"--config.{key}={value}" for key, value in entry.items()]
  return [*values, f"--workdir={common.workdir() / name}"]


def main(config: ConfigDict) -> None:
  """Prints or runs the commands."""
  del config
  for command in commands():
    print(shlex.join(command), flush=True)
    if RUN.value and subprocess.run(command).returncode:
      common.fail(f"this search failed: {shlex.join(command)}")


if __name__ == "__main__":
  common.run(main)

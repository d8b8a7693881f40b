"""Prints the searches that a config's `sweep()` lists, or runs them one after another.

python -m experiments.sweep --config=configs/digits.py [--workdir=runs/sweep] [--run]

All other flags are those of `experiments.search`. Each search gets them, followed by the settings
of its `sweep()` entry. The workdir of a search is named after its entry.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from experiments import common, config_file, search
from nas_submod.files import fingerprint
from nas_submod.validation import first_line

RUN = flags.DEFINE_bool("run", False, "Run the commands instead of printing them.")

_LONGEST = 100  # letters of a name; a file system allows 255


def commands() -> list[list[str]]:
  """The command of each entry of `sweep()`; each has its own workdir.

  Raises:
    ValueError: If the config lists no searches.
  """
  path = common.config_path()
  entries = _entries(path)
  base = [sys.executable, "-m", search.__name__, *_passed(common.read_arguments())]
  return [
    [*base, *(f"--config.{key}={value}" for key, value in entry.items()), _workdir(entry)]
    for entry in entries
  ]


def _entries(path: str) -> list[Mapping[str, Any]]:
  """What `sweep()` of a config file returns, checked."""
  sweep = getattr(config_file.load_module(path), "sweep", None)
  if not callable(sweep):
    raise ValueError(f"{path} has no sweep(); configs/digits.py shows one")
  try:
    entries = list(sweep())
  except Exception as error:  # A user's function may raise anything.
    raise ValueError(f"{path}: sweep(): {type(error).__name__} {first_line(error)}") from error
  for entry in entries:
    if not isinstance(entry, Mapping) or not all(isinstance(key, str) for key in entry):
      raise ValueError(
        f"{path}: sweep() lists {entry!r:.80}; expected: dictionaries such as {{'train.steps': 9}}"
      )
  return entries


def _passed(arguments: list[str]) -> list[str]:
  """The arguments, without flags that only this command has."""
  passed, left = [], iter(arguments)
  for argument in left:
    if re.fullmatch("--?workdir", argument):
      next(left, None)
    elif not re.match("--?(workdir=|(no)?run(=|$))", argument):
      passed.append(argument)
  return passed


def _workdir(entry: Mapping[str, Any]) -> str:
  """The workdir flag of an entry. Different entries have different workdirs."""
  name = "_".join(f"{key}={value}" for key, value in entry.items()) or "as_configured"
  plain = re.sub(r"[^\w.=+-]+", "-", name)[:_LONGEST]
  if plain != name:
    plain += f"_{fingerprint(name.encode())}"
  return f"--workdir={common.workdir() / plain}"


def main(config: ConfigDict) -> None:
  """Prints or runs the commands."""
  del config
  try:
    found = commands()
  except ValueError as error:
    common.fail(error)
  for command in found:
    print(shlex.join(command), flush=True)
    if RUN.value and (code := subprocess.run(command, check=False).returncode):
      common.fail(f"this search failed with exit status {code}: {shlex.join(command)}")


if __name__ == "__main__":
  common.run(main)

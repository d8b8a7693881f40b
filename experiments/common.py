"""Shared by the command lines: flags, devices, configs, and errors in one line."""

import difflib
import importlib.util
import os
import pathlib
import re
import signal
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags
from rich.console import Console

import nas_submod
from nas_submod import compilation, parallel

# A default in the flag would load the file, and could fail, while this module is imported.
DEFAULT_CONFIG = "configs/digits.py"
CONFIG = config_flags.DEFINE_config_file("config", None, f"The experiment; {DEFAULT_CONFIG}.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run; runs/CONFIG by default.")
CPU_DEVICES = flags.DEFINE_integer(
  "cpu_devices", 0, "Number of CPU devices where there is no accelerator; 0: one per core."
)
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Run as one of several processes.")
COORDINATOR = flags.DEFINE_string(
  "coordinator_address", None, "With --distributed: host:port of process 0; not needed on TPUs."
)
NUM_PROCESSES = flags.DEFINE_integer(
  "num_processes", None, "Number of processes; not needed on TPUs."
)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process; not needed on TPUs.")


def start_console(takes_notice: bool = False) -> Console:
  """Joins the other processes, if any; returns a console that prints only on process 0.

  Args:
    takes_notice: Whether the command handles SIGTERM (`preemption.watch`). If not, JAX's preemption
      service is turned off: it would catch the signal, and the command would not end.

  Raises:
    ValueError: If the processes cannot be joined.
  """
  if DISTRIBUTED.value:
    jax.config.update("jax_enable_preemption_service", takes_notice)
    parallel.start_processes(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
  return Console(soft_wrap=True, highlight=False, quiet=jax.process_index() > 0)


def workdir() -> pathlib.Path:
  """The folder of this run."""
  if WORKDIR.value:
    return pathlib.Path(WORKDIR.value)
  return pathlib.Path("runs") / pathlib.Path(config_file()).stem


def config_file() -> str:
  """The path of the config file, without its mode."""
  return config_flags.get_config_filename(flags.FLAGS["config"]).split(":")[0]


def load_module(path: str) -> types.ModuleType:
  """The module of a config file."""
  spec = importlib.util.spec_from_file_location("config_module", path)
  assert spec is not None and spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def run(main: Callable[[Any], None]) -> None:
  """Runs `main(config)` with parsed flags; a wrong flag or config ends it with one line."""

  def with_flags(argv):
    if len(argv) > 1:
      fail(f"unknown argument {argv[1]!r}; options begin with --")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    logging.set_verbosity(logging.WARNING)
    jax.config.update("jax_num_cpu_devices", CPU_DEVICES.value or cores or 1)
    compilation.keep_programs()
    main(CONFIG.value)

  argv = sys.argv
  if not any(re.match("--?config(=|$)", argument) for argument in argv):
    argv = [argv[0], f"--config={DEFAULT_CONFIG}", *argv[1:]]
  app.run(with_flags, argv, flags_parser=_parse_flags)


def _parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags; a wrong flag or config ends the command with one line."""
  try:
    rest = flags.FLAGS(argv)
    CONFIG.value.to_dict()  # Raises the error of a file that failed to load.
    return rest
  except (flags.Error, AttributeError, KeyError, OSError, TypeError, ValueError) as error:
    given = [value.partition("=")[2] for value in argv if value.startswith("--config=")]
    for path in (value.split(":")[0] for value in given):
      if not pathlib.Path(path).is_file():
        fail(f"there is no config file {path}")
    if isinstance(error, AttributeError | KeyError) and given:
      unknown = _unknown_field(argv, given[-1])
      if unknown:
        fail(unknown)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[-1].removeprefix("ValueError: ") if lines else type(error).__name__
    # The rest of the line comes from Python's parser.
    before, of_a_dict, _ = line.partition(" as a ConfigDict: ")
    fail(f"{before}; allowed is a dict such as '{{\"depth\": 1}}'" if of_a_dict else line)
    raise


def _unknown_field(argv: list[str], given: str) -> str | None:
  """Describes the error in a config file, or the first flag without a field in it; or None."""
  path, *mode = given.split(":", 1)
  try:
    config = load_module(path).get_config(*mode)
  except Exception as error:  # A user's file may raise anything.
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f" line {frame.lineno}" for frame in frames if frame.filename.endswith(path)]
    return f"{path}{''.join(lines[-1:])}: {type(error).__name__} {error}"
  for argument in argv:
    flag = re.match(r"--?(?:no)?config\.([\w.]+)", argument)
    here, place = config, "config"
    for name in flag[1].split(".") if flag else ():
      if not isinstance(here, ConfigDict):
        return f"the config has no field {name}. {place} is a value, set as a whole"
      if name not in here:
        near = difflib.get_close_matches(name, here, 1)
        hint = f'Did you mean "{near[0]}"? ' if near else ""
        fields = f"has {', '.join(here)}" if here else "has no fields: set it as a whole"
        return f"the config has no field {name}. {hint}{place} {fields}"
      here, place = here[name], f"{place}.{name}"
  return None


def is_ours(error: BaseException) -> bool:
  """Whether an error was raised by the package itself, not by a user's code or a library."""
  last = traceback.extract_tb(error.__traceback__)[-1]
  return pathlib.Path(last.filename).is_relative_to(pathlib.Path(nas_submod.__file__).parent)


class Terminated(KeyboardInterrupt):
  """SIGTERM as an exception; a subclass, so that its exit code can differ from Ctrl-C's."""


def interrupt_on_sigterm() -> None:
  """Makes SIGTERM raise `Terminated` in the main thread, as Ctrl-C raises KeyboardInterrupt."""

  def interrupt(*_):
    raise Terminated

  signal.signal(signal.SIGTERM, interrupt)


def stop(message: object, code: int) -> Any:
  """Prints a message and ends the process at once; never returns."""
  print(message, file=sys.stderr, flush=True)
  sys.stdout.flush()
  os._exit(code)  # sys.exit would wait for a running compilation.


def fail(message: object, code: int = 2) -> Any:
  """Prints an error on standard error and exits; never returns."""
  print(f"error: {message}", file=sys.stderr)
  sys.exit(code)

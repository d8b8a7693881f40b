"""Code that the command lines share: flags, devices, configs, one-line errors."""

import contextlib
import io
import os
import pathlib
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags
from rich.console import Console

import nas_submod
from experiments import config_file
from nas_submod import compilation, parallel, precision
from nas_submod.data import pixels
from nas_submod.data.loading import Data
from nas_submod.files import local_path
from nas_submod.validation import first_line

# A default in the flag would load the file, and could fail, while this module is imported.
try:
  CONFIG = config_flags.DEFINE_config_file(
    "config", None, f"The experiment; {config_file.DEFAULT}."
  )
except flags.Error as error:  # It reads the file of --flagfile, which may be missing.
  print(f"error: {first_line(error).removeprefix('ERROR:: ')}", file=sys.stderr)
  sys.exit(2)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run; runs/CONFIG by default.")
CPU_DEVICES = flags.DEFINE_integer(
  "cpu_devices",
  0,
  "Number of CPU devices where there is no accelerator; 0: one per core.",
  lower_bound=0,
)
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Run as one of several processes.")
COORDINATOR = flags.DEFINE_string(
  "coordinator_address", None, "With --distributed: host:port of process 0; not needed on TPUs."
)
NUM_PROCESSES = flags.DEFINE_integer(
  "num_processes", None, "Number of processes; not needed on TPUs.", lower_bound=1
)
PROCESS_ID = flags.DEFINE_integer(
  "process_id", None, "Number of this process, from 0; not needed on TPUs.", lower_bound=0
)


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
    address = COORDINATOR.value
    if address is not None and not re.fullmatch(r".+:\d+", address):
      raise ValueError(f"--coordinator_address is {address!r}; allowed: host:port")
    where = f" at {address}" if address else ""
    print(f"waiting for the other processes{where}", file=sys.stderr, flush=True)
    parallel.start_processes(address, NUM_PROCESSES.value, PROCESS_ID.value)
  elif any(flag.value is not None for flag in (COORDINATOR, NUM_PROCESSES, PROCESS_ID)):
    raise ValueError("--coordinator_address, --num_processes and --process_id need --distributed")
  try:
    jax.local_devices()
  except (RuntimeError, AssertionError) as error:  # JAX asserts that there is one.
    wanted = jax.config.values["jax_platforms"]
    raise ValueError(
      f"JAX finds no device with JAX_PLATFORMS={wanted or ''}: install JAX for it, or unset it"
    ) from error
  return Console(soft_wrap=True, highlight=False, emoji=False, quiet=jax.process_index() > 0)


_GIVEN: list[str] = []
_READ: list[str] = []
_UNSET: list[str] = []  # fields that flags set to None


def read_arguments() -> list[str]:
  """The arguments of this command with one `--config` in front, and those of `--flagfile`."""
  return list(_READ[1:] or sys.argv[1:])


def given_arguments() -> list[str]:
  """The arguments of this command as they were given."""
  return list(_GIVEN or sys.argv[1:])


def flags_of_config(words: Sequence[str]) -> list[str]:
  """The words of a command line that set its config."""
  found = []
  for word, after in zip(words, [*words[1:], "-"]):
    if re.match("--?(no)?config", word):
      found.append(word)
      # The value may be a word of its own; a flag that is on or off has none.
      if "=" not in word and not re.match("--?no", word) and not after.startswith("-"):
        found.append(after)
  return found


def print_notes(console: Console, images: Data) -> None:
  """Prints what was read in an unusual form, and what was left out."""
  for note in images.notes:
    console.print(f"data: {note}", markup=False)


def workdir() -> pathlib.Path:
  """The folder of this run.

  Raises:
    ValueError: If it is not a path of this machine.
  """
  if WORKDIR.value == "":
    raise ValueError("--workdir is empty; allowed: a folder")
  return local_path(WORKDIR.value or pathlib.Path("runs") / pathlib.Path(config_path()).stem)


def config_path() -> str:
  """The path of the config file, without its mode."""
  return config_flags.get_config_filename(flags.FLAGS["config"]).split(":")[0]


def run(main: Callable[[Any], None]) -> None:
  """Runs `main(config)` with parsed flags; a wrong flag or config ends it with one line."""

  def with_flags(argv):
    if len(argv) > 1:
      fail(f"unknown argument {argv[1]!r}; options begin with --")
    logging.set_verbosity(logging.WARNING)
    jax.config.update("jax_num_cpu_devices", CPU_DEVICES.value or pixels.cores())
    for name, value in precision.other_settings().items():
      print(f"{name.upper()}={value} is ignored: it changes results", file=sys.stderr)
    precision.use_our_settings()
    compilation.keep_programs()
    with one_line():
      main(CONFIG.value)
      sys.stdout.flush()

  config_file.share_installed_configs()
  logging.set_verbosity(logging.ERROR)  # `_parse_flags` reports what ml_collections warns of.
  replace_unknown_letters()
  with one_line():
    try:
      _GIVEN[:] = sys.argv[1:]
      _READ[:] = config_file.arguments(sys.argv)
      sys.argv, _UNSET[:] = config_file.without_unset(_READ)  # ml_collections reads them there.
    except (ValueError, flags.Error) as error:
      fail(first_line(error))
    app.run(with_flags, sys.argv, flags_parser=_parse_flags)


def replace_unknown_letters() -> None:
  """Prints "?" for a letter that the terminal's encoding lacks, such as an arrow."""
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors="replace")


def run_without_config(main: Callable[[Any], None]) -> None:
  """Runs a command that takes no config; a wrong flag is reported in one line."""

  def parse(argv: list[str]) -> list[str]:
    try:
      return list(flags.FLAGS(argv))
    except flags.Error as error:
      fail(first_line(error))

  replace_unknown_letters()
  with one_line():
    app.run(main, flags_parser=parse)


@contextlib.contextmanager
def one_line(after: str = "") -> Iterator[None]:
  """Ends the command with at most one line if the cause lies outside the program.

  Args:
    after: Text to add to "stopped" and to an OSError, such as that of a full disk.
  """
  try:
    yield
  except BrokenPipeError:  # Nobody reads any more, as in `| head -1`.
    os._exit(141)
  except KeyboardInterrupt:
    stop(f"stopped{after}", 130)
  except OSError as error:
    where = f"{error.filename}: " if error.filename else ""
    stop(f"error: {where}{error.strerror or first_line(error)}{after}", 1)


def _parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags; a wrong flag or config ends the command with one line."""
  [given] = [value.removeprefix("--config=") for value in argv if value.startswith("--config=")]
  try:
    rest = flags.FLAGS(argv)
    if isinstance(CONFIG.value, ConfigDict):
      for name in _UNSET:
        argv = [f"--config.{name}"]  # For the message.
        config_file.unset(CONFIG.value, name)
      return rest
    line = f"{given} cannot be loaded"
  except Exception as error:  # A config file may raise anything.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[-1].removeprefix("ValueError: ") if lines else type(error).__name__
    if isinstance(error, AttributeError | KeyError) and not config_file.fault(given):
      line = config_file.unknown_field(argv, given) or line
  return list(fail(config_file.fault(given) or _with_what_is_allowed(line, given)))


def _with_what_is_allowed(line: str, given: str) -> str:
  """A message of a library about a flag, with what is allowed."""
  unknown = re.match(r"Unknown command line flag '([\w.]+)'", line)
  if unknown and (found := config_file.fields_named(given, unknown[1])):
    return f"unknown flag --{unknown[1]}; did you mean {' or '.join(found)}?"
  # What follows comes from Python's parser.
  before, of_a_dict, _ = line.partition(" as a ConfigDict: ")
  if of_a_dict:
    example = '{"params": 12000}' if "config.budget" in before else '{"depth": 1}'
    return f"{before}; allowed is a dict such as '{example}'"
  if "could not convert string to float" in line:
    return f"{line}; allowed: numbers such as 100000 or 1e5"
  return f"{line}; allowed: whole numbers" if "invalid literal for int()" in line else line


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


def stop(message: object, code: int) -> NoReturn:
  """Prints a message and ends the process at once."""
  with contextlib.suppress(OSError):  # A stream may be what failed.
    print(message, file=sys.stderr, flush=True)
    sys.stdout.flush()
  os._exit(code)  # sys.exit would wait for a running compilation.


def fail(message: object, code: int = 2) -> NoReturn:
  """Prints an error on standard error and exits."""
  print(f"error: {message}", file=sys.stderr)
  sys.exit(code)

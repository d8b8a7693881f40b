"""What the command lines share: devices, errors in one line, configs from flags."""

import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import config_flags
from rich.console import Console

from nas_submod import compilation, parallel

CONFIG = config_flags.DEFINE_config_file("config", "configs/digits.py", "The experiment.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run; runs/CONFIG by default.")
CPU_DEVICES = flags.DEFINE_integer(
  "cpu_devices", 0, "Where there is no accelerator: devices to make of the CPU; 0: one a core."
)


DISTRIBUTED = flags.DEFINE_bool("distributed", False, "One of several processes, on many hosts.")
COORDINATOR = flags.DEFINE_string(
  "coordinator_address", None, "With --distributed: host:port of process 0; not needed on TPUs."
)
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many; not needed on TPUs.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which one, from 0; not needed on TPUs.")


def start_console(takes_notice: bool = False) -> Console:
  """Joins the other processes where there are some; a console that is quiet but on the first.

  Args:
    takes_notice: Whether the command stops by itself on SIGTERM (`preemption.watch`). If not,
      JAX must not take the signal, or it would have no effect.

  Raises:
    ValueError: If they cannot be joined.
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


def run(main: Callable[[Any], None]) -> None:
  """Runs a command: `main(config as plain values)`; a wrong input ends it with one line."""

  def with_flags(argv):
    if len(argv) > 1:
      fail(f"unknown argument {argv[1]!r}; options begin with --")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    logging.set_verbosity(logging.WARNING)
    jax.config.update("jax_num_cpu_devices", CPU_DEVICES.value or cores or 1)
    compilation.keep_programs()
    main(CONFIG.value)

  app.run(with_flags)


def fail(message: object, code: int = 2) -> None:
  """Ends the command with a line on standard error."""
  print(f"error: {message}", file=sys.stderr)
  sys.exit(code)

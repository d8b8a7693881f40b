"""How training of candidates scales: with devices, and with the size of the space.

python -m benchmarks.scaling [--space=digits|rcnet_cifar100] [--devices=1,2,4,8] [--steps=100]
  [--batch_size=32] [--repeats=3] [--growth]

Weak scaling: each device trains one candidate. On a CPU the devices are made of its cores, so that
no more of them than cores can help; where there are accelerators all are used, and how many a row
sees is set from outside (`CUDA_VISIBLE_DEVICES`). The program is the one of a search, and the
collectives in it are listed: candidates have nothing to say to one another.
With --growth instead: seconds to compile that program and milliseconds of a step on one device, as
positions, options and width of a small space grow. Each row is a process of its own.
"""

import json
import os
import re
import subprocess
import sys
import time
from typing import Any

import jax
import numpy as np
from absl import app, flags
from rich.console import Console
from rich.table import Table

from benchmarks import evaluation
from configs import digits
from nas_submod import blocks, parallel, spaces, training
from nas_submod.compilation import CompilationLog
from nas_submod.programs import make_programs
from nas_submod.spaces import SearchSpace, Stage

DEVICES = flags.DEFINE_list("devices", ["1", "2", "4", "8"], "Numbers of devices.")
GROWTH = flags.DEFINE_bool("growth", False, "Compile and step time as a space grows.")
_ROW = flags.DEFINE_string("row", None, "Measure this space on --devices here and print JSON.")

_COLLECTIVE = re.compile(
  r"\b(all-reduce|all-gather|all-to-all|reduce-scatter|collective-\w+)(?:-start)?\("
)

# Positions of each of two stages, options, channels: from one base one thing grows at a time.
_SIZES = ((3, 3, 16), (6, 3, 16), (12, 3, 16), (3, 6, 16), (3, 3, 32), (3, 3, 64))


def sized_space(positions: int, options: int, channels: int) -> SearchSpace:
  """Two stages for 8x8 images, of the first block types of the paper."""
  return SearchSpace(
    name=f"{positions},{options},{channels}",
    image_shape=(8, 8, 1),
    classes=10,
    stem_channels=channels,
    stages=(Stage(channels, positions), Stage(2 * channels, positions, 2)),
    options=blocks.rcnet_options()[:options],
    start=(0,) * positions + (1,) + (0,) * (positions - 1),
  )


def collectives(program: str) -> list[str]:
  """The collective operations in the text of a compiled program."""
  return _COLLECTIVE.findall(program)


def measure(space: SearchSpace, steps: int, batch_size: int, repeats: int) -> dict[str, Any]:
  """Compiles the training program for all devices and times it.

  Returns:
    `devices`; `compile` and `seconds` of the fastest call of `steps` steps, in which each device
    trains the first half of all positions filled with the last option; `collectives`.
  """
  devices, images = parallel.device_count(), evaluation.random_data(space)
  settings = digits.get_config().train
  settings.update({"steps": steps * repeats, "batch_size": batch_size})
  recipe = training.recipe(settings, images)
  programs = make_programs(space, recipe)
  architecture = np.array(space.start)
  for where in space.stage_slices:
    architecture[where.start : (where.start + where.stop + 1) // 2] = len(space.options)
  architectures = np.tile(np.asarray(space.canonical(architecture), np.int32), (devices, 1))
  seeds = np.array([(0, device) for device in range(devices)], np.uint32)
  size = len(images.train.labels)
  order = training.batch_order((0, 0), size, batch_size, recipe.steps)
  orders, split = np.tile(order, (devices, 1, 1)), parallel.replicate(images.train)
  states = programs.start(seeds, architectures)
  log, times = CompilationLog(), []
  with log.counting():
    lengths = np.full(devices, recipe.steps, np.int32)
    arguments = seeds, architectures, orders, lengths, *split
    program = programs.train.lower(states, *arguments, np.int32(0)).compile()
  for stop in range(1, repeats + 1):
    began = time.perf_counter()
    states = program(states, *arguments, np.int32(stop * steps))
    jax.block_until_ready(states.step)
    times.append(time.perf_counter() - began)
  return {
    "devices": devices,
    "compile": log.seconds,
    "seconds": min(times),
    "collectives": collectives(program.as_text()),
  }


def in_a_process(space: str, devices: int) -> dict[str, Any]:
  """One row, measured in a process of its own.

  Raises:
    ValueError: If it fails; the last line that it printed.
  """
  own = [f"--{f.name}={f.value}" for f in (evaluation.STEPS, evaluation.BATCH_SIZE)]
  own += [f"--repeats={evaluation.REPEATS.value}", f"--devices={devices}", f"--row={space}"]
  command = [sys.executable, "-m", "benchmarks.scaling", *own]
  environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
  done = subprocess.run(command, env=environment, capture_output=True, text=True)
  if done.returncode:
    raise ValueError((done.stderr.strip() or "no message").splitlines()[-1])
  return json.loads(done.stdout.splitlines()[-1])


def weak_scaling(space: str, devices: list[int], steps: int) -> Table:
  """Candidates a minute, and of one device's how many times as many."""
  table = Table(title=f"{space}: one candidate a device, {steps} steps each")
  for column in ("devices", "candidates per minute", "ratio", "collectives", "compile s"):
    table.add_column(column, justify="right")
  first = 0.0
  for count in devices:
    row = in_a_process(space, count)
    speed = 60 * row["devices"] / row["seconds"]
    first = first or speed
    found = ", ".join(sorted(set(row["collectives"]))) or "none"
    table.add_row(
      str(row["devices"]), f"{speed:.2f}", f"{speed / first:.2f}", found, f"{row['compile']:.1f}"
    )
  return table


def growth(steps: int) -> Table:
  """Compile and step time of one device's program for spaces of growing size."""
  table = Table(title="two stages of equal size, one device")
  for column in ("positions", "options", "channels", "compile s", "step ms"):
    table.add_column(column, justify="right")
  for size in _SIZES:
    row = in_a_process(",".join(map(str, size)), 1)
    times = f"{row['compile']:.1f}", f"{1_000 * row['seconds'] / steps:.2f}"
    table.add_row(str(2 * size[0]), str(size[1]), f"{size[2]}, {2 * size[2]}", *times)
  return table


def main(argv: Any) -> None:
  """Prints a table, or as a child one line of JSON."""
  if len(argv) > 1:
    sys.exit(f"error: unknown argument {argv[1]!r}; options begin with --")
  if not all(text.isdigit() and int(text) for text in DEVICES.value):
    sys.exit(f"error: --devices={','.join(DEVICES.value)}; allowed are positive numbers")
  devices, steps = [int(text) for text in DEVICES.value], evaluation.STEPS.value
  if _ROW.value:
    name = _ROW.value
    jax.config.update("jax_num_cpu_devices", devices[0])
    space = sized_space(*map(int, name.split(","))) if "," in name else spaces.get(name)
    found = measure(space, steps, evaluation.BATCH_SIZE.value, evaluation.REPEATS.value)
    print(json.dumps(found))
    return
  console = Console(soft_wrap=True, highlight=False)
  try:
    if GROWTH.value:
      console.print(growth(steps))
    else:
      console.print(weak_scaling(evaluation.SPACE.value, devices, steps))
  except ValueError as error:
    sys.exit(f"error: {error}")
  console.print(evaluation.versions({}))


if __name__ == "__main__":
  app.run(main)

"""Scaling of candidate training, with devices and with the size of the space; its overhead.

python -m benchmarks.scaling [--space=digits|rcnet_cifar100] [--devices=1,2,4,8] [--steps=100]
  [--batch_size=32] [--dtype=float32|bfloat16] [--repeats=3] [--growth|--overhead]

The default is weak scaling: each device trains one candidate with the program of a search. The
table lists the collectives of that program; there should be none, because candidates do not
communicate. On a CPU the devices share its cores, and a row uses no more cores than devices, so
more devices than cores cannot help. On accelerators a row uses all that it sees
(`CUDA_VISIBLE_DEVICES`).

--growth measures the compile time of that program and the time of a step on one device, as the
positions, options and width of a small space grow. Each row runs in a new process.

--overhead compares that program, on one device, with programs for a single network: the smallest
network of the space, one in the middle, and one that no block can be added to. A second
single-network program recomputes each block for its gradient, as the program of a search must: it
cannot store what every kind of block would need. The last columns are lower bounds in float32: the
time of the multiply-adds at the speed of a matrix product (a gradient costs two forward passes),
and the time of the moved bytes at the speed of a copy. A step can beat the second bound if a cache
holds the data.
"""

import json
import os
import sys
from typing import Any

import jax
import numpy as np
from absl import app, flags
from rich.console import Console
from rich.table import Table

from benchmarks import workload
from benchmarks.speed import Speed, half_filled
from nas_submod import parallel, resources
from nas_submod.networks import blocks, spaces
from nas_submod.networks.search_space import SearchSpace, Stage

flags.adopt_module_key_flags(workload)
DEVICES = flags.DEFINE_list("devices", ["1", "2", "4", "8"], "Devices of each row.")
GROWTH = flags.DEFINE_bool("growth", False, "Measure compile and step time as a space grows.")
OVERHEAD = flags.DEFINE_bool("overhead", False, "Compare with programs for a single network.")
SPACE = flags.DEFINE_enum("space", "digits", list(workload.CONFIGS), "Space of the networks.")
_ROW = flags.DEFINE_string("row", None, "Measure this space on --devices here and print JSON.")

_SETTINGS = workload.STEPS, workload.BATCH_SIZE, workload.REPEATS, workload.DTYPE
# Positions of each of two stages, options, channels; each row changes one number of the first.
_SIZES = ((3, 3, 16), (6, 3, 16), (12, 3, 16), (3, 6, 16), (3, 3, 32), (3, 3, 64))


def sized_space(positions: int, options: int, channels: int) -> SearchSpace:
  """Makes a space of two stages for 8x8 images with the first block types of the paper."""
  return SearchSpace(
    name=f"{positions},{options},{channels}",
    image_shape=(8, 8, 1),
    classes=10,
    stem_channels=channels,
    stages=(Stage(channels, positions), Stage(2 * channels, positions, 2)),
    options=blocks.rcnet_options()[:options],
    start=(0,) * positions + (1,) + (0,) * (positions - 1),
  )


def measure(
  space: SearchSpace, steps: int, batch_size: int, repeats: int, dtype: str = "float32"
) -> dict[str, Any]:
  """Measures a row: `devices`, `compile`, `seconds` of the half-filled network, `collectives`."""
  speed = Speed(space, steps, batch_size, repeats, dtype)
  return {
    "devices": parallel.device_count(),
    "compile": speed.compile,
    "seconds": speed.seconds(half_filled(space)),
    "collectives": speed.collectives,
  }


def measure_overhead(
  space: SearchSpace,
  budget: dict[str, int | float],
  steps: int,
  batch_size: int,
  repeats: int,
  dtype: str = "float32",
) -> dict[str, Any]:
  """Measures `compile`, the `peaks` of the device, and three `networks`.

  Each network has its `madds` and the results of `Speed.beside_alone`.
  """
  speed = Speed(space, steps, batch_size, repeats, dtype)
  rows = []
  for architecture in workload.choose_architectures(space, budget, 3):
    found = np.asarray(architecture, np.int32)
    madds = resources.network_cost(space, architecture)["madds"]
    rows.append({"madds": madds, **speed.beside_alone(found)})
  return {"compile": speed.compile, "networks": rows, "peaks": workload.peaks()}


def in_a_process(space: str, devices: int) -> dict[str, Any]:
  """One row, measured in a process of its own; ValueError if it fails."""
  print(f"{space} on {devices} devices ...", file=sys.stderr, flush=True)
  own = [f"--{f.name}={f.value}" for f in _SETTINGS]
  own += [f"--devices={devices}", f"--row={space}"]
  own += ["--overhead"] if OVERHEAD.value else []
  return workload.in_a_process("benchmarks.scaling", own, JAX_ENABLE_COMPILATION_CACHE="false")


def weak_scaling(space: str, devices: list[int], steps: int) -> Table:
  """Measures candidates a minute, and their ratio to one device."""
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
  """Measures compile and step time on one device for spaces of growing size."""
  table = Table(title="two stages of equal size, one device")
  for column in ("positions", "options", "channels", "compile s", "step ms"):
    table.add_column(column, justify="right")
  for size in _SIZES:
    row = in_a_process(",".join(map(str, size)), 1)
    times = f"{row['compile']:.1f}", f"{1_000 * row['seconds'] / steps:.2f}"
    table.add_row(str(2 * size[0]), str(size[1]), f"{size[2]}, {2 * size[2]}", *times)
  return table


def overhead(space: str, steps: int, batch_size: int) -> Table:
  """Compares the program for all networks with programs for one, and those with the device."""
  found = in_a_process(space, 1)
  madds_a_second, bytes_a_second = found["peaks"]
  peaks = f"{madds_a_second / 1e9:.1f}e9 multiply-adds, {bytes_a_second / 1e9:.1f}e9 bytes a second"
  table = Table(title=f"{space}: one device, at best {peaks}")
  columns = ("multiply-adds", "step ms", "alone ms", "ratio", "alone, recomputing ms", "ratio")
  columns += "compile s", "alone s", "ratio"
  for column in (*columns, "arithmetic ms", "bytes ms"):
    table.add_column(column, justify="right")
  for row in found["networks"]:
    step, alone, again = (1_000 * row[name] / steps for name in ("seconds", "alone", "again"))
    table.add_row(
      f"{row['madds']:,}",
      f"{step:.2f}",
      f"{alone:.2f}",
      f"{step / alone:.2f}",
      f"{again:.2f}",
      f"{step / again:.2f}",
      f"{found['compile']:.1f}",
      f"{row['compile']:.1f}",
      f"{found['compile'] / row['compile']:.2f}",
      f"{1_000 * 3 * row['madds'] * batch_size / madds_a_second:.2f}",
      f"{1_000 * row['bytes'] / bytes_a_second:.2f}",
    )
  return table


def main(argv: Any) -> None:
  """Prints a table, or in a child process one line of JSON."""
  if len(argv) > 1:
    sys.exit(f"error: unknown argument {argv[1]!r}; options begin with --")
  if not all(text.isdigit() and int(text) for text in DEVICES.value):
    sys.exit(f"error: --devices={','.join(DEVICES.value)}; allowed are positive numbers")
  devices, steps = [int(text) for text in DEVICES.value], workload.STEPS.value
  if _ROW.value:
    name = _ROW.value
    if hasattr(os, "sched_setaffinity") and not OVERHEAD.value and "," not in name:
      os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: devices[0]])
    jax.config.update("jax_num_cpu_devices", devices[0])
    space = sized_space(*map(int, name.split(","))) if "," in name else spaces.get(name)
    settings = [flag.value for flag in _SETTINGS]
    if OVERHEAD.value:
      found = measure_overhead(space, workload.budget_of(name), *settings)
    else:
      found = measure(space, *settings)
    print(json.dumps(found))
    return
  console = Console(width=150, highlight=False)
  try:
    if OVERHEAD.value:
      console.print(overhead(SPACE.value, steps, workload.BATCH_SIZE.value))
    elif GROWTH.value:
      console.print(growth(steps))
    else:
      console.print(weak_scaling(SPACE.value, devices, steps))
  except ValueError as error:
    sys.exit(f"error: {error}")
  console.print(workload.versions({}))


if __name__ == "__main__":
  app.run(main)

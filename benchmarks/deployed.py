"""The paper's Table 4: latency and file size of RCNet beside MobileNetV2, on this machine.

python -m benchmarks.deployed [--sweeps=300] [--runtimes=onnxruntime,litert]

The networks are those of ImageNet (224x224 images, 1,000 classes) with random weights, exported in
float32: MobileNetV2 as published, the same blocks in the skeleton of the paper's search space, and
RCNet. `nas_submod.export.timing` says how they are timed: in shuffled order, one image, one thread,
its own time, a low percentile. The mean and the standard deviation of all sweeps stand beside it.
Ratios are to MobileNetV2 as published. The table ends with the paper's figures, of a phone.
"""

import json
import pathlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from absl import app, flags, logging
from rich.console import Console
from rich.table import Table

from benchmarks.spread import with_deviation
from nas_submod import files, networks
from nas_submod.export import measure, parts, timing
from nas_submod.networks import architectures, blocks, layers, spaces
from nas_submod.networks.graph import Shape
from nas_submod.networks.layer import Layer
from nas_submod.validation import at_least_one

SWEEPS = flags.DEFINE_integer("sweeps", 300, "Runs of each file.")
RUNTIMES = flags.DEFINE_list("runtimes", list(timing.RUNTIMES), "Runtimes, by name.")

Key = tuple[str, str]  # Runtime and network.
# Milliseconds and megabytes of Table 4 in Xiong et al. 2019.
PAPER = {"MobileNetV2": (197.2, 14.7), "RCNet": (183.5, 14.6)}


def mobilenet_v2(classes: int = 1000) -> Layer:
  """MobileNetV2 as published (Sandler et al. 2018, Table 2), with ReLU in place of ReLU6."""
  stem = layers.serial(blocks.conv_bn(3, 32, 3, 2), blocks.depthwise_separable(32, 16, 1))
  stages, cin = [], 16
  for cout, count, first in (
    (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1),
  ):  # fmt: skip
    stage = []
    for stride in (first, *[1] * (count - 1)):
      stage.append(blocks.inverted_residual(cin, cout, stride, expansion=6, project_skip=False))
      cin = cout
    stages.append(layers.serial(*stage))
  head = (blocks.conv_bn(cin, 1280), layers.global_average_pool(), layers.dense(1280, classes))
  return layers.serial(stem, layers.serial(*stages), layers.serial(*head))


def compared() -> tuple[dict[str, Layer], tuple[int, int, int]]:
  """The networks by name, the first one that of the ratios, and the shape of an image."""
  space = spaces.get("rcnet_imagenet")

  def named(name: str) -> Layer:
    return networks.build(space, architectures.read(space, name))

  found = {
    "MobileNetV2": mobilenet_v2(),
    "MobileNetV2 in RCNet's skeleton": named("mobilenet_v2"),
    "RCNet": named("rcnet"),
  }
  return found, space.image_shape


class Timing(NamedTuple):
  """Times of one file: the result of `timing.round_robin`, all sweeps, both in ms, and bytes."""

  milliseconds: float
  sweeps: list[float]
  size: int


def measured(
  found: Mapping[str, Layer], shape: Shape, runtimes: Sequence[str], sweeps: int
) -> dict[Key, Timing]:
  """Writes the file of each network and runtime, and times all of them in turn."""
  with tempfile.TemporaryDirectory() as name:
    folder, paths = pathlib.Path(name), dict[Key, pathlib.Path]()
    for network, layer in found.items():
      model = parts.random_model(network, layer, shape)
      for runtime in runtimes:
        ending = timing.RUNTIMES[runtime].format
        paths[runtime, network] = folder / f"{len(paths)}.{ending}"
        parts.WRITERS[ending](model, paths[runtime, network])

    def load():
      return {
        " ".join(key): timing.RUNTIMES[key[0]].prepare(path, 1) for key, path in paths.items()
      }

    log = folder / "sweeps.jsonl"
    times = timing.round_robin(load(), sweeps, log=log, renew=load)
    _, *rows = map(json.loads, files.read_lines(log))
    return {
      key: Timing(times[" ".join(key)], list(values), path.stat().st_size)
      for (key, path), values in zip(paths.items(), zip(*rows))
    }


def table_of(found: Mapping[str, Layer], shape: Shape, times: Mapping[Key, Timing]) -> Table:
  """The table: a row for each runtime and network, then the paper's."""
  space = spaces.get("rcnet_imagenet")
  facts = {runtime: measure.comments(space, runtime, 1) for runtime, _ in times}
  [fact, *_] = facts.values()
  [first, *_] = times.values()
  table = Table(title=f"{fact['protocol']}, n = {len(first.sweeps)}, 1 thread, {fact['device']}")
  for column in ("runtime", "network"):
    table.add_column(column)
  for column in ("params", "madds", "ms", "mean ± deviation", "ratio", "MB", "ratio "):
    table.add_column(column, justify="right")
  [base, *_] = found
  for runtime, fact in facts.items():
    beside = times[runtime, base]
    for name, layer in found.items():
      this, cost = times[runtime, name], layer.cost(shape)[1]
      table.add_row(
        *(fact["runtime"], name, f"{cost['params']:,}", f"{cost['madds']:,}"),
        *(f"{this.milliseconds:.2f}", with_deviation(this.sweeps, 2)),
        f"{this.milliseconds / beside.milliseconds:.3f}",
        *(f"{this.size / 1e6:.2f}", f"{this.size / beside.size:.3f}"),
      )
    table.add_section()
  for name, (milliseconds, megabytes) in PAPER.items():
    ratios = (value / base for value, base in zip((milliseconds, megabytes), PAPER["MobileNetV2"]))
    latency, size = (f"{ratio:.3f}" for ratio in ratios)
    row = f"{milliseconds}", "", latency, f"{megabytes}", size
    table.add_row("the paper, a phone", name, "", "", *row)
  return table


def main(argv: Any) -> None:
  """Times the networks and prints the table."""
  if len(argv) > 1:
    sys.exit(f"error: unknown argument {argv[1]!r}; options begin with --")
  logging.set_verbosity(logging.WARNING)
  try:
    at_least_one(sweeps=SWEEPS.value)
    if not RUNTIMES.value or set(RUNTIMES.value) - set(timing.RUNTIMES):
      raise ValueError(
        f"--runtimes={','.join(RUNTIMES.value)}: allowed are {', '.join(timing.RUNTIMES)}"
      )
    found, shape = compared()
    times = measured(found, shape, RUNTIMES.value, SWEEPS.value)
  except ValueError as error:
    sys.exit(f"error: {error}")
  console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
  console.print(table_of(found, shape, times))


if __name__ == "__main__":
  app.run(main)

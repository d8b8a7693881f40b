"""Speed of the input pipeline, of the model and of both: do the devices wait for images?

python -m benchmarks.input_pipeline [--source=fake] [--data_dir=DIR] [--threads=1,2,4]
  [--architecture=rcnet] [--images=256] [--timed=20] [--accelerators=500,1000,2000]

Images are decoded and cropped to 224x224, and the model is trained, as in
`configs/train/imagenet_modern.py`. The source "fake" makes JPEG files of ImageNet's size in memory,
so no disk is measured. The speed of the pipeline alone shows how it scales with threads. Both
together should be as fast as the slower one, except on a CPU, where they share the cores. A mocked
accelerator sleeps as long as a step takes at its number of images a second; its row says whether it
was kept busy. The first steps are not timed, because they compile or use batches read in advance.
"""

import contextlib
import functools
import itertools
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
from absl import app, flags
from rich.console import Console
from rich.table import Table

from configs.train import imagenet_modern
from nas_submod import data as datasets
from nas_submod import networks, parallel, training
from nas_submod.data import pixels
from nas_submod.networks import architectures, spaces
from nas_submod.training import feed, final_programs

SOURCE = flags.DEFINE_string("source", "fake", "As config.data.source; needs 1,000 classes.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS data sets.")
THREADS = flags.DEFINE_list("threads", ["1", "2", "4"], "Threads of each row.")
ARCHITECTURE = flags.DEFINE_string("architecture", "rcnet", "As in experiments.train.")
BATCH_SIZE = flags.DEFINE_integer("images", 256, "Images in a step.", lower_bound=1)
STEPS = flags.DEFINE_integer("timed", 20, "Timed steps.", lower_bound=1)
ACCELERATORS = flags.DEFINE_list("accelerators", ["500", "1000", "2000"], "Their images a second.")

_WARM_UP = 5  # steps; more than the batches read in advance
_KEPT_BUSY = 0.95


def images_per_second(step: Callable[[Any], Any], batches: Iterable[Any]) -> float:
  """Times `step` on each batch; as in training, one step is dispatched before the last ends."""
  began, before = 0.0, None
  with contextlib.closing(iter(batches)) as own:
    for i, batch in enumerate(itertools.islice(own, _WARM_UP + STEPS.value)):
      result = step(batch)
      jax.block_until_ready(before)
      before = result
      if i == _WARM_UP - 1:
        jax.block_until_ready(before)
        began = time.perf_counter()
    jax.block_until_ready(before)
  return STEPS.value * BATCH_SIZE.value / (time.perf_counter() - began)


def busy_for(seconds: float, batch: Any) -> None:
  """Sleeps as long as a mocked step takes."""
  del batch
  time.sleep(seconds)


def measure(line: Callable[[str, float, str], None]) -> None:
  """Measures all rows; `line` takes a name, images a second and a remark."""
  config = imagenet_modern.get_config()
  config.data.update({"source": SOURCE.value, "data_dir": DATA_DIR.value})
  steps = _WARM_UP + STEPS.value
  config.final.update({"batch_size": BATCH_SIZE.value, "epochs": 0.0, "steps": steps})
  config.final.warmup_steps = 0
  space = spaces.from_config(config.space)
  network = networks.build(space, architectures.read(space, ARCHITECTURE.value))
  data = datasets.load(config.data, may_stream=True)
  recipe = training.recipe(config.final, data)
  devices = parallel.devices_for(recipe.batch_size)

  def batches(threads: int | None = None) -> Iterable[Any]:
    return feed.of_training(data.train, 0, recipe.batch_size, steps, devices, threads).batches(0)

  alone = {}
  for threads in map(int, THREADS.value):
    alone[threads] = images_per_second(lambda batch: batch, batches(threads))
    line(f"pipeline, threads: {threads}", alone[threads], "")

  rng = jax.random.key(0)
  programs = final_programs.make_final_programs(recipe, network, rng, devices)

  def trained() -> Callable[[Any], Any]:
    state = jax.jit(
      lambda rng: training.start(
        final_programs.initial_variables(network, rng), recipe.transformation, True
      )
    )(rng)
    states = [parallel.copy_to_devices(state, devices)]

    def step(batch):
      states[0], metrics = programs.train(states[0], (), batch)
      return metrics

    return step

  with contextlib.closing(iter(batches())) as first:
    same = next(first)
  model = images_per_second(trained(), (same for _ in itertools.count()))
  line("model", model, "one batch, repeated")
  both = images_per_second(trained(), batches())
  line(f"both, threads: {pixels.cores()}", both, f"{both / model:.0%} of the model's")
  for speed in map(float, ACCELERATORS.value):
    found = images_per_second(functools.partial(busy_for, recipe.batch_size / speed), batches())
    busy = found / speed
    limit = "the accelerator limits" if busy > _KEPT_BUSY else "the pipeline limits"
    line(f"mocked accelerator, {speed:,.0f} images/s", found, f"{limit}: busy {busy:.0%}")


def main(argv: Any) -> None:
  """Measures and prints the table."""
  if len(argv) > 1:
    raise app.UsageError(f"unknown argument {argv[1]!r}")
  device = jax.local_devices()[0].device_kind
  table = Table(
    title=f"{SOURCE.value}, 224x224, batches of {BATCH_SIZE.value}, "
    f"{jax.local_device_count()} x {device}, {pixels.cores()} cores"
  )
  table.add_column("what")
  table.add_column("images/s", justify="right")
  table.add_column("")
  try:
    measure(lambda what, speed, remark: table.add_row(what, f"{speed:,.0f}", remark))
  except ValueError as error:
    sys.exit(f"error: {error}")
  Console().print(table)


if __name__ == "__main__":
  app.run(main)

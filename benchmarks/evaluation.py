"""Speed of training networks: one program for all, a program for each, PyTorch.

python -m benchmarks.evaluation --config=configs/digits.py [--config.train.batch_size=32]
  [--config.train.dtype=bfloat16] [--noise_images] [--networks=8] [--steps=100] [--repeats=3]
  [--methods=ours,jit,...] [--journal=WORKDIR/evaluations.jsonl]

All methods train and evaluate the same networks of a config, from the smallest to the largest
within its budgets. Data (noise with --noise_images), batches, steps, augmentation and optimizer are
the same. "A program each" is how a final training trains. Each method and repeat runs in a new
process, in turn, so nothing is compiled before it starts, and peak memory is that of the method.
Start-up and data are not timed. The table has medians. A filled cache is JAX's persistent
compilation cache after the same networks were trained once. The mean training loss shows that all
methods did the same work; PyTorch draws initial values and crops with other generators, and ours
trains a network that comes again with another seed. With --journal all methods train the networks
of a finished search, which shows how long that search takes with each. The PyTorch rows need torch
(a CPU build is 0.2 GB):
  pip install torch --index-url https://download.pytorch.org/whl/cpu
"""

import itertools
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import util
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from benchmarks import workload
from benchmarks.workload import REPEATS, STEPS
from experiments import common
from nas_submod import allocation, networks, parallel, resources, training
from nas_submod import data as datasets
from nas_submod.compilation import CompilationLog
from nas_submod.data.loading import Data
from nas_submod.evaluation.evaluator import Job
from nas_submod.evaluation.journal import Journal, Journaled
from nas_submod.evaluation.training_evaluator import TrainingEvaluator
from nas_submod.fields import check_config
from nas_submod.networks import spaces
from nas_submod.networks.search_space import SearchSpace
from nas_submod.training import final_programs

METHODS = {
  "ours": "ours: one program for all",
  "ours_cached": "ours, cache filled",
  "jit": "JAX, a program each",
  "jit_cached": "JAX, a program each, cache filled",
  "torch": "PyTorch eager",
  "torch_channels_last": "PyTorch eager, channels last",
  "torch_compile": "PyTorch torch.compile",
}

NOISE = flags.DEFINE_bool("noise_images", False, "Train on noise, not on the images of the config.")
NETWORKS = flags.DEFINE_integer("networks", 8, "Number of networks.", lower_bound=1)
JOURNAL = flags.DEFINE_string("journal", None, "Journal of a search whose trainings are repeated.")
CHOSEN = flags.DEFINE_list("methods", list(METHODS), "Rows of the table.")
_CHILD = flags.DEFINE_string("child", None, "Measure this method here and print JSON.")


def settings(config: ConfigDict) -> tuple[SearchSpace, Data, ConfigDict, list[tuple[int, ...]]]:
  """Returns space, data, config and the networks, one for each training.

  Raises:
    ValueError: If the config or the journal is wrong, or its images are missing.
  """
  check_config(config, ("space", "data", "budget", "train"))
  config, steps = config.copy_and_resolve_references(), STEPS.value
  space = spaces.from_config(config.space)
  config.train.update({"steps": steps, "epochs": 0.0})
  config.train.update({"schedule": "cosine"})
  data = workload.random_data(space) if NOISE.value else datasets.load(config.data)
  training.check_fit(space, data)
  if JOURNAL.value:
    return space, data, config, workload.searched(space, JOURNAL.value)
  table = resources.from_config(config.get("resources"))
  budget = resources.check_budget(space, config.budget, table)
  chosen = workload.choose_architectures(space, budget, NETWORKS.value, table)
  return space, data, config, [tuple(architecture) for architecture in chosen]


def measure_ours(config: ConfigDict) -> dict[str, Any]:
  """The evaluator of a search: one program for every architecture."""
  space, data, config, architectures = settings(config)
  evaluator = Journaled(TrainingEvaluator(space, data, config), space, Journal(None))
  began = time.perf_counter()
  # An architecture that comes again is another replicate.
  jobs = [
    Job(architecture, architectures[:place].count(architecture))
    for place, architecture in enumerate(architectures)
  ]
  found = evaluator(jobs)
  seconds, compiled = time.perf_counter() - began, evaluator.compilations.seconds
  losses = [e.metrics["train_loss"] if e.metrics else float("nan") for e in found]
  return {"compile": compiled, "train": seconds - compiled, "losses": losses}


def measure_jit(config: ConfigDict) -> dict[str, Any]:
  """Measures a jitted step and evaluation of each network, compiled once for its trainings."""
  space, data, config, architectures = settings(config)
  recipe, rng = training.recipe(config.train, data), jax.random.key(0)
  images, labels = map(jnp.asarray, data.train)
  validation = [map(jnp.asarray, v) for v in zip(*training.batches(data.validation, 256))]
  validation = [tuple(batch) for batch in validation]
  order = training.batch_order((0, 0), len(labels), recipe.batch_size, recipe.steps)

  def programs(architecture):
    network = networks.build(space, architecture)
    network = networks.for_platform(network, parallel.platform_of())

    def start():
      return training.start(final_programs.initial_variables(network, rng), recipe.transformation)

    def step(state, images, labels, rows):
      batch = images[rows], labels[rows]
      return training.train_step(recipe, network.apply, state, rng, *batch)[0]

    def evaluate(state, images, labels):
      variables = state.params, state.state
      return training.eval_step(recipe, network.apply, *variables, images, labels)

    return jax.jit(start), jax.jit(step, donate_argnums=0), jax.jit(evaluate)

  log, losses, began = CompilationLog(), [], time.perf_counter()
  with log.counting():
    for architecture, trainings in itertools.groupby(sorted(architectures)):
      start, step, evaluate = programs(architecture)
      for _ in trainings:
        state = start()
        for rows in order:
          state = step(state, images, labels, rows)
        jax.device_get([evaluate(state, *batch) for batch in validation])
        losses.append(float(state.loss_sum) / recipe.steps)
      # On Linux a process can map only about 75 such programs with their kernels.
      jax.clear_caches()
  seconds = time.perf_counter() - began
  return {"compile": log.seconds, "train": seconds - log.seconds, "losses": losses}


def measure_torch(config: ConfigDict, name: str) -> dict[str, Any]:
  """Measures PyTorch; its networks must have as many parameters as ours."""
  from benchmarks import pytorch_networks

  space, data, config, architectures = settings(config)
  for architecture in architectures:
    ours = resources.network_cost(space, architecture)["params"]
    theirs = pytorch_networks.parameters(space, architecture)
    if ours != theirs:
      raise ValueError(f"{architecture}: {theirs} parameters in PyTorch, {ours} here")
  compiled = name == "torch_compile"
  last = compiled or name == "torch_channels_last"
  return pytorch_networks.train(space, data, config.train, architectures, last, compiled)


def measure(config: ConfigDict, name: str) -> dict[str, Any]:
  """Measures a method in this process; `peak` is device memory, on a CPU that of the process."""
  if not name.startswith("ours"):
    allocation.keep_freed_memory()  # As experiments.train does.
  if name.startswith("torch"):
    found = measure_torch(config, name)
  else:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jax.config.update("jax_num_cpu_devices", (cores or 1) if name.startswith("ours") else 1)
    found = measure_ours(config) if name.startswith("ours") else measure_jit(config)
    found["peak"] = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    found["device"] = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
  unit = 1 if sys.platform == "darwin" else 1_024
  found["peak"] = found["peak"] or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
  return found


def in_a_process(name: str, cache: str) -> dict[str, Any]:
  """Measures a method in a new process; ValueError if it fails."""
  print(f"{METHODS[name]} ...", file=sys.stderr, flush=True)
  return workload.in_a_process(
    "benchmarks.evaluation",
    [f"--child={name}", *common.given_arguments()],
    JAX_ENABLE_COMPILATION_CACHE=str(name.endswith("_cached")).lower(),
    JAX_COMPILATION_CACHE_DIR=os.path.join(cache, name),
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    TORCHINDUCTOR_FORCE_DISABLE_CACHES="1",
  )


def all_runs(names: list[str], repeats: int, say: Callable[[str], None]) -> dict[str, Any]:
  """Runs each method, one run of each in turn; a method that fails gets a message instead."""
  runs: dict[str, Any] = {name: [] for name in names}
  with tempfile.TemporaryDirectory() as cache:
    for repeat in range(-1, repeats):
      for name in names:
        if isinstance(runs[name], str) or (repeat < 0 and not name.endswith("_cached")):
          continue
        if name.startswith("torch") and util.find_spec("torch") is None:
          runs[name] = "absent: no module torch"
          continue
        try:
          run = in_a_process(name, cache)
        except ValueError as error:
          runs[name] = f"failed: {error}"
          continue
        say(f"{METHODS[name]}: {run['compile']:.1f} s compile, {run['train']:.1f} s train")
        if repeat >= 0:  # Run -1 fills the cache.
          runs[name].append(run)
  return runs


def table(runs: dict[str, Any], networks_trained: int, images: int, title: str) -> Table:
  """Tabulates medians of the runs; `images` of a training; images a second without compiling."""
  found = Table(title=title)
  columns = "compile s", "train s", "networks a minute", "images a second", "peak GB", "mean loss"
  found.add_column("")
  for column in columns:
    found.add_column(column, justify="right")
  for name, each in runs.items():
    if isinstance(each, str):
      found.add_row(METHODS[name], each)
      continue

    def median(function, each=each):
      return float(np.median([function(run) for run in each]))

    found.add_row(
      METHODS[name],
      f"{median(lambda run: run['compile']):.1f}",
      f"{median(lambda run: run['train']):.1f}",
      f"{median(lambda run: 60 * networks_trained / (run['compile'] + run['train'])):.2f}",
      f"{median(lambda run: images * networks_trained / run['train']):.0f}",
      f"{median(lambda run: run['peak'] / 1e9):.2f}",
      f"{median(lambda run: np.mean(run['losses'])):.4f}",
    )
  return found


def main(config: ConfigDict) -> None:
  """Prints a table, or in a child process one line of JSON."""
  for name, flag in (("batch_size", workload.BATCH_SIZE), ("dtype", workload.DTYPE)):
    if flag.present:
      common.fail(f"--{name} is no flag here; allowed: --config.train.{name}")
  if unknown := sorted(set(CHOSEN.value) - set(METHODS)):
    common.fail(f"unknown method {unknown[0]!r}; allowed: {', '.join(METHODS)}")
  try:
    if _CHILD.value:
      print(json.dumps(measure(config, _CHILD.value)))
      return None
    space, _, _, architectures = settings(config)
  except ValueError as error:
    common.fail(error)
  count, size = len(architectures), config.train.batch_size
  console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
  runs = all_runs(CHOSEN.value, REPEATS.value, console.print)
  title = (
    f"{space.name}: {count} trainings, {STEPS.value} steps of {size} images, "
    f"{config.train.get('dtype', 'float32')}, medians of {REPEATS.value}"
  )
  console.print(table(runs, count, STEPS.value * size, title))
  console.print(workload.versions(runs))


if __name__ == "__main__":
  common.run(main)

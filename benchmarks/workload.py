"""Flags, images and networks of all sizes that the speed benchmarks share."""

import json
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata, util
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from configs import cifar100, digits
from nas_submod import resources
from nas_submod.data.loading import Data, Split
from nas_submod.evaluation.journal import Journal
from nas_submod.networks import spaces
from nas_submod.networks.search_space import SearchSpace

STEPS = flags.DEFINE_integer("steps", 100, "Training steps of each network.", lower_bound=1)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Images in a step.", lower_bound=1)
DTYPE = flags.DEFINE_enum(
  "dtype", "float32", ["float32", "bfloat16"], "Type of the activations; autocast in PyTorch."
)
REPEATS = flags.DEFINE_integer(
  "repeats", 3, "Timings of each row; processes, if each timing has its own.", lower_bound=1
)
CONFIGS = {"digits": digits.get_config, "rcnet_cifar100": cifar100.get_config}


def choose_architectures(
  space: SearchSpace,
  budget: Mapping[str, int | float],
  count: int,
  table: resources.Resources = resources.RESOURCES,
) -> list[list[int]]:
  """Chooses random networks, from the start network to full ones, sorted by multiply-adds."""
  rng = np.random.default_rng(0)
  found = []
  for share in np.linspace(0, 1, count):
    chain = [np.array(space.start)]
    for position in rng.permutation(np.flatnonzero(chain[0] == 0)):
      larger = chain[-1].copy()
      larger[position] = rng.integers(1, len(space.options) + 1)
      cost = resources.network_cost(space, larger.tolist(), table)
      if all(cost[name] <= limit for name, limit in budget.items()):
        chain.append(larger)
    found.append([int(o) for o in space.canonical(chain[round(share * (len(chain) - 1))])])
  return sorted(found, key=lambda found: resources.network_cost(space, found)["madds"])


def budget_of(space: str) -> dict[str, int | float]:
  """Returns the budget of a space's config."""
  return resources.check_budget(spaces.get(space), CONFIGS[space]().budget)


def random_data(space: SearchSpace) -> Data:
  """Makes noise images of the space's shape: 2,048 to train on and 512 to evaluate on."""
  rng = np.random.default_rng(0)

  def split(size: int) -> Split:
    images = rng.integers(0, 256, (size, *space.image_shape)).astype(np.uint8)
    return Split(images, (np.arange(size) % space.classes).astype(np.int32))

  moments = (np.full(space.image_shape[-1], m, np.float32) for m in (127.5, 73.9))
  return Data(split(2_048), split(512), split(512), space.classes, *moments)


def peaks() -> tuple[float, float]:
  """Measures the peak speed of a device: multiply-adds a second and bytes a second.

  The first is that of a matrix product. The second counts the bytes that a copy reads and writes;
  its arrays of 2^28 bytes fit in no cache.
  """
  side, numbers = 2_048, 2**26
  square, long = jnp.ones((side, side)), jnp.ones(numbers)
  product = _fastest(lambda: square @ square)
  copy = _fastest(lambda: jnp.negative(long))
  return side**3 / product, 2 * long.nbytes / copy


def _fastest(call: Callable[[], jax.Array], repeats: int = 5) -> float:
  """Returns the seconds of the fastest call, after one that compiles."""
  seconds = []
  for _ in range(1 + repeats):
    began = time.perf_counter()
    jax.block_until_ready(call())
    seconds.append(time.perf_counter() - began)
  return min(seconds[1:])


def searched(space: SearchSpace, path: str) -> list[tuple[int, ...]]:
  """Reads the networks that a search trained, one for each training that did not fail.

  Raises:
    ValueError: If the file is missing, belongs to another space or mixes lengths of trainings.
  """
  if not pathlib.Path(path).is_file():
    raise ValueError(f"no journal {path}; a search writes WORKDIR/evaluations.jsonl")
  found = [e for e in Journal(pathlib.Path(path)) if e.metrics is not None]
  if len({evaluation.steps for evaluation in found}) != 1:
    raise ValueError(f"{path} holds trainings of different lengths; allowed is one length")
  return [space.from_key(evaluation.key) for evaluation in found]


def in_a_process(module: str, arguments: Sequence[str], **environment: str) -> dict[str, Any]:
  """Runs `python -m module` in a new process; returns the JSON of the last line that it prints.

  Raises:
    ValueError: If it fails; the message is the last line of its errors.
  """
  command = [sys.executable, "-m", module, *arguments]
  done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
  if done.returncode:
    raise ValueError((done.stderr.strip() or "no message").splitlines()[-1])
  found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
  return found


def versions(runs: dict[str, Any]) -> str:
  """Names the devices and the libraries."""
  devices = {
    r["device"] for e in runs.values() if not isinstance(e, str) for r in e if "device" in r
  }
  libraries = ["jax", "jaxlib", "torch"]
  installed = [f"{n} {metadata.version(n)}" for n in libraries if util.find_spec(n)]
  cores = f"{platform.machine()}, {os.cpu_count()} cores"
  return ", ".join([*sorted(devices), cores, f"Python {platform.python_version()}", *installed])

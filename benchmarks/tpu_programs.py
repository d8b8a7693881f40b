"""The programs of a config for the devices of a topology, and the chips that those are.

Nothing runs: the programs are lowered for shapes, and gray images stand in for the data.
"""

import functools
import importlib.util
import os
import pathlib
import tempfile
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import topologies
from ml_collections import ConfigDict

import nas_submod as ns
from benchmarks.set_functions import instances
from nas_submod import networks, parallel, search, training
from nas_submod.evaluation.candidates import EVAL_BATCH, make_candidate_programs
from nas_submod.evaluation.shared_weights import score, store
from nas_submod.evaluation.shared_weights import settings as shared_settings
from nas_submod.fields import check_config
from nas_submod.networks import architectures
from nas_submod.optimizers.enumeration import complete_seed
from nas_submod.optimizers.largest_sets import largest_sets
from nas_submod.training import feed as feeds
from nas_submod.training.final_programs import initial_state, make_final_programs
from nas_submod.validation import located

SEARCH = ("start", "train", "evaluate")  # the programs of candidates


class Chip(NamedTuple):
  """Memory and speed of a TPU chip.

  Attributes:
    memory: Bytes.
    flops: Flops a second in bfloat16.
    bandwidth: Bytes a second to the memory.
    clock: Cycles a second; nan if unknown.
  """

  memory: float
  flops: float
  bandwidth: float
  clock: float


# By JAX's name. From docs.cloud.google.com/tpu/docs/v5e and /v6e, read on 29 November 2026. The
# clock of v5e follows from its flops and its four units of 128 x 128. Copies of the page of v6e
# disagree about its units.
CHIPS = {
  "TPU v5 lite": Chip(16e9, 197e12, 819e9, 197e12 / (4 * 2 * 128 * 128)),
  "TPU v6 lite": Chip(32e9, 918e12, 1638e9, float("nan")),
}


class Target(NamedTuple):
  """What is compiled: a setup, for all devices of a topology, and those of its first process."""

  setup: search.Setup
  architecture: tuple[int, ...]
  devices: tuple[jax.Device, ...]
  first_process: tuple[jax.Device, ...]

  @property
  def chip(self) -> Chip:
    """The kind of chip."""
    return CHIPS[self.devices[0].device_kind]

  @property
  def steps(self) -> int:
    """Steps of the training of a candidate."""
    return training.recipe(self.setup.config["train"], self.setup.data).steps


def find_devices(topology: str) -> tuple[jax.Device, ...]:
  """The devices of a topology.

  Raises:
    ValueError: If the TPU compiler is missing, or the topology or its chip is unknown.
  """
  # Without these, libtpu asks a server for its workers, and two processes exclude each other.
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
  if importlib.util.find_spec("libtpu") is None:
    raise ValueError("there is no TPU compiler: pip install -e '.[tpu]'")
  try:
    found = topologies.get_topology_desc(platform="tpu", topology_name=topology)
  except RuntimeError as error:
    raise ValueError(
      f"--topology={topology}: {str(error).splitlines()[0]}; allowed: such as v5e:2x2, v6e:2x2"
    ) from error
  devices = tuple(found.devices)
  if devices[0].device_kind not in CHIPS:
    raise ValueError(
      f"--topology={topology} is of {devices[0].device_kind}; allowed: {', '.join(CHIPS)}"
    )
  return devices


def make_target(
  config: ConfigDict, devices: tuple[jax.Device, ...], images: int, text: str | None
) -> Target:
  """Checks everything, with gray images in place of the data.

  Raises:
    ValueError: If something cannot be compiled.
  """
  space = networks.spaces.from_config(config.space)
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "images.npz"
    labels = np.arange(images) % space.classes
    arrays = {"x_train": np.full((images, *space.image_shape), 128, np.uint8), "y_train": labels}
    few = {f"{name[0]}_test": array[: 2 * space.classes] for name, array in arrays.items()}
    np.savez_compressed(path, **arrays, **few)
    config = config.copy_and_resolve_references()
    config.data.update({"source": f"npz:{path}", "train_size": None, "test_size": None})
    setup = search.make_setup(config)
  if text:
    architecture = architectures.read(space, text)
  else:
    mask = np.asarray(jax.jit(largest_sets)(setup.problem)[-1])
    architecture = tuple(space.architecture(mask).tolist())
  first_process = tuple(d for d in devices if d.process_index == devices[0].process_index)
  return Target(setup, architecture, devices, first_process)


def _shapes(tree: Any) -> Any:
  return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def search_programs(target: Target) -> dict[str, Callable[[], jax.stages.Lowered]]:
  """The programs of a search for candidates, by name, to be lowered."""
  space, data = target.setup.space, target.setup.data
  recipe = training.recipe(target.setup.config["train"], data)
  programs = make_candidate_programs(space, recipe, target.first_process)
  devices, steps, batch = len(target.first_process), recipe.steps, recipe.batch_size
  seeds = jax.ShapeDtypeStruct((devices, 2), np.uint32)
  chosen = jax.ShapeDtypeStruct((devices, len(space.start)), np.int32)
  orders = jax.ShapeDtypeStruct((devices, steps, batch), np.int32)
  stop = jax.ShapeDtypeStruct((), np.int32)
  train, validation = _shapes((data.train, training.batches(data.validation, EVAL_BATCH)))

  states = jax.eval_shape(programs.start, seeds, chosen)

  return {
    "start": lambda: programs.start.lower(seeds, chosen),
    "train": lambda: programs.train.lower(states, seeds, chosen, orders, *train, stop),
    "evaluate": lambda: programs.evaluate.lower(states, chosen, *validation),
  }


def final_programs(
  target: Target, settings: Any, devices: tuple[jax.Device, ...]
) -> dict[str, Callable[[], jax.stages.Lowered]]:
  """The programs of a final training with `settings`, each batch shared by `devices`."""
  data, key = target.setup.data, jax.random.key(0)
  recipe = training.recipe(settings, data)
  network = networks.build(target.setup.space, target.architecture)
  count = parallel.devices_for(recipe.parts, devices)
  programs = make_final_programs(recipe, network, key, count, devices)
  start = jax.jit(functools.partial(initial_state, network, recipe))
  one = jax.sharding.SingleDeviceSharding(devices[0])
  seed = jax.ShapeDtypeStruct((), key.dtype, sharding=one)
  state = jax.eval_shape(start, key)

  def rows(images: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((count, images // count), np.int32)

  held, tested = _shapes((data.train, data.validation))
  evaluated = feeds.evaluation_size(len(data.validation.labels), count)
  return {
    "start": lambda: start.lower(seed),
    "train": lambda: programs.train.lower(state, held, rows(recipe.batch_size)),
    "evaluate": lambda: programs.evaluate.lower(state.evaluated_variables, tested, rows(evaluated)),
  }


def lower_enumeration(
  target: Target, problem: ns.Problem, value: Any, rule: str, seeds: int = 64
) -> jax.stages.Lowered:
  """Partial enumeration of depth 1 by greedy: many seeds, split over the devices of a process."""
  shared = (problem, value, np.zeros((problem.n + 1, 1), np.int32), jax.random.key(0))
  complete = functools.partial(complete_seed, ns.optimizers.greedy(rule))
  devices = target.first_process[: int(np.gcd(seeds, len(target.first_process)))]
  numbers = np.arange(seeds, dtype=np.int32).reshape(len(devices), -1)
  return parallel.pmap_items(complete, devices).lower(_shapes(shared), numbers)


def lower_facility_location(target: Target, n: int = 2_000) -> jax.stages.Lowered:
  """Enumeration on facility location."""
  costs = next(found for found in instances(n) if found.cost.size)
  problem = ns.Problem(np.full(n, -1), costs.cost, 50.0)
  return lower_enumeration(target, problem, costs.function, "density:0")


def lower_shared_weights(target: Target) -> jax.stages.Lowered:
  """Enumeration on the scores of shared weights: a search that is one program."""
  space, data, config = target.setup.space, target.setup.data, target.setup.config
  sharing = shared_settings.from_config(config, data)
  initial = functools.partial(store.start, networks.build_universal(space))
  weights = jax.eval_shape(initial, jax.random.key(0))
  zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), weights)
  held = score.scoring_data([zeros] * sharing.stores, data, sharing.statistics_images)
  metrics = score.make_metrics(space, sharing.recipe, target.first_process)
  value = score.value(space, metrics, held)
  return lower_enumeration(target, target.setup.problem, value, "joint")


def check(target: Target, wanted: Collection[str]) -> None:
  """Raises ValueError if the config cannot have one of the wanted programs."""
  if "shared_weights" in wanted:
    shared_settings.from_config(target.setup.config, target.setup.data)
  if any(name.startswith("final") for name in wanted):
    check_config(target.setup.config, ("final",))
    with located("config.final"):
      recipe = training.recipe(target.setup.config["final"], target.setup.data)
      parallel.devices_for(recipe.parts, target.devices)


def all_of(target: Target) -> dict[str, Callable[[], jax.stages.Lowered]]:
  """All programs by name, to be lowered; the first are those of `SEARCH`."""
  config = target.setup.config
  return search_programs(target) | {
    "alone": lambda: final_programs(target, config["train"], target.devices[:1])["train"](),
    "final_start": lambda: final_programs(target, config["final"], target.devices)["start"](),
    "final": lambda: final_programs(target, config["final"], target.devices)["train"](),
    "final_evaluate": lambda: final_programs(target, config["final"], target.devices)["evaluate"](),
    "enumeration": lambda: lower_facility_location(target),
    "shared_weights": lambda: lower_shared_weights(target),
  }

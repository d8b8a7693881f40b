"""Networks trained alike, side by side: costs, and test accuracy of several seeds.

python -m benchmarks.trained --config=configs/mlperf_tiny.py --config.data.source=npz:cifar10.npz
  [--architectures=resnet8,by_hand,largest,resnet20,mobilenet_v2_stride_2,runs/tiny/result.json]
  [--config.final.epochs=15] [--seeds_each=3] [--int8] [--workdir=runs/trained]

Networks are names and lines of the config's space, files of a search, `largest` (the jointly
largest network that fits, which costs nothing to find), and `resnet20`, `mobilenet_v2` and
`mobilenet_v2_stride_2`, as wide as the budgets allow. A comma separates them. The recipe is
`config.final`. The other networks are compared with the first one, paired by seed. With --int8 each
network is also exported, and its file `tflite_int8` classifies the test images. The column "memory,
TFLite Micro" has the copies that its operators make of padded inputs. Trainings are kept in the
workdir, in a folder for each network, recipe and data. The same command resumes a stopped run, and
more seeds or networks add to it.
"""

import json
import pathlib
import re
import sys
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from benchmarks import families
from benchmarks.families import Network
from benchmarks.spread import with_deviation, with_error
from experiments import common
from nas_submod import allocation, data, files, networks, preemption, resources
from nas_submod import trained as trained_network
from nas_submod.data import fingerprint
from nas_submod.export.deploy import deploy
from nas_submod.export.formats import choose
from nas_submod.export.subject import Subject
from nas_submod.networks import architectures
from nas_submod.optimizers.largest_sets import largest_sets
from nas_submod.report.text import number
from nas_submod.resources.memory import MEMORY
from nas_submod.search.setup import Setup, make_setup
from nas_submod.training import checkpoints, final

ARCHITECTURES = flags.DEFINE_list("architectures", ["resnet8", "by_hand"], "Networks to train.")
SEEDS = flags.DEFINE_integer(
  "seeds_each", 3, "Trainings of each network, from config.seed on.", lower_bound=1
)
INT8 = flags.DEFINE_bool("int8", False, "Whether to test their int8 files (needs '.[tflite]').")


def named(setup: Setup, name: str) -> Network:
  """The network of a name on the command line.

  Raises:
    ValueError: If it is unknown.
  """
  space = setup.space
  if name in families.FAMILIES and name not in architectures.ARCHITECTURES.get(space.name, {}):
    return families.widest(name, space, setup.budget, setup.resources)
  if name == "largest":
    mask = np.asarray(jax.jit(largest_sets)(setup.problem)[-1])
    return Network(space, tuple(space.architecture(mask).tolist()))
  # A search may give another form of the network that a line names: both have one folder.
  canonical = space.canonical(np.array(architectures.read(space, name)))
  return Network(space, tuple(canonical.tolist()))


def trained(
  network: Network, images: data.Data, config: ConfigDict, seed: int, workdir: pathlib.Path
) -> dict[str, Any]:
  """Trains a network once; takes the result from the workdir if it is there."""
  this = config.copy_and_resolve_references()
  this.seed = seed
  done = workdir / "metrics.json"
  if not done.exists():

    def show(step: int, steps: int, loss: float, activity: str) -> None:
      if step % 20 == 0 or step == steps:
        line = f"{workdir.name}: {activity}, step {step:,} of {steps:,}, loss {loss:.3f}"
        print(line, file=sys.stderr, flush=True)

    workdir.mkdir(parents=True, exist_ok=True)
    files.write_json(done, final.train(*network, images, this, workdir, show))
    jax.clear_caches()
  metrics: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
  return metrics


def int8_accuracy(
  network: Network, images: data.Data, config: ConfigDict, workdir: pathlib.Path
) -> float:
  """The test accuracy of a trained network's file `tflite_int8`; kept in the workdir."""
  kept = workdir / "int8.json"
  if not kept.exists():
    layer = networks.build(*network)
    saved = checkpoints.read(workdir / "checkpoints", layer, config.final.get("average", 0) > 0)
    facts = trained_network.data_facts(images)
    subject = Subject(
      network=trained_network.Trained(
        *network,
        variables=saved.variables,
        mean=images.mean,
        std=images.std,
        classes=images.class_names,
        border=facts["border"],
        step=saved.step,
        scores=saved.scores,
        config=config.to_dict(),
        origin=facts,
      ),
      data=images,
      no_data="",
      resources={},
      units={},
      settings={},
      budget={},
      commands=[],
    )
    found = deploy(subject, choose(["tflite_int8"], ""), workdir / "model")
    files.write_json(kept, found["formats"]["tflite_int8"]["comparison"])
  return float(files.read_json(kept)["accuracy"])


def label(name: str) -> str:
  """The name of a network in the table; that of a file is that of its search."""
  return pathlib.Path(name).parent.name if name.endswith(".json") else name


def folder_of(name: str, network: Network, images: data.Data, config: ConfigDict) -> str:
  """The name of the folder of a network's trainings; what decides their results decides it."""
  decides = [
    repr(network),
    repr(sorted(config.final.to_dict().items())),
    repr(fingerprint.of_splits(images, ("train", "validation", "test"))),
  ]
  words = re.sub("[^a-z0-9]+", "_", label(name).lower())[:40]
  return f"{words}_{files.fingerprint(*map(str.encode, decides))}"


def main(config: ConfigDict) -> None:
  """Trains all networks and prints the table."""
  try:
    setup = make_setup(config)
    images = data.load(config.data, may_stream=True)
    compared = {name: named(setup, name) for name in ARCHITECTURES.value}
    if INT8.value:
      choose(["tflite_int8"], "")  # Refuses before any training.
    for network in compared.values():
      final.check(network.space, images, config)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in compared}
    for seed in range(config.seed, config.seed + SEEDS.value):
      for name, network in compared.items():
        folder = common.workdir() / folder_of(name, network, images, config) / str(seed)
        result = trained(network, images, config, seed, folder)
        if INT8.value:
          this = config.copy_and_resolve_references()
          this.seed = seed
          result["int8"] = int8_accuracy(network, images, this, folder)
        rows[name].append(result)
  except (ValueError, FloatingPointError) as error:
    common.fail(error)
  except preemption.Preempted as notice:
    common.fail(f"{notice}; the same command continues", preemption.EXIT_CODE)
  first = next(iter(rows.values()))
  steps = f"{first[0]['steps']:,} steps of {config.final.batch_size} images"
  table = Table(title=f"{steps}, n = {SEEDS.value}, {first[0]['devices']}")
  costs = [*setup.budget]
  copies = {"memory": MEMORY["tflite_micro"]} if "memory" in costs else {}
  kinds = {"test accuracy": [[100 * r["test"]["accuracy"] for r in each] for each in rows.values()]}
  if INT8.value:
    kinds["in int8"] = [[100 * r["int8"] for r in each] for each in rows.values()]
  of_kinds = [
    column for kind in kinds for column in (f"{kind}, %", f"ahead of {label(next(iter(rows)))}")
  ]
  of_copies = [f"{name}, TFLite Micro" for name in copies]
  for column in ("", *costs, *of_copies, *of_kinds, "images a second"):
    table.add_column(column, justify="right", overflow="fold")
  for place, (name, results) in enumerate(rows.items()):
    cost = resources.network_cost(*compared[name], setup.resources)
    cells = [number(cost[resource]) for resource in costs]
    cells += map(number, resources.network_cost(*compared[name], copies).values())
    for accuracies in kinds.values():
      gaps = np.subtract(accuracies[place], accuracies[0]).tolist()
      cells += [with_deviation(accuracies[place], 2), with_error(gaps, 2) if place else ""]
    speeds = [result["images_per_second"] or float("nan") for result in results]
    table.add_row(label(name), *cells, f"{np.mean(speeds):.0f}")
  console = Console(width=180, highlight=False)
  console.print(table)
  console.print("accuracy: mean and standard deviation; ahead: paired by seed, standard error")
  for name, network in compared.items():
    console.print(f"{label(name)}: {network.space.text(network.architecture)}", markup=False)


if __name__ == "__main__":
  allocation.keep_freed_memory()
  common.run(main)

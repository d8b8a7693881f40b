"""Cheaper trainings against plain ones: how they rank networks, and the answers of searches.

python -m benchmarks.proxies [--config=configs/digits.py] [--ranked=16] [--runs=3]
  [--first_additions] [--search] [--ways=plain,short,...] [--workdir=runs/proxies]

The default measures random networks within the budgets in each way and compares the ranking with
the mean of other plain trainings. The networks form chains that grow by one block. With
--first_additions they are the start network with one more block, which greedy compares first; a
race ranks them by the means of the replicates of its first step. With --search whole searches run
in each way, and each answer is trained to completion and tested. Random search gets the training
steps of the plain searches. Finalists are fully trained in every row; their steps are counted
separately. The same command resumes a stopped run.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks import searches
from benchmarks.spread import with_error
from experiments import common
from nas_submod import optimizers, parallel, search, training
from nas_submod.evaluation.journal import Journal
from nas_submod.evaluation.objective import Objective
from nas_submod.evaluation.training_evaluator import TrainingEvaluator
from nas_submod.search.setup import Setup, first_additions, make_setup
from nas_submod.training import final

NETWORKS = flags.DEFINE_integer("ranked", 16, "Networks that are ranked.", lower_bound=9)
SEEDS = flags.DEFINE_integer("runs", 3, "Rankings or searches in each way.", lower_bound=1)
REFERENCES = flags.DEFINE_integer(
  "references", 4, "Plain trainings of each network for the reference ranking.", lower_bound=1
)
FIRST_ADDITIONS = flags.DEFINE_bool(
  "first_additions", False, "Rank the start with one more block; ignores --ranked."
)
SEARCH = flags.DEFINE_bool("search", False, "Whole searches instead of rankings.")
WAYS = flags.DEFINE_list("ways", [], "Rows besides random search; all by default.")
_FIRST_REFERENCE = 1_000  # A replicate that nothing else uses.
_LOSSES = "sum of losses"


def ways(config: ConfigDict, steps: int) -> dict[str, dict[str, Any]]:
  """Returns the changes of each way to a config with `steps` training steps."""
  train, third = config.train, max(steps // 3, 1)
  duration = "epochs" if train.epochs else "steps"
  shorter = train[duration] / 3 if train.epochs else third
  schedule = {
    "train.milestones": tuple(milestone / 3 for milestone in train.milestones),
    "train.warmup_steps": train.warmup_steps // 3,
  }
  return {
    "plain": {},
    _LOSSES: {"score": "negative_train_loss"},
    "short": {f"train.{duration}": shorter} | schedule,
    "race": {"search.options": {"race": [1, 3, 6]}},
  }


def chosen_ways(config: ConfigDict, steps: int) -> dict[str, dict[str, Any]]:
  """Returns the ways that --ways names.

  Raises:
    ValueError: If a name is unknown.
  """
  known = ways(config, steps)
  if unknown := set(WAYS.value) - set(known):
    raise ValueError(f"unknown way {min(unknown)!r}; allowed: {', '.join(known)}")
  return {name: changes for name, changes in known.items() if name in (WAYS.value or known)}


def random_chains(setup: Setup, count: int) -> list[tuple[int, ...]]:
  """Draws distinct networks within the budgets; each extends another by a block."""
  rng, found = np.random.default_rng(0), {tuple(setup.space.start): None}
  mask = start = jnp.asarray(setup.space.required)
  for _ in range(100 * count):
    additions = setup.problem.additions(mask)
    elements = np.flatnonzero(additions.fits)
    if len(found) == count:
      break
    mask = start if not elements.size else mask.at[rng.choice(elements)].set(True)
    architecture = setup.space.canonical(setup.space.architecture(np.asarray(mask)))
    found.setdefault(tuple(architecture.tolist()))
  return sorted(found, key=np.count_nonzero)


def trained(setup: Setup, log: Journal) -> Objective:
  """The set function of a search, by training."""
  evaluator = TrainingEvaluator(setup.space, setup.data, setup.config)
  return search.objective_for(setup, evaluator, log)[0]


def measure(config: ConfigDict, networks: Sequence[tuple[int, ...]], log: Journal) -> np.ndarray:
  """Measures networks as a search would. `[N]`."""
  setup = make_setup(config)
  objective = trained(setup, log)
  values = np.array(objective.scores(networks, [[0]] * len(networks)))[:, 0]
  if _races(config):  # As in a search, where these are the first to be trained.
    return race_first_step(setup, objective, networks)
  return values


def race_first_step(
  setup: Setup, objective: Objective, networks: Sequence[tuple[int, ...]]
) -> np.ndarray:
  """Races the start with one more block, as the first step of a search does; the means `[N]`."""
  measured = objective.function(setup.config["search"]["replicates"])
  most = np.count_nonzero(setup.space.required) + 1
  found: dict[str, list[float]] = {setup.space.key(network): [] for network in networks}

  def value(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values = np.full(len(masks), -np.inf)  # A second step finds nothing to add.
    errors = np.zeros(len(masks))
    of_first = np.count_nonzero(masks, axis=1) <= most
    if of_first.any():
      values[of_first], errors[of_first] = measured(masks[of_first])
    for architecture, own in zip(setup.space.architecture(masks[of_first]), values[of_first]):
      found[setup.space.key(architecture)].append(float(own))
    return values, errors

  optimizers.maximize(setup.problem, value, setup.optimizer, seed=setup.config["seed"])
  return np.array([np.mean(found[setup.space.key(network)]) for network in networks])


def _races(config: ConfigDict) -> bool:
  return "race" in config.search.options


def rank(config: ConfigDict, workdir: pathlib.Path) -> Table:
  """Compares the ranking of each way with the mean of other plain trainings."""
  setup = make_setup(config)
  steps = training.recipe(config.train, setup.data).steps
  networks = random_chains(setup, NETWORKS.value)
  if first := FIRST_ADDITIONS.value:
    additions = map(setup.space.canonical, first_additions(setup))
    networks = [tuple(network.tolist()) for network in additions]
  log = searches.open_log(config, workdir / "reference")
  replicates = range(_FIRST_REFERENCE, _FIRST_REFERENCE + REFERENCES.value)
  wanted = [replicates] * len(networks)
  reference = np.mean(trained(setup, log).scores(networks, wanted, full=True), axis=1)
  table = Table(
    title=f"{setup.space.name}: {len(networks)} networks, n = {SEEDS.value}, {device()}"
  )
  for column in ("", "steps a network", f"rank correlation with {REFERENCES.value} other seeds"):
    table.add_column(column, justify="right")
  for name, changes in chosen_ways(config, steps).items():
    if _races(searches.changed(config, 0, changes)) and not first:
      continue  # The networks of chains are not all compared in one step.
    found, taken = [], []
    for seed in range(SEEDS.value):
      # The losses of the plain trainings are known already.
      own = searches.changed(config, seed, {} if name == _LOSSES else changes)
      log = searches.open_log(own, workdir / f"{'plain' if name == _LOSSES else name}_{seed}")
      values = measure(own, networks, log)
      if name == _LOSSES:
        losses = {e.key: e.metrics["train_loss"] if e.metrics else np.inf for e in log}
        values = -np.array([losses[setup.space.key(network)] for network in networks])
      found.append(stats.spearmanr(values, reference).statistic)
      taken.append(sum(e.steps for e in log) / len(networks))
      jax.clear_caches()  # Each way has its own programs; many would fill the memory.
    table.add_row(name, with_error(taken, 0), with_error(found, 3))
  return table


def run_search(config: ConfigDict, workdir: pathlib.Path) -> dict[str, float]:
  """Runs a search, trains its answer to completion and tests it; keeps all in the workdir.

  Returns:
    Steps of the search and of its finalists, networks trained, seconds of their training, accuracy
    (a share) and loss (nats) of the answer on the test images.
  """
  setup = make_setup(config)
  log = searches.open_log(config, workdir)
  result = searches.result(setup, log, workdir)
  fresh = setup.most_measurements * config.search.replicates
  steps = [[e.steps for e in log if (e.replicate >= fresh) == finalist] for finalist in (0, 1)]
  test = final.train(
    setup.space, result["architecture"], setup.data, config.to_dict(), workdir / "train"
  )["test"]
  jax.clear_caches()  # Each search has its own programs; many would fill the memory.
  return {
    "steps": sum(steps[0]),
    "finalists' steps": sum(steps[1]),
    "trainings": len(log),
    "train s": sum(e.seconds for e in log),
    "test accuracy": test["accuracy"],
    "test loss": test["loss"],
  }


def search_all(config: ConfigDict, workdir: pathlib.Path, console: Console) -> Table:
  """Runs searches in each way, and random search at the cost of the plain ones."""
  setup = make_setup(config)
  steps = training.recipe(config.train, setup.data).steps
  rows: dict[str, list[dict[str, float]]] = {}
  for name, changes in chosen_ways(config, steps).items():
    rows[name] = []
    for seed in range(SEEDS.value):
      rows[name].append(
        run_search(searches.changed(config, seed, changes), workdir / f"{name}_{seed}")
      )
      console.print(f"{name} {seed}: {rows[name][-1]}")
  if plain := rows.get("plain"):
    name = "random at the cost of plain"
    rows[name] = []
    for seed in range(SEEDS.value):
      measured = max(round(plain[seed]["steps"] / steps), 1)
      changes = {"search.optimizer": "random_search", "search.max_evaluations": measured}
      rows[name].append(
        run_search(searches.changed(config, seed, changes), workdir / f"{name}_{seed}")
      )
      console.print(f"{name} {seed}: {rows[name][-1]}")
  table = Table(title=f"{setup.space.name}: searches, n = {SEEDS.value}, {device()}")
  columns = {
    "steps": 0,
    "finalists' steps": 0,
    "trainings": 0,
    "train s": 0,
    "test accuracy": 4,
    "test loss": 4,
  }
  for column in ("", *columns):
    table.add_column(column, justify="right")
  for name, results in rows.items():
    cells = [with_error([r[column] for r in results], digits) for column, digits in columns.items()]
    table.add_row(name, *cells)
  return table


def device() -> str:
  """Names the number and kind of the devices."""
  return f"{parallel.device_count()} x {jax.local_devices()[0].device_kind}"


def main(config: ConfigDict) -> None:
  """Prints a table."""
  console = Console(width=150, highlight=False)
  kind = "search" if SEARCH.value else "first" if FIRST_ADDITIONS.value else "chains"
  workdir = common.workdir() / kind
  try:
    table = search_all(config, workdir, console) if SEARCH.value else rank(config, workdir)
  except ValueError as error:
    common.fail(error)
  console.print(table)


if __name__ == "__main__":
  common.run(main)

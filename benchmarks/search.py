"""Searches of equal cost on one config, several seeds of each way to search.

python -m benchmarks.search [--config=configs/digits.py] [--seeds=5] [--workdir=runs/benchmark]
                            [--ways=rcas,random_search] [--cost=0]

The ways are `rcas`, `random_search`, `surrogate`, `shared_weights` (networks are scored, only
finalists are trained) and `guided` (the surrogate chooses by shared weights what to train). The
cost is a number of trainings, without those of finalists, which every way makes alike. It is that
of `rcas` with the same seed, or --cost. Shared weights cost as many trainings as see as many
images. The answers are judged by trainings with unseen seeds, and by the test accuracy after
training to completion. The same command resumes a stopped run.
"""

import pathlib
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from benchmarks import searches
from benchmarks.spread import with_deviation, with_error
from experiments import common
from nas_submod import data, search, training
from nas_submod.evaluation.evaluator import mean
from nas_submod.evaluation.shared_weights import settings as shared_settings
from nas_submod.evaluation.training_evaluator import TrainingEvaluator
from nas_submod.search.setup import make_setup
from nas_submod.training import final

SEEDS = flags.DEFINE_integer("seeds", 5, "Searches in each way.", lower_bound=1)
JUDGES = flags.DEFINE_integer("judges", 8, "Trainings that judge an answer.", lower_bound=2)
FINAL = flags.DEFINE_bool("final", True, "Train each answer to completion and test it.")
WAYS = flags.DEFINE_list("ways", ["rcas", "random_search"], "Ways to search.")
COST = flags.DEFINE_integer("cost", 0, "Trainings of a search; 0: as many as rcas makes.")
_FIRST_JUDGE = 1_000  # A replicate that no search uses.


def ways(config: ConfigDict, cost: int) -> dict[str, dict[str, Any]]:
  """Returns the changes of each way to a config, for `cost` trainings; 0: no limit.

  Each way has its own options, or those of the config if that searches in this way.
  """
  guided = {"features": "shared_weights", "evaluations": max(round(cost - store_cost(config)), 1)}
  found = {
    "rcas": ("rcas", {}, {"search.max_evaluations": COST.value}),
    # Draws that fill the budgets are the strongest ones.
    "random_search": ("random_search", {"stop": 0.0, "evaluations": cost or 1}, {}),
    "surrogate": ("surrogate", {"evaluations": cost or 1}, {}),
    "shared_weights": ("rcas", {}, {"evaluation.method": "shared_weights"}),
    "guided": ("surrogate", guided, {}),
  }
  search, changes = config.search, {}
  for name, (optimizer, options, more) in found.items():
    own = dict(search.options) if search.optimizer == optimizer else {}
    changes[name] = {"search.optimizer": optimizer, "search.options": own | options} | more
  return changes


def store_cost(config: ConfigDict) -> float:
  """Returns what shared weights cost, in trainings of a network."""
  images = data.load(config.data)
  shared = shared_settings.from_config(config, images)
  recipe = training.recipe(config.train, images)
  trained = shared.stores * shared.recipe.steps * shared.recipe.batch_size
  return trained / (recipe.steps * recipe.batch_size)


def run_search(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
  """Runs a search and judges its answer; keeps both in the workdir."""
  setup = make_setup(config)
  log = searches.open_log(config, workdir)
  result = searches.result(setup, log, workdir)
  train = TrainingEvaluator(setup.space, setup.data, config)
  judge, _ = search.objective_for(setup, train, log)
  replicates = range(_FIRST_JUDGE, _FIRST_JUDGE + JUDGES.value)
  [scores] = judge.scores([result["architecture"]], [replicates], full=True)
  result["judged"] = mean(scores)
  trained = {
    (e.key, e.replicate) for e in log if e.method == "training" and e.replicate < _FIRST_JUDGE
  }
  of_finalists = {(setup.space.key(f["architecture"])) for f in result["finalists"]}
  fresh = setup.most_measurements * config.search.replicates
  result["trainings"] = sum(not (key in of_finalists and r >= fresh) for key, r in trained)
  result["trainings"] += store_cost(config) * setup.shares
  if FINAL.value:
    metrics = final.train(
      setup.space, result["architecture"], setup.data, config, workdir / "train"
    )
    result["test"] = metrics["test"]
  jax.clear_caches()  # Each search has its own programs; many would fill the memory.
  return result


def main(config: ConfigDict) -> None:
  """Runs all searches and prints the table."""
  known = ways(config, 1)
  if unknown := sorted(set(WAYS.value) - set(known)):
    common.fail(f"unknown way {unknown[0]!r}; allowed: {', '.join(known)}")
  if not COST.value and WAYS.value[0] != "rcas":
    common.fail("--ways begins with rcas, whose cost is that of the others; or give --cost")
  rows: dict[str, list[dict[str, Any]]] = {name: [] for name in WAYS.value}
  console = Console(width=150, highlight=False)
  for seed in range(SEEDS.value):
    for name in rows:
      cost = COST.value or (rows["rcas"][-1]["measured"] if name != "rcas" else 0)
      this = searches.changed(config, seed, ways(config, cost)[name])
      try:
        rows[name].append(run_search(this, common.workdir() / f"{name}_{seed}"))
      except ValueError as error:
        common.fail(error)
      console.print(f"{name} {seed}: judged {rows[name][-1]['judged']:.4f}")
  first = rows[WAYS.value[-1]]
  table = Table(title=f"{config.space.name}, n = {SEEDS.value}, {first[0]['devices']}")
  judged = f"{config.score}, {JUDGES.value} unseen seeds"
  for column in ("", "trainings", judged, f"ahead of {WAYS.value[-1]}", "test"):
    table.add_column(column, justify="right")
  for name, results in rows.items():
    gaps = [a["judged"] - b["judged"] for a, b in zip(results, first)]
    table.add_row(
      name,
      with_deviation([r["trainings"] for r in results], 0),
      with_deviation([r["judged"] for r in results], 4),
      with_error(gaps, 4) if name != WAYS.value[-1] else "",
      with_deviation([100 * r["test"]["accuracy"] for r in results], 2) + " %"
      if FINAL.value
      else "",
    )
  console.print(table)
  console.print("trainings: without finalists; ahead: paired by seed, mean and standard error")


if __name__ == "__main__":
  common.run(main)

"""RCAS against random search of equal cost on one config, several seeds of each.

python -m benchmarks.search [--config=configs/digits.py] [--seeds=5] [--workdir=runs/benchmark]

For each seed RCAS runs first, and random search gets as many evaluations. Both choose among their
finalists by new trainings in the same way. The answers are then judged by trainings with unseen
seeds, and by the test accuracy after training to completion. The same command resumes a stopped
run.
"""

import json
import pathlib
from typing import Any

from absl import flags
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from benchmarks.spread import with_deviation
from experiments import common
from nas_submod import data, files, search
from nas_submod.evaluation.evaluator import mean
from nas_submod.evaluation.journal import JOURNAL_FILE, Journal
from nas_submod.evaluation.training_evaluator import TrainingEvaluator
from nas_submod.search.setup import make_setup
from nas_submod.training import final
from nas_submod.workdir import make_workdir

SEEDS = flags.DEFINE_integer("seeds", 5, "Searches with each optimizer.")
JUDGES = flags.DEFINE_integer("judges", 8, "Trainings that judge an answer.")
FINAL = flags.DEFINE_bool("final", True, "Train each answer to completion and test it.")
_FIRST_JUDGE = 1_000  # A replicate that no search uses.


def run_search(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
  """Runs a search and judges its answer; keeps both in the workdir."""
  setup = make_setup(config)
  log = Journal(make_workdir(workdir, config.to_dict()) / JOURNAL_FILE)
  evaluator = TrainingEvaluator(setup.space, setup.data, config, log.weights)
  path = workdir / "result.json"
  if not path.exists():
    files.write_json(path, search.run(setup, evaluator, log))
  result = json.loads(path.read_text())
  judge, _ = search.objective_for(setup, evaluator, log)
  replicates = range(_FIRST_JUDGE, _FIRST_JUDGE + JUDGES.value)
  [scores] = judge.scores([result["architecture"]], [replicates], full=True)
  result["judged"] = mean(scores)
  if FINAL.value:
    images = data.load(config.data)
    metrics = final.train(setup.space, result["architecture"], images, config, workdir / "train")
    result["test"] = metrics["test"]
  return result


def evaluations(result: dict[str, Any]) -> int:
  """Returns how many distinct sets a search measured, without the trainings of finalists."""
  return int(result["measured"])


def main(config: ConfigDict) -> None:
  """Runs all searches and prints the table."""
  rows: dict[str, list[dict[str, Any]]] = {"rcas": [], "random_search": []}
  console = Console(soft_wrap=True)
  for seed in range(SEEDS.value):
    for name in rows:
      this = config.copy_and_resolve_references()
      this.seed = seed
      this.search.optimizer = name
      if name == "random_search":
        this.search.max_evaluations = evaluations(rows["rcas"][-1])
      rows[name].append(run_search(this, common.workdir() / f"{name}_{seed}"))
      console.print(f"{name} {seed}: judged {rows[name][-1]['judged']:.4f}", highlight=False)
  table = Table(title=f"{config.space.name}, n = {SEEDS.value}, {rows['rcas'][0]['devices']}")
  for column in ("", "sets measured", f"{config.score}, {JUDGES.value} unseen seeds", "test"):
    table.add_column(column, justify="right")
  for name, results in rows.items():
    table.add_row(
      name,
      with_deviation([evaluations(r) for r in results], 0),
      with_deviation([r["judged"] for r in results], 4),
      with_deviation([100 * r["test"]["accuracy"] for r in results], 2) + " %"
      if FINAL.value
      else "",
    )
  console.print(table)
  gaps = [a["judged"] - b["judged"] for a, b in zip(rows["rcas"], rows["random_search"])]
  console.print(f"rcas - random_search, paired by seed: {with_deviation(gaps, 4)}", highlight=False)


if __name__ == "__main__":
  common.run(main)

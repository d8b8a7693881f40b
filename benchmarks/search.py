"""RCAS beside random search of equal cost, n seeds of each, on one config.

python -m benchmarks.search [--config=configs/digits.py] [--seeds=5] [--workdir=runs/benchmark]

For each seed RCAS runs first; random search gets as many evaluations. Both choose among finalists
by fresh seeds in the same way. The answers are then compared by trainings with seeds that neither
has seen, and by the test accuracy of the network trained to completion. Started again, it goes on.
"""

import json
import pathlib
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from experiments import common
from nas_submod import data, files, search
from nas_submod.evaluation import journal, objective
from nas_submod.search.setup import prepare
from nas_submod.training import final

SEEDS = flags.DEFINE_integer("seeds", 5, "Searches of each kind.")
JUDGES = flags.DEFINE_integer("judges", 8, "Trainings that judge an answer.")
FINAL = flags.DEFINE_bool("final", True, "Train every answer to completion and test it.")
_FIRST_JUDGE = 1_000  # A replicate that no search uses.


def run_search(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
  """One search and the judgement of its answer; kept in the workdir."""
  setup = prepare(config)
  log = journal.Journal(journal.open_workdir(workdir, config.to_dict()) / journal.JOURNAL_FILE)
  path = workdir / "result.json"
  if not path.exists():
    files.write_json(path, search.run(setup, log))
  result = json.loads(path.read_text())
  judge = objective.ProxyObjective(setup.space, setup.data, config, log)
  replicates = range(_FIRST_JUDGE, _FIRST_JUDGE + JUDGES.value)
  [scores] = judge.scores([result["architecture"]], [replicates], afresh=True)
  result["judged"] = objective.mean(scores)
  if FINAL.value:
    images = data.load(config.data)
    metrics = final.train(setup.space, result["architecture"], images, config, workdir / "train")
    result["test"] = metrics["test"]
  return result


def evaluations(result: dict[str, Any]) -> int:
  """Distinct sets that a search measured, finalists' further trainings apart."""
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
      spread([evaluations(r) for r in results], 0),
      spread([r["judged"] for r in results], 4),
      spread([100 * r["test"]["accuracy"] for r in results], 2) + " %" if FINAL.value else "",
    )
  console.print(table)
  gaps = [a["judged"] - b["judged"] for a, b in zip(rows["rcas"], rows["random_search"])]
  console.print(f"rcas - random_search, paired by seed: {spread(gaps, 4)}", highlight=False)


def spread(values: list[float], digits: int) -> str:
  """Mean and standard deviation."""
  deviation = np.std(values, ddof=1) if len(values) > 1 else float("nan")
  return f"{np.mean(values):.{digits}f} ± {deviation:.{digits}f}"


if __name__ == "__main__":
  common.run(main)

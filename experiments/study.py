"""Measures how submodular the score is, on a table of networks or on a search config.

python -m experiments.study --table=nas_bench_macro.csv --workdir=runs/study_macro
python -m experiments.study --config=configs/digits.py --workdir=runs/study_digits
  [--chains=20] [--trainings=3] [--longer=4]

A table has every network trained (`benchmarks/tables.py` describes it): all its sets are compared,
and RCAS is compared with RCAS without each of its parts and with other optimizers (`--seeds=0` runs
none). For a config, random chains of networks are trained; `--longer` also trains some of them that
many times as long and compares the rankings. The same command resumes a stopped run. It writes
study.json and figures (SVG) to the workdir. docs/study.md explains the measures.
"""

import importlib
import pathlib
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from experiments import common, study_figures, study_search, study_text
from nas_submod import files
from nas_submod.evaluation.evaluator import EvaluationError
from nas_submod.workdir import locked

TABLE = flags.DEFINE_string("table", None, "CSV file of trained networks, instead of a config.")
COSTS = flags.DEFINE_list("costs", [], "Cost columns of the table; by default all possible.")
MEASURED = flags.DEFINE_string("measured", None, "Accuracy of the table that is F; a short one.")
BUDGETS = flags.DEFINE_enum("budgets", "diagonal", ["diagonal", "grid"], "Budgets of the table.")
SEEDS = flags.DEFINE_integer("seeds", 20, "Runs of each optimizer; 0: none.", lower_bound=0)
LIMIT = flags.DEFINE_integer("measurements", 100, "Most measurements of a run.", lower_bound=1)
RIVALS = flags.DEFINE_list("rivals", [], "Other optimizers by name; by default all.")
CHAINS = flags.DEFINE_integer("chains", 20, "Chains of random blocks, of a config.", lower_bound=1)
TRAININGS = flags.DEFINE_integer(
  "trainings", 3, "Trainings of each of their networks; the noise needs two.", lower_bound=2
)
LONGER = flags.DEFINE_float(
  "longer", 1, "Train some of them as many times as long; 1: none.", lower_bound=1, upper_bound=1e3
)
RANKED = flags.DEFINE_integer("ranked", 32, "Networks that are trained longer.", lower_bound=3)
_OF_TABLES = (COSTS, MEASURED, BUDGETS, SEEDS, LIMIT, RIVALS)


def main(config: ConfigDict) -> None:
  """Measures, prints, and writes the result and its figures."""
  try:
    if common.DISTRIBUTED.value:
      raise ValueError("--distributed is not allowed: a study runs in one process")
    common.start_console()
    of_other = (CHAINS, TRAININGS, LONGER, RANKED) if TABLE.value else _OF_TABLES
    if unused := [flag.name for flag in of_other if flag.present]:
      what = "a config, not for --table" if TABLE.value else "--table, not for a config"
      raise ValueError(f"--{unused[0]} is for a study of {what}")
    if not LONGER.value >= 1:
      raise ValueError(f"--longer={LONGER.value}; allowed: numbers from 1")
    named = common.WORKDIR.value is not None
    workdir = common.workdir() if named else pathlib.Path("runs/study")
    tell = study_search.to_stderr
    with locked(workdir):
      if TABLE.value:
        study_table = _study_table()
        found = study_table.study(
          study_table.Settings(
            table=TABLE.value,
            costs=tuple(COSTS.value),
            measured=MEASURED.value,
            budgets=BUDGETS.value,
            seeds=SEEDS.value,
            measurements=LIMIT.value,
          ),
          RIVALS.value,
          workdir,
          tell,
        )
      else:
        some = study_search.Longer(LONGER.value, RANKED.value)
        longer = some if LONGER.value > 1 else None
        sizes = study_search.Sizes(CHAINS.value, TRAININGS.value)
        found = study_search.study(config, sizes, longer, workdir, tell)
      files.write_json(workdir / "study.json", found)
      # As read from the file: numbers that are not finite are null.
      found = files.read_json(workdir / "study.json")
      print(study_text.describe(found))
      study_figures.write(found, workdir)
  except ValueError as error:
    common.fail(error)
  except EvaluationError as error:
    common.fail(error, 1)


def _study_table() -> Any:
  """The module that studies tables; an installed package lacks it.

  Raises:
    ValueError: If it is not there.
  """
  try:
    return importlib.import_module("benchmarks.study_table")
  except ModuleNotFoundError as error:
    if error.name != "benchmarks":
      raise
    raise ValueError("--table needs the folder benchmarks: run it in the repository") from None


if __name__ == "__main__":
  common.run(main)

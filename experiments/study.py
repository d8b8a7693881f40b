"""Will a submodularity assumption help? Measures it on a table of networks or on a search config.

python -m experiments.study --table=nas_bench_macro.csv --workdir=runs/study_macro
python -m experiments.study --config=configs/digits.py --workdir=runs/study_digits
  [--chains=20] [--trainings=3] [--longer=4]

A table has every network trained (`benchmarks/tables.py` describes it): all its sets are compared,
RCAS is run without each of its parts, and beside other optimizers. Of a config, random chains of
networks are trained; `--longer` also trains some of them that many times as long and compares the
ranking. The same command resumes a stopped run. It writes study.json and figures (SVG) to the
workdir. docs/study.md explains the measures.
"""

import importlib.util
import json
import math
import pathlib
from typing import Any

import numpy as np
import scipy.stats
from absl import flags
from ml_collections import ConfigDict

from experiments import common, study_figures, study_search, study_text
from nas_submod import files, search
from nas_submod.set_functions import extremes, properties
from nas_submod.set_functions.measured import Measured, additions, measured
from nas_submod.validation import at_least_one
from nas_submod.workdir import locked, make_workdir

TABLE = flags.DEFINE_string("table", None, "CSV file of trained networks, instead of a config.")
COSTS = flags.DEFINE_list("costs", [], "Cost columns of the table; by default all possible.")
MEASURED = flags.DEFINE_string("measured", None, "Accuracy of the table that is F; a short one.")
BUDGETS = flags.DEFINE_enum("budgets", "diagonal", ["diagonal", "grid"], "Budgets of the table.")
SEEDS = flags.DEFINE_integer("seeds", 20, "Runs of each optimizer on each budget.")
LIMIT = flags.DEFINE_integer("measurements", 100, "Most measurements of a run.")
RIVALS = flags.DEFINE_list("rivals", [], "Other optimizers by name; by default all.")
CHAINS = flags.DEFINE_integer("chains", 20, "Chains of random additions to train, of a config.")
TRAININGS = flags.DEFINE_integer("trainings", 3, "Trainings of each of their networks.")
LONGER = flags.DEFINE_float("longer", 0, "Train some as many times as long; 0: none.")
RANKED = flags.DEFINE_integer("ranked", 32, "Networks that are trained longer.")

_THRESHOLDS = (1.0, 0.5, 0.3, 0.2, 0.1)  # points of regret
_TAIL = np.arange(0, 5.01, 0.25)  # standard errors
_SIMULATIONS = 200
_RESAMPLES = 200
_SEED = 2019


def assumption(of: Measured, samples: np.ndarray, start: int) -> dict[str, Any]:
  """What the measured sets say of monotonicity and submodularity, as plain values."""
  after = additions(of.masks)
  found: dict[str, Any] = {
    "sets": len(of.masks),
    "networks": int(of.objects.max()) + 1,
    "trainings": samples.shape[1],
    "noise": [float(of.errors.min()), float(of.errors.max())],  # of a mean
  }
  rows = {"monotone": properties.single_gains(after), "diminishing": properties.squares(after)}
  for name, where in rows.items():
    contrasts = properties.contrasts(of, where)
    found[name] = properties.violations(contrasts)._asdict()
    if samples.shape[1] > 1 and len(where):
      ratios = contrasts.estimates / np.maximum(contrasts.errors, 1e-300)
      found[name] |= {
        "held_out": properties.held_out(samples, where)._asdict(),
        "false_positives": properties.false_positives(
          of, samples, where, _SIMULATIONS, np.random.default_rng(_SEED)
        ),
        "tail": [float(np.mean(ratios < -bound)) for bound in _TAIL],
      }
  found["ratio"] = extremes.submodularity_ratio(of, after)._asdict()
  found["curvature"] = extremes.curvature(of, after, start)._asdict()
  return found


def rank_correlation(left: np.ndarray, right: np.ndarray) -> tuple[float, float]:
  """Spearman's correlation of two scores `[N]`, and its standard error by the bootstrap."""
  rng = np.random.default_rng(_SEED)
  draws = rng.integers(0, len(left), (_RESAMPLES, len(left)))
  found = [scipy.stats.spearmanr(left[rows], right[rows]).statistic for rows in draws]
  return float(scipy.stats.spearmanr(left, right).statistic), float(np.nanstd(found, ddof=1))


def study_table(workdir: pathlib.Path) -> dict[str, Any]:
  """The study of a table."""
  if importlib.util.find_spec("benchmarks") is None:
    raise ValueError("--table needs the folder benchmarks of the repository: run it from there")
  from benchmarks import ablations, tables

  table = tables.Table(str(TABLE.value), COSTS.value, MEASURED.value)
  pairs = {"diagonal": tables.diagonal, "grid": tables.grid}[BUDGETS.value]
  instances = table.instances(pairs(len(table.cost_names)))
  if not instances:
    raise ValueError(f"{TABLE.value}: no budget of the {BUDGETS.value} allows any network")
  known = ablations.rivals(LIMIT.value)
  if unknown := set(RIVALS.value) - set(known):
    raise ValueError(f"--rivals: unknown {min(unknown)!r}; allowed: {', '.join(known)}")
  settings = {
    "table": table.name,
    "costs": table.cost_names,
    "measured": MEASURED.value,
    "budgets": BUDGETS.value,
    "seeds": SEEDS.value,
    "measurements": LIMIT.value,
  }
  make_workdir(workdir, settings)
  problem = instances[0].case.problem
  masks, rows, objects = ablations.all_sets(table, problem)
  samples = table.scores[rows]
  of = measured(masks, samples, objects)
  start = int(np.flatnonzero(~masks.any(axis=1))[0])
  result: dict[str, Any] = settings | assumption(of, samples, start)
  grown = properties.random_additions(of, additions(masks), start)
  result["growth"] = {name: value.tolist() for name, value in grown._asdict().items()}
  if samples.shape[1] > 1 or MEASURED.value:
    others = table.final if MEASURED.value else table.scores[:, 1:].mean(axis=1)
    result["rank_correlation"] = rank_correlation(table.scores[:, 0], others)
  chosen = {name: known[name] for name in known if name in (RIVALS.value or known)}
  optimizers = ablations.ablated(problem.m, problem.canonical is not None) | chosen
  kinds = ablations.KINDS if samples.shape[1] > 1 else ablations.KINDS[:1]
  runs = ablations.run_all(
    optimizers, instances, LIMIT.value, SEEDS.value, workdir, study_search.to_stderr, kinds
  )
  result["optimizers"] = {
    name: {kind: ablations.summary(instances, found, _THRESHOLDS) for kind, found in run.items()}
    for name, run in runs.items()
  }
  result["changed"] = {
    name: {key: value.tolist() for key, value in change._asdict().items()}
    for name, change in ablations.changed_answers(instances).items()
  }
  result["one_type"] = ablations.one_type_only(instances, masks, table.final[rows])
  return result


def study_search_config(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
  """The study of a search config, by training."""
  tell = study_search.to_stderr
  setup = search.make_setup(config)
  design = study_search.draw(setup, CHAINS.value)
  found = study_search.sample(setup, config, design, TRAININGS.value, workdir, tell)
  result: dict[str, Any] = {
    "space": setup.space.name,
    "score": config.score,
    "failed": found.failed,
    **assumption(found.of, found.samples, 0),
    "growth": study_search.growth(found.chains, float(found.of.errors[0])),
  }
  if LONGER.value:
    rows = sorted({row for chain in design.chains for row in chain})
    networks, _ = study_search.distinct(setup, design.masks[rows])
    networks = [networks[i] for i in np.random.default_rng(_SEED).permutation(len(networks))]
    networks = networks[: RANKED.value]
    known, _ = study_search.distinct(setup, design.masks)
    short = study_search.evaluate(config, known, TRAININGS.value, workdir, tell)
    short = short[[known.index(network) for network in networks]]
    long_config = study_search.longer(config, LONGER.value)
    long = study_search.evaluate(long_config, networks, 1, workdir / "longer", tell)[:, 0]
    good = np.isfinite(short).all(axis=1) & np.isfinite(long)
    result["longer"] = LONGER.value
    result["ranked"] = int(good.sum())
    result["rank_correlation"] = rank_correlation(short[good, 0], long[good])
    result["rank_correlation_of_means"] = rank_correlation(short[good].mean(axis=1), long[good])
  return result


def main(config: ConfigDict) -> None:
  """Measures, prints, and writes the result and its figures."""
  try:
    at_least_one(chains=CHAINS.value, seeds=SEEDS.value, measurements=LIMIT.value)
    if TRAININGS.value < 2:
      raise ValueError(f"--trainings={TRAININGS.value}; allowed: 2 or more, to know the noise")
    if not (LONGER.value == 0 or 1 < LONGER.value < math.inf):
      raise ValueError(f"--longer={LONGER.value:g}; allowed: 0 for none, or above 1")
    workdir = common.workdir() if common.WORKDIR.value else pathlib.Path("runs/study")
    with locked(workdir):
      found = study_table(workdir) if TABLE.value else study_search_config(config, workdir)
      files.write_json(workdir / "study.json", found)
      # As a reader of the file has it: NaN is null.
      found = json.loads((workdir / "study.json").read_text())
      print(study_text.describe(found))
      study_figures.write(found, workdir)
  except ValueError as error:
    return common.fail(error)
  return None


if __name__ == "__main__":
  common.run(main)

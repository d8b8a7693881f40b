"""The study of a table of trained networks: all its sets, ablations of RCAS, other optimizers."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks import ablations, tables
from experiments.study_measures import assumption, rank_correlation
from nas_submod import files
from nas_submod.set_functions.measured import additions, measured
from nas_submod.set_functions.properties import random_additions
from nas_submod.workdir import make_workdir

_THRESHOLDS = (1.0, 0.5, 0.3, 0.2, 0.1)  # points of regret


class Settings(NamedTuple):
  """What decides the study of a table.

  Attributes:
    table: A CSV file, see `benchmarks/tables.py`.
    costs: Its cost columns; empty for all possible.
    measured: The accuracy that is F, such as one after a short training; None for all.
    budgets: "diagonal" or "grid".
    seeds: Runs of each optimizer on each budget; 0 runs none.
    measurements: Most measurements of a run.
  """

  table: str
  costs: tuple[str, ...] = ()
  measured: str | None = None
  budgets: str = "diagonal"
  seeds: int = 20
  measurements: int = 100


def study(
  settings: Settings, rivals: list[str], workdir: pathlib.Path, tell: Callable[[str], None]
) -> dict[str, Any]:
  """Studies a table; finished runs of optimizers are kept in the workdir.

  Args:
    settings: What is studied.
    rivals: Other optimizers by name; empty for all.
    workdir: The folder.
    tell: Called with a line for each optimizer.

  Raises:
    ValueError: If something is unknown, or the workdir belongs to another study.
  """
  known = ablations.rivals(settings.measurements)
  if unknown := set(rivals) - set(known):
    raise ValueError(f"--rivals: unknown {min(unknown)!r}; allowed: {', '.join(known)}")
  table = tables.Table(settings.table, settings.costs, settings.measured)
  pairs = {"diagonal": tables.diagonal, "grid": tables.grid}[settings.budgets]
  instances = table.instances(pairs(len(table.cost_names)))
  problem = instances[0].case.problem
  masks, rows, objects = ablations.all_sets(table, problem)
  if masks.any(axis=1).all():
    raise ValueError(f"{settings.table} has no network without blocks, where a study begins")
  plain = settings._asdict() | {"table": table.name, "costs": table.cost_names}
  content = files.fingerprint(files.local_path(settings.table).read_bytes())
  make_workdir(workdir, plain, inputs={"content of the table": content})
  samples = table.scores[rows]
  of = measured(masks, samples, objects)
  start = int(np.flatnonzero(~masks.any(axis=1))[0])
  result = plain | {"left_out": table.left_out} | assumption(of, samples, start)
  result["all_sets"] = int(np.prod(np.bincount(table.groups) + 1.0))
  if result["all_sets"] == result["sets"]:  # Otherwise the means depend on which sets are missing.
    grown = random_additions(of, additions(masks), start)
    result["growth"] = {name: value.tolist() for name, value in grown._asdict().items()}
  if samples.shape[1] > 1 or settings.measured:
    longer = table.final if settings.measured else table.scores[:, 1:].mean(axis=1)
    result["rank_correlation"] = rank_correlation(table.scores[:, 0], longer)
  result["one_type"] = ablations.one_type_only(instances, masks, table.final[rows])
  if not settings.seeds:
    return result
  others = {name: known[name] for name in known if name in (rivals or known)}
  result["rivals"] = list(others)
  optimizers = ablations.ablated(problem.m, problem.canonical is not None) | others
  runs = ablations.run_all(
    optimizers,
    instances,
    settings.measurements,
    settings.seeds,
    workdir,
    tell,
    ablations.KINDS if samples.shape[1] > 1 else ablations.KINDS[:1],
  )
  result["optimizers"] = {
    name: {kind: ablations.summary(instances, found, _THRESHOLDS) for kind, found in run.items()}
    for name, run in runs.items()
  }
  result["changed"] = {
    name: {key: value.tolist() for key, value in change._asdict().items()}
    for name, change in ablations.changed_answers(instances).items()
  }
  return result

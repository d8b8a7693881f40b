"""Regret of every optimizer against measurements, on a table of trained networks.

python -m benchmarks.optimizers --table=PATH.csv [--costs=params,flops] [--budgets=grid|diagonal]
                                [--measured=acc0]
python -m benchmarks.optimizers --synthetic=widths|cells|layers|sensors|proxy [--problems=3]

`benchmarks/tables.py` describes the table. Budgets are fractions of the costs of the largest
network: all tuples of 0.2, 0.3, ..., 0.8 (grid), or equal ones from 0.3 on (diagonal). Budgets that
allow no network are left out. F is measured exactly (mean of all trainings) or noisily (one random
training for each measurement). The regret of an answer `best(state)` is the gap between its mean
accuracy and the best one within the budgets, in points. With `--measured` F is that accuracy alone,
and regret is counted in the mean of the others. The table prints the mean over budgets and seeds,
and the standard error over seeds of the mean over budgets. "made" is the mean number of
measurements of a run. All seeds of an optimizer run as one compiled program.

`--optimizers` also takes your own as `module:function`, importable from the working directory, such
as `examples.new_optimizer:simulated_annealing`. The function returns an optimizer. It is called
with `evaluations`, the largest of `--measurements`, if it has that parameter, else with no
arguments. Repeated sets cost nothing, so an optimizer that counts them may make fewer measurements.

On two CPU cores the surrogate, the slowest, takes about a minute for 2 seeds, the 6 diagonal
budgets and one kind of F. A line on standard error reports each finished optimizer and kind, with
its seconds.

--plot=FILE.png draws the regrets. With --keep=FOLDER the curves of each finished problem are kept;
the same command then resumes.
Delete the files of your own optimizer there after you change it.

Optuna's samplers (`pip install -e '.[benchmarks]'`) take seconds a run. They use `--optuna_seeds`
seeds, and on the grid they run only if `--optimizers` names them. `benchmarks/optuna_samplers.py`
describes their setup.
"""

import functools
import importlib.metadata
import inspect
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import app, flags
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from rich.table import Table as Printed

import nas_submod as ns
from benchmarks import figures, synthetic, tables
from benchmarks.additive import additive, largest
from benchmarks.regrets import Regrets, Runs, proxy_note, regrets, spread
from benchmarks.runs import Curves, Instance, Suite, curves_of, read_or_make
from nas_submod import files
from nas_submod.optimizers import Optimizer, catalog
from nas_submod.validation import located
from nas_submod.workdir import make_workdir

try:
  from benchmarks import optuna_samplers
except ModuleNotFoundError:
  optuna_samplers = None  # type: ignore[assignment]

TABLE = flags.DEFINE_string("table", None, "CSV file of trained networks.")
SYNTHETIC = flags.DEFINE_string("synthetic", None, "Suite of `benchmarks/synthetic.py` instead.")
PROBLEMS = flags.DEFINE_integer("problems", 3, "Size of the synthetic suite.", lower_bound=1)
COSTS = flags.DEFINE_list("costs", [], "Cost columns of the table; by default all possible.")
MEASURED = flags.DEFINE_string("measured", None, "Accuracy column that is F, a proxy.")
BUDGETS = flags.DEFINE_enum("budgets", "grid", ["grid", "diagonal"], "Budgets of the table.")
SEEDS = flags.DEFINE_integer("seeds", 20, "Runs of each optimizer on each problem.", lower_bound=1)
OPTIMIZERS = flags.DEFINE_list("optimizers", [], "Names or module:function; by default all.")
CHECKPOINTS = flags.DEFINE_list(
  "measurements", ["25", "50", "100", "200"], "When regret is printed."
)
OPTUNA_SEEDS = flags.DEFINE_integer("optuna_seeds", 4, "Runs of Optuna's samplers.", lower_bound=1)
NOISE = flags.DEFINE_enum("noise", "both", ["both", "exact", "noisy"], "How F is measured.")
KEEP = flags.DEFINE_string("keep", None, "Folder of finished runs, to resume from.")
PLOT = flags.DEFINE_string("plot", None, "PNG file to write a figure to.")

_REPEATS = 20  # sets asked for each wanted measurement; repeated sets cost nothing


def optimizers(limit: int) -> dict[str, Optimizer]:
  """Returns the optimizers by name, made for `limit` measurements."""
  o = ns.optimizers
  joint = o.greedy("joint", lazy=True)
  return {
    "rcas": o.rcas(),
    "rcas_racing": o.rcas(race=(1, 3, 6)),
    "greedy_joint": joint,
    "exchange_rcas": o.exchange(o.rcas()),
    "enumeration_1": o.partial_enumeration(joint, 1),
    "random_search": o.random_search(evaluations=limit),
    "random_maximal": o.random_search(evaluations=limit, stop=0.0),
    "regularized_evolution": o.regularized_evolution(evaluations=_REPEATS * limit, stop=0.0),
    "local_search": o.local_search(evaluations=_REPEATS * limit, stop=0.0),
    "largest": largest(),
    "additive": additive(evaluations=limit),
    "additive_measured": additive(evaluations=limit, by_model=False),
    "surrogate": o.surrogate(evaluations=limit),
  }


@functools.cache  # The same object each time: a program is compiled once for an object.
def own_optimizer(name: str, limit: int) -> Optimizer:
  """Makes the optimizer of `module:function` for `limit` measurements.

  Raises:
    ValueError: If the function is missing, needs other arguments or returns no optimizer.
  """
  constructor = catalog.users_constructor(name, list(optimizers(limit)))
  takes_limit = "evaluations" in inspect.signature(constructor).parameters
  given = {"evaluations": limit} if takes_limit else {}
  try:
    optimizer = constructor(**given)
  except TypeError as error:
    raise ValueError(f"optimizer {name!r} with {given or 'no arguments'}: {error}") from error
  catalog.check_made(name, optimizer)
  return optimizer


def run(name: str, limit: int, instance: Instance, kind: str) -> Curves:
  """Runs all seeds of an optimizer, or of a sampler of Optuna, on one instance.

  Raises:
    ValueError: If an optimizer exceeds a budget.
  """
  ours = optimizers(limit)
  if name in ours or ":" in name:
    optimizer = ours[name] if name in ours else own_optimizer(name, limit)
    with located(name):
      return curves_of(optimizer, limit, instance, SEEDS.value, kind)
  sampler, start = optuna_samplers.samplers()[name]
  exact = kind == "exact"
  return optuna_samplers.run(sampler, start, instance.case, limit, OPTUNA_SEEDS.value, exact)


def run_all(names: list[str], suite: Suite, limit: int) -> dict[str, Runs]:
  """Runs each optimizer on all instances, or reads the curves of finished runs from --keep."""
  folder = KEEP.value and open_folder(suite, limit)
  console = Console(stderr=True)
  columns = (*Progress.get_default_columns(), TimeElapsedColumn())
  with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
    task = progress.add_task("", total=len(names) * len(kinds(suite)) * len(suite.instances))
    runs: dict[str, Runs] = {}
    for name in names:
      runs[name] = {kind: [] for kind in kinds(suite)}
      for kind, found in runs[name].items():
        began = time.perf_counter()
        for number, instance in enumerate(suite.instances):
          progress.update(task, description=f"{name}, {kind}, {instance.name}")
          path = folder and folder / f"{name}_{kind}_{number}.npz"
          found.append(read_or_make(path, functools.partial(run, name, limit, instance, kind)))
          progress.advance(task)
        console.print(f"{name}, {kind}: {time.perf_counter() - began:.1f} s")
  return runs


def open_folder(suite: Suite, limit: int) -> pathlib.Path:
  """Opens the folder of finished runs.

  Raises:
    ValueError: If it holds runs with other settings or versions.
  """
  counts = {flag.name: flag.value for flag in (SEEDS, OPTUNA_SEEDS)}
  found = {"suite": suite.title, "measurements": limit, "versions": versions(), **counts}
  if TABLE.value:
    found["content"] = files.fingerprint(files.local_path(TABLE.value).read_bytes())
  return make_workdir(KEEP.value, found)


def kinds(suite: Suite) -> list[str]:
  """Returns how F is measured: exact, noisy or both."""
  wanted = [kind for kind in ("exact", "noisy") if NOISE.value in ("both", kind)]
  return [kind for kind in wanted if kind == "exact" or suite.noisy]


def print_table(
  console: Console,
  suite: Suite,
  results: dict[str, Regrets],
  runs: dict[str, Runs],
  checkpoints: list[int],
) -> None:
  """Prints a row for each optimizer."""
  theirs = any(name.startswith("optuna") for name in runs)
  seeds = f"{SEEDS.value} seeds" + (f" ({OPTUNA_SEEDS.value} of Optuna)" if theirs else "")
  title = f"{suite.title}: {len(suite.instances)} problems, {seeds}\n{versions()}"
  printed = Printed(title=title, caption=suite.note or None)
  printed.add_column("regret after", no_wrap=True)
  columns = [(kind, t) for kind in kinds(suite) for t in checkpoints]
  for kind, t in columns:
    printed.add_column(f"{kind}\n{t}", justify="right")
  printed.add_column("made", justify="right")
  for name, curve in results.items():
    cells = [spread(curve[kind][:, :, t]) if kind in curve else "" for kind, t in columns]
    made = np.mean([c.measurements for curves in runs[name].values() for c in curves])
    printed.add_row(name, *cells, f"{made:.0f}")
  console.print(printed)


def versions() -> str:
  """Names the device and the versions."""
  device = jax.devices()[0]
  packages = ("jax", "numpy", *(["optuna"] if optuna_samplers else []))
  found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
  return f"{device.device_kind} ({device.platform}), {found}"


def read_checkpoints() -> list[int]:
  """Returns `--measurements`, sorted."""
  given = CHECKPOINTS.value
  if not given or not all(t.strip().isdecimal() and int(t) > 0 for t in given):
    raise ValueError(
      f"--measurements={','.join(given)}: allowed are positive numbers, such as 25,50,100,200"
    )
  return sorted(int(t) for t in given)


def load_suite() -> Suite:
  """Loads the suite that the flags name."""
  if (TABLE.value is None) == (SYNTHETIC.value is None):
    both = "both are" if TABLE.value else "neither is"
    raise ValueError(f"one of --table=PATH.csv and --synthetic=NAME is needed; {both} given")
  if SYNTHETIC.value:
    if MEASURED.value:
      raise ValueError("--measured needs a --table; --synthetic=proxy has its own proxy")
    return synthetic.load(SYNTHETIC.value, PROBLEMS.value)
  table = tables.Table(str(TABLE.value), COSTS.value, MEASURED.value)
  pairs: Callable[[int], Any] = {"grid": tables.grid, "diagonal": tables.diagonal}[BUDGETS.value]
  instances = table.instances(pairs(len(table.cost_names)))
  title = f"{table.name}, budgets on {', '.join(table.cost_names)} ({BUDGETS.value})"
  if MEASURED.value:
    title += f", measured {MEASURED.value}"
  note = proxy_note([(table.scores[:, 0], table.final)]) if MEASURED.value else ""
  if table.left_out:
    note = f"{note}\ncolumns that are no costs: {', '.join(table.left_out)}".strip()
  return Suite(title, instances, table.scores.shape[1] > 1, note)


def main(argv: list[str]) -> None:
  """Runs the optimizers and prints the table."""
  if len(argv) > 1:
    raise ValueError(f"unknown argument {argv[1]!r}; options begin with --")
  checkpoints = read_checkpoints()
  limit = checkpoints[-1]
  ours = optimizers(limit)
  theirs = list(optuna_samplers.samplers()) if optuna_samplers else []
  for name in OPTIMIZERS.value:
    if ":" in name:
      own_optimizer(name, limit)
    elif name.startswith("optuna") and optuna_samplers is None:
      raise ValueError(f"{name} needs Optuna: pip install -e '.[benchmarks]'")
    elif name not in (*ours, *theirs):
      catalog.users_constructor(name, [*ours, *theirs])  # Raises, naming what is allowed.
  if PLOT.value and not os.access(pathlib.Path(PLOT.value).absolute().parent, os.W_OK):
    raise ValueError(f"{PLOT.value} cannot be written: its folder is missing, or not writable")
  suite = load_suite()
  if not kinds(suite):
    raise ValueError("--noise=noisy: F has no noise, because each network was trained once")
  on_grid = TABLE.value and BUDGETS.value == "grid"
  console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
  runs = run_all(OPTIMIZERS.value or [*ours, *([] if on_grid else theirs)], suite, limit)
  results = regrets(suite, runs)
  print_table(console, suite, results, runs, checkpoints)
  if PLOT.value:
    figures.save_regret(PLOT.value, suite.title, results)


def run_main(argv: list[str]) -> None:
  """Runs `main` and reports a wrong input in one line."""
  try:
    main(argv)
  except (ValueError, OSError) as error:
    sys.exit(f"error: {error}")


if __name__ == "__main__":
  app.run(run_main)

"""Regret of every optimizer against measurements, on a table of trained networks.

python -m benchmarks.optimizers --table=PATH.csv [--costs=params,flops] [--budgets=grid|diagonal]
                                [--measured=acc0]
python -m benchmarks.optimizers --synthetic=widths|cells|layers|sensors|proxy [--problems=3]

`benchmarks/tables.py` says what a table looks like. Budgets are fractions of the costs of the
largest network: all tuples of 0.2, 0.3, ..., 0.8 (grid), or equal ones from 0.3 on (diagonal);
those that nothing fits are left out. F is measured exactly (mean of all trainings) or noisily (one
training drawn anew for each measurement). An optimizer answers with `best(state)`; its regret is
how far the mean accuracy of that set is below the best one within the budgets, in points; with
`--measured` F is that accuracy alone, and regret is in the mean of the others. Printed
are the mean over budgets and seeds, and the standard error over seeds of the mean over budgets.
Every run goes through init, ask, tell and best, as one compiled program for all seeds; "made" is
how many measurements a run made on average.

`--optimizers` also takes one's own as `module:function`, importable from the working directory,
such as `examples.new_optimizer:simulated_annealing`: a function that returns an optimizer, called
with `evaluations`, the largest of `--measurements`, if it has such a parameter, else with nothing.
What is asked again costs nothing, so one that counts it too may end before so many measurements.

On two CPU cores the surrogate, the slowest, takes about a minute for 2 seeds, the 6 diagonal
budgets and one kind of F. Each optimizer and kind that is done is a line on standard error, with
its seconds.

With --keep=FOLDER each problem's curves are on disk when they are done; the same command goes on.
Where an optimizer of one's own has changed, delete its files there first.

Optuna's samplers (`pip install -e '.[benchmarks]'`) take seconds a run, so on the grid they run
only if `--optimizers` names them, and with `--optuna_seeds` seeds; `benchmarks/optuna_samplers.py`
says how.
"""

import functools
import importlib.metadata
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from rich.table import Table as Printed

import nas_submod as ns
from benchmarks import figures, synthetic, tables
from benchmarks.regrets import Regrets, Runs, proxy_note, regrets, spread, write_csv
from benchmarks.runs import Curves, Instance, Suite, run_seeds
from nas_submod.evaluation import journal
from nas_submod.optimizers import Optimizer, constructors

try:
  from benchmarks import optuna_samplers
except ModuleNotFoundError:
  optuna_samplers = None  # type: ignore[assignment]

TABLE = flags.DEFINE_string("table", None, "CSV file of trained networks.")
SYNTHETIC = flags.DEFINE_string("synthetic", None, "A suite of `benchmarks/synthetic.py` instead.")
PROBLEMS = flags.DEFINE_integer("problems", 3, "Problems of the synthetic suite.", lower_bound=1)
COSTS = flags.DEFINE_list("costs", [], "Its columns that are costs; by default all that can be.")
MEASURED = flags.DEFINE_string("measured", None, "Its accuracy that is F, a proxy for the others.")
BUDGETS = flags.DEFINE_enum("budgets", "grid", ["grid", "diagonal"], "Budgets of the table.")
SEEDS = flags.DEFINE_integer("seeds", 20, "Runs of each optimizer and budget.", lower_bound=1)
OPTIMIZERS = flags.DEFINE_list("optimizers", [], "Names, or module:function; by default all.")
CHECKPOINTS = flags.DEFINE_list("measurements", ["25", "50", "100", "200"], "When to look.")
OPTUNA_SEEDS = flags.DEFINE_integer("optuna_seeds", 4, "Runs of Optuna's samplers.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch", 1, "Sets the surrogate asks in a round.", lower_bound=1)
NOISE = flags.DEFINE_enum("noise", "both", ["both", "exact", "noisy"], "How F is measured.")
KEEP = flags.DEFINE_string("keep", None, "Folder of finished runs, to go on from.")
CSV = flags.DEFINE_string("csv", None, "Where to write the raw regrets.")
PLOT = flags.DEFINE_string("plot", None, "Where to write a figure (PNG).")

_SEED = 2019
_REPEATS = 20  # sets asked for each measurement wanted: what is asked again costs nothing


def optimizers(limit: int) -> dict[str, Optimizer]:
  """The optimizers by name, for a limit of so many measurements."""
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
    "surrogate": o.surrogate(evaluations=limit, batch=BATCH.value),
  }


@functools.cache  # The same object each time, so that nothing is compiled twice.
def own_optimizer(name: str, limit: int) -> Optimizer:
  """What `module:function` returns, for a limit of so many measurements.

  Raises:
    ValueError: If there is no such function, or it returns no optimizer, or needs more arguments.
  """
  constructor = constructors.own_constructor(name, list(optimizers(limit)))
  given = {"evaluations": limit} if constructors.takes(constructor, "evaluations") else {}
  try:
    return constructors.make(name, constructor, given)
  except TypeError as error:
    raise ValueError(f"optimizer {name!r} with {given or 'no arguments'}: {error}") from error


def run(name: str, limit: int, instance: Instance, kind: str) -> Curves:
  """All seeds of an optimizer, or of a sampler of Optuna, on one instance.

  Raises:
    ValueError: If an optimizer goes beyond the budgets.
  """
  ours, exact = optimizers(limit), kind == "exact"
  if name in ours or constructors.is_own(name):
    optimizer = ours[name] if name in ours else own_optimizer(name, limit)
    rngs = jax.random.split(jax.random.key(_SEED), SEEDS.value)
    found = run_seeds(optimizer, limit, instance.case, rngs, jnp.bool_(exact))
    scores, measurements, feasible = jax.device_get(found)
    if not feasible.all():
      raise ValueError(
        f"{name} asked for, or answered, a set that is not feasible ({kind}, {instance.name})"
      )
    return Curves(scores, measurements)
  sampler, start = optuna_samplers.samplers()[name]
  return optuna_samplers.run(sampler, start, instance.case, limit, OPTUNA_SEEDS.value, exact)


def run_all(names: list[str], suite: Suite, limit: int) -> dict[str, Runs]:
  """Curves of each optimizer by kind and instance; from the folder where they are there."""
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
          if path and path.exists():
            with np.load(path) as kept:
              found.append(Curves(**kept))
          else:
            found.append(run(name, limit, instance, kind))
            if path:
              write_whole(path, found[-1])
          progress.advance(task)
        console.print(f"{name}, {kind}: {time.perf_counter() - began:.1f} s")
  return runs


def open_folder(suite: Suite, limit: int) -> pathlib.Path:
  """The folder of finished runs.

  Raises:
    ValueError: If it holds runs of other settings or versions.
  """
  counts = {flag.name: flag.value for flag in (SEEDS, OPTUNA_SEEDS, BATCH)}
  found = {"suite": suite.title, "measurements": limit, "versions": versions(), **counts}
  return journal.make_workdir(KEEP.value, found)


def write_whole(path: pathlib.Path, curves: Curves) -> None:
  """Writes a file whole or not at all."""
  part = path.with_suffix(".part")
  with part.open("wb") as file:
    np.savez(file, **curves._asdict())
  part.replace(path)


def kinds(suite: Suite) -> list[str]:
  """How F is measured: exact, noisy or both."""
  wanted = [kind for kind in ("exact", "noisy") if NOISE.value in ("both", kind)]
  return [kind for kind in wanted if kind == "exact" or suite.noisy]


def print_table(
  console: Console,
  suite: Suite,
  results: dict[str, Regrets],
  runs: dict[str, Runs],
  checkpoints: list[int],
) -> None:
  """One row for each optimizer."""
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
  """Device and versions."""
  device = jax.devices()[0]
  packages = ("jax", "numpy", *(["optuna"] if optuna_samplers else []))
  found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
  return f"{device.device_kind} ({device.platform}), {found}"


def read_checkpoints() -> list[int]:
  """`--measurements` in order."""
  given = CHECKPOINTS.value
  if not given or not all(t.strip().isdecimal() and int(t) > 0 for t in given):
    raise ValueError(
      f"--measurements={','.join(given)}: allowed are positive numbers, such as 25,50,100,200"
    )
  return sorted(int(t) for t in given)


def load_suite() -> Suite:
  """The suite that the flags name."""
  if (TABLE.value is None) == (SYNTHETIC.value is None):
    both = "both are" if TABLE.value else "neither is"
    raise ValueError(f"--table=PATH.csv or --synthetic=NAME is needed; {both} given")
  if SYNTHETIC.value:
    if MEASURED.value:
      raise ValueError("--measured is of a --table; --synthetic=proxy has a proxy of its own")
    return synthetic.load(SYNTHETIC.value, PROBLEMS.value)
  table = tables.Table(str(TABLE.value), COSTS.value, MEASURED.value)
  pairs: Callable[[int], Any] = {"grid": tables.grid, "diagonal": tables.diagonal}[BUDGETS.value]
  instances = table.instances(pairs(len(table.cost_names)))
  if not instances:
    raise ValueError(f"{TABLE.value}: no budget of the {BUDGETS.value} allows any network")
  title = f"{table.name}, budgets on {', '.join(table.cost_names)} ({BUDGETS.value})"
  if MEASURED.value:
    title += f", measured {MEASURED.value}"
  note = proxy_note([(table.scores[:, 0], table.final)]) if MEASURED.value else ""
  return Suite(title, instances, table.scores.shape[1] > 1, note)


def main(argv: list[str]) -> None:
  """Runs what the flags ask for, and prints the table."""
  if len(argv) > 1:
    raise ValueError(f"unknown argument {argv[1]!r}; options begin with --")
  checkpoints = read_checkpoints()
  limit = checkpoints[-1]
  ours = optimizers(limit)
  theirs = list(optuna_samplers.samplers()) if optuna_samplers else []
  for name in OPTIMIZERS.value:
    if constructors.is_own(name):
      own_optimizer(name, limit)
    elif name.startswith("optuna") and optuna_samplers is None:
      raise ValueError(f"{name} needs Optuna: pip install -e '.[benchmarks]'")
    elif name not in (*ours, *theirs):
      raise constructors.unknown(name, [*ours, *theirs])
  for path in filter(None, (CSV.value, PLOT.value)):
    if not os.access(pathlib.Path(path).absolute().parent, os.W_OK):
      raise ValueError(f"{path} cannot be written: its folder is missing, or not writable")
  suite = load_suite()
  if not kinds(suite):
    raise ValueError("--noise=noisy: what is measured has no noise, there is one training of each")
  on_grid = TABLE.value and BUDGETS.value == "grid"
  console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
  runs = run_all(OPTIMIZERS.value or [*ours, *([] if on_grid else theirs)], suite, limit)
  results = regrets(suite, runs)
  print_table(console, suite, results, runs, checkpoints)
  if CSV.value:
    write_csv(CSV.value, suite, results, checkpoints)
  if PLOT.value:
    figures.save_regret(PLOT.value, suite.title, results)


def run_main(argv: list[str]) -> None:
  """`main`, with a wrong input reported in one line."""
  try:
    main(argv)
  except (ValueError, OSError) as error:
    sys.exit(f"error: {error}")


if __name__ == "__main__":
  app.run(run_main)

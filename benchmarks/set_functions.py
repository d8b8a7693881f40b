"""Speed of lazy greedy against submodlib and apricot, and of enumeration against a NumPy loop.

python -m benchmarks.set_functions [--sizes=500,2000,10000] [--repetitions=5] [--python=PATH]

The functions are facility location (n customers, n x n similarities) and coverage (1,000 items).
The constraint is a cardinality of 50, or a budget of 50 with costs between 0.5 and 1.5. The table
has the first run, which compiles, the mean and standard deviation of the others, and the value.
`pip install submodlib-py apricot-select` installs the other libraries; `--python` names the
interpreter of another environment that has them. A missing library is marked as absent. With a
cardinality the values must agree; those of coverage to 1 %, because its many ties are broken
differently.

Enumeration completes every set of at most `depth` of 200 elements by density greedy, in one
program. The NumPy loop runs on a sample of the seeds, and its time is scaled to all of them.
"""

import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import app, flags
from rich.console import Console
from rich.table import Table

import nas_submod as ns
from benchmarks.spread import with_deviation
from nas_submod.set_functions import SetFunction, coverage, facility_location

SIZES = flags.DEFINE_list("sizes", ["500", "2000", "10000"], "Sizes of the ground set.")
REPETITIONS = flags.DEFINE_integer("repetitions", 5, "Timed runs.", lower_bound=1)
PYTHON = flags.DEFINE_string("python", sys.executable, "Interpreter that has the other libraries.")
ENUMERATION = flags.DEFINE_integer("enumeration", 200, "Size of the enumeration.", lower_bound=3)
SAMPLE = flags.DEFINE_integer("sample", 100, "Seeds that the NumPy loop completes.", lower_bound=1)
BUDGET = 50.0
COMPETITORS = pathlib.Path(__file__).parent / "competitors.py"


class Instance(NamedTuple):
  """A matrix `[n, customers or items]` and costs `[n]`, empty for a cardinality."""

  name: str
  matrix: np.ndarray
  cost: np.ndarray

  @property
  def function(self) -> SetFunction:
    """Returns the set function on the device."""
    return (coverage if self.matrix.dtype == bool else facility_location)(self.matrix)

  def value(self, chosen: list[int]) -> float:
    """Computes the value of a set in NumPy, the same way for all libraries."""
    rows = self.matrix[chosen]
    return float(rows.any(axis=0).sum() if rows.dtype == bool else rows.max(axis=0).sum())


def instances(n: int) -> list[Instance]:
  """Makes the problems of size n."""
  rng = np.random.default_rng(n)
  points = rng.normal(size=(n, 8)).astype(np.float32)
  squares = (points**2).sum(axis=1)
  distance = np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0)
  similarity = np.exp(-distance / 8).astype(np.float32)
  covers = rng.random((n, 1000)) < rng.uniform(0.005, 0.05, (n, 1))
  cost = rng.uniform(0.5, 1.5, n)
  return [
    Instance(f"{name}, {kind}", matrix, costs)
    for name, matrix in (("facility", (similarity + similarity.T) / 2), ("coverage", covers))
    for kind, costs in (("cardinality", np.zeros(0)), ("costs", cost))
  ]


def timed(solve: Callable[[], Any]) -> tuple[Any, float, list[float]]:
  """Returns the last answer, the seconds of the first run, and those of the others."""
  seconds = []
  for _ in range(1 + REPETITIONS.value):
    start = time.perf_counter()
    answer = solve()
    seconds.append(time.perf_counter() - start)
  return answer, seconds[0], seconds[1:]


def run_ours(instance: Instance) -> dict[str, Any]:
  """Runs lazy greedy on the device; its data is copied before the clock starts."""
  n = len(instance.matrix)
  cost = instance.cost if instance.cost.size else np.ones(n)
  problem = ns.Problem(-np.ones(n, int), cost, BUDGET)
  rule = "density:0" if instance.cost.size else "unit"
  function, optimizer = instance.function, ns.optimizers.greedy(rule, lazy=True)
  jax.block_until_ready(jax.tree.leaves((problem, function)))
  result, first, seconds = timed(lambda: ns.maximize(problem, function, optimizer, traceable=True))
  return {"chosen": np.flatnonzero(result.mask).tolist(), "first": first, "seconds": seconds}


def run_theirs(library: str, instance: Instance) -> dict[str, Any]:
  """Runs another library in a process that may have another environment."""
  with tempfile.TemporaryDirectory() as folder:
    for name in ("matrix", "cost"):
      np.save(pathlib.Path(folder) / f"{name}.npy", getattr(instance, name))
    np.save(pathlib.Path(folder) / "budget.npy", BUDGET)
    command = [PYTHON.value, str(COMPETITORS), library, folder, str(REPETITIONS.value)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
  if run.returncode:
    return {"failed": run.stderr.strip().splitlines()[-1]}
  return json.loads(run.stdout.strip().splitlines()[-1])


def compare(instance: Instance, table: Table) -> None:
  """Adds a row for each library."""
  ours = run_ours(instance)
  best = instance.value(ours["chosen"])
  for library in ("ours", "submodlib", "apricot"):
    run = ours if library == "ours" else run_theirs(library, instance)
    name = (instance.name, str(len(instance.matrix)), library)
    if "chosen" not in run:
      add_row(table, *name, "", run.get("failed", "absent"), "")
      continue
    value = instance.value(run["chosen"])
    tolerance = 1e-2 if instance.matrix.dtype == bool else 1e-4
    if not instance.cost.size and not math.isclose(value, best, rel_tol=tolerance):
      raise AssertionError(f"{name}: value {value} differs from ours, {best}")
    add_row(table, *name, f"{run['first']:.2f}", with_deviation(run["seconds"], 4), f"{value:.2f}")


def complete(service: np.ndarray, cost: np.ndarray, budget: float, seed: list[int]) -> float:
  """Runs density greedy from a seed in NumPy; returns its value."""
  served, used = np.zeros(service.shape[1], np.float32), 0.0
  chosen = np.zeros(len(service), bool)
  for element in seed:
    served, used = np.maximum(served, service[element]), used + cost[element]
    chosen[element] = True
  while (open_ := ~chosen & (used + cost <= budget * (1 + 1e-6))).any():
    gains = np.maximum(service - served, 0).sum(axis=1)
    element = int(np.argmax(np.where(open_, gains / cost, -np.inf)))
    served, used = np.maximum(served, service[element]), used + cost[element]
    chosen[element] = True
  return float(served.sum())


def enumerate_seeds(depth: int, table: Table) -> None:
  """Adds a row for this package, one for the NumPy loop and one for their ratio."""
  n, budget = ENUMERATION.value, 2.0
  rng = np.random.default_rng(depth)
  service = (rng.random((n, n)) ** 3).astype(np.float32)
  cost = rng.uniform(0.05, 1, n).astype(np.float32)
  problem = ns.Problem(-np.ones(n, int), cost, budget)
  optimizer = ns.optimizers.partial_enumeration(ns.optimizers.greedy("density:0"), depth)
  function = facility_location(service)
  result, first, seconds = timed(lambda: ns.maximize(problem, function, optimizer, traceable=True))
  seeds = [[], *([e] for e in range(n))]
  if depth == 2:
    seeds += [[a, b] for a in range(n) for b in range(a) if cost[a] + cost[b] <= budget]
  sample = [seeds[i] for i in rng.permutation(len(seeds))[: SAMPLE.value]]
  start = time.perf_counter()
  values = [complete(service, cost, budget, seed) for seed in sample]
  loop = (time.perf_counter() - start) * len(seeds) / len(sample)
  if max(values) > result.value * (1 + 1e-5):
    raise AssertionError(f"NumPy found {max(values)}, ours {result.value}")
  name = (f"enumeration, depth {depth}", str(n))
  add_row(table, *name, "ours", f"{first:.2f}", with_deviation(seconds, 4), f"{result.value:.2f}")
  scaled = f"{loop:.4f} (from {len(sample)} of {len(seeds)} seeds)"
  add_row(table, *name, "NumPy loop", "", scaled, "")
  add_row(table, *name, "ratio", "", f"{loop / np.mean(seconds):.1f}", "")


def add_row(table: Table, *cells: str) -> None:
  """Adds a row and prints it at once, because the table is printed at the end."""
  table.add_row(*cells)
  print("  ".join(filter(None, cells)), file=sys.stderr, flush=True)


def main(argv: list[str]) -> None:
  """Runs all problems and prints the table."""
  if len(argv) > 1:
    sys.exit(f"error: unknown argument {argv[1]!r}; options begin with --")
  if wrong := [size for size in SIZES.value if not size.isdigit() or int(size) < BUDGET]:
    sys.exit(f"error: --sizes={wrong[0]}; allowed are whole numbers from {BUDGET:g} on")
  if shutil.which(PYTHON.value) is None:
    sys.exit(f"error: --python={PYTHON.value}: no such program")
  jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
  devices = f"{jax.local_device_count()} x {jax.local_devices()[0].device_kind}"
  table = Table(title=f"n = {REPETITIONS.value} runs, {devices}")
  print(table.title, file=sys.stderr)
  for column in ("", "elements", "library", "first run, s", "seconds", "value"):
    table.add_column(column, justify="right")
  for size in SIZES.value:
    for instance in instances(int(size)):
      compare(instance, table)
  for depth in (1, 2):
    enumerate_seeds(depth, table)
  Console(soft_wrap=True).print(table)


if __name__ == "__main__":
  app.run(main)

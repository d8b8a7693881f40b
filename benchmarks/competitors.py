"""Lazy greedy of submodlib or apricot on one problem; needs that library and NumPy, but no JAX.

python benchmarks/competitors.py LIBRARY PROBLEM_FOLDER REPETITIONS prints a line of JSON;
`benchmarks/set_functions.py` calls it. The folder holds `matrix.npy` (float: symmetric similarities
of facility location; bool: the items that each element covers), `cost.npy` (empty: all costs are
1) and `budget.npy`.
"""

import importlib.util
import json
import pathlib
import sys
import time
from collections.abc import Callable

import numpy as np

Solver = Callable[[], tuple[list[int], float]]


def submodlib_solver(matrix: np.ndarray, cost: np.ndarray, budget: float) -> Solver:
  """Returns a function that solves the problem and returns the elements and its seconds."""
  import submodlib

  n = len(matrix)
  if matrix.dtype == bool:
    items = [set(np.flatnonzero(row).tolist()) for row in matrix]
    function = submodlib.SetCoverFunction(n=n, cover_set=items, num_concepts=matrix.shape[1])
  else:
    function = submodlib.FacilityLocationFunction(
      n=n, mode="dense", sijs=matrix, separate_rep=False
    )
  costs = {"costs": cost.tolist(), "costSensitiveGreedy": True} if cost.size else {}

  def solve() -> tuple[list[int], float]:
    start = time.perf_counter()
    chosen = function.maximize(
      budget=budget if cost.size else int(budget),
      optimizer="LazyGreedy",
      show_progress=False,
      **costs,
    )
    return [element for element, _ in chosen], time.perf_counter() - start

  return solve


def apricot_solver(matrix: np.ndarray, cost: np.ndarray, budget: float) -> Solver:
  """Returns the same with apricot, which compiles its loops with numba."""
  import apricot

  k = budget if cost.size else int(budget)
  data = matrix.astype(np.float64)

  def solve() -> tuple[list[int], float]:
    if matrix.dtype == bool:
      selection = apricot.MaxCoverageSelection(k, optimizer="lazy")
    else:
      selection = apricot.FacilityLocationSelection(k, metric="precomputed", optimizer="lazy")
    start = time.perf_counter()
    selection.fit(data, sample_cost=cost if cost.size else None)
    return [int(element) for element in selection.ranking], time.perf_counter() - start

  return solve


def main(library: str, folder: str, repetitions: str) -> None:
  """Solves the problem once to warm up, then `repetitions` times."""
  module = {"submodlib": submodlib_solver, "apricot": apricot_solver}
  if importlib.util.find_spec(library) is None:
    print(json.dumps({"absent": True}))
    return
  matrix, cost, budget = (
    np.load(pathlib.Path(folder) / f"{name}.npy") for name in ("matrix", "cost", "budget")
  )
  solve = module[library](matrix, cost, float(budget))
  chosen, first = solve()
  seconds = [solve()[1] for _ in range(int(repetitions))]
  print(json.dumps({"chosen": chosen, "first": first, "seconds": seconds}))


if __name__ == "__main__":
  main(*sys.argv[1:])

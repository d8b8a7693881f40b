"""Searches within several budgets: `config.front` lists them."""

import itertools
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from nas_submod import identity
from nas_submod.fields import SECTION, check_config, is_number
from nas_submod.workdir import plain_of

Budget = dict[str, float]


def configs(config: ConfigDict) -> dict[str, ConfigDict]:
  """The config of each budget, named budget_1, budget_2 and so on, the smallest first.

  An entry of `config.front` is a budget like `config.budget`, or a share of it, at most 10. Values
  of networks must not depend on budgets, so that all searches can share them.

  Raises:
    ValueError: If there are fewer than two budgets, a budget is wrong or does not contain the one
      before, or values depend on budgets.
  """
  check_config(config, ("budget",))
  given = config.get("front") or ()
  if len(given) < 2:
    raise ValueError("--pareto needs two or more budgets in config.front, such as (0.25, 0.5, 1.0)")
  if "budget" in identity.of_evaluations(plain_of(config.to_dict())):
    raise ValueError(
      "--pareto needs values that do not depend on the budgets; allowed: "
      'config.evaluation.method "training"'
    )
  whole = _limits(config.budget)
  if not whole:
    raise ValueError("--pareto needs budgets: every limit of config.budget is None")
  budgets = [_budget(entry, whole, f"config.front[{place}]") for place, entry in enumerate(given)]
  for place, (smaller, larger) in enumerate(itertools.pairwise(budgets), 1):
    contains = smaller.keys() == larger.keys() and all(smaller[n] <= larger[n] for n in smaller)
    if not contains or smaller == larger:
      raise ValueError(
        f"config.front[{place}] is {larger}; allowed: limits of the same resources, none smaller "
        f"and one larger than the one before it, {smaller}"
      )
  found = {}
  for number, budget in enumerate(budgets, 1):
    this = config.copy_and_resolve_references()
    this.front = ()
    this.budget = budget
    found[f"budget_{number}"] = this
  return found


def _budget(entry: Any, whole: Budget, place: str) -> Budget:
  if SECTION.fits(entry):
    check_config({"budget": entry}, ())
    return _limits(entry)
  if is_number(entry) and 0 < entry <= 10:
    # 0.29 * 12_000 is a little less than 3_480.
    return {name: float(f"{entry * limit:.12g}") for name, limit in whole.items()}
  raise ValueError(
    f"{place} is {entry!r}; allowed: a share of config.budget, above 0 and at most 10, or a budget "
    "such as {'params': 8000}"
  )


def _limits(budget: Mapping[str, Any]) -> Budget:
  return {name: limit for name, limit in budget.items() if limit is not None}

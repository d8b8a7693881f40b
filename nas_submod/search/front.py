"""Searches within several budgets: `config.front` lists them."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from nas_submod import identity
from nas_submod.fields import SECTION, is_number
from nas_submod.workdir import plain_of


def configs(config: ConfigDict) -> dict[str, ConfigDict]:
  """The config of each budget, named budget_1, budget_2 and so on in the order of `config.front`.

  An entry of `config.front` is a budget, as `config.budget` is one, or a share of `config.budget`.
  Values of networks must not depend on budgets, so that all searches can use the same ones.

  Raises:
    ValueError: If there are fewer than two budgets, one is neither, or values depend on budgets.
  """
  given = config.get("front") or ()
  if len(given) < 2:
    raise ValueError("--pareto needs two or more budgets in config.front, such as (0.25, 0.5, 1.0)")
  if "budget" in identity.of_evaluations(plain_of(config.to_dict())):
    raise ValueError(
      "--pareto needs values that do not depend on the budgets; allowed: "
      'config.evaluation.method "training" and config.train.inherit_steps 0'
    )
  found = {}
  for number, entry in enumerate(given, 1):
    this = config.copy_and_resolve_references()
    this.front = ()
    this.budget = _budget(entry, config.budget, f"config.front[{number - 1}]")
    found[f"budget_{number}"] = this
  return found


def _budget(entry: Any, whole: Mapping[str, Any], place: str) -> dict[str, Any]:
  if SECTION.fits(entry):
    return dict(entry.items())
  if is_number(entry) and entry > 0:
    limits = {name: limit for name, limit in whole.items() if limit is not None}
    return {name: entry * limit for name, limit in limits.items()}
  raise ValueError(f"{place} is {entry!r}; allowed: a budget, or a share of config.budget above 0")

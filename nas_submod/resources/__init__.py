"""Costs of networks, and the budgets that limit them.

Name a resource of your own in `config.resources`, see `from_config`. To add one to the package, add
a file with a `Resource` here and a line in `settings.from_config`. Another way to count memory is
an entry of `memory.MEMORY`.
"""

from nas_submod.resources.base import NotApplicableError, Resource
from nas_submod.resources.costs import mask_cost, network_cost, network_costs
from nas_submod.resources.limits import budgets, check_budget, knapsacks
from nas_submod.resources.settings import RESOURCES, Resources, from_config
from nas_submod.resources.table import tabulate, tabulated

__all__ = [
  "RESOURCES",
  "NotApplicableError",
  "Resource",
  "Resources",
  "budgets",
  "check_budget",
  "from_config",
  "knapsacks",
  "mask_cost",
  "network_cost",
  "network_costs",
  "tabulate",
  "tabulated",
]

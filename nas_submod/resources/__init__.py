"""Costs of networks, and the budgets that limit them.

A resource of your own is named in `config.resources`, see `from_config`. One of the package is a
file here with a `Resource`, and a line in `settings.from_config`.
"""

from nas_submod.resources.base import NotApplicableError, Resource
from nas_submod.resources.costs import mask_cost, network_cost, network_costs
from nas_submod.resources.known import RESOURCES, Table
from nas_submod.resources.limits import budgets, check_budget, knapsacks
from nas_submod.resources.settings import from_config
from nas_submod.resources.table import CostTable, tabulate, tabulated

__all__ = [
  "RESOURCES",
  "CostTable",
  "NotApplicableError",
  "Resource",
  "Table",
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

"""Costs of networks, and the budgets that limit them.

A resource is a file here with a `Resource`, and a line in `known.RESOURCES`.
"""

from nas_submod.resources.base import NotApplicableError, Resource
from nas_submod.resources.costs import mask_cost, network_cost, network_costs
from nas_submod.resources.known import RESOURCES
from nas_submod.resources.limits import budgets, check_budget, knapsacks

__all__ = [
  "RESOURCES",
  "NotApplicableError",
  "Resource",
  "budgets",
  "check_budget",
  "knapsacks",
  "mask_cost",
  "network_cost",
  "network_costs",
]

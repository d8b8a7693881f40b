"""Neural architecture search as the maximisation of a set function under knapsack budgets."""

from nas_submod import networks, optimizers, resources, set_functions
from nas_submod.networks import blocks, layers, spaces
from nas_submod.optimizers import Result, maximize
from nas_submod.problem import Problem
from nas_submod.trained import load

__all__ = [
  "Problem",
  "Result",
  "blocks",
  "layers",
  "load",
  "maximize",
  "networks",
  "optimizers",
  "resources",
  "set_functions",
  "spaces",
]

"""Optimizers of set functions under knapsacks and groups: one protocol, two drivers."""

from nas_submod.optimizers.base import Info, Optimizer, Outcome, Result, Step
from nas_submod.optimizers.baselines import random_search
from nas_submod.optimizers.drivers import drive, maximize
from nas_submod.optimizers.exact import brute_force
from nas_submod.optimizers.greedy import greedy, rcas

__all__ = [
  "Info",
  "Optimizer",
  "Outcome",
  "Result",
  "Step",
  "brute_force",
  "drive",
  "greedy",
  "maximize",
  "random_search",
  "rcas",
]

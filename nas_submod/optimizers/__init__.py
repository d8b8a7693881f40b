"""Optimizers of set functions under knapsack budgets and groups: one protocol, two drivers."""

from nas_submod.optimizers.base import Info, Optimizer, Outcome, Result, Step
from nas_submod.optimizers.bayesian.surrogate import surrogate
from nas_submod.optimizers.constructors import constructor
from nas_submod.optimizers.drivers.compiled import drive
from nas_submod.optimizers.drivers.maximize import maximize
from nas_submod.optimizers.enumeration import partial_enumeration
from nas_submod.optimizers.evolution import regularized_evolution
from nas_submod.optimizers.exchanges import exchange
from nas_submod.optimizers.exhaustive import brute_force
from nas_submod.optimizers.greedy_family.rules import (
  greedy,
  greedy_plus_max,
  rcas,
  stochastic_greedy,
)
from nas_submod.optimizers.random_sets import random_search
from nas_submod.optimizers.recording import recorded
from nas_submod.optimizers.restarts import local_search

__all__ = [
  "Info",
  "Optimizer",
  "Outcome",
  "Result",
  "Step",
  "brute_force",
  "constructor",
  "drive",
  "exchange",
  "greedy",
  "greedy_plus_max",
  "local_search",
  "maximize",
  "partial_enumeration",
  "random_search",
  "rcas",
  "recorded",
  "regularized_evolution",
  "stochastic_greedy",
  "surrogate",
]

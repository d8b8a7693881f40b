"""Optimizers of set functions under knapsacks and groups: one protocol, two drivers."""

from nas_submod.optimizers.base import Info, Optimizer, Outcome, Result, Step
from nas_submod.optimizers.baselines import random_search
from nas_submod.optimizers.compiled_driver import drive
from nas_submod.optimizers.constructors import constructor
from nas_submod.optimizers.enumeration import partial_enumeration
from nas_submod.optimizers.evolution import regularized_evolution
from nas_submod.optimizers.exact import brute_force
from nas_submod.optimizers.exchange import exchange
from nas_submod.optimizers.greedy import (
  best_singleton,
  greedy,
  greedy_plus_max,
  rcas,
  stochastic_greedy,
)
from nas_submod.optimizers.local_search import local_search
from nas_submod.optimizers.maximize import maximize
from nas_submod.optimizers.recorded import recorded
from nas_submod.optimizers.surrogate import surrogate

__all__ = [
  "Info",
  "Optimizer",
  "Outcome",
  "Result",
  "Step",
  "best_singleton",
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

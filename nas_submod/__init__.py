"""Neural architecture search as the maximisation of a set function under knapsack budgets."""

from nas_submod import optimizers, set_functions
from nas_submod.optimizers import Result, maximize
from nas_submod.problem import Problem

__all__ = ["Problem", "Result", "maximize", "optimizers", "set_functions"]

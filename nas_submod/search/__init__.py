"""The search: asks the optimizer for sets and evaluates new ones, until the optimizer is done."""

from nas_submod.search.loop import Display, SearchFailedError, objective_for, run
from nas_submod.search.setup import Setup, make_setup
from nas_submod.search.sharing import evaluator_with_shared_weights

__all__ = [
  "Display",
  "SearchFailedError",
  "Setup",
  "evaluator_with_shared_weights",
  "make_setup",
  "objective_for",
  "run",
]

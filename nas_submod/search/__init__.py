"""A search: ask the optimizer, evaluate what is new, tell it, until it is done."""

from nas_submod.search.loop import Display, SearchFailedError, objective_for, run
from nas_submod.search.setup import Setup, make_setup

__all__ = ["Display", "SearchFailedError", "Setup", "make_setup", "objective_for", "run"]

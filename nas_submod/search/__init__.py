"""A search: ask the optimizer, evaluate what is new, tell it, until it is done."""

from nas_submod.search.loop import Display, StartFailedError, objective_for, run
from nas_submod.search.setup import Setup, make_setup

__all__ = ["Display", "Setup", "StartFailedError", "make_setup", "objective_for", "run"]

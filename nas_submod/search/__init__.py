"""A search: ask the optimizer, evaluate what is new, tell it, until it is done."""

from nas_submod.search.loop import (
  Accepted,
  Display,
  binding,
  certificate,
  measured_value,
  run,
  statistical_ties,
)

__all__ = [
  "Accepted",
  "Display",
  "binding",
  "certificate",
  "measured_value",
  "run",
  "statistical_ties",
]

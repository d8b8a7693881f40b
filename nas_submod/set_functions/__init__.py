"""Set functions: the protocol, and closed forms with known properties."""

from nas_submod.set_functions.base import SetFunction, as_argument
from nas_submod.set_functions.closed_form import (
  concave_over_modular,
  coverage,
  modular,
  on_host,
  table,
)
from nas_submod.set_functions.facilities import facility_location

__all__ = [
  "SetFunction",
  "as_argument",
  "concave_over_modular",
  "coverage",
  "facility_location",
  "modular",
  "on_host",
  "table",
]

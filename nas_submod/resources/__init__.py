"""What networks cost."""

from nas_submod.resources.additive import (
  RESOURCES,
  CostTable,
  cost_table,
  mask_cost,
  network_cost,
  network_costs,
)

__all__ = ["RESOURCES", "CostTable", "cost_table", "mask_cost", "network_cost", "network_costs"]

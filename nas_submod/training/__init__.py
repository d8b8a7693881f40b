"""One training step, and all that is around it."""

from nas_submod.training.step import (
  Metrics,
  Recipe,
  StepMetrics,
  TrainState,
  batch_order,
  batches,
  cross_entropy,
  eval_step,
  recipe,
  start,
  train_step,
)

__all__ = [
  "Metrics",
  "Recipe",
  "StepMetrics",
  "TrainState",
  "batch_order",
  "batches",
  "cross_entropy",
  "eval_step",
  "recipe",
  "start",
  "train_step",
]

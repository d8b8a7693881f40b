"""One training step, and all that is around it."""

from nas_submod.training.step import (
  Metrics,
  Recipe,
  StepMetrics,
  TrainState,
  batch_order,
  batches,
  check_fit,
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
  "check_fit",
  "cross_entropy",
  "eval_step",
  "recipe",
  "start",
  "train_step",
]

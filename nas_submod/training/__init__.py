"""Training: the step that candidates and final networks share, and the final training.

- `step`, `recipes`: the training step, the evaluation step and the recipe; this package exports
  their names.
- `schedules`, `augmentation`: parts of a recipe.
- `final`: trains the network that a search found; `feed`, `checkpoints` and `metrics_log` serve it.
  Import `final` explicitly: it loads orbax, grain and TensorBoard, which a search does not need.
"""

from nas_submod.training.recipes import Recipe, recipe
from nas_submod.training.step import (
  Metrics,
  StepMetrics,
  TrainState,
  batch_order,
  batches,
  check_fit,
  cross_entropy,
  eval_step,
  no_metrics,
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
  "no_metrics",
  "recipe",
  "start",
  "train_step",
]

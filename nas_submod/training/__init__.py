"""Training: the step that candidates and final networks share, and the final training.

- `step`: the training step, the evaluation step and the recipe; this package exports its names.
- `schedules`, `augmentation`: parts of a recipe.
- `final`: trains the network that a search found; `feed`, `checkpoints` and `metrics_log` serve it.
  Import `final` explicitly: it loads orbax, grain and TensorBoard, which a search does not need.
"""

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
  no_metrics,
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
  "no_metrics",
  "recipe",
  "start",
  "train_step",
]

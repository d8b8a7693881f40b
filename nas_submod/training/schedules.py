"""The duration of a training, and its learning rate at each step."""

from collections.abc import Mapping
from typing import Any

import optax


def total_steps(config: Mapping[str, Any], train_size: int) -> int:
  """Number of steps of a recipe, which is given in steps or in epochs.

  Raises:
    ValueError: If not exactly one of the two is set, or the batch is larger than the training set.
  """
  steps, epochs = config.get("steps"), config.get("epochs")
  if bool(steps) == bool(epochs):
    raise ValueError(f"set exactly one of steps ({steps}) and epochs ({epochs}), the other to 0")
  if not 0 < config["batch_size"] <= train_size:
    raise ValueError(
      f"batch_size {config['batch_size']} is not possible with {train_size} training images; "
      f"allowed: 1 to {train_size}"
    )
  per_epoch = train_size // config["batch_size"]
  return int(steps) if steps else max(1, round(float(epochs or 0) * per_epoch))


def learning_rate(config: Mapping[str, Any], steps: int, train_size: int) -> optax.Schedule:
  """The learning rate schedule of a recipe.

  Args:
    config: `learning_rate`, `schedule` ("multistep", "cosine" or "constant") and `warmup_steps`.
      "multistep" also needs `decay` and `milestones`, in the unit of the duration.
    steps: Length of the training.
    train_size: Number of training images.

  Raises:
    ValueError: If the schedule lacks a field, or the warm-up leaves no step.
  """
  peak, warmup = config["learning_rate"], config.get("warmup_steps") or 0
  if not 0 <= warmup < steps:
    raise ValueError(
      f"warmup_steps is {warmup}; allowed: 0 (off) to below {steps}, the steps of the training"
    )
  rest = steps - warmup
  if config["schedule"] == "constant":
    after = optax.constant_schedule(peak)
  elif config["schedule"] == "cosine":
    after = optax.cosine_decay_schedule(peak, rest)
  else:  # "multistep"
    missing = [name for name in ("milestones", "decay") if config.get(name) is None]
    if missing:
      raise ValueError(f"the schedule multistep needs {' and '.join(missing)}")
    unit = 1 if not config.get("epochs") else train_size // config["batch_size"]
    drops: dict[int, float] = {}
    for milestone in config["milestones"]:
      step = round(milestone * unit) - warmup
      drops[step] = drops.get(step, 1.0) * config["decay"]
    after = optax.piecewise_constant_schedule(peak, drops)
  if not warmup:
    return after
  return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])

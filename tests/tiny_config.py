"""A search of seconds on real digits: four positions, two options, both budgets matter."""

from configs import digits
from nas_submod.resources import budgets


def get_config():
  config = digits.get_config()
  config.space = {
    "name": "tiny",
    "image_shape": (8, 8, 1),
    "classes": 10,
    "stem_channels": 4,
    "stem_stride": 2,
    "stages": ((4, 2, 1), (8, 2, 2)),
    "options": ({"expansion": 2}, {"expansion": 4, "expand_groups": 2, "squeeze_excite": True}),
    "start": ". | e2",
  }
  config.data.update({"train_size": 200, "validation_size": 100})
  config.budget = budgets(params=1e3, madds=8e3)
  config.train.update({"steps": 12, "batch_size": 16, "steps_per_call": 5})
  config.final.update({"epochs": 1.0, "batch_size": 16, "log_every": 5, "checkpoint_every": 0.5})
  config.search.update({"finalists": 2, "finalist_replicates": 2})
  return config


def sweep():
  return [{"seed": 1}, {"seed": 2, "search.optimizer": "random_search"}]

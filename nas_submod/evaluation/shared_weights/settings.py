"""The settings of shared weights, from `config.evaluation`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from nas_submod import training
from nas_submod.data.loading import Data

METHODS = ("training", "shared_weights")


class Settings(NamedTuple):
  """The checked settings.

  Attributes:
    recipe: How a store is trained. Its steps are those of all networks together.
    least_share: Share of the budgets that sampled networks fill at least, in [0, 1].
    stores: Number of stores whose scores are averaged.
    statistics_images: Training images that batch norm is estimated on for a score.
    pool: Networks that are scored for `surrogate` to choose from.
    steps_per_call: Steps between looks at a notice to stop.
    checkpoint_every: Steps between checkpoints.
  """

  recipe: training.Recipe
  least_share: float
  stores: int
  statistics_images: int
  pool: int
  steps_per_call: int
  checkpoint_every: int


def method_of(config: Mapping[str, Any]) -> str:
  """What gives a network its value in the search; a config without `evaluation` trains it.

  Raises:
    ValueError: If it is unknown.
  """
  method = (config.get("evaluation") or {}).get("method", METHODS[0])
  if method not in METHODS:
    raise ValueError(f"config.evaluation.method is {method!r}; allowed: {', '.join(METHODS)}")
  return method


def from_config(config: Mapping[str, Any], data: Data) -> Settings:
  """Reads and checks the settings.

  Args:
    config: `train`, and `evaluation`. Of that, `store` is a recipe (see `training.recipe`) with
      `steps_per_call` and `checkpoint_every`; fields that it lacks are those of `train`. The other
      fields are those of `Settings`.
    data: The images.

  Raises:
    ValueError: If a field is missing or not possible.
  """
  fields = config["evaluation"]
  # The duration of a candidate says nothing of a store's.
  common = {k: v for k, v in config["train"].items() if k not in ("steps", "epochs")}
  store = common | {k: v for k, v in fields["store"].items() if v is not None}
  sections = {"stores": fields, "statistics_images": fields, "pool": fields}
  sections |= {"steps_per_call": store, "checkpoint_every": store}
  for name, section in sections.items():
    where = "config.evaluation.store" if section is store else "config.evaluation"
    value = section.get(name)
    if not isinstance(value, int) or value < 1:
      raise ValueError(f"{where}.{name} is {value!r}; allowed: whole numbers from 1")
  share = fields.get("least_share")
  if not isinstance(share, int | float) or not 0 <= share <= 1:
    raise ValueError(f"config.evaluation.least_share is {share!r}; allowed: 0 to 1")
  if fields["statistics_images"] > len(data.train.labels):
    raise ValueError(
      f"config.evaluation.statistics_images is {fields['statistics_images']}; allowed: up to the "
      f"{len(data.train.labels)} training images"
    )
  try:
    recipe = training.recipe(store, data)
  except ValueError as error:
    raise ValueError(f"config.evaluation.store: {error}") from error
  if recipe.average:
    raise ValueError("config.evaluation.store.average is not possible; allowed: 0")
  return Settings(recipe, share, **{name: section[name] for name, section in sections.items()})

"""The settings of shared weights, from `config.evaluation`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from nas_submod import parallel, training
from nas_submod.data.loading import Data
from nas_submod.evaluation.evaluator import TRAINING
from nas_submod.validation import located


class Settings(NamedTuple):
  """The checked settings.

  Attributes:
    recipe: How a store is trained. Its steps count all networks together.
    least_share: Smallest share of the budgets, in [0, 1], that a sampled network is grown to.
    stores: Number of stores whose scores are averaged.
    statistics_images: Training images that batch norm is estimated on for a score.
    pool: Number of networks scored for `surrogate` to choose from.
    steps_per_call: Steps between checks for a notice to stop.
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
  """How a search values networks: `training` if the config does not say."""
  return _set(config.get("evaluation")).get("method", TRAINING)


def _set(section: Any) -> dict[str, Any]:
  """The fields of a section that are not None."""
  return {name: value for name, value in dict(section or {}).items() if value is not None}


def from_config(config: Mapping[str, Any], data: Data) -> Settings:
  """Reads and checks the settings.

  Args:
    config: `train` and `evaluation`, as `fields.check_config` allows them. `evaluation.store` is a
      recipe (see `training.recipe`) with `steps_per_call` and `checkpoint_every`; missing fields,
      except the duration, come from `train`. The other fields of `evaluation` are those of
      `Settings`.
    data: The images.

  Raises:
    ValueError: If a field is missing or not possible.
  """
  fields = _set(config.get("evaluation"))
  given = _set(fields.get("store"))
  if not given:
    raise ValueError(
      "shared weights need config.evaluation.store; configs/digits.py has all of its fields"
    )
  # A candidate's duration says nothing about a store's.
  store = {k: v for k, v in config["train"].items() if k not in ("steps", "epochs")} | given
  for place, section, needed in (
    ("config.evaluation", fields, ("least_share", "stores", "statistics_images", "pool")),
    ("config.evaluation.store", store, ("steps_per_call", "checkpoint_every")),
  ):
    if missing := [name for name in needed if name not in section]:
      raise ValueError(f"{place} lacks {', '.join(missing)}; configs/digits.py has every field")
  if fields["statistics_images"] > len(data.train.labels):
    raise ValueError(
      f"config.evaluation.statistics_images is {fields['statistics_images']}; allowed: up to the "
      f"{len(data.train.labels)} training images"
    )
  with located("config.evaluation.store"):
    recipe = training.recipe(store, data)
    parallel.devices_for(recipe.parts)  # Raises if several processes cannot share a batch.
  return Settings(
    recipe=recipe,
    least_share=fields["least_share"],
    stores=fields["stores"],
    statistics_images=fields["statistics_images"],
    pool=fields["pool"],
    steps_per_call=store["steps_per_call"],
    checkpoint_every=store["checkpoint_every"],
  )

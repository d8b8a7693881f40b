"""The settings of shared weights, from `config.evaluation`."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from nas_submod import parallel, training
from nas_submod.data.loading import Data
from nas_submod.evaluation.evaluator import METHODS, TRAINING
from nas_submod.validation import did_you_mean

_FIELDS = ("method", "store", "least_share", "stores", "statistics_images", "pool")
_STORE_FIELDS = (
  "steps",
  "epochs",
  "batch_size",
  "learning_rate",
  "schedule",
  "milestones",
  "decay",
  "warmup_steps",
  "momentum",
  "weight_decay",
  "decay_kernels",
  "label_smoothing",
  "crop_padding",
  "flip",
  "clip_norm",
  "mixup",
  "average",
  "dtype",
  "steps_per_call",
  "checkpoint_every",
)


class Settings(NamedTuple):
  """The checked settings.

  Attributes:
    recipe: How a store is trained. Its steps count all networks together.
    least_share: Smallest share of the budgets that bounds a sampled network, in [0, 1].
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
  """How a search values networks: `training` if the config has no `evaluation`.

  Raises:
    ValueError: If the method or another field of `config.evaluation` is unknown.
  """
  fields = _section("config.evaluation", config.get("evaluation"), _FIELDS)
  _section("config.evaluation.store", fields.get("store"), _STORE_FIELDS)
  method = fields.get("method", TRAINING)
  if method not in METHODS:
    raise ValueError(f"config.evaluation.method is {method!r}; allowed: {', '.join(METHODS)}")
  return method


def _section(name: str, fields: Any, allowed: Collection[str]) -> dict[str, Any]:
  """The fields of a config section that are set. Raises ValueError if one is not allowed."""
  try:
    given = {field: value for field, value in dict(fields or {}).items() if value is not None}
  except (TypeError, ValueError):
    raise ValueError(f"{name} is {fields!r}; allowed: fields {', '.join(allowed)}") from None
  for field in dict(fields or {}):
    if field not in allowed:
      hint = did_you_mean(field, allowed) or "."
      raise ValueError(f"unknown field {name}.{field}{hint} Allowed: {', '.join(allowed)}")
  return given


def from_config(config: Mapping[str, Any], data: Data) -> Settings:
  """Reads and checks the settings.

  Args:
    config: `train` and `evaluation`. `evaluation.store` is a recipe (see `training.recipe`) with
      `steps_per_call` and `checkpoint_every`; missing fields, except the duration, come from
      `train`. The other fields of `evaluation` are those of `Settings`.
    data: The images.

  Raises:
    ValueError: If a field is missing, unknown or not possible.
  """
  method_of(config)  # Raises if a field is unknown.
  fields = _section("config.evaluation", config.get("evaluation"), _FIELDS)
  given = _section("config.evaluation.store", fields.get("store"), _STORE_FIELDS)
  if not given:
    raise ValueError(
      "shared weights need config.evaluation.store; configs/digits.py has all of its fields"
    )
  # A candidate's duration says nothing about a store's.
  store = {k: v for k, v in config["train"].items() if k not in ("steps", "epochs")} | given
  sections = {"stores": fields, "statistics_images": fields, "pool": fields}
  sections |= {"steps_per_call": store, "checkpoint_every": store}
  for name, section in sections.items():
    where = "config.evaluation.store" if section is store else "config.evaluation"
    value = section.get(name)
    if type(value) is not int or value < 1:
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
    parallel.devices_for(recipe.batch_size)  # Raises if several processes cannot share a batch.
  except ValueError as error:
    raise ValueError(f"config.evaluation.store: {error}") from error
  if not 0 <= (warmup := store.get("warmup_steps", 0)) < recipe.steps:
    raise ValueError(
      f"config.evaluation.store.warmup_steps is {warmup}; allowed: 0 (off) to below "
      f"{recipe.steps}, the steps of the store"
    )
  if recipe.average:
    raise ValueError("config.evaluation.store.average is not possible; allowed: 0")
  return Settings(recipe, share, **{name: section[name] for name, section in sections.items()})

"""Every field of a config is known, and every number has a range."""

import importlib

import pytest

from nas_submod.fields import check_config, check_sizes
from tests import tiny_config
from tests.test_config_files import FILES, TRAININGS

SEARCH = "seed", "space", "data", "budget", "score", "search", "train"
TRAIN = "seed", "space", "data", "final"


@pytest.mark.parametrize("name", FILES)
def test_every_config_file_passes(name):
  config = importlib.import_module(name).get_config()
  check_config(config, TRAIN if name in TRAININGS else SEARCH)
  check_config(config.to_dict(), TRAIN)
  if name in TRAININGS:
    with pytest.raises(ValueError, match="config lacks score, budget, train, search"):
      check_config(config, SEARCH)


def changed(name, value):
  config = tiny_config.get_config().to_dict()
  *parts, field = name.split(".")
  section = config
  for part in parts:
    section = section[part]
  section[field] = value
  return config


NAN, INF = float("nan"), float("inf")
WRONG = {
  "train.steps": (-1, 1.5, "9", True, 2**31, NAN),
  "train.epochs": (-1.0, NAN, INF, "9"),
  "train.batch_size": (0, -3, 2.5, 1e3, "32", None.__class__),
  "train.learning_rate": (0, -0.1, NAN, INF, "x", True),
  "train.schedule": ("linear", 3),
  "train.milestones": ((0, 1), (2, 1), (1, 1), "12", 3, ("a",), (1, NAN)),
  "train.decay": (0, -1, 1.5),
  "train.warmup_steps": (-1, 0.5),
  "train.momentum": (-0.1, 1, 1.5, NAN),
  "train.weight_decay": (-1e-9, INF),
  "train.label_smoothing": (-0.1, 1.0),
  "train.crop_padding": (-1, 0.5),
  "train.flip": (1, "yes"),
  "train.steps_per_call": (0, -3),
  "train.clip_norm": (-1.0,),
  "train.mixup": (-0.1,),
  "train.dtype": ("float64", 32),
  "final.average": (1.0, -0.1),
  "final.evaluate_on": ("train",),
  "final.log_every": (0,),
  "final.checkpoint_every": (0, -1.0, NAN),
  "final.keep_checkpoints": (0, 1.5),
  "search.optimizer": (3,),
  "search.options": ("race", 3),
  "search.max_evaluations": (-1, 2.5),
  "search.replicates": (0,),
  "search.finalists": (0,),
  "search.finalist_replicates": (1,),
  "evaluation.least_share": (-0.1, 1.5, NAN),
  "evaluation.stores": (0,),
  "evaluation.store.batch_size": (0,),
  "evaluation.store.learning_rate": (0.0,),
  "space.image_shape": ((8, 8), (8, 8, 0), (8, 8, -1), "888", 8),
  "space.classes": (1, 0, -1, 2.5),
  "space.stem_channels": (0, -4),
  "space.head_channels": (-1,),
  "space.stages": (3, "x"),
  "space.options": (1.5, {}),
  "space.start": (3, 1.5),
  "space.name": ([1], 3),
  "data.source": (3, ["npz:x"]),
  "data.validation_size": (0, 1.5, "9"),
  "data.image_size": (0, 10**12),
  "data.stream": (1,),
  "data.data_dir": ("", 3),
  "resources.flash": (3, ["int8"]),
  "budget.params": ("9", NAN, [1]),
  "seed": (-1, 2**32, 1.5, "1"),
  "score": (["accuracy"], 3),
  "train": (3, "steps", [1]),
}


@pytest.mark.parametrize(
  ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_value_out_of_range_is_named_with_what_is_allowed(name, value):
  with pytest.raises(ValueError, match=f"^config\\.{name} is .*; allowed: ") as error:
    check_config(changed(name, value), SEARCH)
  assert "\n" not in str(error.value)


def test_none_is_a_missing_field_only_where_fields_are_unset():
  check_config(changed("data.train_size", None), SEARCH)
  check_config(changed("evaluation.store.momentum", None), SEARCH)
  with pytest.raises(ValueError, match=r"config.train.warmup_steps is None; allowed: whole"):
    check_config(changed("train.warmup_steps", None), SEARCH)


def test_a_shift_leaves_a_part_of_the_image():
  check_sizes(changed("train.crop_padding", 8), (8, 9, 1))
  with pytest.raises(ValueError, match=r"final.crop_padding is 9; allowed: 0 to 8, the side of"):
    check_sizes(changed("final.crop_padding", 9), (8, 9, 1))

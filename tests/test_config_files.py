"""Every file in configs/ works: its space, its budget, and a search on a user's data."""

import importlib
import pathlib

import pytest

from nas_submod import resources
from nas_submod.networks import architectures, spaces
from nas_submod.resources import cost_bounds
from nas_submod.search import setup
from tests import tiny_data
from tests.start_sets import contains_start

ROOT = pathlib.Path(__file__).parent.parent
FILES = [
  ".".join(path.relative_to(ROOT).with_suffix("").parts)
  for path in sorted((ROOT / "configs").rglob("*.py"))
  if path.name != "__init__.py"
]
SEARCHES = [name for name in FILES if not name.startswith("configs.train.")]
TRAININGS = [name for name in FILES if name.startswith("configs.train.")]


def get_config(name, mode):
  return importlib.import_module(name).get_config(mode)


@pytest.mark.parametrize(
  ("name", "mode"),
  [(name, mode) for name in SEARCHES for mode in ("", "smoke")] + [("configs.imagenet", "b")],
)
def test_searches_have_a_space_and_a_budget(name, mode):
  config = get_config(name, mode)
  space = spaces.from_config(config.space)
  table = resources.from_config(config.resources)
  assert {*resources.RESOURCES, "latency_ms"} == set(config.budget)
  budget = resources.check_budget(space, config.budget, table)
  assert budget == {name: limit for name, limit in config.budget.items() if limit is not None}
  if mode != "smoke":  # Every option fits at some place, by each resource alone.
    fitting = set.intersection(
      *(
        {
          place
          for place, cost in cost_bounds.least_with(space, table[resource].table(space)).items()
          if cost <= limit
        }
        for resource, limit in budget.items()
      )
    )
    assert {place.option for place in fitting} == set(range(1, len(space.options) + 1))


@pytest.mark.parametrize("name", SEARCHES)
def test_every_space_takes_the_shape_and_the_classes_of_other_images(name):
  config = get_config(name, "")
  config.update_from_flattened_dict({"space.image_shape": (40, 24, 3), "space.classes": 7})
  space = spaces.from_config(config.space)
  assert (space.image_shape, space.classes) == ((40, 24, 3), 7)


@pytest.mark.parametrize("name", SEARCHES)
def test_unknown_modes_are_refused(name):
  with pytest.raises(ValueError, match="unknown mode 'smok'; allowed: "):
    get_config(name, "smok")


@pytest.mark.parametrize("name", TRAININGS)
def test_trainings_have_a_space_and_its_architectures(name):
  space = spaces.from_config(importlib.import_module(name).get_config().space)
  for mode in architectures.ARCHITECTURES[space.name]:
    architecture = get_config(name, mode).architecture
    assert contains_start(space, architectures.read(space, architecture)) or mode != "rcnet"


def test_a_search_on_a_users_data_can_start(tmp_path):
  config = get_config("configs.own_data", "")
  arrays = tiny_data.arrays(train=60, test=10, classes=10, shape=(32, 32, 3))
  config.data.update({"source": tiny_data.save(tmp_path, **arrays), "validation_size": 20})
  found = setup.make_setup(config)
  assert found.space.name == "mine"
  assert (found.budget["params"], found.budget["madds"]) == (300_000, 20_000_000)
  assert len(found.data.train[0]) == 40

"""Known families, and their trainings side by side."""

import dataclasses

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from benchmarks import families, trained
from nas_submod import data, resources
from nas_submod.networks import spaces
from nas_submod.training import final
from tests import tiny_config

SPACE = spaces.get("mlperf_tiny")


@pytest.mark.parametrize("space", ["mlperf_tiny", "rcnet_cifar100"])
@pytest.mark.parametrize(
  ("family", "width", "params"),
  # With 10 classes. ResNet-20 has 269,722 with shortcuts that learn nothing; two 1x1 convolutions
  # with batch norm add 2,752. Torchvision's MobileNetV2 has 3,504,872 with 1,000 classes.
  [
    ("resnet20", 16, 269_722 + 2_752),
    ("mobilenet_v2", 64, 3_504_872 - 990 * 1_281),
    ("mobilenet_v2_stride_2", 64, 3_504_872 - 990 * 1_281),
  ],
)
def test_families_of_the_published_width_have_the_published_parameters(
  family, width, params, space
):
  space = dataclasses.replace(spaces.get(space), classes=10)
  assert resources.network_cost(*families.FAMILIES[family](space, width))["params"] == params


def test_the_widest_network_fits_and_the_next_one_does_not():
  budget = {"params": 77_706, "memory": 49_152}
  found = families.widest("resnet20", SPACE, budget, resources.RESOURCES)
  wider = families.resnet(SPACE, found.space.stem_channels + 1)
  fits = [
    all(resources.network_cost(*network)[name] <= limit for name, limit in budget.items())
    for network in (found, wider)
  ]
  assert fits == [True, False]


def test_no_network_of_a_family_fits():
  space = dataclasses.replace(SPACE, classes=1_000)
  with pytest.raises(ValueError, match="no resnet20 fits the budgets"):
    families.widest("resnet20", space, {"params": 1_000}, resources.RESOURCES)


def test_another_width_recipe_or_data_set_has_a_folder_of_its_own():
  config = tiny_config.get_config()
  pixels = np.zeros((2, 4, 4, 1), np.uint8)
  split = data.Split(pixels, np.arange(2, dtype=np.int32))
  images = data.Data(split, split, split, 2, np.zeros(1), np.ones(1))
  found = [trained.folder_of("resnet20", families.resnet(SPACE, w), images, config) for w in (4, 8)]
  other = images._replace(train=split._replace(images=pixels + 1))
  found.append(trained.folder_of("resnet20", families.resnet(SPACE, 4), other, config))
  config.final.epochs = 2.0
  found.append(trained.folder_of("resnet20", families.resnet(SPACE, 4), images, config))
  assert len(set(found)) == 4


@pytest.mark.slow
def test_trainings_are_compared_and_kept(tmp_path, capsys, monkeypatch):
  pytest.importorskip("ai_edge_quantizer", reason="needs .[tflite]")
  config = tiny_config.get_config()
  config.budget.update({"params": 3e3, "madds": 3e4})
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
  run = flagsaver.flagsaver(
    architectures=["largest", ". | e2"], seeds_each=2, int8=True, workdir=str(tmp_path / "runs")
  )(trained.main)
  run(config)
  table = capsys.readouterr().out
  assert "n = 2" in table and table.count("±") == 5
  assert ". . | e2 ." in table
  monkeypatch.setattr(final, "train", None)  # A second run only reads.
  run(config)
  assert capsys.readouterr().out == table

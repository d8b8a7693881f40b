"""Published networks by name, their costs, and the reader of architectures."""

import json
import pathlib

import pytest

from nas_submod import resources, training
from nas_submod.networks import architectures, spaces
from tests.test_training import make_data

RCNET = json.loads((pathlib.Path(__file__).parent / "data" / "rcnet.json").read_text())["nets"]
PUBLISHED = {
  ("rcnet_cifar100", "rcnet"): "rcnet_cifar100",
  ("rcnet_cifar100", "mobilenet_v2"): "mobilenet_v2_cifar100",
  ("rcnet_imagenet", "rcnet"): "rcnet_imagenet",
  ("rcnet_imagenet", "rcnet_b"): "rcnet_b_imagenet",
  ("rcnet_imagenet", "rcnet_adapted"): "rcnet_cifar100_on_imagenet",
}
# Sandler et al. 2018 with all its convolutions. The skeleton adds an expansion convolution to the
# first block, and a 1x1 convolution with batch norm as skip connection to the blocks of stride 1
# that change the channels.
MOBILENET_V2 = {"params": 3_504_872, "madds": 299_494_272}
ADDED = {
  "params": (32 * 32 + 64) + (32 * 16 + 32) + (64 * 96 + 192) + (160 * 320 + 640),
  "madds": 112**2 * (32 * 32 + 32 * 16) + 14**2 * 64 * 96 + 7**2 * 160 * 320,
}


@pytest.mark.parametrize(("space", "name"), PUBLISHED)
def test_named_architectures_are_the_published_ones(space, name):
  net = RCNET[PUBLISHED[space, name]]
  found = spaces.get(space)
  architecture = architectures.read(found, name)
  assert found.key(architecture) == found.key(net["arch"])
  cost = resources.network_cost(found, architecture)
  assert (cost["params"], cost["madds"]) == (net["params"], net["madds"])


def test_mobilenet_v2_under_the_imagenet_skeleton():
  space = spaces.get("rcnet_imagenet")
  cost = resources.network_cost(space, architectures.read(space, "mobilenet_v2"))
  assert {n: cost[n] for n in ADDED} == {n: MOBILENET_V2[n] + ADDED[n] for n in ADDED}


def test_resnet8_of_mlperf_tiny():
  """The kernels are counted by hand; `spaces.mlperf_tiny` explains the three counts."""
  space = spaces.get("mlperf_tiny")
  architecture = architectures.read(space, "resnet8")
  convolutions = [  # Kernel, input and output channels, side of the output.
    (3, 3, 16, 32),
    *[(3, 16, 16, 32)] * 2,
    *((3, 16, 32, 16), (3, 32, 32, 16), (1, 16, 32, 16)),
    *((3, 32, 64, 8), (3, 64, 64, 8), (1, 32, 64, 8)),
  ]
  weights = sum(kernel**2 * cin * cout for kernel, cin, cout, _ in convolutions)
  channels = sum(cout for _, _, cout, _ in convolutions)
  madds = sum(kernel**2 * cin * cout * side**2 for kernel, cin, cout, side in convolutions)
  dense = 64 * 10 + 10
  found = resources.network_cost(space, architecture)
  assert found["params"] == weights + 2 * channels + dense == 78_042
  assert found["madds"] == madds == 12_500_992  # 12,501,632 with the 640 of the dense layer.
  folded = resources.network_cost(space, architecture, resources.from_config({"params": "folded"}))
  assert folded["params"] == weights + channels + dense == 77_706
  normed = sum(cout for kernel, _, cout, _ in convolutions if kernel > 1)
  assert folded["params"] + 4 * normed == 78_666  # The Keras file.
  # The peak is in the first block: its input, still to be added, and both sides of a convolution.
  assert found["memory"] == 3 * 32 * 32 * 16 == 49_152


def test_every_name_was_checked():
  names = {(space, name) for space, nets in architectures.ARCHITECTURES.items() for name in nets}
  assert names == {
    *PUBLISHED,
    ("rcnet_imagenet", "mobilenet_v2"),
    ("mlperf_tiny", "resnet8"),
    ("mlperf_tiny", "by_hand"),
  }


def test_all_ways_to_write_an_architecture(tmp_path):
  space = spaces.get("rcnet_cifar100")
  numbers = RCNET["rcnet_cifar100"]["arch"]
  (tmp_path / "result.json").write_text(json.dumps({"architecture": numbers}))
  for text in (str(tmp_path / "result.json"), str(numbers), space.text(numbers)):
    assert list(architectures.read(space, text)) == numbers


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("rcnet_c", "unknown architecture 'rcnet_c'; allowed: rcnet, mobilenet_v2, a result.json, 36"),
    ("rcnet_b", "unknown architecture 'rcnet_b'; allowed: rcnet"),
    ("1,2,3", "architecture has 3 positions; space rcnet_cifar100 has 36"),
    ("9," * 36, "unknown option 9 at position 0"),
    ("e6 | e9 | . | . | . | .", "unknown option 'e9'; allowed: ., e3"),
    ("none.json", "there is no none.json"),
  ],
)
def test_unknown_architectures_are_refused(text, message):
  with pytest.raises(ValueError, match=message):
    architectures.read(spaces.get("rcnet_cifar100"), text)


@pytest.mark.parametrize("content", ["[]", '{"architecture": 3}', '{"value": 1}'])
def test_other_files_are_refused(content, tmp_path):
  path = tmp_path / "other.json"
  path.write_text(content)
  with pytest.raises(ValueError, match=r"other\.json is not a result\.json of a search"):
    architectures.read(spaces.get("digits"), str(path))


@pytest.mark.parametrize("name", ["cifar100", "cifar100_modern", "imagenet", "imagenet_modern"])
def test_configs_are_recipes_for_architectures_of_their_space(name):
  module = __import__(f"configs.train.{name}", fromlist=["get_config"])
  config = module.get_config()
  space = spaces.from_config(config.space)
  named = architectures.ARCHITECTURES[space.name]
  assert architectures.read(space, config.architecture) == space.parse(named["rcnet"])
  assert module.get_config("mobilenet_v2").architecture == "mobilenet_v2"
  config.final.batch_size = 8
  if config.final.get("warmup_steps"):
    config.final.warmup_steps = 8  # So few images make fewer steps than the recipe's warm-up has.
  recipe = training.recipe(config.final, make_data())
  epochs = {"cifar100": 200, "cifar100_modern": 200, "imagenet": 400, "imagenet_modern": 300}
  assert recipe.steps == epochs[name] * 4


def test_a_result_whose_line_and_numbers_differ_in_this_space_is_refused(tmp_path):
  space, path = spaces.get("digits"), tmp_path / "result.json"
  numbers = list(space.parse("e3 | e3 | e3"))
  path.write_text(json.dumps({"architecture": numbers, "text": space.text(numbers)}))
  assert architectures.read(space, str(path)) == tuple(numbers)
  other = [2, *numbers[1:]]
  path.write_text(json.dumps({"architecture": other, "text": space.text(numbers)}))
  with pytest.raises(ValueError, match="take the config of its search"):
    architectures.read(space, str(path))

"""RCAS on ImageNet at the size of the paper: 224x224 images, 36 positions, six block types.

Claim: the paper's search finds RCNet, 72.2% top-1 with 3.4M parameters and 294M multiply-adds, in
eight GPU-days; with budgets of 5M and 500M, RCNet-B, 74.7%.
Expected: not yet measured here. Training and validation images of the search are held in device
memory: 30,000 by default, 4.5 GB; `data.train_size` and `data.validation_size` change that. A
search uses no test images; configs/train/imagenet.py tests on all of them.
Command: python -m experiments.search --config=configs/imagenet.py --workdir=runs/imagenet
RCNet-B: --config=configs/imagenet.py:b
"""

from ml_collections import ConfigDict

from configs import cifar100
from nas_submod.resources import budgets


def get_config(mode: str = "") -> ConfigDict:
  """The config; mode "b" has the larger budgets, "smoke" trains candidates for 2 steps."""
  config = cifar100.get_config("smoke" if mode == "smoke" else "")
  config.space.name = "rcnet_imagenet"
  config.data.update(
    {
      "source": "imagenet2012",
      "train_size": 20_000,
      "validation_size": 10_000,
      "test_size": 1_000,
      "image_size": 224,
    }
  )
  config.budget = budgets(params=3.45e6, madds=300e6)
  config.final.update({"epochs": 400.0, "learning_rate": 0.01, "milestones": (200, 300)})
  if mode == "b":
    config.budget = budgets(params=5e6, madds=500e6)
  elif mode not in ("", "smoke"):
    raise ValueError(f'unknown mode {mode!r}; allowed: "b", "smoke" or none')
  return config

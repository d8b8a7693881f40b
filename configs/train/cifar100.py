"""The paper's training on CIFAR-100: 200 epochs, drops at 60, 120 and 180.

Claim: RCNet 76.1% top-1 with 1.92M parameters and 87.3M multiply-adds; MobileNetV2 74.2% with 2.41M
and 91.1M (Xiong, Mehta, Singh, ICCV 2019).
Expected: not yet measured at full length here.
Command: python -m experiments.train --config=configs/train/cifar100.py --workdir=runs/rcnet
  --config.data.source=npz:PATH reads an npz file. --config=configs/train/cifar100.py:mobilenet_v2
  trains the baseline. --architecture=runs/cifar100/result.json trains the network of a search.
"""

from ml_collections import ConfigDict

from configs import cifar100


def get_config(architecture: str = "rcnet") -> ConfigDict:
  """The config; `architecture` is a value of the flag --architecture."""
  searched = cifar100.get_config()
  config = ConfigDict({name: searched[name] for name in ("seed", "space", "data", "final")})
  config.architecture = architecture
  config.final.keep_checkpoints = 3
  return config

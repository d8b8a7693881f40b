"""The paper's training on ImageNet: 400 epochs, drops at 200 and 300.

Claim: RCNet 72.2% top-1 with 3.4M parameters and 294M multiply-adds; RCNet-B 74.7% with 4.7M and
471M; RCNet of CIFAR-100, moved to ImageNet, 72.1%; MobileNetV2 72.0% (Xiong, Mehta, Singh, ICCV
2019).
Expected: not yet measured here. Images are streamed from a prepared ImageNet. On a machine without
it, --config.data.source=fake streams as many random images of the same size.
Command: python -m experiments.train --config=configs/train/imagenet.py:rcnet_b --workdir=runs/b
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config(architecture: str = "rcnet") -> ConfigDict:
  """The config; `architecture` is a value of the flag --architecture."""
  searched = imagenet.get_config()
  config = ConfigDict({name: searched[name] for name in ("seed", "space", "data", "final")})
  config.architecture = architecture
  config.data.update({"stream": True, "train_size": None, "test_size": None})
  # Streamed images have random crops, so they need no shifts.
  config.final.update(
    {"batch_size": 256, "crop_padding": 0, "checkpoint_every": 5.0, "keep_checkpoints": 3}
  )
  return config

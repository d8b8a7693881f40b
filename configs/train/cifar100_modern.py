"""CIFAR-100 with a current recipe: cosine, warm-up, label smoothing, mixup, average, bfloat16.

Claim: more accurate than the paper's recipe, for the same network and number of epochs.
Expected: not yet measured here.
Command: python -m experiments.train --config=configs/train/cifar100_modern.py --workdir=runs/modern
"""

from ml_collections import ConfigDict

from configs.train import cifar100


def get_config(architecture: str = "rcnet") -> ConfigDict:
  """The config; `architecture` is a value of the flag --architecture."""
  config = cifar100.get_config(architecture)
  config.final.update(
    {
      "schedule": "cosine",
      "warmup_steps": 1_950,  # five epochs
      "learning_rate": 0.1,
      "weight_decay": 5e-4,
      "decay_kernels": True,
      "label_smoothing": 0.1,
      "mixup": 0.2,
      "average": 0.999,
      "dtype": "bfloat16",
    }
  )
  return config

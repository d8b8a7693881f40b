"""RCAS on Fashion-MNIST from TensorFlow Datasets: the digits space on 28x28 images.

Claim: the default experiment moves to another data set with a few lines.
Expected: not yet measured. TFDS downloads and prepares the set once (pip install '.[tfds]').
Command: python -m experiments.search --config=configs/fashion_mnist.py --workdir=runs/fashion
"""

from ml_collections import ConfigDict

from configs import digits
from nas_submod.resources import budgets


def get_config(mode: str = "") -> ConfigDict:
  """The config; mode "smoke" checks that everything works."""
  if mode not in ("", "smoke"):
    raise ValueError(f"unknown mode {mode!r}; allowed: smoke or none")
  config = digits.get_config(mode)
  config.space.image_shape = (28, 28, 1)
  config.data.update({"source": "fashion_mnist", "validation_size": 5_000})
  config.budget = budgets(params=20e3, madds=1e6)
  config.train.update({"flip": True, "batch_size": 64})
  config.final.update({"flip": True, "crop_padding": 2, "epochs": 30.0, "batch_size": 128})
  return config

"""A template for your own images and your own search space.

Claim: a search on your data needs only this file.
Expected: depends on your data; try `--dry_run` first.
Command: python -m experiments.search --config=configs/own_data.py --workdir=runs/mine
  --config.data.source=npz:PATH or --config.data.source=folder:PATH
"""

from ml_collections import ConfigDict

from configs import digits
from nas_submod.resources import budgets


def get_config(mode: str = "") -> ConfigDict:
  """The config; copy this file and change what is commented."""
  if mode not in ("", "smoke"):
    raise ValueError(f"unknown mode {mode!r}; allowed: smoke or none")
  config = digits.get_config(mode)
  # npz:PATH holds uint8 x_train [N, H, W, C], labels y_train [N], x_test, y_test;
  # folder:PATH holds PATH/train/CLASS/*.png and PATH/test/CLASS/*.png, or PATH/CLASS/*.png.
  # Without test images, set test_size: they are then taken from the training images, like the
  # validation images. With few images, make both numbers smaller.
  config.data.update({"source": "npz:my_data.npz", "validation_size": 1_000})
  # Stages are (output channels, positions, stride of the first block). Options are settings of the
  # inverted residual (nas_submod/networks/blocks.py), or a block of your own: {"block":
  # "module:function", "name": "mine", ...}, called as function(cin, cout, stride, ...) -> Layer.
  # `start` is the start set: option names by position, "." for empty, "|" between stages. An empty
  # stage passes its stride on to the next block, so stages of several widths may follow each other
  # at one resolution: configs/mlperf_tiny.py.
  config.space = {
    "name": "mine",
    "image_shape": (32, 32, 3),  # of your images, or of data.image_size
    "classes": 10,
    "stem_channels": 16,
    "stages": ((16, 4, 1), (32, 4, 2), (64, 4, 2)),
    "options": ({"expansion": 3}, {"expansion": 6, "kernel": 5, "squeeze_excite": True}),
    "start": ". | e3 | e3",
    "head_channels": 256,
  }
  # The limits of your device, any of params, madds, flash, memory and latency_ms; docs/searching.md
  # says how each is counted. For TFLite Micro also set config.resources.memory = "tflite_micro".
  config.budget = budgets(params=300e3, madds=20e6)
  # `evaluations` is the number of short trainings that you can pay for.
  evaluations = 8 if mode == "smoke" else 40
  config.search.update({"optimizer": "surrogate", "options": {"evaluations": evaluations}})
  # The short training of a candidate, by default 900 steps of 32 images. For more than a few
  # thousand images use {"steps": 0, "epochs": 2.0}: docs/searching.md#how-long-a-candidate-trains.
  config.train.update({"crop_padding": 2, "flip": True})
  return config

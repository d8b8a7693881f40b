"""The folder of a run with a training of a few steps."""

import json

from nas_submod import data, trained
from nas_submod.networks import blocks, spaces
from nas_submod.training import final
from nas_submod.workdir import make_workdir
from tests import tiny_config

ARCHITECTURE = [1, 0, 1, 2]


def untraced(cin, cout, stride):
  """A block that trains, but does not say what it does."""
  return blocks.conv_bn(cin, cout, 3, stride)._replace(trace=None)


def train(run, **changes):
  """Trains as experiments.train does; returns the data and the metrics.

  Args:
    run: The folder of the run.
    **changes: Of `config.final`.
  """
  config = tiny_config.get_config()
  config.final.update({"steps": 4, "epochs": 0.0, "checkpoint_every": 2.0, **changes})
  folder = run / trained.FOLDER
  make_workdir(folder, {"config": config.to_dict(), "architecture": ARCHITECTURE})
  images = data.load(config.data)
  (folder / trained.DATA_FILE).write_text(json.dumps(trained.data_facts(images)))
  space = spaces.from_config(config.space)
  return images, final.train(space, ARCHITECTURE, images, config, folder)

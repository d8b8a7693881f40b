"""Downloads and prepares a set of TensorFlow Datasets once, to be read without TensorFlow.

python -m experiments.prepare --dataset=cifar100 [--data_dir=DIR] [--manual_dir=DIR]
python -m experiments.prepare --dataset=folder:PATH [--data_dir=DIR]

Sets of TFDS need TensorFlow here, and only here: pip install 'nas-submod[tfds]'. A folder of image
files, as `config.data.source` takes it, needs none: it becomes a set of few large files that has
the name of the folder, every image looked at once.
ImageNet cannot be downloaded by a program: --manual_dir is where its archives are
(https://www.tensorflow.org/datasets/catalog/imagenet2012).
"""

from typing import Any

from absl import app, flags, logging

from experiments import common
from nas_submod.data import sources
from nas_submod.data.prepare import prepare

DATASET = flags.DEFINE_string("dataset", None, "Name of a TFDS set, or folder:PATH.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where sets live; by default where TFDS has them.")
MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "What had to be downloaded by hand.")


def main(argv: Any) -> None:
  """Prepares the set and says what it holds."""
  if len(argv) > 1:
    return common.fail(f"unknown argument {argv[1]!r}; options begin with --")
  logging.set_verbosity(logging.WARNING)
  try:
    builder = prepare(DATASET.value, DATA_DIR.value, MANUAL_DIR.value)
    name = builder.name if DATASET.value.startswith("folder:") else DATASET.value
  except ValueError as error:
    return common.fail(error)
  where = f" --config.data.data_dir={DATA_DIR.value}" if DATA_DIR.value else ""
  use = f"read it by --config.data.source={name}{where}"
  try:
    sources.find(name, DATA_DIR.value)  # Reads the labels once, and keeps them.
  except ValueError as error:
    use = f"no network is trained on it: {error}"
  sizes = ", ".join(f"{split.num_examples:,} {name}" for name, split in builder.info.splits.items())
  print(f"{name} is in {builder.data_dir}: {sizes}; {use}")


if __name__ == "__main__":
  app.run(main)

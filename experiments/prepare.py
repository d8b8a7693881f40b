"""Downloads and prepares a set of TensorFlow Datasets once, to be read without TensorFlow.

python -m experiments.prepare --dataset=cifar100 [--data_dir=DIR] [--manual_dir=DIR]

Sets of encoded images need TensorFlow here, and only here: pip install 'nas-submod[tfds]'.
ImageNet cannot be downloaded by a program: --manual_dir is where its archives are
(https://www.tensorflow.org/datasets/catalog/imagenet2012).
"""

from typing import Any

from absl import app, flags

from experiments import common
from nas_submod import sources, tfds_sets

DATASET = flags.DEFINE_string("dataset", None, "Name of a TFDS set.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where sets live; by default where TFDS has them.")
MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "What had to be downloaded by hand.")


def main(argv: Any) -> None:
  """Prepares the set and says what it holds."""
  if len(argv) > 1:
    return common.fail(f"unknown argument {argv[1]!r}; options begin with --")
  try:
    builder = tfds_sets.prepare(DATASET.value, DATA_DIR.value, MANUAL_DIR.value)
    sources.find(DATASET.value, DATA_DIR.value)  # Reads the labels once, and keeps them.
  except ValueError as error:
    return common.fail(error)
  sizes = ", ".join(f"{split.num_examples:,} {name}" for name, split in builder.info.splits.items())
  print(f"{DATASET.value} is in {builder.data_dir}: {sizes}")


if __name__ == "__main__":
  app.run(main)

"""Downloads and prepares a set of TensorFlow Datasets, which is then read without TensorFlow.

python -m experiments.prepare --dataset=cifar100 [--data_dir=DIR] [--manual_dir=DIR]
python -m experiments.prepare --dataset=folder:PATH [--data_dir=DIR]

Only preparing a TFDS set needs TensorFlow: pip install -e '.[tfds]'. A folder of image files,
as in `config.data.source`, needs no TensorFlow. It becomes a set of a few large files with the name
of the folder, and every image is checked once.
ImageNet must be downloaded by hand. --manual_dir is the folder of its archives
(https://www.tensorflow.org/datasets/catalog/imagenet2012).
"""

from typing import Any

from absl import flags, logging

from experiments import common
from nas_submod.data import sources
from nas_submod.data.prepare import prepare

DATASET = flags.DEFINE_string("dataset", None, "Name of a TFDS set, or folder:PATH.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS sets; by default that of TFDS.")
MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Folder of archives downloaded by hand.")


def main(argv: Any) -> None:
  """Prepares the set and prints its splits."""
  if len(argv) > 1:
    common.fail(f"unknown argument {argv[1]!r}; options begin with --")
  logging.set_verbosity(logging.WARNING)
  name = DATASET.value
  if name.startswith(("/", "./", "../")):
    name = f"folder:{name}"
  try:
    builder = prepare(name, DATA_DIR.value, MANUAL_DIR.value)
    name = builder.name if name.startswith("folder:") else name
  except ValueError as error:
    common.fail(error)
  where = f" --config.data.data_dir={DATA_DIR.value}" if DATA_DIR.value else ""
  use = f"read it by --config.data.source={name}{where}"
  try:
    sources.find(name, DATA_DIR.value)  # Reads the labels once and stores them.
  except ValueError as error:
    use = f"it cannot train networks: {error}"
  sizes = ", ".join(f"{split.num_examples:,} {name}" for name, split in builder.info.splits.items())
  for note in getattr(builder, "notes", ()):
    print(f"data    {note}")
  print(f"{name} is in {builder.data_dir}: {sizes}; {use}")


if __name__ == "__main__":
  common.run_without_config(main)

"""The TFDS set `digits`: handwritten digits from scikit-learn, without a download."""

import atexit
import contextlib
import functools
import io
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from nas_submod.data import splits

_TEST_SIZE = 360


class Digits(tfds.core.GeneratorBasedBuilder):
  """1,797 images of 8x8 pixels and ten classes: 1,437 for training and 360 for testing.

  The pixels 0..16 of scikit-learn become `round(pixel * 255 / 16)`, uint8. The test set has 36
  images of each class, drawn with seed 0. Features are plain tensors, because these need no
  TensorFlow to prepare and read.
  """

  VERSION = tfds.core.Version("1.0.0")

  def _info(self) -> Any:
    return tfds.core.DatasetInfo(
      builder=self,
      description="Handwritten digits, 8x8 pixels (the test part of UCI optdigits).",
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Tensor(shape=(8, 8, 1), dtype=np.uint8),
          "label": tfds.features.Scalar(dtype=np.int64),
        }
      ),
      supervised_keys=("image", "label"),
      homepage="https://archive.ics.uci.edu/dataset/80",
      citation="Alpaydin, E., Kaynak, C. (1998). Optical Recognition of Handwritten Digits. UCI.",
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    del dl_manager
    from sklearn.datasets import load_digits  # Takes a second to import and is needed once.

    digits = load_digits()
    images = np.round(digits.images[..., None] * (255 / 16)).astype(np.uint8)
    test, train = splits.stratify(digits.target, _TEST_SIZE, seed=0)
    return {
      "train": self._generate_examples(images, digits.target, train),
      "test": self._generate_examples(images, digits.target, test),
    }

  def _generate_examples(
    self, images: np.ndarray, labels: np.ndarray, indices: np.ndarray
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    for i in indices:
      yield int(i), {"image": images[i], "label": int(labels[i])}


def prepared_builder(data_dir: str | None) -> Any:
  """Returns the TFDS builder of `digits`. The first call writes the files, in a second or two.

  Args:
    data_dir: Folder of TFDS sets. None: the default of TFDS, or a temporary folder if that cannot
      be written, as in containers.

  Raises:
    ValueError: The files cannot be written.
  """
  default = tfds.core.constants.DATA_DIR
  homeless = os.path.expanduser(default).startswith("~")  # TFDS would make a folder named ~.
  try:
    return _prepare(_own_folder() if data_dir is None and homeless else data_dir)
  except ValueError:
    if data_dir is not None:
      raise
    return _prepare(_own_folder())


@functools.cache
def _own_folder() -> str:
  folder = tempfile.TemporaryDirectory(prefix="nas_submod_")
  atexit.register(folder.cleanup)
  return folder.name


def _prepare(data_dir: str | None) -> Any:
  builder = tfds.builder("digits", data_dir=data_dir)
  try:
    # Hides progress bars of several lines for a second of work.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
      builder.download_and_prepare(file_format="array_record")
  except OSError as error:
    # TFDS renames its folder last, which fails if another process was faster. That is fine.
    if not builder.data_path.exists():
      raise ValueError(
        f"cannot write the digits to {builder.data_dir}: {error.strerror or error}; "
        "data_dir must be writable"
      ) from error
    builder = tfds.builder("digits", data_dir=data_dir)
  return builder

"""The TFDS set `digits`: real handwritten digits that come with scikit-learn, no download."""

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from nas_submod.data import splits

_TEST_SIZE = 360


class Digits(tfds.core.GeneratorBasedBuilder):
  """1,797 images of 8x8 pixels, ten classes: 1,437 to train on and 360 to test.

  The pixels 0..16 of scikit-learn become `round(pixel * 255 / 16)`, uint8. The test images are
  36 of each class, drawn once (seed 0). Features are plain tensors, so that TensorFlow is neither
  needed to prepare the set nor to read it.
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
    from sklearn.datasets import load_digits  # A second to import, needed once.

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
  """Returns the TFDS builder of `digits`, its files written on first use (a second or two).

  Args:
    data_dir: Where TFDS sets live. None: the default of TFDS.

  Raises:
    ValueError: The files cannot be written there.
  """
  builder = tfds.builder("digits", data_dir=data_dir)
  try:
    # TFDS prints a progress bar of several lines for what takes a second.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
      builder.download_and_prepare(file_format="array_record")
  except OSError as error:
    # Another process may have been faster: the last step of TFDS is a rename.
    if not builder.data_path.exists():
      raise ValueError(
        f"cannot write the digits to {builder.data_dir}: {error.strerror or error}; "
        "data_dir must be writable"
      ) from error
    builder = tfds.builder("digits", data_dir=data_dir)
  return builder

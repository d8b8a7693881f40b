"""Prepares TFDS sets, and turns a folder of image files into one.

A TFDS set has a few large files with random access, which are faster than many small ones.
"""

import importlib.util
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from nas_submod.data import pixels
from nas_submod.data.folders import Folder, find_folder
from nas_submod.data.sources import KINDS
from nas_submod.data.tfds_sets import find_builder
from nas_submod.files import local_path
from nas_submod.validation import first_line


class ImageFolder(  # type: ignore[call-arg]
  tfds.core.GeneratorBasedBuilder, skip_registration=True
):
  """A TFDS set of the image files of a folder. The files are stored as they are, not re-encoded."""

  VERSION = tfds.core.Version("1.0.0")

  def __init__(self, name: str, folder: Folder, data_dir: str | None):
    self.name = name
    self._folder = folder
    self.notes = folder.notes
    super().__init__(data_dir=data_dir)

  def _info(self) -> Any:
    channels = 1 if self._folder.mode == "L" else 3
    return tfds.core.DatasetInfo(
      builder=self,
      description="Images of a folder, a class in each subfolder.",
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(shape=(None, None, channels)),
          "label": tfds.features.ClassLabel(names=self._folder.class_names),
        }
      ),
      supervised_keys=("image", "label"),
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
    del dl_manager
    return {split: self._generate_examples(files) for split, files in self._folder.files.items()}

  def _generate_examples(
    self, by_class: list[list[pathlib.Path]]
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    for label, files in enumerate(by_class):
      for file in files:
        # Decodes to report a damaged file now, not after days of training.
        pixels.decode(file, str(file), self._folder.mode)
        with file.open("rb") as content:
          # The folder of the split distinguishes files of equal names.
          yield f"{label}/{file.parents[1].name}/{file.name}", {"image": content, "label": label}


def builder(path: str, data_dir: str | None) -> ImageFolder:
  """Returns the builder of a set that has the images and the name of a folder.

  Args:
    path: The folder.
    data_dir: Folder of TFDS sets. None: the default of TFDS.

  Raises:
    ValueError: The folder holds no images by class, its name is not allowed or is taken by a known
      source, or `data_dir` already has a set of this name.
  """
  if not path:
    raise ValueError('source "folder:" has no path; allowed: folder:PATH')
  location = local_path(path).resolve()
  name = location.name
  taken = {"digits", *KINDS, *tfds.list_builders(with_community_datasets=False)}
  if not re.fullmatch("[a-z][a-z0-9_]*", name) or name in taken:
    raise ValueError(
      f'the folder name "{name}" cannot name a set: lower case letters, digits and _ are allowed, '
      "and no name of another source; rename the folder"
    )
  found = ImageFolder(name, find_folder(location), data_dir)
  if found.data_path.exists():  # TFDS would silently keep its old images.
    raise ValueError(
      f"{found.data_dir} already exists: read it by config.data.source={name}, delete it to "
      "prepare it again, or rename the folder"
    )
  return found


def prepare(name: str, data_dir: str | None, manual_dir: str | None = None) -> Any:
  """Downloads a TFDS set and writes it as array_record, unless it exists; returns its builder.

  Args:
    name: Name of the set, or "folder:PATH", whose image files become a set named after the folder.
    data_dir: Folder of TFDS sets. None: the default of TFDS.
    manual_dir: Folder of archives downloaded by hand. None: a folder inside `data_dir`.

  Raises:
    ValueError: There is no such set, TensorFlow is missing, or preparing the set failed.
  """
  if name.startswith("folder:"):
    found = builder(name.partition(":")[2], data_dir)
  else:
    found = find_builder(name, data_dir)
    of_tfds = type(found).__module__.startswith("tensorflow_datasets.")
    made = of_tfds and not found.data_path.exists()
    if made and importlib.util.find_spec("tensorflow") is None:  # Checked before a long download.
      raise ValueError(f'"{name}" is prepared with TensorFlow: pip install -e ".[tfds]"')
  config = tfds.download.DownloadConfig(manual_dir=manual_dir)
  try:
    found.download_and_prepare(file_format="array_record", download_config=config)
  except ImportError as error:
    raise ValueError(
      f'"{name}" is prepared with TensorFlow: pip install -e ".[tfds]" ({first_line(error)})'
    ) from error
  except Exception as error:  # Downloads and generators of TFDS raise many types.
    raise ValueError(f'"{name}" cannot be prepared: {first_line(error)}') from error
  return found

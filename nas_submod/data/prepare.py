"""A folder of image files as a TFDS set: few large files, any image of which is read at once."""

import importlib.util
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from nas_submod.data import pixels
from nas_submod.data.folders import Folder, find_folder
from nas_submod.data.tfds_sets import find_builder
from nas_submod.validation import first_line


class ImageFolder(  # type: ignore[call-arg]
  tfds.core.GeneratorBasedBuilder, skip_registration=True
):
  """The images of `sources.find_folder`, their files as they are: neither written nor read anew."""

  VERSION = tfds.core.Version("1.0.0")

  def __init__(self, name: str, folder: Folder, data_dir: str | None):
    self.name = name
    self._folder = folder
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
        # What cannot be read is said now, not after days of training.
        pixels.decode(file, str(file), self._folder.mode)
        with file.open("rb") as content:
          yield f"{label}/{file.name}", {"image": content, "label": label}


def builder(path: str, data_dir: str | None) -> ImageFolder:
  """The builder of a folder's images, a set with the folder's name.

  Args:
    path: The folder.
    data_dir: Where TFDS sets live. None: the default of TFDS.

  Raises:
    ValueError: It holds no images by class, its name is not possible or that of a known set, or
      a set of this name is there already.
  """
  location = pathlib.Path(path).expanduser().resolve()
  name = location.name
  taken = {"digits", "fake", "folder", "npz", *tfds.list_builders(with_community_datasets=False)}
  if not re.fullmatch("[a-z][a-z0-9_]*", name) or name in taken:
    raise ValueError(
      f'a set cannot be named "{name}", as the folder: lower case letters, digits and _ are '
      "allowed, and no name of another source; rename the folder"
    )
  found = ImageFolder(name, find_folder(location), data_dir)
  if found.data_path.exists():  # TFDS would take it for this one.
    raise ValueError(
      f"{found.data_dir} is there already, of this folder or of another: read it by "
      f"config.data.source={name}, delete it to prepare it again, or rename the folder"
    )
  return found


def prepare(name: str, data_dir: str | None, manual_dir: str | None = None) -> Any:
  """Downloads a TFDS set and writes it as array_record, if that is not done; returns its builder.

  Args:
    name: Of the set, or "folder:PATH": its image files become a set named as the folder.
    data_dir: Where TFDS sets live. None: the default of TFDS.
    manual_dir: Where archives are that had to be downloaded by hand. None: inside `data_dir`.

  Raises:
    ValueError: There is no such set, TensorFlow is needed and missing, or it cannot be fetched.
  """
  if name.startswith("folder:"):
    found = builder(name.partition(":")[2], data_dir)
  else:
    found = find_builder(name, data_dir)
    of_tfds = type(found).__module__.startswith("tensorflow_datasets.")
    made = of_tfds and not found.data_path.exists()
    if made and importlib.util.find_spec("tensorflow") is None:  # Before it is downloaded.
      raise ValueError(f'"{name}" is prepared with TensorFlow: pip install nas-submod[tfds]')
  config = tfds.download.DownloadConfig(manual_dir=manual_dir)
  try:
    found.download_and_prepare(file_format="array_record", download_config=config)
  except ImportError as error:
    raise ValueError(
      f'"{name}" is prepared with TensorFlow: pip install nas-submod[tfds] ({first_line(error)})'
    ) from error
  except Exception as error:  # Whatever a download or a generator of TFDS may raise.
    raise ValueError(f'"{name}" cannot be prepared: {first_line(error)}') from error
  return found

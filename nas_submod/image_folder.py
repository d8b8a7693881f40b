"""A folder of image files as a TFDS set: few large files, any image of which is read at once."""

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from nas_submod import pixels, sources


class ImageFolder(  # type: ignore[call-arg]
  tfds.core.GeneratorBasedBuilder, skip_registration=True
):
  """The images of `sources.find_folder`, their files as they are: neither written nor read anew."""

  VERSION = tfds.core.Version("1.0.0")

  def __init__(self, name: str, folder: sources.Folder, data_dir: str | None):
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
  found = ImageFolder(name, sources.find_folder(location), data_dir)
  if found.data_path.exists():  # TFDS would take it for this one.
    raise ValueError(
      f"{found.data_dir} is there already, of this folder or of another: read it by "
      f"config.data.source={name}, delete it to prepare it again, or rename the folder"
    )
  return found

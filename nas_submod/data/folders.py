"""Folders of image files, a subfolder for each class."""

import itertools
import pathlib
from typing import NamedTuple

from nas_submod.data.pixels import mode_of


class Folder(NamedTuple):
  """Image files by class.

  Attributes:
    class_names: In order: class i is the i-th.
    files: Of "train" and, where there is one, "test": the files of each class.
    mode: "L" where every image has one channel, "RGB" otherwise.
  """

  class_names: list[str]
  files: dict[str, list[list[pathlib.Path]]]
  mode: str


def find_folder(path: pathlib.Path) -> Folder:
  """Lists `PATH/train/CLASS/*.png|jpg` and, where they are, `PATH/test/CLASS/...`.

  Raises:
    ValueError: A folder or its images are missing, or the first coloured one cannot be read.
  """
  if not (path / "train").is_dir():
    raise ValueError(
      f"no folder {path / 'train'}: folder:PATH takes PATH/train/CLASS/*.png or .jpg"
    )
  class_names = _class_names(path / "train")
  if not class_names:
    raise ValueError(f"{path / 'train'} has no folders: one for each class is expected")
  files = {"train": _files(path / "train", class_names)}
  for name, of_class in zip(class_names, files["train"]):
    if not of_class:
      raise ValueError(f"{path / 'train' / name} has no image: allowed are {', '.join(_SUFFIXES)}")
  if (path / "test").is_dir():
    unknown = [name for name in _class_names(path / "test") if name not in class_names]
    if unknown:
      raise ValueError(f"{path / 'test'} has classes that train has not: {', '.join(unknown)}")
    files["test"] = _files(path / "test", class_names)

  every = itertools.chain.from_iterable(itertools.chain.from_iterable(files.values()))
  gray = all(mode_of(file, str(file)) in ("1", "L") for file in every)
  return Folder(class_names, files, "L" if gray else "RGB")


def _class_names(path: pathlib.Path) -> list[str]:
  return sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _files(path: pathlib.Path, class_names: list[str]) -> list[list[pathlib.Path]]:
  """The image files of each class, in the order of their names."""
  return [
    [
      file
      for file in sorted((path / name).glob("*"))
      if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")
    ]
    for name in class_names
  ]


_SUFFIXES = (".png", ".jpg", ".jpeg")

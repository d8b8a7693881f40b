"""The source `folder:PATH`: image files `PATH/train/CLASS/*.png` or .jpg, a folder for each class.

Test images, if any, are in `PATH/test/CLASS`. Classes are numbered in the order of their names.
"""

import itertools
import pathlib
from typing import NamedTuple

import numpy as np

from nas_submod.data.pixels import decode, mode_of
from nas_submod.data.source import Source

_SUFFIXES = (".png", ".jpg", ".jpeg")


class Folder(NamedTuple):
  """Image files by class.

  Attributes:
    class_names: Class i has the i-th name.
    files: Maps "train" and, if present, "test" to the files of each class.
    mode: "L" if every image has one channel, "RGB" otherwise.
  """

  class_names: list[str]
  files: dict[str, list[list[pathlib.Path]]]
  mode: str


def open_source(path: str, data_dir: str | None) -> tuple[Source, Source | None]:
  """Opens a folder of images, as `sources.Kind.open`; `data_dir` is not used.

  Raises:
    ValueError: As `find_folder`.
  """
  del data_dir
  location = pathlib.Path(path).expanduser()
  folder = find_folder(location)

  def source(split: str) -> Source:
    by_class = folder.files[split]
    flat = list(itertools.chain.from_iterable(by_class))
    labels = np.repeat(np.arange(len(by_class), dtype=np.int32), [len(files) for files in by_class])
    return Source(
      str(location / split),
      labels,
      lambda i: decode(flat[i], str(flat[i]), folder.mode),
      lambda i: str(flat[i]),
      class_names=tuple(folder.class_names),
    )

  return source("train"), source("test") if "test" in folder.files else None


def find_folder(path: pathlib.Path) -> Folder:
  """Lists the image files of a folder.

  Raises:
    ValueError: A folder or its images are missing, or an image header cannot be read.
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
      raise ValueError(f"{path / 'test'} has classes missing in train: {', '.join(unknown)}")
    files["test"] = _files(path / "test", class_names)

  every = itertools.chain.from_iterable(itertools.chain.from_iterable(files.values()))
  # Stops at the first image with colours: headers of many files are slow to read.
  gray = all(mode_of(file, str(file)) in ("1", "L") for file in every)
  return Folder(class_names, files, "L" if gray else "RGB")


def _class_names(path: pathlib.Path) -> list[str]:
  return sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _files(path: pathlib.Path, class_names: list[str]) -> list[list[pathlib.Path]]:
  """Lists the image files of each class in the order of their names."""
  return [
    [
      file
      for file in sorted((path / name).glob("*"))
      if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")
    ]
    for name in class_names
  ]

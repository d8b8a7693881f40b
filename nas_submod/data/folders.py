"""The source `folder:PATH`: image files `PATH/train/CLASS/*`, a folder for each class.

Test images, if any, are in `PATH/test/CLASS`. Images in `val`, `valid` or `validation` join the
training images, from which validation images are drawn; without `test`, they are the test images.
Without any of these folders, images are in `PATH/CLASS/*`. Classes are numbered in the order of
their names.
"""

import collections
import itertools
import pathlib
import re
from typing import NamedTuple

import numpy as np

from nas_submod.data.pixels import SUFFIXES, decode, mode_of
from nas_submod.data.source import Source
from nas_submod.files import local_path
from nas_submod.validation import listed

# Folder names of each split, in upper or lower case.
_SPLITS = {
  "train": ("train", "training"),
  "val": ("val", "valid", "validation"),
  "test": ("test", "testing"),
}


class Folder(NamedTuple):
  """Image files by class.

  Attributes:
    class_names: Class i has the i-th name.
    files: Maps "train" and, if present, "test" to the files of each class.
    mode: "L" if every image has one channel, "RGB" otherwise.
    notes: What was read in an unusual form, and what was left out.
  """

  class_names: list[str]
  files: dict[str, list[list[pathlib.Path]]]
  mode: str
  notes: tuple[str, ...] = ()


def open_source(path: str, data_dir: str | None) -> tuple[Source, Source | None]:
  """Opens a folder of images, as `sources.Kind.open`; `data_dir` is not used.

  Raises:
    ValueError: As for `find_folder`.
  """
  del data_dir
  location = local_path(path)
  folder = find_folder(location)

  def source(split: str, notes: tuple[str, ...]) -> Source:
    by_class = folder.files[split]
    flat = list(itertools.chain.from_iterable(by_class))
    labels = np.repeat(np.arange(len(by_class), dtype=np.int32), [len(files) for files in by_class])
    return Source(
      f"{location} ({split} images)",
      labels,
      lambda i: decode(flat[i], str(flat[i]), folder.mode),
      lambda i: str(flat[i]),
      class_names=tuple(folder.class_names),
      notes=notes,
    )

  train = source("train", folder.notes)
  return train, source("test", ()) if "test" in folder.files else None


def find_folder(path: pathlib.Path) -> Folder:
  """Lists the image files of a folder.

  Raises:
    ValueError: A folder or its images are missing, or an image header cannot be read.
  """
  if not path.is_dir():
    what = f"{path} is a file, unpack it" if path.is_file() else f"no folder {path}"
    raise ValueError(f"{what}: folder:PATH takes PATH/train/CLASS/* or PATH/CLASS/*")
  folders, notes = _splits(path)
  train, val = folders["train"], folders.get("val")
  class_names = _class_names(train)
  listing = _Listing(class_names)
  files = {"train": listing.of(train)}
  for name, of_class in zip(class_names, files["train"]):
    if not of_class and (deeper := _folders(train / name)):
      raise ValueError(
        f"{train / name} has no image, but folders: {listed(d.name for d in deeper)}; folder:PATH "
        "takes PATH/train/CLASS/* or PATH/CLASS/*"
      )
    if not of_class:
      raise ValueError(f"{train / name} has no image: allowed are {', '.join(SUFFIXES)}")
  if val is not None and "test" in folders:
    files["train"] = [a + b for a, b in zip(files["train"], listing.of(val))]
    notes.append(f"{val.name} joins the images to train on, from which validation images are drawn")
  elif val is not None:
    notes.append(f"{val.name} has the test images")
  if (test := folders.get("test", val)) is not None:
    files["test"] = listing.of(test)

  every = itertools.chain.from_iterable(itertools.chain.from_iterable(files.values()))
  # Stops at the first colour image: headers of many files are slow to read.
  gray = all(mode_of(file, str(file)) in ("1", "L") for file in every)
  return Folder(class_names, files, "L" if gray else "RGB", (*notes, *listing.notes()))


def _splits(path: pathlib.Path) -> tuple[dict[str, pathlib.Path], list[str]]:
  """The folders "train", "val" and "test", and how they were read.

  Raises:
    ValueError: Two folders have the same meaning, or there are such folders but none for training.
  """
  found: dict[str, pathlib.Path] = {}
  for split, spellings in _SPLITS.items():
    here = [p for p in _folders(path) if p.name.lower() in spellings]
    if len(here) > 1:
      raise ValueError(
        f"{path} has {' and '.join(p.name for p in here)}, which mean the same: keep one of them"
      )
    if here:
      found[split] = here[0]
  every = _folders(path)
  # A class may be called `test`. Beside a folder `train` it is more likely a split.
  is_flat = len(every) > len(found) and all(_has_images_alone(p) for p in every)
  are_classes = is_flat and "train" not in found
  if not found or are_classes:
    names = _class_names(path)
    words = [re.split("[^a-z]", name.lower())[0] for name in names]
    if set(words) <= {word for spellings in _SPLITS.values() for word in spellings}:
      raise ValueError(
        f"{path} has {listed(names)}: call them {listed(words)}, with a folder for each class"
      )
    return {"train": path}, [f"the folders of {path} are {len(names)} classes: {listed(names)}"]
  if "train" not in found:
    raise ValueError(
      f"no folder {path / 'train'} beside {', '.join(p.name for p in found.values())}: folder:PATH "
      "takes PATH/train/CLASS/* or PATH/CLASS/*"
    )
  others = [p.name for p in every if p not in found.values()]
  return found, [f"left out: the folders {listed(others)}"] if others else []


def _folders(path: pathlib.Path) -> list[pathlib.Path]:
  """The folders in a folder, except hidden ones and `__MACOSX`, which macOS archives have."""
  return sorted(
    p for p in path.iterdir() if p.is_dir() and p.name[0] != "." and p.name != "__MACOSX"
  )


def _has_images_alone(path: pathlib.Path) -> bool:
  """Whether a folder has images and no folders."""
  return not _folders(path) and any(p.suffix.lower() in SUFFIXES for p in path.iterdir())


def _class_names(path: pathlib.Path) -> list[str]:
  """The names of the folders of classes; ValueError if there is none, or one is not text."""
  names = [p.name for p in _folders(path)]
  if not names:
    files = sum(not p.name.startswith(".") for p in path.iterdir())
    beside = f", but {files} files without a class" if files else ""
    raise ValueError(f"{path} has no folders{beside}: a folder for each class is expected")
  for name in names:
    try:
      name.encode()
    except UnicodeEncodeError:
      raise ValueError(f"{path} has a folder whose name is not UTF-8: {name!a}") from None
  return names


class _Listing:
  """Lists the images of each class, and remembers what it leaves out."""

  def __init__(self, class_names: list[str]):
    self._class_names = class_names
    self._left_out: collections.Counter[str] = collections.Counter()

  def of(self, path: pathlib.Path) -> list[list[pathlib.Path]]:
    """The image files of each class in the order of their names; ValueError for other classes."""
    if unknown := [name for name in _class_names(path) if name not in self._class_names]:
      raise ValueError(f"{path} has classes missing in train: {', '.join(unknown)}")
    if beside := sum(not p.is_dir() and p.name[0] != "." for p in path.iterdir()):
      self._left_out[f"beside the classes in {path.name}"] += beside
    return [self._images(path / name) for name in self._class_names]

  def _images(self, folder: pathlib.Path) -> list[pathlib.Path]:
    images = []
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
      if file.name.startswith("."):
        continue
      if file.suffix.lower() in SUFFIXES and file.is_file():
        images.append(file)
      else:
        self._left_out[f"{file.name}/" if file.is_dir() else file.suffix or file.name] += 1
    return images

  def notes(self) -> tuple[str, ...]:
    """What was left out, if anything."""
    if not self._left_out:
      return ()
    left = listed(f"{count} {name}" for name, count in self._left_out.most_common())
    return (f"left out, no images that can be read: {left}",)

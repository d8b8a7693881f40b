"""The source `npz:PATH`: one file with all images.

It holds images `[N, H, W]` or `[N, H, W, C]` of whole numbers 0..255, and labels (`labels.read`).
Their names are `x_train` and `y_train` (Keras) or `train_images` and `train_labels` (MedMNIST), in
upper or lower case. `x` and `y`, `images` and `labels`, or `data` and `target`, are for training.
Test images, if any, are `x_test` or `test_images`. Images named `val` join the training images,
from which validation images are drawn; without test images, they are the test images.
`class_names`, if any, is an array of text, one name for each class.
"""

import pathlib
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nas_submod.data import labels
from nas_submod.data.source import Source
from nas_submod.files import local_path
from nas_submod.validation import first_line, listed, located

# Names of images and labels; a split replaces the braces. Names without one are for training; the
# first list counts that has both.
_NAMES = (("x_{}", "y_{}"), ("{}_images", "{}_labels"), ("{}_x", "{}_y"))
_ALONE = [[("x", "y"), ("images", "labels")], [("data", "target"), ("data", "labels")]]
_SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_DAMAGED = (
  *(OSError, ValueError, EOFError, NotImplementedError, RuntimeError, MemoryError),
  *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
_CHANNELS = (1, 3, 4)
_LONGEST = 4  # largest ratio of the sides of an image


class _Archive(NamedTuple):
  """An open file.

  Attributes:
    location: Its path.
    arrays: Its arrays by name.
    names: The names of arrays by their lower-case form.
  """

  location: pathlib.Path
  arrays: np.lib.npyio.NpzFile
  names: dict[str, str]

  def read(self, key: str) -> np.ndarray:
    """The array of a lower-case name; ValueError if it cannot be read."""
    name = self.names[key]
    try:
      values = self.arrays[name]
    except _DAMAGED as error:
      hint = "" if "Object arrays" not in str(error) else "; save numbers or text, not objects"
      raise ValueError(
        f"{self.location}: {name} cannot be read: {first_line(error)}{hint}"
      ) from error
    if not isinstance(values, np.ndarray):
      raise ValueError(f"{self.location}: {name} is not an array")
    return values


def open_source(path: str, data_dir: str | None) -> tuple[Source, Source | None]:
  """Opens an npz file, as `sources.Kind.open`; `data_dir` is not used.

  Raises:
    ValueError: The file is missing or damaged, or lacks an array, or an array is not usable.
  """
  del data_dir
  location = local_path(path)
  if not location.is_file():
    raise ValueError(f"no file {location}: npz:PATH takes one npz file")
  with location.open("rb") as file:
    try:
      arrays = np.load(file, allow_pickle=False)
    except _DAMAGED as error:
      raise ValueError(f"{location} is not an npz file, or a damaged one") from error
    if not isinstance(arrays, np.lib.npyio.NpzFile):
      raise ValueError(f"{location} is not an npz file, but a single array")
    archive = _Archive(location, arrays, {name.lower(): name for name in arrays})
    lower = [name.lower() for name in arrays.files]
    if len(archive.names) < len(lower):
      twice = next(name for name in lower if lower.count(name) > 1)
      same = [name for name in arrays.files if name.lower() == twice]
      raise _twice(location, same)
    pairs = _pairs(archive)
    names = _class_names(archive)
    _check_alike(archive, {split: pair[1] for split, pair in pairs.items()}, names)
    train = _source(archive, *pairs["train"], names)
    known = {"class_names", *(name for pair in pairs.values() for name in pair)}
    if unused := [name for name in arrays.files if name.lower() not in known]:
      train = train._replace(notes=(*train.notes, f"left out: {listed(unused)}"))
    others = {
      split: _source(archive, *pairs[split], train.class_names)
      for split in ("val", "test")
      if split in pairs
    }
    if "val" not in others:
      return train, others.get("test")
    if "test" not in others:
      note = f"{others['val'].place} are the test images"
      return train, others["val"]._replace(notes=(*others["val"].notes, note))
    return _joined(train, others["val"]), others["test"]


def _pairs(archive: _Archive) -> dict[str, tuple[str, str]]:
  """The names of images and labels of each split, in lower case.

  Raises:
    ValueError: A name is missing, or two names have the same meaning.
  """
  pairs = {}
  for split, words in _SPLITS.items():
    possible = [(x.format(word), y.format(word)) for x, y in _NAMES for word in words]
    found = _present(archive, possible)
    if split == "train" and not any(found):
      tried = [(names, _present(archive, names)) for names in _ALONE]
      possible, found = next((pair for pair in tried if all(pair[1])), tried[0])
    for same in found:
      if len(same) > 1:
        raise _twice(archive.location, same)
    if any(found) or split == "train":
      images, classes = found
      # A missing name is that of the same style.
      styles = [pair for pair in possible if {*pair} & {*images, *classes}]
      usual = (*styles, ("x_train", "y_train"))[0]
      pairs[split] = ((images or [usual[0]])[0], (classes or [usual[1]])[0])
  missing = [name for pair in pairs.values() for name in pair if name not in archive.names]
  if missing:
    raise ValueError(
      f"{archive.location} lacks {', '.join(missing)}; it has "
      f"{', '.join(archive.arrays) or 'nothing'} (expected: x_train, y_train, x_test, y_test, or "
      "train_images, train_labels, test_images, test_labels, or x, y)"
    )
  return pairs


def _present(archive: _Archive, pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
  """The names of images in a file among those of `pairs`, and the names of labels."""
  return [[name for name in dict.fromkeys(names) if name in archive.names] for names in zip(*pairs)]


def _twice(location: pathlib.Path, names: Iterable[str]) -> ValueError:
  return ValueError(f"{location} has {' and '.join(names)}, which mean the same: keep one of them")


def _check_alike(archive: _Archive, names: Mapping[str, str], class_names: Sequence[str]) -> None:
  """Checks that the labels of all splits mean the same classes.

  Args:
    archive: The file.
    names: The name of the labels of each split.
    class_names: Names of the classes, if the file has them.

  Raises:
    ValueError: If some labels are numbers and others names, if one-hot rows differ in length, or
      if a column of them has no image to train on.
  """
  first, *others = names.values()
  read = {name: archive.read(name) for name in names.values()}
  for name in others:
    if not class_names and labels.are_names(read[name]) != labels.are_names(read[first]):
      one, other = ("names", "numbers") if labels.are_names(read[first]) else ("numbers", "names")
      raise ValueError(
        f"{archive.location}: {archive.names[first]} has {one}, {archive.names[name]} {other}: "
        "save both alike, or add class_names"
      )
  widths = {"class_names": len(class_names)} if class_names else {}
  for name, values in read.items():
    if labels.are_one_hot(values):
      widths[archive.names[name]] = values.shape[1]
  if len(set(widths.values())) > 1:
    found = ", ".join(f"{name} has {width}" for name, width in widths.items())
    raise ValueError(
      f"{archive.location}: {found}: one-hot labels need a column for each class in every split"
    )
  # Without test images, those named val are the test images.
  splits = ("train", "val") if "test" in names else ("train",)
  trained = [read[names[split]] for split in splits if split in names]
  if all(map(labels.are_one_hot, trained)):
    empty = np.flatnonzero(~np.concatenate(trained).any(0))
    if len(empty):
      raise ValueError(
        f"{archive.location}: no row of {archive.names[names['train']]} is of class {empty[0]}: "
        "each class needs training images"
      )


def _class_names(archive: _Archive) -> tuple[str, ...]:
  if "class_names" not in archive.names:
    return ()
  names = archive.read("class_names")
  if names.dtype.kind == "S":
    with located(f"{archive.location}: class_names"):
      names = np.char.decode(names, "utf-8")
  if names.ndim != 1 or names.dtype.kind != "U":
    raise ValueError(
      f"{archive.location}: class_names is {names.dtype} of shape {list(names.shape)}; text "
      "[classes] is expected"
    )
  if len(set(names.tolist())) < len(names):
    raise ValueError(f"{archive.location}: class_names holds a name twice")
  return tuple(map(str, names))


def _source(archive: _Archive, images: str, classes: str, names: tuple[str, ...]) -> Source:
  """The source of two arrays."""
  place = f"{archive.location} {archive.names[images]}"
  values = _pixels(place, archive.read(images))
  given = archive.read(classes)
  if given.ndim not in (1, 2) or len(given) != len(values):
    raise ValueError(
      f"{place}: {len(values)} images, but labels of shape {list(given.shape)}; [{len(values)}] is "
      "expected"
    )
  found = labels.read(f"{archive.location} {archive.names[classes]}", given, names)
  notes = (f"{archive.names[classes]}: {found.note}",) if found.note else ()
  return Source(
    place,
    found.numbers,
    lambda i: values[i],
    lambda i: f"image {i} of {place}",
    values,
    found.names,
    notes,
  )


def _pixels(place: str, values: np.ndarray) -> np.ndarray:
  """Checks images. Returns shape `[N, H, W, C]`, uint8."""
  if values.ndim not in (3, 4) or 0 in values.shape:
    raise ValueError(
      f"{place} has shape {list(values.shape)}: allowed are [N, H, W] and [N, H, W, C], N >= 1"
    )
  if values.dtype.kind not in "iuf":
    hint = "; where True is white, save (x * 255).astype('uint8')" if values.dtype == bool else ""
    raise ValueError(f"{place} is of type {values.dtype}: whole numbers 0..255 are expected{hint}")
  if values.ndim == 3:
    values = values[..., None]
  _, first, height, width = values.shape
  may_be_image = max(height, width) <= _LONGEST * min(height, width)
  if first in _CHANNELS and width not in _CHANNELS and may_be_image:
    raise ValueError(
      f"{place} has shape {list(values.shape)}, which looks like channels first: save "
      "x.transpose(0, 2, 3, 1), of shape [N, H, W, C]"
    )
  lowest, highest = values.min(), values.max()
  if not (lowest >= 0 and highest <= 255):  # Also refuses NaN.
    hint = ""
    if lowest >= -1 and highest <= 1:
      hint = "; where black is -1 and white is 1, save ((x + 1) * 127.5).round().astype('uint8')"
    raise ValueError(f"{place} has pixels {lowest} to {highest}: allowed are 0 to 255{hint}")
  if highest == 0:
    raise ValueError(f"{place} has pixels of 0 only: whole numbers 0..255 are expected")
  if highest <= 1 or (values.dtype.kind == "f" and (values != np.round(values)).any()):
    where = "where white is 1, save (x * 255)" if highest <= 1 else "save x"
    raise ValueError(
      f"{place} is of type {values.dtype}, from {lowest} to {highest}: whole numbers 0..255 are "
      f"expected; {where}.round().astype('uint8')"
    )
  return values.astype(np.uint8, copy=False)


def _joined(first: Source, second: Source) -> Source:
  """Joins two sources of arrays, whose labels are already checked."""
  one, other = first.array, second.array
  assert one is not None and other is not None
  if one.shape[-1] != other.shape[-1]:
    raise ValueError(
      f"images of unequal shape: {list(one.shape[1:])} in {first.place}, "
      f"{list(other.shape[1:])} in {second.place}; save both with as many channels"
    )
  # Images of two sizes are scaled when they are read.
  values = np.concatenate([one, other]) if one.shape[1:] == other.shape[1:] else None
  note = f"{second.place} join the images to train on, from which validation images are drawn"
  return Source(
    first.place,
    np.concatenate([first.labels, second.labels]),
    lambda i: one[i] if i < len(one) else other[i - len(one)],
    lambda i: first.name(i) if i < len(one) else second.name(i - len(one)),
    values,
    first.class_names,
    (*first.notes, *second.notes, note),
  )

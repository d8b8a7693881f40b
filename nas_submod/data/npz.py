"""The source `npz:PATH`: one file with all images.

It holds uint8 `x_train` of shape `[N, H, W]` or `[N, H, W, C]` and integer `y_train`. The test
images, if any, are `x_test` and `y_test`. `class_names`, if any, are texts, one for each class.
"""

import pathlib
import zipfile

import numpy as np

from nas_submod.data.source import Source
from nas_submod.validation import first_line

_KEYS = ("x_train", "y_train", "x_test", "y_test")
_DAMAGED = (OSError, ValueError, EOFError, zipfile.BadZipFile)


def open_source(path: str, data_dir: str | None) -> tuple[Source, Source | None]:
  """Opens an npz file, as `sources.Kind.open`; `data_dir` is not used.

  Raises:
    ValueError: The file is missing or damaged, or lacks an array.
  """
  del data_dir
  location = pathlib.Path(path).expanduser()
  if not location.is_file():
    raise ValueError(f"no file {location}: npz:PATH takes one npz file")
  with location.open("rb") as file:
    try:
      archive = np.load(file, allow_pickle=False)
    except _DAMAGED as error:
      raise ValueError(f"{location} is not an npz file, or a damaged one") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
      raise ValueError(f"{location} is not an npz file, but a single array")
    has_test = "x_test" in archive or "y_test" in archive
    missing = [key for key in _KEYS[: 4 if has_test else 2] if key not in archive]
    if missing:
      raise ValueError(
        f"{location} lacks {', '.join(missing)}; it has {', '.join(archive) or 'nothing'} "
        f"(expected: {', '.join(_KEYS)})"
      )

    names = _class_names(location, archive)

    def source(split: str) -> Source:
      images, labels = (_array(location, archive, f"{kind}_{split}") for kind in "xy")
      return _of_array(f"{location} x_{split}", images, labels)._replace(class_names=names)

    return source("train"), source("test") if has_test else None


def _class_names(location: pathlib.Path, archive: np.lib.npyio.NpzFile) -> tuple[str, ...]:
  if "class_names" not in archive:
    return ()
  names = _array(location, archive, "class_names")
  if names.ndim != 1 or names.dtype.kind != "U":
    raise ValueError(
      f"{location}: class_names is {names.dtype} of shape {list(names.shape)}; text [classes] is "
      "expected"
    )
  return tuple(map(str, names))


def _array(location: pathlib.Path, archive: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
  try:
    values = archive[key]
  except _DAMAGED as error:
    raise ValueError(f"{location}: {key} cannot be read: {first_line(error)}") from error
  if not isinstance(values, np.ndarray):
    raise ValueError(f"{location}: {key} is not an array")
  return values


def _of_array(place: str, values: np.ndarray, labels: np.ndarray) -> Source:
  """Makes a source of an array `[N, H, W]` or `[N, H, W, C]`."""
  if values.dtype != np.uint8:
    hint = " (pixels 0..255, not floats 0..1)" if values.dtype.kind == "f" else ""
    raise ValueError(f"{place} is of type {values.dtype}: uint8 is expected{hint}")
  if values.ndim not in (3, 4) or 0 in values.shape:
    raise ValueError(
      f"{place} has shape {list(values.shape)}: allowed are [N, H, W] and [N, H, W, C], N >= 1"
    )
  if values.ndim == 3:
    values = values[..., None]
  if labels.ndim != 1 or len(labels) != len(values):
    raise ValueError(
      f"{place}: {len(values)} images, but labels of shape {list(labels.shape)}; "
      f"[{len(values)}] is expected"
    )
  return Source(place, labels, lambda i: values[i], lambda i: f"image {i} of {place}", values)

"""Sets of TensorFlow Datasets: found by name, prepared once, read without TensorFlow."""

import contextlib
import io
import os
import pathlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from nas_submod.data.pixels import decode
from nas_submod.data.source import Source
from nas_submod.files import write_bytes
from nas_submod.validation import first_line

_MODES = {1: "L", 4: "RGBA"}  # Pillow's modes by number of channels.


class UnknownSetError(ValueError):
  """TFDS cannot open a set of this name."""


def open_source(name: str, data_dir: str | None) -> tuple[Source, Source | None]:
  """Opens a prepared set, or `digits`, as `sources.Kind.open`.

  The test images are those of the split `test`, or of `validation` if `test` is missing or
  unlabelled. ImageNet's `test` has only labels -1.

  Raises:
    ValueError: There is no such set, it is not prepared, or it holds no labelled images.
  """
  builder = find_builder(name, data_dir)
  known = list(builder.info.splits)  # Empty if the set is not prepared; `_split` reports that.
  if known and "train" not in known:
    raise ValueError(f"{name} has no split train: it has {', '.join(known)}")
  train = _split(name, builder, "train")
  for split in (split for split in ("test", "validation") if split in known):
    test = _split(name, builder, split)
    if np.any(test.labels >= 0):
      left = [name for name in known if name not in ("train", split)]
      notes = (f"left out: the splits {', '.join(left)}",) if left else ()
      return train._replace(notes=(*train.notes, *notes)), test
  return train, None


def names() -> list[str]:
  """Names of the sets that TFDS knows."""
  import tensorflow_datasets as tfds

  return [str(name) for name in tfds.list_builders(with_community_datasets=False)]


def find_builder(name: str, data_dir: str | None) -> Any:
  """Returns the TFDS builder of a set; `digits` is prepared first.

  Raises:
    UnknownSetError: There is no such set, or TFDS cannot open it.
    ValueError: TensorFlow is needed to open it, or `digits` cannot be written.
  """
  # TFDS is slow to import; `digits` imports it too. Npz files and folders need neither.
  import tensorflow_datasets as tfds

  if name == "digits":
    from nas_submod.data import digits

    return digits.prepared_builder(data_dir)
  try:
    return tfds.builder(name, data_dir=data_dir)
  except tfds.core.DatasetNotFoundError as error:
    where = os.path.abspath(os.path.expanduser(data_dir or tfds.core.constants.DATA_DIR))
    raise UnknownSetError(
      f'no source "{name}": TFDS does not know it, and data_dir {where} does not hold it'
    ) from error
  except ImportError as error:
    raise ValueError(
      f'TFDS cannot open "{name}" without TensorFlow: pip install -e ".[tfds]"'
    ) from error
  except (AssertionError, OSError, RuntimeError, ValueError) as error:
    raise UnknownSetError(f'TFDS cannot open "{name}": {first_line(error)}') from error


def _split(name: str, builder: Any, split: str) -> Source:
  """Opens a split; its images are decoded on demand."""
  features = builder.info.features
  image, label = _keys(builder.info.supervised_keys)
  if not {image, label} <= set(features) or features[image].np_dtype != np.uint8:
    raise ValueError(
      f"{name} is not a set of labelled images: a uint8 image and a label are expected, it has "
      f"{', '.join(features)}"
    )
  try:
    records = _encoded_records(builder, split)
  except NotImplementedError as error:
    raise ValueError(_not_prepared(name, builder)) from error
  place = f"{name} {split}"
  mode = _MODES.get(features[image].shape[-1], "RGB")

  def read(index):
    found = records[index][image]
    if isinstance(found, bytes):
      return decode(io.BytesIO(found), f"image {index} of {place}", mode)
    return found

  labels = _read_labels(builder, split, records, label)
  named = getattr(features[label], "num_classes", None)  # Plain numbers have none.
  names = tuple(features[label].names) if named else ()
  return Source(place, labels, read, lambda i: f"image {i} of {place}", class_names=names)


def _keys(supervised_keys: Any) -> tuple[str, str]:
  """Returns the names of image and label. TFDS allows nested keys, but not for plain images."""
  match supervised_keys:
    case (str(image), str(label)):
      return image, label
  return "image", "label"


def _encoded_records(builder: Any, split: str) -> Any:
  """Returns the records of a split by index, with images as encoded bytes.

  Raises:
    NotImplementedError: The set is not prepared, or not as array_record.
  """
  import tensorflow_datasets as tfds

  # Decoding by TFDS needs TensorFlow, and would decode masks and other images that nobody asks for.
  encoded = [
    name for name, f in builder.info.features.items() if isinstance(f, tfds.features.Image)
  ]
  return builder.as_data_source(split, decoders=dict.fromkeys(encoded, tfds.decode.SkipDecoding()))


def _read_labels(builder: Any, split: str, records: Sequence[Any], label: str) -> np.ndarray:
  """Reads the labels of a split. Shape `[N]`.

  The first call reads all records, which takes minutes for ImageNet. It then stores the labels in
  a file next to the records, if the folder is writable.
  """
  file = builder.data_path / f"labels-{split}.npy"
  with contextlib.suppress(OSError, ValueError, EOFError):  # Missing, or cut by a full disk.
    stored = np.load(io.BytesIO(file.read_bytes()))
    if stored.shape == (len(records),):
      return stored
  pieces = np.array_split(np.arange(len(records)), -(-len(records) // 1000) or 1)
  with ThreadPoolExecutor() as pool:
    found = pool.map(lambda piece: [records[int(i)][label] for i in piece], pieces)
    labels = np.concatenate([np.array(piece) for piece in found])
  content = io.BytesIO()
  np.save(content, labels)
  with contextlib.suppress(OSError):  # A shared data_dir may be read-only.
    write_bytes(pathlib.Path(file), content.getvalue())
  return labels


def _not_prepared(name: str, builder: Any) -> str:
  """Explains why a set cannot be read, and names the command that prepares it."""
  if builder.data_path.exists():
    return (
      f"{name} is in {builder.data_dir}, but not as array_record: prepare it into another data_dir"
    )
  command = f"python -m experiments.prepare --dataset={name} --data_dir={builder.data_dir_root}"
  return (
    f"{name} is not prepared in {builder.data_dir_root}: {command} (after pip install "
    "-e '.[tfds]'); images of your own are npz:PATH or folder:PATH"
  )

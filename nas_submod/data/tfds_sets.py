"""Sets of TensorFlow Datasets: found by name, prepared once, read without TensorFlow."""

import contextlib
import io
import os
import pathlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from nas_submod.files import write_bytes
from nas_submod.validation import first_line

ALLOWED = '"digits", the name of a TFDS set such as "fashion_mnist", "npz:PATH" or "folder:PATH"'


def find_builder(name: str, data_dir: str | None) -> Any:
  """The builder of a set; `digits` is prepared with it.

  Raises:
    ValueError: There is no such set, or TFDS cannot open it.
  """
  import tensorflow_datasets as tfds  # Slow to import; npz files and folders do without.

  if name == "digits":
    from nas_submod.data import digits

    return digits.prepared_builder(data_dir)
  try:
    return tfds.builder(name, data_dir=data_dir)
  except tfds.core.DatasetNotFoundError as error:
    where = os.path.abspath(os.path.expanduser(data_dir or tfds.core.constants.DATA_DIR))
    raise ValueError(
      f'no source "{name}": allowed are {ALLOWED}, or a set that was prepared in data_dir {where}'
    ) from error
  except ImportError as error:
    raise ValueError(
      f'TFDS cannot open "{name}" without TensorFlow: pip install nas-submod[tfds]'
    ) from error
  except (AssertionError, OSError, RuntimeError, ValueError) as error:
    raise ValueError(
      f'TFDS cannot open "{name}": {first_line(error)}; allowed are {ALLOWED}'
    ) from error


def encoded_records(builder: Any, split: str) -> Any:
  """The records of a split by index, their images as the bytes that are in its files.

  Raises:
    NotImplementedError: The set is not prepared, or not as array_record.
  """
  import tensorflow_datasets as tfds

  encoded = [
    name for name, f in builder.info.features.items() if isinstance(f, tfds.features.Image)
  ]
  return builder.as_data_source(split, decoders=dict.fromkeys(encoded, tfds.decode.SkipDecoding()))


def read_labels(builder: Any, split: str, records: Sequence[Any], label: str) -> np.ndarray:
  """Reads the labels of a split. Shape `[N]`.

  The first call reads all records, which takes minutes for ImageNet. It then stores the labels in
  a file beside the records, if the folder is writable.
  """
  file = builder.data_path / f"labels-{split}.npy"
  if file.exists():
    return np.load(io.BytesIO(file.read_bytes()))
  pieces = np.array_split(np.arange(len(records)), -(-len(records) // 1000) or 1)
  with ThreadPoolExecutor() as pool:
    found = pool.map(lambda piece: [records[int(i)][label] for i in piece], pieces)
    labels = np.concatenate([np.array(piece) for piece in found])
  content = io.BytesIO()
  np.save(content, labels)
  with contextlib.suppress(OSError):  # A shared data_dir may be read-only.
    write_bytes(pathlib.Path(file), content.getvalue())
  return labels


def not_prepared(name: str, builder: Any) -> str:
  """Explains why a set cannot be read, and names the command that prepares it."""
  if builder.data_path.exists():
    return (
      f"{name} is in {builder.data_dir}, but not as array_record: prepare it into another data_dir"
    )
  command = f"python -m experiments.prepare --dataset={name} --data_dir={builder.data_dir_root}"
  return f"{name} is not prepared in {builder.data_dir_root}: {command}"

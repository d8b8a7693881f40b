"""Paths, atomic writes, and logs with one JSON object per line; kills leave all files readable."""

import contextlib
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np


def local_path(text: str | os.PathLike) -> pathlib.Path:
  """A path on this machine; `~` is the home folder.

  Raises:
    ValueError: If it names a bucket or another remote place, such as gs://NAME.
  """
  if "://" in str(text):
    raise ValueError(
      f"{text} is not on this machine; allowed: a path of its disk. To keep a run in a bucket, "
      "copy it there while it runs, as experiments/tpu/launch.sh does with BUCKET (docs/tpu.md)"
    )
  try:
    return pathlib.Path(text).expanduser()
  except RuntimeError:  # A folder named ~ would be a surprise.
    raise ValueError(f"{text}: no home folder is known; set HOME or write the path") from None


def fingerprint(*parts: bytes | memoryview) -> str:
  """Twelve digits that tell contents apart: the start of the SHA-256 of joined parts."""
  digest = hashlib.sha256()
  for part in parts:
    digest.update(part)
  return digest.hexdigest()[:12]


def write_bytes(path: pathlib.Path, content: bytes) -> None:
  """Replaces a file atomically: after a kill it holds the old content or the new one.

  Several processes may write the same path; the last one to finish wins.
  """
  # Two writers must not share a temporary file: they would mix their contents.
  temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
  try:
    with naming(path):
      with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # The rename may reach the disk before unsynced content.
      temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: pathlib.Path) -> Iterator[None]:
  """Adds the path to an OSError: errors of a full disk have none."""
  try:
    yield
  except OSError as error:
    if error.errno is not None:
      error.filename = str(path)
    raise


def write_json(path: pathlib.Path, content: Any) -> None:
  """Replaces a file atomically by indented JSON; infinity and NaN become null."""
  text = json.dumps(finite(content), indent=1, allow_nan=False, default=plain)
  write_bytes(path, text.encode() + b"\n")


def plain(value: Any) -> Any:
  """A number or an array of NumPy as JSON holds it; for `json.dumps(default=...)`."""
  if isinstance(value, np.generic | np.ndarray):
    return value.tolist()
  raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def read_json(path: pathlib.Path) -> Any:
  """The content of a JSON file.

  Raises:
    OSError: If it cannot be read.
    ValueError: If it is not JSON; the message names the file.
  """
  try:
    return json.loads(path.read_bytes())
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{path} is damaged, it is no JSON: {error}") from error


def finite(content: Any) -> Any:
  """Plain content with None in place of infinity and NaN."""
  if isinstance(content, Mapping):
    return {key: finite(value) for key, value in content.items()}
  if isinstance(content, list | tuple):
    return [finite(value) for value in content]
  return None if isinstance(content, float) and not math.isfinite(content) else content


def read_lines(path: pathlib.Path) -> list[bytes]:
  """Reads the lines of a log, without an unfinished last line that a kill left; changes nothing."""
  content = path.read_bytes()
  return content[: _length(content)].splitlines()


def append_lines(path: pathlib.Path, contents: Iterable[Any]) -> None:
  """Appends each item as a line of JSON, see `write_json`; returns once they are on disk.

  An unfinished last line of the file is cut off first.
  """
  lines = [json.dumps(finite(content), allow_nan=False).encode() + b"\n" for content in contents]
  with naming(path), path.open("a+b") as file:
    file.seek(max(file.tell() - 1, 0))
    if file.read(1) not in (b"", b"\n", b"\r"):
      file.seek(0)
      content = file.read()
      whole = _length(content)
      file.truncate(whole)
      if whole == len(content):
        lines.insert(0, b"\n")
    file.write(b"".join(lines))
    file.flush()
    os.fsync(file.fileno())


def _length(content: bytes) -> int:
  """The length of a log without its unfinished last line."""
  begin = max(content.rfind(b"\n"), content.rfind(b"\r")) + 1  # An editor may write either.
  last = content[begin:]
  # Only the newline may be missing. A number that was cut short would be JSON too.
  if last[-1:] in (b"}", b"]"):
    try:
      json.loads(last)
    except (ValueError, RecursionError):
      return begin
    return len(content)
  return begin

"""Atomic writes, and logs with one JSON object a line; a kill leaves both readable."""

import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any


def write_bytes(path: pathlib.Path, content: bytes) -> None:
  """Replaces a file atomically: after a kill it holds the old content or the new one.

  Several processes may write the same path; the last one to finish wins.
  """
  # Two writers must not share a temporary file: they would mix their contents.
  temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
  try:
    with temporary.open("wb") as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())  # The rename may reach the disk before unsynced content.
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)


def write_json(path: pathlib.Path, content: Any) -> None:
  """Replaces a file atomically by indented JSON."""
  write_bytes(path, json.dumps(content, indent=1).encode() + b"\n")


def read_lines(path: pathlib.Path) -> list[bytes]:
  """Reads the lines of a log; cuts an unfinished last line, left by a kill, off the file."""
  content = path.read_bytes()
  whole = content.rfind(b"\n") + 1
  if whole < len(content):
    with path.open("r+b") as file:
      file.truncate(whole)
      os.fsync(file.fileno())
  return content[:whole].splitlines()


def append_lines(path: pathlib.Path, contents: Iterable[Any]) -> None:
  """Appends each item as a line of JSON; the lines are on disk when it returns."""
  with path.open("ab") as file:
    file.write(b"".join(json.dumps(content).encode() + b"\n" for content in contents))
    file.flush()
    os.fsync(file.fileno())

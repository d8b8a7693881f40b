"""Files that a kill leaves whole: atomic writes, and logs of one JSON object a line."""

import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any


def read_lines(path: pathlib.Path) -> list[bytes]:
  """The lines of a log; a last one cut short by a kill is dropped from the file."""
  content = path.read_bytes()
  whole = content.rfind(b"\n") + 1
  if whole < len(content):
    with path.open("r+b") as file:
      file.truncate(whole)
      os.fsync(file.fileno())
  return content[:whole].splitlines()


def append_lines(path: pathlib.Path, contents: Iterable[Any]) -> None:
  """Appends each as a line of JSON; when it returns they are on disk."""
  with path.open("ab") as file:
    file.write(b"".join(json.dumps(content).encode() + b"\n" for content in contents))
    file.flush()
    os.fsync(file.fileno())


def write_json(path: pathlib.Path, content: Any) -> None:
  """Writes a file whole or not at all."""
  write_bytes(path, json.dumps(content, indent=1).encode() + b"\n")


def write_bytes(path: pathlib.Path, content: bytes) -> None:
  """Writes a file whole or not at all."""
  temporary = path.with_name(path.name + ".part")
  with temporary.open("wb") as file:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())
  temporary.replace(path)

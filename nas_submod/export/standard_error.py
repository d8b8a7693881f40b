"""Captures standard error of C++ libraries, which bypass Python."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def captured() -> Iterator[Callable[[], str]]:
  """Captures the process's standard error; yields a function that returns the text so far."""
  sys.stderr.flush()
  kept = os.dup(2)
  with tempfile.TemporaryFile() as file:

    def text() -> str:
      file.seek(0)
      return file.read().decode(errors="replace")

    os.dup2(file.fileno(), 2)
    try:
      yield text
    finally:
      os.dup2(kept, 2)
      os.close(kept)

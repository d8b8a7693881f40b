"""Standard error of libraries in C++, which write past Python."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def captured() -> Iterator[Callable[[], str]]:
  """Captures standard error of the whole process; yields a function that returns it so far."""
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

"""The folder of a run: made once, tied to what it computes, and used by one process at a time."""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nas_submod import identity
from nas_submod.files import local_path, plain, read_json, write_json

CONFIG_FILE = "config.json"
INPUTS_FILE = "inputs.json"  # fingerprints of the files that a config names
_LOCK_FILE = ".lock"
_PART = re.compile(r".+\.\d+\.part")  # an unfinished file of `files.write_bytes`
_WITHOUT_CONFIG = ("checkpoints", "shared_weights")  # They do not record their config.


def make_workdir(
  workdir: str | os.PathLike,
  config: Mapping[str, Any],
  fixed_part: Callable[[Mapping[str, Any]], Any] = identity.with_defaults,
  inputs: Mapping[str, str] | None = None,
  may_replace: bool = False,
) -> pathlib.Path:
  """Makes the folder of a run, or checks that it belongs to the same run.

  Args:
    workdir: The folder; `~` is the home folder.
    config: Nested plain values. `config.json` keeps the newest.
    fixed_part: Gives the part of a plain config that may not change.
    inputs: Fingerprints of files that the config names, which may not change, see
      `search.inputs`. Kept in `inputs.json`.
    may_replace: Whether the config of a run without any result may be replaced. The caller holds
      the lock of the folder.

  Returns:
    The folder.

  Raises:
    ValueError: If the config is not plain, the folder cannot be written or belongs to another run;
      the first difference is named.
  """
  path, plain = local_path(workdir), plain_of(config)
  check_workdir(path, plain, fixed_part, inputs, may_replace)
  try:
    path.mkdir(parents=True, exist_ok=True)
    if inputs is not None:  # Before the config: a folder with a config then has both.
      write_json(path / INPUTS_FILE, inputs)
    write_json(path / CONFIG_FILE, plain)
  except OSError as error:
    raise ValueError(f"workdir {path} cannot be written: {error.strerror}") from error
  return path


def plain_of(config: Mapping[str, Any]) -> dict[str, Any]:
  """A config as it is read back from JSON.

  Raises:
    ValueError: If it holds what JSON cannot.
  """
  try:
    return dict(json.loads(json.dumps(config, default=plain)))
  except TypeError as error:
    raise ValueError(
      f"the config holds a Python object ({error}): allowed are numbers, text, lists and "
      'dictionaries; a block or an optimizer of your own is named "module:function"'
    ) from error


def check_workdir(
  path: pathlib.Path,
  plain: Mapping[str, Any],
  fixed_part: Callable[[Mapping[str, Any]], Any] = identity.with_defaults,
  inputs: Mapping[str, str] | None = None,
  may_replace: bool = False,
) -> None:
  """Checks that a folder can be made or belongs to the same run, and writes nothing.

  Raises:
    ValueError: As for `make_workdir`.
  """
  try:
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not there.is_dir():
      raise _error(errno.ENOTDIR)
    if not os.access(there, os.W_OK | os.X_OK):
      is_read_only = os.statvfs(there).f_flag & os.ST_RDONLY
      raise _error(errno.EROFS if is_read_only else errno.EACCES)
    before, known = _read(path / CONFIG_FILE), _read(path / INPUTS_FILE)
  except OSError as error:
    raise ValueError(f"workdir {path} cannot be written: {error.strerror}") from error
  if may_replace and _is_unused(path):
    before = known = None
  computed = [name for name in _WITHOUT_CONFIG if (path / name).exists()]
  if before is not None:
    check_equal(path, fixed_part(before), fixed_part(plain))
  elif computed:
    raise ValueError(
      f"workdir {path} has {computed[0]} but no {CONFIG_FILE}, so it is unknown what made "
      f"them: put {CONFIG_FILE} back, or take another --workdir"
    )
  if inputs is None:
    return
  if before is not None and (known is None or (inputs and not known)):
    raise ValueError(
      f"workdir {path} has no {INPUTS_FILE}, so its images are unknown (an older version wrote "
      f"none): put {INPUTS_FILE} back, or take another --workdir"
    )
  for name in sorted(inputs.keys() | (known or inputs).keys()):
    old, new = (known or inputs).get(name), inputs.get(name)
    # A resource may be limited from now on, or no longer.
    is_optional = name.startswith(identity.OF_COSTS) and (old is None or new is None)
    if old != new and not is_optional:
      raise ValueError(
        f"workdir {path} holds another run, whose {name} differ: {old or 'none'} there, "
        f"{new or 'none'} here; take another --workdir, or put back what was there"
      )


def _is_unused(path: pathlib.Path) -> bool:
  """Whether a run left nothing but its config here, because it was stopped before any result."""
  names = (CONFIG_FILE, INPUTS_FILE, _LOCK_FILE)
  return path.is_dir() and all(
    entry.name in names
    or (entry.is_file() and entry.stat().st_size == 0)
    # Left by a kill, see `locked`.
    or _PART.fullmatch(entry.name)
    for entry in path.iterdir()
  )


def _error(number: int) -> OSError:
  return OSError(number, os.strerror(number))


def check_equal(workdir: pathlib.Path, there: Any, here: Any) -> None:
  """Checks that the plain config of a workdir and another one agree.

  Raises:
    ValueError: If they do not; the first difference is named.
  """
  if difference := first_difference(there, here):
    name, old, new = difference
    raise ValueError(
      f"workdir {workdir} holds another run: {name} is {old!r} there and {new!r} here; "
      f"take another --workdir or the same config"
    )


def first_difference(there: Any, here: Any, name: str = "") -> tuple[str, Any, Any] | None:
  """The first leaf that differs: (dotted name, value there, value here).

  A missing value equals False and 0.
  """
  if isinstance(there, dict) and isinstance(here, dict):
    for key in {**here, **there}:
      found = first_difference(there.get(key), here.get(key), f"{name}.{key}" if name else key)
      if found:
        return found
    return None
  return None if there == here or not (there or here) else (name, there, here)


def _read(path: pathlib.Path) -> dict[str, Any] | None:
  """The content of a JSON file of a workdir; None if it is not there.

  Raises:
    OSError: If it cannot be read.
    ValueError: If it is damaged.
  """
  try:
    found = read_json(path)
  except FileNotFoundError:
    return None
  if not isinstance(found, dict):
    raise ValueError(f"{path} is damaged, it is no JSON object")
  return found


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
  """Makes a folder if there is none, and holds its lock.

  Unfinished files, which a kill left, are deleted.

  Raises:
    ValueError: If another process has it, or the folder cannot be written.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise ValueError(f"workdir {workdir} cannot be written: {error.strerror}") from error
  with held(workdir / _LOCK_FILE, f"workdir {workdir}"):
    for left in workdir.glob("*.part"):  # Left by a kill in `files.write_bytes`.
      if _PART.fullmatch(left.name):  # Not a user's unfinished download.
        left.unlink(missing_ok=True)
    yield


@contextlib.contextmanager
def held(lock: pathlib.Path, what: str) -> Iterator[None]:
  """Holds a lock, which ends with the process at the latest. Its file exists while it is held.

  If the file system has no locks, a message says so, and nothing is held.

  Args:
    lock: The file.
    what: What it protects, for error messages.

  Raises:
    ValueError: If another process has it, or the file cannot be written.
  """
  while True:
    try:
      file = lock.open("a+", encoding="utf-8")
    except OSError as error:
      raise ValueError(f"{what} cannot be written: {error.strerror}") from error
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      with file:
        file.seek(0)
        owner = file.read().strip() or "another process"
      raise ValueError(
        f"{what} is in use by {owner}: wait until it ends, stop it, or take another place"
      ) from None
    except OSError as error:  # A file system without locks.
      print(
        f"{what}: its file system has no locks ({error.strerror}), so that nothing keeps a second "
        "process away",
        file=sys.stderr,
      )
      break
    if _is_file(lock, file.fileno()):
      break
    file.close()  # The previous holder deleted the file after it was opened here.
  with file:
    with contextlib.suppress(OSError):  # A full disk: the next write says so, and where.
      os.ftruncate(file.fileno(), 0)
      os.pwrite(file.fileno(), f"process {os.getpid()} of {socket.gethostname()}\n".encode(), 0)
    try:
      yield
    finally:
      lock.unlink(missing_ok=True)


def _is_file(path: pathlib.Path, descriptor: int) -> bool:
  """Whether a path refers to an open file."""
  try:
    return os.path.samestat(path.stat(), os.fstat(descriptor))
  except FileNotFoundError:
    return False

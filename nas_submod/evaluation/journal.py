"""The append-only log of everything that was trained, and the workdir that holds it.

One JSON object a line in `evaluations.jsonl`, on disk before its value is used. A search is a pure
function of its config and its journal: run again, it reads the values and goes on.
"""

import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from nas_submod import parallel
from nas_submod.files import append_lines, read_lines, write_json

CONFIG_FILE = "config.json"
JOURNAL_FILE = "evaluations.jsonl"


class Evaluation(NamedTuple):
  """One training of one network.

  Attributes:
    key: Canonical form, as `SearchSpace.key` writes it.
    replicate: Which seed; candidates with the same replicate share data order and initial values.
      -1 is a short training with the seed of 0, by which a network is screened.
    metrics: `accuracy`, `loss` and `train_loss` (nats); None if the training diverged.
    seconds: Wall time of the round it was trained in, divided by the networks of the round.
    steps: Steps of the training.
    parent: Key of the network whose weights it started from; None where it was trained afresh.
  """

  key: str
  replicate: int
  metrics: Mapping[str, float] | None
  seconds: float
  steps: int = 0
  parent: str | None = None


class Journal:
  """Evaluations by key and replicate, backed by a file."""

  def __init__(self, path: pathlib.Path | None):
    """Reads what is there; a last line cut short by a kill is dropped from the file.

    Args:
      path: The file, made if missing. None keeps everything in memory.

    Raises:
      ValueError: If a line other than the last is not an evaluation.
    """
    self._path = path
    self._evaluations: dict[tuple[str, int], Evaluation] = {}
    if path is not None and path.exists():
      self._read(path)

  @property
  def folder(self) -> pathlib.Path | None:
    """Where the file is; None in memory."""
    return self._path and self._path.parent

  def _read(self, path: pathlib.Path) -> None:
    for number, line in enumerate(read_lines(path)):
      try:
        evaluation = Evaluation(**json.loads(line))
      except (ValueError, TypeError) as error:
        raise ValueError(f"{path}, line {number + 1}, is not an evaluation: {line!r}") from error
      self._evaluations[evaluation.key, evaluation.replicate] = evaluation

  def get(self, key: str, replicate: int) -> Evaluation | None:
    """The evaluation, or None."""
    return self._evaluations.get((key, replicate))

  def add(self, evaluations: Iterable[Evaluation]) -> None:
    """Writes evaluations to disk; when it returns they are safe."""
    new = list(evaluations)
    if self._path is not None:
      append_lines(self._path, [evaluation._asdict() for evaluation in new])
    for evaluation in new:
      self._evaluations[evaluation.key, evaluation.replicate] = evaluation

  def __iter__(self):
    return iter(self._evaluations.values())

  def __len__(self) -> int:
    return len(self._evaluations)


def open_journal(path: pathlib.Path) -> Journal:
  """The journal of a file or, in all processes but the first, a copy of it in memory.

  Raises:
    ValueError: If the file is no journal.
  """
  journal = parallel.on_first_process(lambda: Journal(path))
  lines = [] if journal is None else [evaluation._asdict() for evaluation in journal]
  content = parallel.broadcast(json.dumps(lines).encode())
  if journal is None:
    journal = Journal(None)
    journal.add(Evaluation(**line) for line in json.loads(content))
  return journal


def open_workdir(workdir: str | os.PathLike, config: Mapping[str, Any]) -> pathlib.Path:
  """Makes the workdir of a search, with an empty journal, or checks that it belongs to it.

  Args:
    workdir: The folder.
    config: Nested plain values; what decides the outcome.

  Returns:
    The folder.

  Raises:
    ValueError: If the folder cannot be written, or holds another config; the first difference is
      named.
  """
  path = make_workdir(workdir, config)
  try:
    (path / JOURNAL_FILE).touch()
  except OSError as error:
    raise ValueError(f"workdir {path} cannot be written: {error.strerror}") from error
  return path


def make_workdir(workdir: str | os.PathLike, config: Mapping[str, Any]) -> pathlib.Path:
  """The same without a journal."""
  path = pathlib.Path(workdir)
  plain = json.loads(json.dumps(config))
  try:
    path.mkdir(parents=True, exist_ok=True)
    if not (path / CONFIG_FILE).exists():
      write_json(path / CONFIG_FILE, plain)
    os.utime(path / CONFIG_FILE)
  except OSError as error:
    raise ValueError(f"workdir {path} cannot be written: {error.strerror}") from error
  if difference := _difference(json.loads((path / CONFIG_FILE).read_text()), plain):
    name, there, here = difference
    raise ValueError(
      f"workdir {path} holds another run: {name} is {there!r} there and {here!r} here; "
      f"take another --workdir or the same config"
    )
  return path


def _difference(there: Any, here: Any, name: str = "") -> tuple[str, Any, Any] | None:
  """The first leaf that differs: (dotted name, value there, value here)."""
  if isinstance(there, dict) and isinstance(here, dict):
    for key in sorted(there.keys() | here.keys()):
      found = _difference(there.get(key), here.get(key), f"{name}.{key}" if name else key)
      if found:
        return found
    return None
  return None if there == here else (name, there, here)

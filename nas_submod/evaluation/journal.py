"""The journal: writes every evaluation to disk before its value is used; read back on resume.

It is an append-only file with one line for each evaluation, see `rows`. A search is a pure function
of its config and its journal: when run again, it reads the values and continues.
"""

import json
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from nas_submod import parallel
from nas_submod.compilation import CompilationLog
from nas_submod.evaluation import rows
from nas_submod.evaluation.evaluator import (
  BESIDE_TRAININGS,
  TRAINING,
  Evaluation,
  Evaluator,
  Job,
)
from nas_submod.files import append_lines, read_lines
from nas_submod.networks.search_space import SearchSpace

JOURNAL_FILE = "evaluations.jsonl"


class Journal:
  """Evaluations by key and replicate, backed by a file."""

  def __init__(
    self,
    path: pathlib.Path | None,
    made_by: str = "",
    check: Callable[[Evaluation], object] = lambda evaluation: None,
  ):
    """Reads the file, except a last line that a kill cut short.

    Args:
      path: The file, made on the first write. None keeps everything in memory.
      made_by: Fingerprint of what decides a value (`identity.fingerprint_of`). It is written in
        each line, and each line read must have it. "" writes and checks none.
      check: Raises ValueError for an evaluation that the search cannot use.

    Raises:
      ValueError: If a line is not an evaluation, or another config made it.
    """
    self._path, self._made_by, self._check = path, made_by, check
    self._evaluations: dict[tuple[str, int], Evaluation] = {}
    if path is not None and path.exists():
      self._read(path)

  def _read(self, path: pathlib.Path) -> None:
    for number, line in enumerate(read_lines(path), 1):
      if not line.strip():
        continue
      try:
        evaluation, made_by = rows.parse(line)
        if not self._made_by or made_by == self._made_by:
          self._check(evaluation)
      except ValueError as error:
        raise ValueError(
          f"{path}: line {number} is not an evaluation: {error}; delete this line to make the "
          "evaluation again"
        ) from error
      if self._made_by and made_by != self._made_by:
        maker = f"by another config or other data ({made_by})" if made_by else "by an older version"
        raise ValueError(
          f"{path}: line {number} was made {maker}, this search is {self._made_by}: use "
          "another --workdir, or the config and data that made it"
        )
      self._evaluations[evaluation.key, evaluation.replicate] = evaluation

  def get(self, key: str, replicate: int) -> Evaluation | None:
    """The evaluation, or None."""
    return self._evaluations.get((key, replicate))

  def add(self, evaluations: Iterable[Evaluation]) -> None:
    """Appends evaluations; returns once they are on disk."""
    new = list(evaluations)
    if self._path is not None:
      append_lines(self._path, [rows.content(evaluation, self._made_by) for evaluation in new])
    for evaluation in new:
      self._evaluations[evaluation.key, evaluation.replicate] = evaluation

  def __iter__(self) -> Iterator[Evaluation]:
    return iter(self._evaluations.values())

  def __len__(self) -> int:
    return len(self._evaluations)


class Journaled:
  """An evaluator that asks another one only for evaluations its journal lacks, and adds them.

  Attributes:
    journal: The journal.
    trained: Trainings made by this object.
    scored: Scores by shared weights made by this object.
    reused: Jobs whose evaluation the journal held.
    steps: Steps of the trainings made.
    seconds: Time of these trainings, without compiling.
    scoring_seconds: Time of the scores made, without compiling.
    compilations: Programs compiled for trainings and scores.
  """

  def __init__(self, evaluator: Evaluator, space: SearchSpace, journal: Journal):
    """Wraps an evaluator for networks of `space`."""
    self.journal, self._evaluator, self._space = journal, evaluator, space
    self.trained = self.scored = self.reused = self.steps = 0
    self._needed: set[tuple[tuple[int, ...], int]] = set()
    self.seconds = self.scoring_seconds = 0.0
    self.compilations = CompilationLog()

  @property
  def needed(self) -> int:
    """Number of distinct evaluations asked for, new or found in the journal.

    Scores of a pool are not counted, because the optimizer did not ask for them.
    """
    return len(self._needed)

  @property
  def failed(self) -> dict[str, int]:
    """Number of failed trainings in the journal by cause, including earlier runs."""
    causes = [found.cause or "diverged" for found in self.journal if found.metrics is None]
    return {cause: causes.count(cause) for cause in dict.fromkeys(causes)}

  def __call__(self, jobs: Sequence[Job]) -> list[Evaluation]:
    """Returns the evaluations of jobs, in order."""
    asked = (job for job in jobs if job.replicate != BESIDE_TRAININGS)
    self._needed.update((job.architecture, job.replicate) for job in asked)
    wanted = [(self._space.key(job.architecture), job.replicate) for job in jobs]
    missing = [job for job, row in zip(jobs, wanted) if self.journal.get(*row) is None]
    self.reused += len(jobs) - len(missing)
    if missing:
      with self.compilations.counting():
        for evaluation in map(_without_nan, self._evaluator(missing)):
          self.journal.add([evaluation])
          if evaluation.method == TRAINING:
            self.trained += 1
            self.steps += evaluation.steps
            self.seconds += evaluation.seconds
          else:
            self.scored += 1
            self.scoring_seconds += evaluation.seconds
    found = [self.journal.get(*row) for row in wanted]
    absent = [row for row, evaluation in zip(wanted, found) if evaluation is None]
    if absent:
      raise ValueError(
        f"the evaluator gave no evaluation with key {absent[0][0]!r} and replicate {absent[0][1]}; "
        "keys are those of space.key(job.architecture)"
      )
    return [evaluation for evaluation in found if evaluation is not None]


def _without_nan(evaluation: Evaluation) -> Evaluation:
  """The evaluation, marked as failed if one of its metrics is not finite."""
  if evaluation.metrics is None or all(map(math.isfinite, evaluation.metrics.values())):
    return evaluation
  return evaluation._replace(metrics=None, cause=evaluation.cause or "diverged")


def open_journal(
  path: pathlib.Path,
  made_by: str = "",
  check: Callable[[Evaluation], object] = lambda evaluation: None,
) -> Journal:
  """Opens the journal of a file on process 0, and a copy in memory on the others.

  Args:
    path: The file, made if there is none.
    made_by: As for `Journal`.
    check: As for `Journal`.

  Raises:
    ValueError: If the file cannot be written or is not a journal.
  """

  def read() -> Journal:
    try:
      path.touch()
      return Journal(path, made_by, check)
    except OSError as error:
      raise ValueError(f"{path} cannot be read and written: {error.strerror}") from error

  journal = parallel.on_first_process(read)
  lines = [] if journal is None else [evaluation._asdict() for evaluation in journal]
  content = parallel.broadcast(json.dumps(lines).encode())
  if journal is None:
    journal = Journal(None)
    journal.add(Evaluation(**line) for line in json.loads(content))
  return journal

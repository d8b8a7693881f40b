"""The journal survives a kill, and its lines say what made them."""

import json
import math

import pytest

from nas_submod.evaluation.evaluator import (
  BESIDE_TRAININGS,
  SHARED_WEIGHTS,
  TRAINING,
  Evaluation,
  Job,
  has_diverged,
)
from nas_submod.evaluation.journal import Journal, Journaled, open_journal
from nas_submod.networks import spaces

ONE = Evaluation("1.0|2", 0, {"accuracy": 0.5, "loss": 1.25}, 0.1)
FAILED = Evaluation("1.1|2", 3, None, 0.1)


def test_what_is_added_is_on_disk_and_read_again(tmp_path):
  path = tmp_path / "evaluations.jsonl"
  log = Journal(path)
  log.add([ONE])
  assert json.loads(path.read_text()) == ONE._asdict()
  log.add([FAILED])
  again = Journal(path)
  assert list(again) == [ONE, FAILED]
  assert again.get("1.0|2", 0) == ONE
  assert again.get("1.0|2", 1) is None


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path):
  path = tmp_path / "evaluations.jsonl"
  Journal(path).add([ONE, FAILED])
  whole = path.read_bytes()
  path.write_bytes(whole[:-5])
  log = Journal(path)
  assert list(log) == [ONE]
  log.add([FAILED])
  assert path.read_bytes() == whole


def test_scores_are_counted_apart_from_trainings():
  space = spaces.get("digits")
  jobs = [Job(space.start, replicate) for replicate in (BESIDE_TRAININGS, 0)]
  key = space.key(space.start)
  score = Evaluation(key, BESIDE_TRAININGS, {"loss": 1.0}, 3.0, method=SHARED_WEIGHTS)
  counts = Journaled(
    lambda _: [score, Evaluation(key, 0, {"loss": 2.0}, 5.0, 7)], space, Journal(None)
  )
  assert [e.method for e in counts(jobs)] == [SHARED_WEIGHTS, TRAINING]
  assert (counts.scored, counts.scoring_seconds) == (1, 3.0)
  assert (counts.trained, counts.seconds, counts.steps, counts.needed) == (1, 5.0, 7, 1)


@pytest.mark.parametrize(
  ("change", "rows"),
  [
    (lambda lines: lines.replace(b"\n", b"\r\n"), [ONE, FAILED]),
    (lambda lines: b"\xef\xbb\xbf" + lines, [ONE, FAILED]),  # As an editor writes it.
    (lambda lines: b"\n" + lines.replace(b"\n", b"\n\n"), [ONE, FAILED]),
    (lambda lines: lines + bytes(512), [ONE, FAILED]),  # After a power failure.
    (lambda lines: b"\n".join(lines.splitlines()[::-1]) + b"\n", [FAILED, ONE]),
    (lambda lines: lines * 2, [ONE, FAILED]),
    (lambda lines: lines[:-9] + bytes(9), [ONE]),
  ],
)
def test_a_journal_that_another_program_wrote_or_a_crash_cut_is_read(change, rows, tmp_path):
  path = tmp_path / "evaluations.jsonl"
  Journal(path, "a1").add([ONE, FAILED])
  path.write_bytes(change(path.read_bytes()))
  log = Journal(path, "a1")
  assert list(log) == rows
  more = ONE._replace(replicate=5)
  log.add([more])
  assert list(Journal(path, "a1")) == [*rows, more]


def test_numbers_that_are_not_finite_are_a_failure():
  space = spaces.get("digits")
  key = space.key(space.start)
  counts = Journaled(lambda _: [Evaluation(key, 0, {"loss": math.inf}, 1.0)], space, Journal(None))
  [found] = counts([Job(space.start, 0)])
  assert found.metrics is None and counts.failed == {"diverged": 1}


@pytest.mark.parametrize(
  ("loss", "diverged"), [(2.3, False), (300.0, False), (9.5e12, True), (math.nan, True)]
)
def test_a_training_diverged_if_its_loss_is_beyond_all_that_is_usual(loss, diverged):
  assert has_diverged({"accuracy": 0.1, "loss": loss}) == diverged


def test_a_journal_that_cannot_be_written(tmp_path):
  with pytest.raises(ValueError, match="cannot be read and written: No such file"):
    open_journal(tmp_path / "none" / "evaluations.jsonl")

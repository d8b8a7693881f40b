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
  ("broken", "words"),
  [
    (b"{}", "it lacks key, replicate, metrics, seconds"),
    (b"\x80{}", "can't decode byte"),
    (b"{", "Expecting property name"),
    (b"[1]", "it is no JSON object"),
    (b'{"key": 3, "replicate": 0, "metrics": null, "seconds": 1}', "key is 3; allowed: text"),
    (b'{"key": "1", "replicate": 0, "metrics": {"loss": "x"}, "seconds": 1}', "metrics is"),
    (b'{"key": "1", "replicate": 0, "metrics": {"loss": NaN}, "seconds": 1}', "finite numbers"),
    (b'{"key": "1", "replicate": 0, "metrics": null, "seconds": 1, "lost": 2}', "field 'lost'"),
    (b'{"key": "1", "replicate": 7, "metrics": null, "seconds": 1}', "nobody asks for 7"),
  ],
)
def test_a_line_that_is_not_an_evaluation_is_named_with_its_fault(tmp_path, broken, words):
  path = tmp_path / "evaluations.jsonl"
  Journal(path).add([ONE])
  path.write_bytes(path.read_bytes() + b"\r\n" + broken + b"\n")  # A blank line is no fault.

  def check(evaluation):
    if evaluation.replicate == 7:
      raise ValueError("nobody asks for 7")

  with pytest.raises(ValueError, match=r"line 3 is not an evaluation: .*without this") as error:
    Journal(path, check=check)
  assert words in str(error.value) and "\n" not in str(error.value)


def test_a_line_that_another_config_made_is_refused(tmp_path):
  path = tmp_path / "evaluations.jsonl"
  Journal(path, "a1").add([ONE])
  assert list(Journal(path, "a1")) == list(Journal(path)) == [ONE]
  with pytest.raises(ValueError, match=r"line 1 was made by another config .*\(a1\).* is b2"):
    Journal(path, "b2")
  path.write_text(json.dumps(ONE._asdict()) + "\n")
  with pytest.raises(ValueError, match="line 1 was made by an older version"):
    Journal(path, "a1")


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

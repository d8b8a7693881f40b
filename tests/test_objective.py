"""F(S): trained once, on disk before it is used, by one program; a failure is a value."""

import itertools
import json
import math
from typing import NamedTuple

import jax
import numpy as np
import pytest

from nas_submod.data.loading import Data, Split
from nas_submod.evaluation import candidates, training_evaluator
from nas_submod.evaluation.evaluator import Evaluation, EvaluationError, Job, score_named
from nas_submod.evaluation.journal import Journal, Journaled
from nas_submod.evaluation.objective import Objective
from nas_submod.evaluation.training_evaluator import TrainingEvaluator
from nas_submod.networks import blocks
from nas_submod.networks.search_space import SearchSpace, Stage
from nas_submod.training import check_fit
from tests.test_training import CONFIG

SPACE = SearchSpace(
  name="tiny",
  image_shape=(4, 4, 1),
  classes=2,
  stem_channels=2,
  stages=(Stage(2, 3), Stage(4, 1)),
  options=(blocks.option(expansion=1),),
  start=(0, 0, 0, 1),
)
EMPTY, FIRST, LAST, BOTH = (0, 0, 0, 1), (1, 0, 0, 1), (0, 0, 1, 1), (1, 1, 0, 1)


def make_data():
  rng = np.random.default_rng(0)
  labels = np.arange(40, dtype=np.int32) % 2
  images = (rng.integers(0, 100, (40, 4, 4, 1)) + 60 * labels[:, None, None, None]).astype(np.uint8)
  split = Split(images, labels)
  return Data(split, split, split, 2, np.array([80.0], np.float32), np.array([40.0], np.float32))


SCORE = score_named("negative_loss")


class Trained(NamedTuple):
  """F(S) by training, and the counts of what was trained."""

  objective: Objective
  counts: Journaled
  evaluator: TrainingEvaluator


def make(journal, **train):
  settings = CONFIG | {"steps": 6, "steps_per_call": 4} | train
  config = {"seed": 0, "train": settings}
  evaluator = TrainingEvaluator(SPACE, make_data(), config)
  counts = Journaled(evaluator, SPACE, journal)
  return Trained(Objective(SPACE, counts, SCORE), counts, evaluator)


def masks(*architectures):
  return np.array([SPACE.mask(a) for a in architectures])


@pytest.fixture(scope="module")
def shared():
  return make(Journal(None))


def test_one_network_is_trained_once_and_few_programs_are_compiled(shared):
  rows = shared.objective.scores([EMPTY, FIRST, LAST, BOTH, FIRST], [[0]] * 5)
  scores = [score for row in rows for score in row]
  assert scores[1] == scores[2] == scores[4]
  assert len(set(scores)) == 3
  assert (shared.counts.trained, shared.counts.failed) == (3, {})
  assert (shared.counts.needed, shared.counts.reused) == (3, 0)
  assert shared.counts.compilations.programs == 3
  assert shared.counts.seconds > 0


def test_a_measurement_is_the_mean_of_the_next_replicates(shared):
  function = shared.objective.function(2)
  [first], [error] = function(masks(BOTH))
  [second], _ = function(masks(BOTH))
  [scores] = shared.objective.scores([BOTH], [range(4)])
  assert len(set(scores)) == 4
  np.testing.assert_allclose([first, second], [np.mean(scores[:2]), np.mean(scores[2:])])
  np.testing.assert_allclose(error, np.std(scores[:2], ddof=1) / math.sqrt(2))
  assert shared.counts.compilations.programs == 3


def test_evaluations_are_on_disk_before_the_next_and_never_trained_again(tmp_path):
  path = tmp_path / "evaluations.jsonl"
  first = make(Journal(path))
  jobs = [Job(SPACE.canonical(np.array(network)), 0) for network in (EMPTY, FIRST, BOTH)]
  lines = []

  def watched(asked):
    for evaluation in first.evaluator(asked):
      lines.append(path.read_bytes().count(b"\n") if path.exists() else 0)
      yield evaluation

  jobs = [job._replace(architecture=tuple(map(int, job.architecture))) for job in jobs]
  found = Journaled(watched, SPACE, first.counts.journal)(jobs)
  assert lines == [0, 1, 2]
  assert json.loads(path.read_text().splitlines()[0])["key"] == SPACE.key(EMPTY)
  resumed = make(Journal(path))
  assert resumed.counts(jobs) == found
  again = resumed.counts
  assert (again.trained, again.reused, again.compilations.programs) == (0, 3, 0)


def test_a_network_that_diverges_is_recorded_and_worth_minus_infinity():
  journal = Journal(None)
  diverging = make(journal, learning_rate=1e30)
  values, errors = diverging.objective.function(1)(masks(FIRST))
  assert values.tolist() == [-math.inf]
  assert np.isnan(errors).all()
  assert diverging.counts.failed == {"diverged": 1}
  assert next(iter(journal)).metrics is None


TOO_LARGE = (1, 1, 1, 1)


def faulty(shared, monkeypatch, error, fails=lambda job, step: job.architecture == TOO_LARGE):
  """Trainings raise an error for some jobs; returns the evaluator with counts, and the calls."""
  train, asked = shared.evaluator._trainer.train, []
  train([Job(EMPTY, 9)], 1)  # Compiles.

  def raises(jobs, steps):
    asked.append(([job.architecture for job in jobs], steps))
    if any(fails(job, len(asked)) for job in jobs):
      raise error
    return train(jobs, steps)

  monkeypatch.setattr(shared.evaluator._trainer, "train", raises)
  return Journaled(shared.evaluator, SPACE, Journal(None)), asked


@pytest.mark.parametrize(
  ("error", "cause"),
  [
    (
      jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 9 GB"),
      "out of memory: RESOURCE_EXHAUSTED: Out of memory",
    ),
    (TypeError("no such shape\nat all"), "TypeError: no such shape (test_objective.py line "),
    (
      jax.errors.JaxRuntimeError(
        'INTERNAL: Traceback (most recent call last):\n  File "mine.py"\nKeyError: 3'
      ),
      "KeyError: 3",
    ),
  ],
)
def test_a_training_that_raises_fails_alone_and_says_why(error, cause, shared, monkeypatch):
  counts, asked = faulty(shared, monkeypatch, error)
  jobs = [Job(network, 9) for network in (EMPTY, TOO_LARGE, BOTH)]
  found = counts(jobs)
  assert [evaluation.metrics is None for evaluation in found] == [False, True, False]
  assert found[1].cause.startswith(cause) and "\n" not in found[1].cause
  assert counts.failed == {found[1].cause: 1} and counts.trained == 3
  assert SCORE(found[1]) == -math.inf
  # All in one round, each alone, this one once more; then the start network for one step.
  assert asked == [
    ([EMPTY, TOO_LARGE, BOTH], None),
    ([EMPTY], None),
    ([TOO_LARGE], None),
    ([TOO_LARGE], None),
    ([EMPTY], 1),
    ([BOTH], None),
  ]
  assert counts(jobs) == found and len(asked) == 6


def test_a_training_that_fails_once_has_the_value_it_would_have_had(shared, monkeypatch):
  [expected] = Journaled(shared.evaluator, SPACE, Journal(None))([Job(TOO_LARGE, 9)])
  counts, asked = faulty(shared, monkeypatch, MemoryError(), lambda job, step: step == 1)
  [found] = counts([Job(TOO_LARGE, 9)])
  assert found.metrics == expected.metrics and len(asked) == 2 and not counts.failed


@pytest.mark.parametrize("error", [jax.errors.JaxRuntimeError("UNAVAILABLE: lost"), TypeError("x")])
def test_an_error_of_every_network_is_raised_and_leaves_no_evaluation(error, shared, monkeypatch):
  counts, asked = faulty(shared, monkeypatch, error, lambda job, step: True)
  with pytest.raises(EvaluationError, match=r"no network can be trained any more: .*(lost|x)"):
    counts([Job(BOTH, 9)])
  assert len(counts.journal) == 0 and len(asked) == 3


def test_an_error_of_the_programs_is_one_of_every_network(monkeypatch):
  new = make(Journal(None))

  def compile_them(*_):
    raise TypeError("no block")

  monkeypatch.setattr(new.evaluator._trainer, "_compile", compile_them)
  with pytest.raises(EvaluationError, match=r"^no network can be trained: TypeError: no block \("):
    new.counts([Job(EMPTY, 0)])


def test_a_full_disk_is_no_fault_of_a_network(shared, monkeypatch):
  counts, asked = faulty(shared, monkeypatch, OSError(28, "No space left on device"))
  with pytest.raises(OSError, match="No space left"):
    counts([Job(TOO_LARGE, 9)])
  assert len(asked) == 1


def test_a_training_over_the_time_limit_fails(shared, monkeypatch):
  """The clock goes on by a second whenever it is read, and a limit has it read in every step."""
  monkeypatch.setattr(shared.evaluator._trainer, "_time_limit", 3)
  clock = itertools.count()
  monkeypatch.setattr(candidates.time, "perf_counter", lambda: float(next(clock)))
  [found] = Journaled(shared.evaluator, SPACE, Journal(None))([Job(BOTH, 9)])
  assert found.cause == "longer than config.search.time_limit=3 seconds"
  monkeypatch.setattr(shared.evaluator._trainer, "_time_limit", 30)
  [found] = Journaled(shared.evaluator, SPACE, Journal(None))([Job(BOTH, 9)])
  assert found.metrics is not None


def test_a_training_may_stop_early(shared):
  train = shared.evaluator._trainer.train
  one, whole = (float(train([Job(BOTH, 9)], steps)[0][0]) for steps in (1, None))
  assert 0 < one < whole / 3  # Sums of the losses of 1 and of 6 steps.


@pytest.mark.parametrize(("kind", "raises"), [(1, False), (2, True)])
def test_an_error_of_another_process_counts_here_too(kind, raises, shared, monkeypatch):
  own, flags = training_evaluator._gather, []

  def gather(tree):
    if not isinstance(tree, np.ndarray):
      return own(tree)
    flags.append(tree)
    return np.array([0, kind if len(flags) < 3 else 0])  # Not with the start network.

  monkeypatch.setattr(training_evaluator, "_gather", gather)
  counts = Journaled(shared.evaluator, SPACE, Journal(None))
  if raises:
    with pytest.raises(EvaluationError, match="another process says why"):
      counts([Job(EMPTY, 9)])
  else:
    [found] = counts([Job(EMPTY, 9)])
    assert found.metrics is None and found.cause == "another process says why"


def test_an_evaluator_must_give_the_metric_of_the_score():
  with pytest.raises(ValueError, match="negative_loss needs the metric loss; given: accuracy"):
    SCORE(Evaluation("1", 0, {"accuracy": 1.0}, 0.0))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"classes": 3}, "data have 3 classes, space tiny has 2"),
    (
      {"train": Split(np.zeros((4, 5, 5, 1), np.uint8), np.arange(4) % 2)},
      r"images are \(5, 5, 1\)",
    ),
  ],
)
def test_data_of_another_space(changes, message):
  with pytest.raises(ValueError, match=message):
    check_fit(SPACE, make_data()._replace(**changes))

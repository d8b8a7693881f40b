"""F(S): trained once, stored before it is used, by one program."""

import json
import math

import numpy as np
import pytest

from nas_submod.data.loading import Data, Split
from nas_submod.evaluation import objective
from nas_submod.evaluation.journal import Journal
from nas_submod.evaluation.objective import ProxyObjective
from nas_submod.networks import blocks
from nas_submod.networks.search_space import SearchSpace, Stage
from tests.test_training import CONFIG

SPACE = SearchSpace(
  name="tiny",
  image_shape=(4, 4, 1),
  classes=2,
  stem_channels=2,
  stages=(Stage(2, 3), Stage(4, 1)),
  options=(blocks.inverted_residual_option(expansion=1),),
  start=(0, 0, 0, 1),
)
EMPTY, FIRST, LAST, BOTH = (0, 0, 0, 1), (1, 0, 0, 1), (0, 0, 1, 1), (1, 1, 0, 1)


def make_data():
  rng = np.random.default_rng(0)
  labels = np.arange(40, dtype=np.int32) % 2
  images = (rng.integers(0, 100, (40, 4, 4, 1)) + 60 * labels[:, None, None, None]).astype(np.uint8)
  split = Split(images, labels)
  return Data(split, split, split, 2, np.array([80.0], np.float32), np.array([40.0], np.float32))


def make(journal, **train):
  settings = CONFIG | {"steps": 6, "steps_per_call": 4} | train
  config = {"seed": 0, "score": "negative_loss", "train": settings}
  return ProxyObjective(SPACE, make_data(), config, journal)


def masks(*architectures):
  return np.array([SPACE.mask(a) for a in architectures])


@pytest.fixture(scope="module")
def shared():
  return make(Journal(None))


def test_one_network_is_trained_once_and_few_programs_are_compiled(shared):
  values, errors = shared(masks(EMPTY, FIRST, LAST, BOTH, FIRST))
  assert values[1] == values[2] == values[4]
  assert len(set(values.tolist())) == 3
  assert np.isnan(errors).all()
  assert (shared.trained, shared.failed) == (3, 0)
  again, _ = shared(masks(LAST, BOTH))
  assert again.tolist() == values[[1, 3]].tolist()
  assert shared.trained == 3
  assert shared.compilations.programs == 3
  assert shared.train_seconds > 0


def test_replicates_have_a_standard_error_and_another_seed(shared):
  [scores] = shared.scores([BOTH], [range(3)])
  values, errors = shared(masks(BOTH), np.array([3]))
  assert len(set(scores)) == 3
  np.testing.assert_allclose(values, np.mean(scores))
  np.testing.assert_allclose(errors, np.std(scores, ddof=1) / math.sqrt(3))
  assert shared.compilations.programs == 3


def test_values_are_on_disk_before_they_are_used_and_never_trained_again(tmp_path, monkeypatch):
  path = tmp_path / "evaluations.jsonl"
  first = make(Journal(path))
  on_disk = []
  value = first._value
  monkeypatch.setattr(
    first, "_value", lambda job: (on_disk.append(path.read_text()), value(job))[1]
  )
  [[score]] = first.scores([FIRST], [[0]])
  assert json.loads(on_disk[0])["key"] == SPACE.key(FIRST)
  resumed = make(Journal(path))
  assert resumed.scores([LAST], [[0]]) == [[score]]
  assert (resumed.trained, resumed.reused, resumed.compilations.programs) == (0, 1, 0)


def test_a_network_that_diverges_is_recorded_and_worth_minus_infinity():
  journal = Journal(None)
  diverging = make(journal, learning_rate=1e30)
  values, errors = diverging(masks(FIRST))
  assert values.tolist() == [-math.inf]
  assert np.isnan(errors).all()
  assert diverging.failed == 1
  assert next(iter(journal)).metrics is None


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
    objective.check_fit(SPACE, make_data()._replace(**changes))

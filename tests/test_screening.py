"""Less training: the better half goes on; neither devices nor a kill change a decision."""

import numpy as np
import pytest

from nas_submod import parallel, search
from nas_submod.evaluation import inherit, objective
from nas_submod.evaluation.inherit import Weights
from nas_submod.evaluation.journal import Evaluation, Journal
from nas_submod.search.setup import prepare
from tests import tiny_config
from tests.test_search import Computed
from tests.test_search import outcome as decisions


class ComputedByParent(Computed):
  """Scores that tell from which parent they came, as trained ones do."""

  NOISE, GAIN_OF_STEPS = 0.1, 1.0

  def _train_round(self, jobs):
    results = []
    for job in jobs:
      numbers = [max(job.replicate, 0), *job.architecture, *map(ord, job.parent or "")]
      loss = 3 - np.sqrt(np.count_nonzero(job.architecture)) + self.GAIN_OF_STEPS / job.steps
      loss += np.random.default_rng(numbers).normal(0, self.NOISE)
      key = self._space.key(job.architecture)
      taken = 0.0, job.steps, job.parent
      results.append(Evaluation(key, job.replicate, {"loss": float(loss)}, *taken))
      if job.replicate == 0:
        self._ancestors.write(key, Weights({}, []))
    self._journal.add(results)


@pytest.mark.parametrize(
  ("optimizer", "options", "screen_steps"),
  [
    ("rcas", {}, 0),
    ("rcas", {}, 2),
    ("greedy", {"race": (1, 3)}, 0),
    ("rcas", {"race": (1, 3, 6)}, 2),
  ],
)
def test_decisions_depend_neither_on_devices_nor_on_a_kill(
  optimizer, options, screen_steps, monkeypatch
):
  monkeypatch.setattr(search.loop, "ProxyObjective", ComputedByParent)
  monkeypatch.setattr(inherit, "_KEPT", 8)
  racing_after_screening = bool(options and screen_steps)
  monkeypatch.setattr(ComputedByParent, "NOISE", 0.6 if racing_after_screening else 0.1)
  config = tiny_config.get_config()
  config.search.optimizer, config.search.options = optimizer, options
  config.train.inherit_steps, config.train.screen_steps = 4, screen_steps
  monkeypatch.setattr(objective, "CONTEST", 3)
  config.budget = {"params": 3_000, "madds": 20_000}
  results = []
  for devices in (1, 8):
    monkeypatch.setattr(parallel, "device_count", lambda devices=devices: devices)
    log = Journal(None)
    results.append(decisions(search.run(prepare(config), log)))
    inherited = [e for e in log if e.parent is not None]
    assert len(inherited) > 5 and {e.steps for e in inherited} == {4, screen_steps or 4}
    screened = {e.key for e in log if e.replicate == -1}
    lost = screened - {e.key for e in list(log)[: 2 * len(screened)] if e.replicate == 0}
    again = {e.key for e in log if e.replicate == 1 and e.key in lost}
    assert bool(again) == racing_after_screening
    for key in again:
      assert len({log.get(key, replicate).parent for replicate in (0, 1)}) == 1
  assert results[0] | {"devices": ""} == results[1] | {"devices": ""}
  for thirds in (1, 2):
    part = Journal(None)
    part.add(list(log)[: thirds * len(log) // 3])
    assert decisions(search.run(prepare(config), part)) == results[-1]


@pytest.mark.parametrize("gain_of_steps", [1.0, -1.0])
def test_all_of_a_large_call_are_screened_and_the_better_half_is_trained_in_full(
  gain_of_steps, monkeypatch
):
  monkeypatch.setattr(ComputedByParent, "GAIN_OF_STEPS", gain_of_steps)
  config = tiny_config.get_config()
  config.train.screen_steps = 3
  setup, log = prepare(config), Journal(None)
  proxy = ComputedByParent(setup.space, setup.data, config, log)
  networks_asked = [(0, 0, 1, o) for o in (1, 2)] + [
    (o, p, 1, 0) for o in (1, 2) for p in (0, 1, 2)
  ]
  proxy.scores(networks_asked, [[0]] * 8)  # Eight are too few for a contest.
  assert [e.steps for e in log] == [12] * 8
  proxy = ComputedByParent(setup.space, setup.data, config, log := Journal(None))
  networks_asked.append((1, 1, 1, 1))
  once = [[0]] * 9
  scores = np.array(proxy.scores(networks_asked, once))[:, 0]
  steps = [[e.replicate, e.steps] for e in log]
  assert steps == [[-1, 3]] * 9 + [[0, 12]] * 4
  full = np.array([log.get(setup.space.key(a), 0) is not None for a in networks_asked])
  assert full.sum() == 4
  assert scores[full].min() >= scores[~full].max()
  short = np.array([-log.get(setup.space.key(a), -1).metrics["loss"] for a in networks_asked])
  assert short[full].min() >= short[~full].max()
  np.testing.assert_array_equal(scores[~full], np.minimum(short[~full], scores[full].min()))
  assert proxy.scores(networks_asked[:3], once[:3]) == scores[:3, None].tolist()
  assert len(log) == 13
  loser = networks_asked[int(np.flatnonzero(~full)[0])]
  [further] = proxy.scores([loser], [[1, 2]])  # As a race does.
  assert [[e.replicate, e.steps] for e in list(log)[13:]] == [[0, 12], [1, 12], [2, 12]]
  [again] = proxy.scores([loser], [[0, 1, 2]])
  assert again[1:] == further
  assert again[0] == -log.get(setup.space.key(loser), 0).metrics["loss"]
  other = networks_asked[int(np.flatnonzero(~full)[1])]
  proxy.scores([other], [[7]], afresh=True)  # A finalist costs what was asked for.
  assert [[e.replicate, e.steps] for e in list(log)[16:]] == [[7, 12]]


def test_a_screened_network_that_a_race_trains_in_full_may_be_a_parent():
  config = tiny_config.get_config()
  config.train.screen_steps, config.train.inherit_steps = 3, 6
  setup, log = prepare(config), Journal(None)
  key = setup.space.key
  proxy = ComputedByParent(setup.space, setup.data, config, log)
  proxy.scores([setup.space.start], [[0]])
  asked = [(o, p, 1, q) for o in (1, 2) for p in (0, 1, 2) for q in (0, 1)]
  proxy.scores(asked, [[0]] * len(asked))
  lost = [a for a in asked if log.get(key(a), 0) is None]
  assert lost and all(proxy._ancestors.parent(a, 0) != key(a) for a in lost)
  proxy.scores([lost[0]], [[1, 2]])
  assert key(lost[0]) in proxy._ancestors._kept
  assert set(proxy._ancestors._memory) == set(proxy._ancestors._kept)

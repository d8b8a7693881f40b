"""Screening: decisions depend neither on devices nor on a kill."""

import numpy as np
import pytest

from nas_submod import parallel, search
from nas_submod.evaluation import screening
from nas_submod.evaluation.evaluator import Job, score_named
from nas_submod.evaluation.journal import Journal, Journaled
from nas_submod.evaluation.screening import Screened
from tests import tiny_config
from tests.evaluators import computed_by_steps
from tests.test_search import outcome as decisions

SCORE = score_named("negative_loss")


def test_decisions_depend_neither_on_devices_nor_on_a_kill(monkeypatch):
  monkeypatch.setattr(screening, "LARGE_CALL", 3)
  config = tiny_config.get_config()
  config.search.optimizer, config.train.screen_steps = "rcas", 2
  config.budget = {"params": 3_000, "madds": 20_000}

  def run(log):
    setup = search.make_setup(config)
    return decisions(search.run(setup, computed_by_steps(setup.space), log))

  results = []
  for devices in (1, 8):
    monkeypatch.setattr(parallel, "device_count", lambda devices=devices: devices)
    results.append(run(log := Journal(None)))
    assert any(e.replicate == -1 for e in log)
  assert results[0] | {"devices": ""} == results[1] | {"devices": ""}
  for thirds in (1, 2):
    part = Journal(None)
    part.add(list(log)[: thirds * len(log) // 3])
    assert run(part) == results[-1]


@pytest.mark.parametrize("gain_of_steps", [1.0, -1.0])
def test_a_large_call_is_screened_and_its_better_half_trains_in_full(gain_of_steps):
  space = search.make_setup(tiny_config.get_config()).space
  networks = [(0, 0, 1, o) for o in (1, 2)]
  networks += [(o, p, 1, 0) for o in (1, 2) for p in (0, 1, 2)]
  networks = [tuple(map(int, space.canonical(np.array(network)))) for network in networks]
  ninth = (1, 1, 1, 1)

  def make():
    log = Journal(None)
    counts = Journaled(computed_by_steps(space, gain_of_steps), space, log)
    return Screened(counts, SCORE, 3), counts, log

  screened, counts, log = make()
  screened([Job(network, 0) for network in networks])  # Eight are too few to be screened.
  assert [e.steps for e in log] == [12] * 8

  screened, counts, log = make()
  jobs = [Job(network, 0) for network in (*networks, ninth)]
  scores = np.array([SCORE(evaluation) for evaluation in screened(jobs)])
  assert [(e.replicate, e.steps) for e in log] == [(-1, 3)] * 9 + [(0, 12)] * 4
  assert (counts.needed, counts.trained, counts.reused) == (13, 13, 0)
  full = np.array([log.get(space.key(job.architecture), 0) is not None for job in jobs])
  assert scores[full].min() >= scores[~full].max()
  short = np.array([SCORE(log.get(space.key(job.architecture), -1)) for job in jobs])
  assert short[full].min() >= short[~full].max()
  np.testing.assert_array_equal(scores[~full], np.minimum(short[~full], scores[full].min()))
  assert [SCORE(e) for e in screened(jobs[:3])] == scores[:3].tolist()
  loser = jobs[int(np.flatnonzero(~full)[0])]
  screened([loser._replace(replicate=7, full=True)])  # A finalist trains in full.
  assert [(e.replicate, e.steps) for e in list(log)[13:]] == [(7, 12)]

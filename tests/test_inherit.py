"""Less training: a child starts as its parent, also after a kill."""

import os
import pathlib
import signal
import subprocess
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_submod import networks
from nas_submod.evaluation import inherit
from nas_submod.evaluation.evaluator import Evaluation
from nas_submod.evaluation.inherit import Ancestors
from nas_submod.evaluation.journal import Journal
from nas_submod.evaluation.weights import MissingWeightsError, Weights, collect, graft
from nas_submod.networks import spaces
from nas_submod.networks.layers import Variables
from nas_submod.search.setup import make_setup
from tests import tiny_config
from tests.test_experiments import ROOT, call, command, outcome, trainings
from tests.test_objective import BOTH, EMPTY, FIRST, SPACE, make

ALL = (1, 1, 1, 1)
DIGITS = spaces.get("digits")
_STAGES, _SLOTS, _OPTIONS = 3, 4, 6


def architecture_of(stages):
  return tuple(option for stage in stages for option in [*stage, *[0] * (_SLOTS - len(stage))])


@st.composite
def families(draw):
  """A digits network, one with a block more, and the first position of its stage."""
  options = st.integers(1, _OPTIONS)
  stages = [draw(st.lists(options, max_size=_SLOTS - 1)) for _ in range(_STAGES - 1)]
  stages.append(draw(st.lists(options, min_size=1, max_size=_SLOTS - 1)))
  stage = draw(st.integers(0, _STAGES - 1))
  larger = [list(blocks) for blocks in stages]
  larger[stage].insert(draw(st.integers(0, len(stages[stage]))), draw(options))
  return architecture_of(stages), architecture_of(larger), stage * _SLOTS


@pytest.fixture(scope="module")
def universal():
  """The network for digits, its start, and its logits for some images."""
  network = networks.build_universal(DIGITS)
  x = jax.random.normal(jax.random.key(1), (2, *DIGITS.image_shape))
  apply = jax.jit(lambda v, architecture: network.apply(*v, architecture, x, False)[0])
  return network, jax.jit(network.init), apply


def start(init, seed, architecture):
  """Writable initial values, statistics unlike those of another seed."""
  variables = init(jax.random.key(seed), np.array(architecture))
  rng = np.random.default_rng(seed)
  state = jax.tree.map(lambda leaf: rng.uniform(0.5, 1.5, leaf.shape), variables.state)
  return jax.tree.map(lambda leaf: np.array(leaf, np.float32), Variables(variables.params, state))


@settings(max_examples=40, deadline=None)
@given(families())
def test_a_child_starts_as_the_function_that_its_parent_is(universal, family):
  network, init, logits = universal
  parent, child, first = family
  old, new = start(init, 1, parent), start(init, 2, child)
  graft(network, new, child, collect(network, old, parent), parent)
  gap = np.abs(logits(new, np.array(child)) - logits(old, np.array(parent))).max()
  if first == 0 or parent[first] == child[first]:
    np.testing.assert_allclose(gap, 0, atol=1e-6)
  else:  # The first block of a stage that changes channels or resolution cannot be the identity.
    assert gap > 1e-4


@pytest.mark.parametrize(
  ("parent", "child", "blocks"),  # Each block of the child: which of the parent's, or what else.
  [
    ("e3 | e6 | e3", "e3 | e6 e6 | e3", [[0], [0, "identity"], [0]]),
    ("e3 | e6 | e3", "e3 | e3 e6 | e3", [[0], ["fresh", "fresh"], [0]]),
    ("e3 | e6 | e3 e6", "e3 | e6 | e6 e3 e6", [[0], [0], ["fresh", "fresh", 1]]),
    ("e3 | e6 | e3 e6", "e3 | e6 | e3 e3 e6", [[0], [0], [0, "identity", 1]]),
    ("e3 | | e3", "e3 | e6 | e3", [[0], ["fresh"], ["fresh"]]),
    ("| e6 | e3", "e3 | e6 | e3", [["identity"], [0], [0]]),
    ("e6 | e6 | e3", "e3 e6 | e6 | e3", [["identity", 0], [0], [0]]),
  ],
)
def test_what_is_copied_and_what_is_fresh(universal, parent, child, blocks):
  network, init, _ = universal
  parent, child = DIGITS.parse(parent), DIGITS.parse(child)
  old, new = start(init, 1, parent), start(init, 2, child)
  fresh = network.specialize(jax.tree.map(jnp.array, new), child)
  graft(network, new, child, collect(network, old, parent), parent)
  found, source = network.specialize(new, child), network.specialize(old, parent)
  for of_child, of_parent, of_fresh in zip(found, source, fresh):
    chex.assert_trees_all_equal((of_child[0], of_child[2]), (of_parent[0], of_parent[2]))
    for stage, origins in enumerate(blocks):
      for block, origin, first in zip(of_child[1][stage], origins, of_fresh[1][stage]):
        if isinstance(origin, int):
          chex.assert_trees_all_equal(block, of_parent[1][stage][origin])
        elif origin == "identity" and of_child is found.params:
          changed = jax.tree.map(lambda a, b: bool((a != b).any()), block, first)
          assert sum(jax.tree.leaves(changed)) == 1
          *_, (_, norm) = block[0]
          assert not norm["scale"].any()
        else:
          chex.assert_trees_all_equal(block, first)


def lines(journal):
  return {(e.key, e.replicate): (e.steps, e.parent) for e in journal}


def test_candidates_inherit_from_the_best_of_earlier_calls(tmp_path, monkeypatch):
  journal = Journal(tmp_path / "evaluations.jsonl")
  add, files = journal.add, []
  monkeypatch.setattr(
    journal, "add", lambda new: (files.append(set(tmp_path.glob("weights/*"))), add(new))
  )
  proxy, counts, _ = make(journal, inherit_steps=3)
  proxy.scores([EMPTY, FIRST], [[0], [0]])
  assert [len(found) for found in files] == [1, 2]  # On disk before their lines.
  key = SPACE.key
  expected = {(key(EMPTY), 0): (6, None), (key(FIRST), 0): (6, None)}  # Of one call: no parents.
  assert lines(journal) == expected
  [inherited] = proxy.scores([BOTH], [[0, 1]])
  expected |= {(key(BOTH), r): (3, key(FIRST)) for r in (0, 1)}
  assert lines(journal) == expected
  [[seventh]] = proxy.scores([BOTH], [[7]], full=True)
  assert lines(journal)[key(BOTH), 7] == (6, None)
  assert (counts.compilations.programs, counts.steps) == (3, 24)
  [fresh] = make(Journal(None)).objective.scores([BOTH], [[0, 1, 7]])
  assert fresh[2] == seventh
  assert len({*inherited, *fresh}) == 5
  (tmp_path / "weights" / "1.1.0_1.msgpack").unlink()
  with pytest.raises(
    MissingWeightsError, match=r"1\.1\.0_1.msgpack, which cannot be read"
  ) as error:
    proxy.scores([ALL], [[0]])
  assert "\n" not in str(error.value)


def test_inherited_weights_are_trained_on_and_stay_float32():
  journal = Journal(None)
  proxy = make(journal, inherit_steps=1, learning_rate=0.0, dtype="bfloat16").objective
  [[parent]] = proxy.scores([EMPTY], [[0]])
  [[child]] = proxy.scores([FIRST], [[0]])
  # Nothing is learned, and running statistics move by a tenth of the way.
  assert np.isfinite([parent, child]).all() and abs(parent - child) < 0.05
  of_parent, of_child = (journal.weights.read(SPACE.key(a)) for a in (EMPTY, FIRST))
  assert {leaf.dtype for leaf in jax.tree.leaves(of_child)} == {np.dtype(np.float32)}
  params = [[layer[0] for stage in w.layers[1:] for layer in stage] for w in (of_parent, of_child)]
  chex.assert_trees_all_equal(*params)
  chex.assert_trees_all_equal(of_parent.stem["params"], of_child.stem["params"])


def test_ancestors_are_the_last_used_and_a_replicate_starts_where_the_first_did(monkeypatch):
  monkeypatch.setattr(inherit, "_KEPT", 2)
  journal = Journal(None)
  ancestors = Ancestors(SPACE, journal, lambda e: e.metrics["accuracy"] if e.metrics else -np.inf)
  one, two, three = (0, 0, 0, 1), (1, 0, 0, 1), (1, 1, 0, 1)

  def train(architecture, accuracy, parent=None):
    key = SPACE.key(architecture)
    metrics = None if accuracy is None else {"accuracy": accuracy}
    journal.add([Evaluation(key, 0, metrics, 0.0, 1, parent)])
    journal.weights.write(key, Weights({}, []))
    ancestors.use([journal.get(key, 0)])
    return key

  first = train(one, 0.5)
  assert ancestors.parent(two, 0) == ancestors.parent((0, 1, 0, 1), 0) == first
  assert ancestors.parent(three, 0) is None  # Two blocks more.
  assert ancestors.parent(one, 0) is None
  second = train(two, 0.4, first)
  assert ancestors.parent(two, 1) == first
  assert ancestors.parent(three, 0) == second
  train(three, 0.9, second)  # Only two are kept, and the first was used least.
  assert ancestors.parent(two, 0) is None and ancestors.parent(two, 1) is None
  assert set(journal.weights._memory) == {second, SPACE.key(three)}
  train(ALL, None, SPACE.key(three))
  assert SPACE.key(ALL) not in ancestors._kept


def test_of_equal_parents_it_is_the_one_without_the_earliest_block():
  journal = Journal(None)
  ancestors = Ancestors(DIGITS, journal, lambda e: e.metrics["accuracy"])
  small = [DIGITS.parse(text) for text in ("| e6 | e3", "e3 | | e3")]
  evaluations = [Evaluation(DIGITS.key(a), 0, {"accuracy": 0.5}, 0.0, 1, None) for a in small]
  journal.add(evaluations)
  for order in (evaluations, evaluations[::-1]):
    ancestors.use(order)
    assert ancestors.parent(DIGITS.parse("e3 | e6 | e3"), 0) == DIGITS.key(small[0])


@pytest.mark.slow
def test_a_killed_search_goes_on_from_the_weights_it_left(tmp_path):
  flags = "--config.train.inherit_steps=4", "--cpu_devices=1"
  whole, pieces = tmp_path / "whole", tmp_path / "pieces"
  call("search", *flags, f"--workdir={whole}")
  process = subprocess.Popen(
    command("search", *flags, f"--workdir={pieces}"),
    cwd=ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  journal = pathlib.Path(pieces / "evaluations.jsonl")
  while not (journal.exists() and journal.read_bytes().count(b"\n") >= 3):
    assert process.poll() is None, "the search ended before it could be killed"
    time.sleep(0.01)
  os.kill(process.pid, signal.SIGKILL)
  process.wait()
  call("search", *flags, f"--workdir={pieces}")
  assert outcome(pieces) == outcome(whole)
  assert sorted(trainings(pieces)) == sorted(trainings(whole))


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"train.inherit_steps": 13}, "inherit_steps is 13; allowed: 0 .off. to 12"),
    ({"train.inherit_steps": -1}, "inherit_steps is -1"),
    ({"train.screen_steps": 12}, "screen_steps is 12; allowed: 0 .off. to below 12"),
    ({"train.inherit_steps": 4, "train.screen_steps": 4}, "allowed: 0 .off. to below 4"),
    ({"train.screen_steps": 4, "search.replicates": 2}, "measures a network once"),
    ({"train.screen_steps": 4, "search.options": {"race": (1, 3)}}, "measures again"),
    ({"train.screen_steps": -1, "search.optimizer": "surrogate"}, "screen_steps is -1; allowed"),
    ({"train.screen_steps": 4, "search.optimizer": "surrogate"}, "but surrogate measures again"),
    ({"train.inherit_steps": 4, "score": "negative_train_loss"}, "compares whole trainings"),
  ],
)
def test_what_cannot_be_done_is_refused(changes, words):
  config = tiny_config.get_config()
  config.update_from_flattened_dict(changes)
  with pytest.raises(ValueError, match=words):
    make_setup(config)

"""Final training: resumed runs, eight devices against one, and runs that are not finite."""

import contextlib
import itertools
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from nas_submod import parallel, preemption, training
from nas_submod.data.loading import Data, Split
from nas_submod.networks import blocks, layers, spaces
from nas_submod.training import checkpoints, final, final_programs, metrics_log
from tests import tiny_config

ROOT = pathlib.Path(__file__).parent.parent
ARCHITECTURE = (0, 0, 1, 2)


def digits(scale=1, channels=1, count=160):
  found = load_digits()
  images = np.round(found.images[:count] * (255 / 16)).astype(np.uint8)
  images = np.kron(images, np.ones((1, scale, scale), np.uint8))[..., None].repeat(channels, -1)
  split = Split(images, found.target[:count].astype(np.int32))
  pixels = images.astype(np.float32)
  return Data(split, split, split, 10, pixels.mean((0, 1, 2)), pixels.std((0, 1, 2)))


def config(**changes):
  settings = tiny_config.get_config()
  settings.final.update({"epochs": 0.0, "steps": 6, "log_every": 1, "checkpoint_every": 2.0})
  settings.final.update(changes)
  return settings


def test_mixup_does_not_split_a_pair_between_devices():
  found = final.check(spaces.get("digits"), digits(), config(batch_size=6, mixup=0.2).to_dict())
  assert found.devices == 1  # Six devices would have one image each.
  found = final.check(spaces.get("digits"), digits(), config(batch_size=6).to_dict())
  assert found.devices == math.gcd(6, jax.device_count()) > 1


def losses(workdir):
  lines = map(json.loads, (workdir / metrics_log.METRICS_FILE).read_text().splitlines())
  found = [(line["step"], line["loss"]) for line in lines if "loss" in line]
  assert len({step for step, _ in found}) == len(found)
  return dict(found)


def evaluations(workdir):
  lines = map(json.loads, (workdir / metrics_log.METRICS_FILE).read_text().splitlines())
  return [line for line in lines if "loss" not in line]


def test_eight_devices_train_as_one_with_batch_norm(compilations):
  """Crops, flips, mixup and 20 steps; only the order of sums differs."""
  data = digits(scale=4, channels=3)
  settings = config(steps=20, learning_rate=0.2, crop_padding=4, flip=True, mixup=0.2).final
  recipe = training.recipe(settings, data)
  network = layers.serial(
    blocks.conv_bn(3, 8, 3, stride=2),
    blocks.inverted_residual(8, 8, 2, expansion=2),
    layers.global_average_pool(),
    layers.dense(8, 10),
  )
  order = training.batch_order((0,), 160, 16, 20)
  found = {}
  for devices in (1, 8):
    programs = final_programs.make_final_programs(recipe, network, jax.random.key(1), devices)
    images = parallel.copy_to_devices(data.train, devices)
    state = training.start(network.init(jax.random.key(0)), recipe.transformation)
    state = parallel.copy_to_devices(state, devices)
    found[devices] = []
    for step in range(20):
      rows = parallel.process_shards(order[step], devices)
      state, metrics = programs.train(state, images, rows)
      found[devices].append(np.array(jax.device_get(metrics)))
      if step == 0:
        compiled = compilations()
    assert compilations() == compiled
    for leaf in jax.tree.leaves(state):
      shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
      assert len(shards) == devices
      assert all(np.array_equal(shards[0], shard) for shard in shards)
  np.testing.assert_allclose(found[8], found[1], rtol=1e-4)
  rows = np.array(found[1])
  assert rows[-5:, 0].mean() < rows[:5, 0].mean() - 0.01


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits_npz):
  """A function that starts `experiments.train` for 240 steps, and the file of its output."""
  folder = tmp_path_factory.mktemp("final")
  output = folder / "output.txt"
  environment = os.environ | {
    "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PLATFORMS": "cpu",
  }

  def start(workdir, *flags):
    fields = {"steps": 240, "epochs": 0.0, "log_every": 1, "checkpoint_every": 20}
    command = [sys.executable, "-m", "experiments.train", "--config=tests/tiny_config.py"]
    command += [f"--config.final.{name}={value}" for name, value in fields.items()]
    command += [f"--config.data.source=npz:{digits_npz}", "--cpu_devices=2"]
    command += ["--architecture=. | e2 e4g2se", f"--workdir={workdir}", *flags]
    with output.open("w") as file:
      return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)

  return start, output


def wait_for_step(process, workdir, step):
  file = workdir / "train" / metrics_log.METRICS_FILE
  while not (file.exists() and file.read_bytes().count(b'"gradient_norm"') >= step):
    assert process.poll() is None, "the training ended before it could be stopped"
    time.sleep(0.01)


@pytest.mark.slow
def test_stopped_resumed_killed_resumed_is_the_whole_run(run, tmp_path):
  start, output = run
  assert start(tmp_path / "whole").wait() == 0, output.read_text()
  pieces = tmp_path / "pieces"

  process = start(pieces)
  wait_for_step(process, pieces, 30)
  process.send_signal(signal.SIGTERM)
  assert process.wait() == 75
  said = re.search(r"stopped on SIGTERM after step (\d+)", output.read_text())
  stopped = int(said[1])
  assert 30 <= stopped < 240
  assert max(losses(pieces / "train")) == stopped
  assert stopped in [int(path.name) for path in (pieces / "train" / "checkpoints").iterdir()]

  process = start(pieces)
  wait_for_step(process, pieces, stopped + 30)
  process.kill()
  process.wait()
  assert not (pieces / "train" / "metrics.json").exists()

  assert start(pieces).wait() == 0, output.read_text()
  whole, parts = (losses(tmp_path / name / "train") for name in ("whole", "pieces"))
  assert list(parts) == list(whole) == list(range(1, 241))
  # Bit for bit, because it is the same program on the same numbers.
  assert parts == whole
  one, other = (
    json.loads((tmp_path / name / "train" / "metrics.json").read_text())
    for name in ("whole", "pieces")
  )
  assert other["test"] == one["test"]
  assert other["resumed_from_step"] > stopped
  assert one["test"]["accuracy"] > 0.3


@pytest.mark.parametrize("line", ["no log", "[1]", '{"loss": 1.0}', '{"step": "x"}'])
def test_a_damaged_log_is_named_with_its_line(line, tmp_path):
  (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1, "loss": 2.0}}\n{line}\n')
  with pytest.raises(ValueError, match=r"metrics\.jsonl: line 2 holds no step"):
    metrics_log.MetricsLog(tmp_path, 1)


def tiny_space():
  return spaces.from_config(config().space)


def test_not_finite_stops_with_its_cause_and_keeps_the_last_good_checkpoint(tmp_path):
  settings = config(learning_rate=1e20, schedule="constant", checkpoint_every=1.0, log_every=4)
  with pytest.raises(FloatingPointError) as error:
    final.train(tiny_space(), ARCHITECTURE, digits(), settings, tmp_path)
  message = str(error.value)
  kept = int(re.search(r"the checkpoint of step (\d+) is kept", message)[1])
  assert kept >= 1
  assert re.search(r"not finite|loss is (nan|inf)", message)
  with checkpoints.Checkpoints(tmp_path / "checkpoints", 2) as store:
    assert store.latest == kept


def test_a_notice_while_evaluating_stops_with_a_checkpoint(tmp_path, monkeypatch):
  """Each call of `should_stop` in an evaluation of one run in pieces, against a whole run."""
  data = digits()._replace(validation=digits(count=80).train)
  settings = config(steps=4, evaluate_on="validation")
  arguments = tiny_space(), ARCHITECTURE, data, settings
  whole = final.train(*arguments, tmp_path / "whole")
  notice = [0]

  @contextlib.contextmanager
  def watch():
    calls = itertools.count(1)
    yield lambda: next(calls) == notice[0]

  monkeypatch.setattr(preemption, "watch", watch)
  folder = tmp_path / "pieces"
  # In the evaluations after steps 2 and 4, in that of step 4 again, and in the test.
  for call, step in ((3, 2), (3, 4), (1, 4), (2, 4)):
    notice[0] = call
    with pytest.raises(preemption.Preempted) as stopped:
      final.train(*arguments, folder)
    assert stopped.value.step == step
  notice[0] = 0
  pieces = final.train(*arguments, folder)
  assert pieces["resumed_from_step"] == 4
  assert losses(folder) == losses(tmp_path / "whole")
  assert pieces["test"] == whole["test"]
  # The evaluation after step 2 is skipped, and that of step 4 is written once.
  last = evaluations(tmp_path / "whole")[-1]
  assert evaluations(folder) == [last]
  expected = {"step": 4} | {name: last[f"validation_{name}"] for name in final._LOGGED}
  assert pieces["best_checkpoint"] == {"evaluated_on": "validation", **expected}


def test_the_last_evaluation_is_the_test_if_both_use_the_test_images(tmp_path, monkeypatch):
  evaluations, evaluate = [], final.evaluate

  def count(*arguments):
    evaluations.append(evaluate(*arguments))
    return evaluations[-1]

  monkeypatch.setattr(final, "evaluate", count)
  found = final.train(tiny_space(), ARCHITECTURE, digits(), config(), tmp_path)
  assert len(evaluations) == 3
  assert found["test"] == evaluations[-1]


def test_checkpoints_keep_the_last_and_the_best_and_refuse_numbers_that_are_not_finite(tmp_path):
  state = {"params": np.arange(3.0, dtype=np.float32), "empty": ()}
  with checkpoints.Checkpoints(tmp_path / "all", 2) as store:
    for step, accuracy in enumerate((0.1, 0.9, 0.3, 0.4), start=1):
      store.save(step, state, {"accuracy": accuracy})
    store.save(5, {"params": state["params"] + 1, "empty": ()}, {})
    assert store.best(5, {"accuracy": 0.8}) == {"step": 2, "accuracy": 0.9}
    assert store.best(5, {"accuracy": 1.0}) == {"step": 5, "accuracy": 1.0}
    with pytest.raises(
      FloatingPointError, match=r"params.*not finite after step 6.*step 5 is kept"
    ):
      store.save(6, {"params": state["params"] * np.nan, "empty": ()}, {})
  assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["2", "4", "5"]
  with checkpoints.Checkpoints(tmp_path / "all", 2) as store:
    restored, step = store.restore(state)
  assert step == 5
  np.testing.assert_array_equal(restored["params"], [1, 2, 3])
  for file in (tmp_path / "all" / "5" / "default").rglob("*"):
    if file.is_file():
      file.unlink()
  refused = pytest.raises(ValueError, match=r"all/5 cannot be read .*: delete this folder")
  with checkpoints.Checkpoints(tmp_path / "all", 2) as store, refused:
    store.restore(state)


@pytest.mark.parametrize(
  ("error", "number", "words"),
  [
    (ValueError('RESOURCE_EXHAUSTED: Error writing "a/.zarray": No space left on device'), 28, ""),
    (OSError(28, "No space left on device"), 28, ""),
    (OSError(30, "Read-only file system"), 30, "Read-only file system"),
  ],
)
def test_a_checkpoint_that_cannot_be_written_is_an_error_of_the_system(
  error, number, words, tmp_path, monkeypatch
):
  def save(*_, **__):
    raise error

  with checkpoints.Checkpoints(tmp_path, 1) as saved:
    monkeypatch.setattr(saved._manager, "save", save)
    with pytest.raises(OSError) as raised:
      saved.save(1, {"a": np.zeros(2)}, {})
  assert (raised.value.errno, raised.value.filename) == (number, str(tmp_path))
  assert raised.value.strerror == (words or "No space left on device")


def test_another_error_of_a_checkpoint_stays_what_it_is(tmp_path, monkeypatch):
  def save(*_, **__):
    raise TypeError("not an array")

  with checkpoints.Checkpoints(tmp_path, 1) as saved:
    monkeypatch.setattr(saved._manager, "save", save)
    with pytest.raises(TypeError, match="not an array"):
      saved.save(1, {"a": np.zeros(2)}, {})


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"evaluate_on": "train"}, "config.final.evaluate_on is 'train'; allowed: test, validation"),
    ({"log_every": 0}, "config.final.log_every is 0; allowed: whole numbers from 1"),
    ({"steps": 1_000, "epochs": 2.0}, "config.final: set exactly one of steps"),
  ],
)
def test_wrong_settings(changes, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    final.train(tiny_space(), ARCHITECTURE, digits(), config(**changes), tmp_path)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_outside_32_bits_is_refused(seed):
  wrong = config()
  wrong.seed = seed
  with pytest.raises(ValueError, match=rf"config\.seed must be from 0 to 2\*\*32 - 1, got {seed}"):
    final.check(tiny_space(), digits(), wrong)


def test_validation_images_are_held_out_when_they_choose_the_best():
  data = digits()._replace(validation=digits(count=20).train)
  joined, evaluated = final.training_and_evaluation_data(data, "test")
  assert len(joined.train.labels) == 180
  assert evaluated is data.test
  apart, evaluated = final.training_and_evaluation_data(data, "validation")
  assert len(apart.train.labels) == 160
  assert evaluated is data.validation

"""A trained network on the shelf: `nas_submod.load`."""

import json
import shutil

import numpy as np
import pytest

import nas_submod
from nas_submod import trained
from tests.tiny_run import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  return folder, *train(folder, average=0.9, keep_checkpoints=2)


@pytest.fixture
def copy(run, tmp_path):
  return shutil.copytree(run[0], tmp_path / "run") / trained.FOLDER


def test_a_loaded_network_gives_the_accuracy_of_its_training(run):
  folder, images, metrics = run
  network = nas_submod.load(folder)
  logits = network(images.test.images)
  assert np.mean(logits.argmax(1) == images.test.labels) == metrics["test"]["accuracy"]
  assert network.scores["accuracy"] == metrics["test"]["accuracy"]
  assert network.step == 4 and network.classes == tuple("0123456789")
  assert network.space.text(network.architecture) == "e2 . | e2 e4g2se"


def test_images_may_lack_batch_and_channel(run):
  network, images = nas_submod.load(run[0]), run[1].test.images[:2]
  whole = network(images)
  np.testing.assert_allclose(network(images[0]), whole[:1], atol=1e-6)
  np.testing.assert_allclose(network(images[0, ..., 0]), whole[:1], atol=1e-6)
  np.testing.assert_allclose(network(images[..., 0]), whole, atol=1e-6)


@pytest.mark.parametrize("images", [np.zeros((2, 8, 8, 1)), np.zeros((2, 9, 8, 1), np.uint8)])
def test_other_images_are_refused(run, images):
  with pytest.raises(ValueError, match=r"expected are pixels 0..255, uint8 \[B, 8, 8, 1\]$"):
    nas_submod.load(run[0])(images)


def test_checkpoints_are_chosen_by_step_or_accuracy(run):
  folder = run[0]
  assert nas_submod.load(folder, 2).step == 2
  found = {step: nas_submod.load(folder, step).scores["accuracy"] for step in (2, 4)}
  assert nas_submod.load(folder, "best").scores["accuracy"] == max(found.values())
  first, last = (nas_submod.load(folder, step).variables.params for step in (2, 4))
  assert not np.allclose(first[0][0][0]["kernel"], last[0][0][0]["kernel"])


def _changed(file, **fields):
  def change(folder):
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(content | fields))

  return change


def _without(section):
  def change(folder):
    content = json.loads((folder / "config.json").read_text())
    del content["config"][section]
    (folder / "config.json").write_text(json.dumps(content))

  return change


def _no_checkpoint(folder):
  shutil.rmtree(folder / "checkpoints")


def _damaged_checkpoint(folder):
  for file in (folder / "checkpoints" / "4" / "default").rglob("*"):
    if file.is_file():
      file.unlink()


def _damaged_metrics(folder):
  (folder / "checkpoints" / "4" / "metrics" / "metrics").write_text("")


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (shutil.rmtree, r"^there is no training in .*config.json cannot be read"),
    (lambda folder: (folder / "config.json").write_text("{}"), "config.json is damaged, or not"),
    (lambda folder: (folder / trained.DATA_FILE).write_text("{"), "data.json is damaged"),
    (_changed("config.json", architecture=None), "config.json is damaged, or not"),
    (_without("space"), "config.json is damaged, or not"),
    (_without("data"), "config.json is damaged, or not"),
    (_changed(trained.DATA_FILE, mean=[1.0, 2.0]), "does not fit space tiny: 1 finite means"),
    (_changed(trained.DATA_FILE, std=[0.0]), "does not fit space tiny: 1 finite means"),
    (_changed(trained.DATA_FILE, classes=["a"]), "and 10 classes are expected"),
    (lambda folder: (folder / trained.DATA_FILE).unlink(), "data.json is missing"),
    (_no_checkpoint, "checkpoints has no checkpoint; experiments.train writes the first one"),
    (_damaged_checkpoint, r"^checkpoint .*checkpoints/4 cannot be read \("),
    (_damaged_metrics, r"checkpoints/4/metrics/metrics is damaged \("),
  ],
)
def test_errors_of_load(copy, damage, message):
  damage(copy)
  with pytest.raises(ValueError, match=message) as error:
    nas_submod.load(copy.parent)
  assert "\n" not in str(error.value)


def test_an_unknown_checkpoint_is_named_with_those_kept(run):
  with pytest.raises(ValueError, match="has no checkpoint 7; allowed: best, 2, 4"):
    nas_submod.load(run[0], 7)

"""Streamed images: batches depend on seed and step, and train and evaluate as arrays do."""

import contextlib
import itertools
import json
import time

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from nas_submod import data
from nas_submod.data import fake, pixels, source, sources, stream, tfds_sets
from nas_submod.networks import spaces
from nas_submod.training import feed, final, metrics_log
from tests import tiny_config
from tests.photos import AnyPhotos

BATCH, PER_EPOCH = 16, 2  # Each epoch drops 8 of 40 images.
SIZE = 32


def numbered(count=40, shape=(20, 30, 1)):
  """Returns a source whose image i has the value i everywhere."""
  return source.Source(
    "numbers",
    np.arange(count, dtype=np.int32),
    lambda i: np.full(shape, i, np.uint8),
    lambda i: f"number {i}",
  )


def batches(steps, seed=0, source=None):
  """Stacks images and labels of some steps. Image i has label i."""
  source = source or numbered()
  images = stream.Images(source, np.arange(len(source.labels)), 8)
  found = list(stream.training_batches(images, source.labels, seed, BATCH, steps))
  return [np.stack(parts) for parts in zip(*found)]


def noise(i):
  return np.random.default_rng(i).integers(0, 256, (20, 30, 3)).astype(np.uint8)


def test_each_epoch_is_a_permutation_without_the_incomplete_batch():
  images, labels = batches(range(3 * PER_EPOCH))
  assert images.dtype == np.uint8 and labels.dtype == np.int32
  np.testing.assert_array_equal(images[..., 0, 0, 0], labels)
  epochs = labels.reshape(3, PER_EPOCH * BATCH)
  assert all(len(set(epoch)) == PER_EPOCH * BATCH for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) == 3
  assert set(epochs.ravel()) == set(range(40))  # Epochs drop different images.


def test_a_batch_depends_on_seed_and_step_alone():
  source = numbered()._replace(read=noise)
  images, labels = batches(range(5), source=source)
  for first in (1, 3):  # Starts in the middle of the first and of the second epoch.
    again = batches(range(first, 5), source=source)
    np.testing.assert_array_equal(again[0], images[first:])
    np.testing.assert_array_equal(again[1], labels[first:])
  other = batches(range(2), seed=1, source=source)
  assert not np.array_equal(other[1], labels[:2])
  # The next epoch draws another crop of the same image.
  shared = set(labels[0]) & set(labels[2:4].ravel())
  for label in shared:
    first, later = (images[part][labels[part] == label][0] for part in (slice(2), slice(2, 4)))
    assert not np.array_equal(first, later)


@pytest.mark.parametrize("hosts", [2, 4])
def test_parts_of_hosts_form_the_batch_of_one_host(hosts, monkeypatch):
  source = numbered()._replace(read=noise)
  whole = batches(range(1, 4), source=source)
  held_out = stream.Images(source, np.arange(19), 8)

  def evaluated():
    found = stream.evaluation_batches(held_out, source.labels[:19], 8)
    return [np.stack(parts) for parts in zip(*found)]

  tested = evaluated()
  assert tested[1].ravel().tolist() == [*range(19), *[-1] * 5]
  monkeypatch.setattr(jax, "process_count", lambda: hosts)
  parts, tested_parts = [], []
  for host in range(hosts):
    monkeypatch.setattr(jax, "process_index", lambda host=host: host)
    parts.append(batches(range(1, 4), source=source))
    tested_parts.append(evaluated())
  assert parts[0][1].shape == (3, BATCH // hosts)
  for expected, found in ((whole, parts), (tested, tested_parts)):
    for i in range(2):
      np.testing.assert_array_equal(np.concatenate([part[i] for part in found], 1), expected[i])


def test_devices_share_a_streamed_batch():
  source = numbered()._replace(read=noise)
  split = data.Split(stream.Images(source, np.arange(40), 8), source.labels)
  one, eight = (
    list(feed.of_training(split, 0, BATCH, 4, devices).batches(1)) for devices in (1, 8)
  )
  assert len(one) == len(eight) == 3
  for whole, parts in zip(jax.device_get(one), jax.device_get(eight)):
    for expected, found in zip(whole, parts):
      assert found.shape[:2] == (8, BATCH // 8)
      np.testing.assert_array_equal(found.reshape(expected.shape), expected)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  """`config.data` that streams a set of 120 JPEG files for training, scaled to SIZE."""
  path = str(tmp_path_factory.mktemp("photos"))
  AnyPhotos(data_dir=path).download_and_prepare(file_format="array_record")
  return {
    "source": "any_photos",
    "data_dir": path,
    "validation_size": 20,
    "image_size": SIZE,
    "stream": True,
  }


def test_only_needed_images_are_decoded(photos, monkeypatch):
  opened = []

  def decode(file, name, mode):
    opened.append(name)
    return pixels.decode(file, name, mode)

  monkeypatch.setattr(tfds_sets, "decode", decode)
  monkeypatch.setattr(data.loading, "_SAMPLE", 7)
  loaded = data.load(ConfigDict(photos), may_stream=True)
  # Seven give mean and standard deviation; one of each split gives the number of channels.
  assert len(opened) <= 7 + 3
  assert loaded.train.images.shape == (100, SIZE, SIZE, 3)
  assert loaded.mean.shape == loaded.std.shape == (3,)
  joined, _ = final.training_and_evaluation_data(loaded, "test")
  assert len(opened) <= 7 + 3
  np.testing.assert_array_equal(
    joined.train.images[np.array([3, 110])],
    np.stack([loaded.train.images[3:4][0], loaded.validation.images[10:11][0]]),
  )


def test_mean_and_std_describe_the_images(photos):
  loaded = data.load(ConfigDict(photos), may_stream=True)
  every = loaded.train.images[:].astype(np.float64)
  np.testing.assert_allclose(loaded.mean, every.mean((0, 1, 2)), rtol=1e-6)
  np.testing.assert_allclose(loaded.std, every.std((0, 1, 2)), rtol=1e-6)


def config(**changes):
  """Returns a training of 3 steps on 16 images each, by a network of two blocks."""
  settings = tiny_config.get_config()
  settings.space.update({"image_shape": (SIZE, SIZE, 3), "classes": 5, "stem_stride": 4})
  settings.final.update({"epochs": 0.0, "steps": 3, "log_every": 1, "checkpoint_every": 1.0})
  settings.final.update({"flip": True, "crop_padding": 0, **changes})
  return settings


def losses(workdir):
  lines = map(json.loads, (workdir / metrics_log.METRICS_FILE).read_text().splitlines())
  return {line["step"]: line["loss"] for line in lines if "loss" in line}


def test_a_resumed_streamed_training_equals_the_whole_run(photos, tmp_path, compilations):
  settings = config()
  space = spaces.from_config(settings.space)
  loaded = data.load(ConfigDict(photos), may_stream=True)
  arguments = space, (0, 0, 1, 2), loaded, settings

  compiled = {}

  def count(step, steps, loss, doing):
    compiled[step] = compilations()

  whole = final.train(*arguments, tmp_path / "whole", count)
  assert compiled[3] == compiled[2]
  assert whole["train_images"] == 120 and whole["test"]["images"] == 50
  assert sorted(losses(tmp_path / "whole")) == [1, 2, 3]

  def stop(step, steps, loss, doing):
    if step == 2:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    final.train(*arguments, tmp_path / "pieces", stop)
  pieces = final.train(*arguments, tmp_path / "pieces")
  assert pieces["resumed_from_step"] == 1
  assert pieces["test"] == whole["test"]
  assert losses(tmp_path / "pieces") == losses(tmp_path / "whole")


def test_a_bounded_number_of_batches_is_read_during_a_step():
  read = []

  def constant(i):
    read.append(i)
    return np.zeros((9, 9, 3), np.uint8)

  source = numbered(4_000)._replace(read=constant)
  images = stream.Images(source, np.arange(4_000), 8)
  batches = feed.of_training(data.Split(images, source.labels), 0, 64, 60, 8).batches(0)
  with contextlib.closing(batches):
    next(batches)
    # Asks for no further batch, as during a long step.
    deadline = time.monotonic() + 20
    while len(read) < 3 * 64:
      assert time.monotonic() < deadline, f"only {len(read)} images were read"
      time.sleep(0.01)
    time.sleep(0.2)
    # Batches in use, on the devices, being stacked, and being decoded.
    assert len(read) <= 5 * 64
  time.sleep(0.1)
  stopped = len(read)
  time.sleep(0.2)
  assert len(read) == stopped


def test_a_stream_evaluates_the_same_batches_as_arrays():
  """Compares evaluation batches of both feeds, for images that need no scaling."""
  images = np.stack([noise(i)[:16, :16] for i in range(11)])
  labels = np.arange(11, dtype=np.int32)
  source = numbered()._replace(read=lambda i: images[i])
  streamed = data.Split(stream.Images(source, np.arange(11), 14), labels)
  arrays = data.Split(images[:, 1:-1, 1:-1], labels)
  select = jax.jit(jax.vmap(feed.select_batch, in_axes=(None, 0)))
  found = []
  for split in (streamed, arrays):
    of_split = feed.of_evaluation(split, 4)
    found.append([jax.device_get(select(of_split.held, b)) for b in of_split.batches(0)])
  assert len(found[0]) == len(found[1]) == 1
  ours, theirs = found[0][0], found[1][0]
  np.testing.assert_array_equal(ours[1], theirs[1])
  assert ours[1].tolist()[-1] == [9, 10, -1]
  real = ours[1] >= 0
  np.testing.assert_array_equal(ours[0][real], theirs[0][real])


def test_the_error_of_a_damaged_image_names_it_in_one_line(tmp_path):
  for name, i in itertools.product("ab", range(8)):
    (tmp_path / "train" / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(i)).save(tmp_path / "train" / name / f"{i}.png")
  fields = {"source": f"folder:{tmp_path}", "validation_size": 2, "test_size": 2}
  loaded = data.load(ConfigDict(fields | {"image_size": 8, "stream": True}), may_stream=True)
  for file in (tmp_path / "train" / "b").iterdir():
    file.write_bytes(file.read_bytes()[:500])
  batches = feed.of_training(loaded.train, 0, 8, 4, 8).batches(0)
  with pytest.raises(ValueError, match=r"^[^\n]*/train/b/\d.png is not usable: [^\n]*$"):
    list(batches)


@pytest.mark.parametrize(
  ("fields", "may_stream", "message"),
  [
    (
      {},
      False,
      "config.data.stream is for experiments.train; a search takes a part: ",
    ),
    ({"image_size": None}, True, "config.data.stream=True needs config.data.image_size"),
    ({"stream": "yes"}, True, "config.data.stream is 'yes'; allowed: True or False"),
  ],
)
def test_wrong_fields(photos, fields, may_stream, message):
  with pytest.raises(ValueError, match=message):
    data.load(ConfigDict(photos | fields), may_stream=may_stream)


def test_fake_images_have_the_number_and_size_of_imagenet(monkeypatch):
  monkeypatch.setattr(data.loading, "_SAMPLE", 7)
  fields = {"source": "fake", "validation_size": 10_000, "image_size": 224, "stream": True}
  loaded = data.load(ConfigDict(fields), may_stream=True)
  assert [len(split.labels) for split in loaded[:3]] == [1_271_167, 10_000, 50_000]
  assert loaded.classes == 1000 and loaded.train.images.shape[1:] == (224, 224, 3)
  files = [fake.jpeg(i) for i in range(4)]
  assert len(set(files)) == 4 and fake.jpeg(35) == files[3]
  assert 90_000 < np.mean([len(file) for file in files]) < 130_000
  assert pixels.extent(sources.find("fake", None)[0].read(3)) == (375, 500)

"""Npz files, digits, stratified splits, and errors of `config.data`."""

import os
import pathlib
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict
from PIL import Image

from nas_submod import data
from nas_submod.data import digits, source, sources
from nas_submod.data.splits import stratify
from nas_submod.training import augmentation
from tests.photos import AnyPhotos
from tests.tiny_data import arrays, config, per_class, rows, save, save_folder


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """Folder in which `digits` is prepared once."""
  path = str(tmp_path_factory.mktemp("tfds"))
  digits.prepared_builder(path)
  return path


@given(
  counts=st.lists(st.integers(1, 12), min_size=2, max_size=6),
  size=st.integers(1, 60),
  leave=st.integers(0, 2),
  seed=st.integers(0, 3),
)
@settings(deadline=None, max_examples=300)
def test_stratify_draws_evenly_or_says_what_is_allowed(counts, size, leave, seed):
  labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
  # Possible sizes by brute force over nearly equal numbers per class.
  possible = set()
  for each in range(1, 13):
    if all(each <= count - leave for count in counts):
      more = sum(each + 1 <= count - leave for count in counts)
      possible |= set(range(each * len(counts), each * len(counts) + more + 1))
  if size not in possible:
    with pytest.raises(ValueError, match=rf"^val={size} is not possible: [^\n]*$") as error:
      stratify(labels, size, seed, name="val", leave=leave)
    if possible:
      assert f"allowed are {min(possible)} (" in str(error.value)
      assert f"to {max(possible)} of the {len(labels)} images (" in str(error.value)
    return
  chosen, rest = stratify(labels, size, seed, leave=leave)
  drawn = per_class(labels[chosen], len(counts))
  assert len(chosen) == size and drawn.max() - drawn.min() <= 1
  assert np.all(per_class(labels[rest], len(counts)) >= leave)
  np.testing.assert_array_equal(np.sort(np.concatenate([chosen, rest])), np.arange(len(labels)))
  if size - 1 in possible:
    assert set(stratify(labels, size - 1, seed, leave=leave)[0]) < set(chosen)


def test_digits_are_the_real_images(data_dir):
  from sklearn.datasets import load_digits

  loaded = data.load(config("digits", 300, data_dir=data_dir))
  assert [len(split.labels) for split in loaded[:3]] == [1137, 300, 360]
  assert loaded.classes == 10
  real = load_digits()
  expected = sorted(
    (tuple(int(v * 255 / 16 + 0.5) for v in image.ravel()), int(label))
    for image, label in zip(real.images, real.target)
  )
  found = sorted(
    (tuple(image.ravel().tolist()), int(label))
    for split in loaded[:3]
    for image, label in zip(split.images, split.labels)
  )
  assert found == expected
  for split in loaded[:3]:
    assert split.images.shape[1:] == (8, 8, 1)
    assert split.images.dtype == np.uint8 and split.labels.dtype == np.int32
  assert set(per_class(loaded.validation.labels, 10)) == {30}
  assert set(per_class(loaded.test.labels, 10)) == {36}


def test_digits_written_by_a_faster_process_are_used(data_dir, monkeypatch):
  def too_late(self, **kwargs):
    raise OSError("Directory not empty")

  monkeypatch.setattr(digits.Digits, "download_and_prepare", too_late)
  assert len(digits.prepared_builder(data_dir).as_data_source("test")) == 360


def test_digits_need_a_writable_folder(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(ValueError, match=r"^cannot write the digits to [^\n]*must be writable$"):
    data.load(config("digits", 300, data_dir=str(tmp_path / "file")))


def test_no_tensorflow_is_imported(data_dir):
  AnyPhotos(data_dir=data_dir).download_and_prepare(file_format="array_record")
  digits_set = {"source": "digits", "validation_size": 300, "data_dir": data_dir}
  photos = digits_set | {"source": "any_photos", "validation_size": 20}
  streamed = photos | {"image_size": 32, "stream": True}
  code = f"""
import sys
from ml_collections import ConfigDict
from nas_submod import data
from nas_submod.training import feed
assert "tensorflow_datasets" not in sys.modules, "slow to import, not always needed"
data.load(ConfigDict({digits_set!r}))
assert "tensorflow_datasets" in sys.modules
loaded = data.load(ConfigDict({streamed!r}), may_stream=True)
batches = feed.of_training(loaded.train, 0, 8, 4, 1).batches(0)
assert [images.shape for images, labels in batches] == [(1, 8, 32, 32, 3)] * 4
found = [name for name in sys.modules if name.partition(".")[0] == "tensorflow"]
assert not found, found
"""
  subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=100)


def test_constant_channel_has_standard_deviation_one(tmp_path):
  x = arrays()["x_train"].copy()
  x[..., 1] = 255
  loaded = data.load(config(save(tmp_path, x_train=x)))
  assert loaded.class_names == ("0", "1", "2", "3")
  assert loaded.mean[1] == 255 and loaded.std[1] == 1


def test_test_images_taken_from_training(tmp_path):
  source = save(tmp_path, x_test=None, y_test=None)
  with pytest.raises(ValueError, match=r"no test images: add them, or set config.data.test_size"):
    data.load(config(source))
  loaded = data.load(config(source, 8, test_size=12))
  assert [len(split.labels) for split in loaded[:3]] == [20, 8, 12]
  assert set(per_class(loaded.test.labels, 4)) == {3}
  assert len(rows(np.concatenate([split.images for split in loaded[:3]]))) == 40
  # Held-out images do not depend on the sizes of the other splits.
  smaller = data.load(config(source, 4, test_size=12, train_size=6))
  assert rows(smaller.test.images) == rows(loaded.test.images)
  larger = data.load(config(source, 4, test_size=12, train_size=11))
  assert rows(smaller.validation.images) == rows(larger.validation.images)
  assert rows(smaller.train.images) < rows(larger.train.images)
  other = data.load(config(source, 8, test_size=12, split_seed=1))
  assert rows(other.test.images) != rows(loaded.test.images)
  # Each class has ten images. Nine for the test would leave none to train on or to validate.
  with pytest.raises(ValueError, match=r"test_size=33 is not possible: allowed are 4 .* to 32"):
    data.load(config(source, 4, test_size=33))
  assert len(data.load(config(source, 4, test_size=32)).train.labels) == 4


def test_validation_images_depend_on_the_seed(tmp_path):
  source = save(tmp_path)
  first, again, other = (data.load(config(source, 8, split_seed=seed)) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first.validation.images, again.validation.images)
  assert rows(first.validation.images) != rows(other.validation.images)
  assert rows(first.test.images) == rows(other.test.images)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    (
      {"validation_size": 3},
      r"validation_size=3 .* allowed are 4 \(one image of each class\) to 36",
    ),
    (
      {"validation_size": 37},
      r"to 36 of the 40 images \(evenly over 4 classes; class 0 has 10 images, 1 of which",
    ),
    ({"train_size": 37}, r"train_size=37 is not possible: allowed are 4 .* to 36"),
    ({"test_size": 9}, r"test_size=9 is not possible: allowed are 4 .* to 8"),
    ({"validation_size": None}, "config.data lacks validation_size"),
    ({"validation_size": 8.0}, "config.data.validation_size is 8.0; allowed: whole numbers from 1"),
    ({"classes": 3}, "labels 0 to 3: allowed are 0 to 2, for 3 classes"),
    ({"classes": 5}, "no image of class 4: each of 0 to 4"),
    ({"valid_size": 3}, 'unknown field config.data.valid_size. Did you mean "validation_size"'),
  ],
)
def test_field_errors(tmp_path, fields, message):
  with pytest.raises(ValueError, match=message) as error:
    data.load(ConfigDict({"source": save(tmp_path), "validation_size": 4} | fields))
  assert "\n" not in str(error.value)


def test_test_set_without_some_class(tmp_path):
  source = save(tmp_path, y_test=np.arange(8) % 3)
  assert len(data.load(config(source)).test.labels) == 8
  with pytest.raises(ValueError, match="no image of class 3"):
    data.load(config(source, test_size=4))


def test_arrays_are_scaled(tmp_path):
  loaded = data.load(config(save(tmp_path), image_size=8))
  assert loaded.train.images.shape == (36, 8, 8, 3) and loaded.train.images.dtype == np.uint8


def test_normalize(tmp_path):
  loaded = data.load(config(save(tmp_path)))
  images = jnp.asarray(loaded.train.images)
  result = np.asarray(augmentation.normalize(images, loaded.mean, loaded.std))
  assert result.dtype == np.float32
  np.testing.assert_allclose(result.mean((0, 1, 2)), 0, atol=1e-5)
  np.testing.assert_allclose(result.std((0, 1, 2)), 1, atol=1e-5)


def test_only_requested_images_are_read(tmp_path):
  save_folder(tmp_path, {"a": 3, "b": 3})
  train, test = sources.find(f"folder:{tmp_path}", None)
  assert test is None
  Image.open(tmp_path / "train" / "a" / "1.png").resize((3, 3)).save(tmp_path / "train/a/1.png")
  assert source.read_images(train, np.array([0, 2, 5]), None).shape == (3, 6, 6, 3)


def test_the_path_of_an_npz_file_is_a_source(tmp_path):
  source = save(tmp_path)
  expected = rows(data.load(config(source, 8)).validation.images)
  path = pathlib.Path(source.removeprefix("npz:"))
  assert rows(data.load(config(str(path), 8)).validation.images) == expected
  other = path.rename(tmp_path / "run:1.NPZ")
  assert rows(data.load(config(str(other), 8)).validation.images) == expected
  (tmp_path / "folder.npz").mkdir()
  with pytest.raises(ValueError, match=r"folder\.npz has no"):  # It is a folder of images.
    data.load(config(str(tmp_path / "folder.npz"), 8))


@pytest.mark.parametrize("container", [False, True])
def test_more_images_than_memory_are_refused_before_they_are_read(tmp_path, monkeypatch, container):
  if container:
    limits = tmp_path / "memory.max", tmp_path / "none"
    limits[0].write_text("100\n")
    monkeypatch.setattr(data.source, "_LIMITS", limits)
  else:
    monkeypatch.setattr(os, "sysconf", lambda name: 10)
  fields = {"source": save(tmp_path), "validation_size": 4, "image_size": 4}
  with pytest.raises(
    ValueError, match=r"^32 images of 4x4x3 take 0 GB; .*: set a smaller config.data.image_size"
  ):
    data.load(ConfigDict(fields | {"train_size": 32}))

"""Prepares, finds and reads TFDS sets, and folders that become one."""

import importlib.util
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from nas_submod import data
from nas_submod.data import pixels, sources, tfds_sets
from nas_submod.data.prepare import prepare as prepare_set
from tests.photos import AnyPhotos, GrayPhotos, Photos
from tests.tiny_data import config, per_class, rows, save_folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  """Returns a function that prepares a set of tests/photos.py and returns its `data_dir`."""
  path = str(tmp_path_factory.mktemp("photos"))

  def prepare(photos):
    photos(data_dir=path).download_and_prepare(file_format="array_record")
    return path

  return prepare


def test_tfds_set_of_encoded_images(photos):
  """All images and labels are exact, and other features of the records are not decoded."""
  loaded = data.load(config("photos", 20, data_dir=photos(Photos)))
  assert [split.images.shape for split in loaded[:3]] == [
    (100, 9, 9, 3),
    (20, 9, 9, 3),
    (50, 9, 9, 3),
  ]
  assert loaded.class_names == ("0", "1", "2", "3", "4")
  assert loaded.classes == 5 and set(per_class(loaded.train.labels, 5)) == {20}
  numbers = np.concatenate([split.images[:, 0, 0, 0] for split in loaded[:2]])
  labels = np.concatenate([split.labels for split in loaded[:2]])
  assert sorted(numbers) == list(range(120))
  np.testing.assert_array_equal(labels, numbers % 5)
  np.testing.assert_array_equal(
    loaded.train.images[:, 8, 8, 1], 255 - loaded.train.images[:, 0, 0, 0]
  )
  gray = data.load(config("gray_photos", 20, data_dir=photos(GrayPhotos)))
  assert gray.train.images.shape == (100, 9, 9, 1)
  np.testing.assert_array_equal(gray.train.images[:, 3, 3, 0] % 5, gray.train.labels)


def test_labels_are_stored_beside_the_records(photos, monkeypatch):
  path = photos(Photos)
  first = sources.find("photos", path)[0].labels
  file = pathlib.Path(path) / "photos" / "1.0.0" / "labels-train.npy"
  np.testing.assert_array_equal(np.load(file), first)
  np.save(file, np.arange(120) % 2)
  assert sources.find("photos", path)[0].labels.max() == 1
  for content in (b"", file.read_bytes()[:-8]):  # A full disk cut the file.
    file.write_bytes(content)
    np.testing.assert_array_equal(sources.find("photos", path)[0].labels, first)
  file.unlink()

  def refuse(*_):
    raise PermissionError("read-only")

  monkeypatch.setattr(tfds_sets, "write_bytes", refuse)
  np.testing.assert_array_equal(sources.find("photos", path)[0].labels, first)
  assert not file.exists()


def test_only_requested_images_are_decoded(photos, monkeypatch):
  opened = []

  def decode(file, name, mode):
    opened.append(name)
    return pixels.decode(file, name, mode)

  monkeypatch.setattr(tfds_sets, "decode", decode)
  fields = {"train_size": 10, "test_size": 5, "data_dir": photos(Photos)}
  loaded = data.load(config("photos", 5, **fields))
  assert len(opened) == len(set(opened)) == 20
  assert [len(split.images) for split in loaded[:3]] == [10, 5, 5]


def test_tfds_images_of_any_size_need_image_size(photos):
  fields = {"data_dir": photos(AnyPhotos)}
  with pytest.raises(ValueError, match=r"unequal size: image \d+ of any_photos train is"):
    data.load(config("any_photos", 10, **fields))
  loaded = data.load(config("any_photos", 10, image_size=7, **fields))
  assert loaded.train.images.shape == (110, 7, 7, 3)


def test_the_error_of_an_unprepared_set_names_the_command(tmp_path):
  with pytest.raises(ValueError, match=r"fashion_mnist is not prepared in") as error:
    data.load(config("fashion_mnist", 10, data_dir=str(tmp_path)))
  command = str(error.value).partition(": ")[2].partition(" (after")[0]
  expected = f"python -m experiments.prepare --dataset=fashion_mnist --data_dir={tmp_path}"
  assert command == expected
  prepare_set("digits", str(tmp_path))
  assert len(data.load(config("digits", 100, data_dir=str(tmp_path))).test.labels) == 360


@pytest.mark.parametrize("default", ["/dev/null/sets", "~nobody_here/sets"])
def test_digits_need_no_home_folder(default, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(tfds.core.constants, "DATA_DIR", default)
  monkeypatch.setattr(tfds.core.constants, "LIST_DATA_DIRS", [default], raising=False)
  assert len(data.load(config("digits", 100)).test.labels) == 360
  assert not list(tmp_path.iterdir())


def test_a_prepared_folder_has_the_images_of_the_folder(tmp_path):
  folder = tmp_path / "flowers"
  save_folder(folder, {"b": 6, "a": 9}, {"a": 2})
  rng = np.random.default_rng(0)
  for i in range(6):  # Several sizes. A JPEG file must not be encoded a second time.
    image = Image.fromarray(rng.integers(0, 256, (6 + i, 8, 3), np.uint8))
    image.save(folder / "train" / "b" / f"{i}.jpg")
  # A path that begins with / is that of a folder.
  words = ["-m", "experiments.prepare", f"--dataset={folder}", f"--data_dir={tmp_path}/sets"]
  done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=100)
  assert done.returncode == 0, done.stderr
  flags = f"--config.data.source=flowers --config.data.data_dir={tmp_path}/sets"
  said = done.stdout.splitlines()[-1]
  assert "21 train" in said and "2 test" in said and said.endswith(f"read it by {flags}")
  fields = {"validation_size": 2, "image_size": 6}
  prepared = data.load(config("flowers", data_dir=f"{tmp_path}/sets", **fields))
  direct = data.load(config(f"folder:{folder}", **fields))

  def every(loaded):
    joined = data.join(loaded.train, loaded.validation)
    return sorted((image.tobytes(), int(label)) for image, label in zip(*joined))

  assert every(prepared) == every(direct)
  np.testing.assert_array_equal(prepared.test.labels, direct.test.labels)
  assert rows(prepared.test.images) == rows(direct.test.images)
  with pytest.raises(ValueError, match=r"flowers/1.0.0 already exists: [^\n]*rename the folder"):
    prepare_set(f"folder:{folder}", f"{tmp_path}/sets")  # TFDS would keep the old images silently.


def test_images_of_every_size_can_be_scaled():
  image = Image.new("L", (1_000, 1_000))
  for side in range(1, 1_001, 3):  # Rounding makes the part of 29, 58, 232 and others too long.
    for shape in ((side, side + 1), (side + 1, side)):
      assert pixels.fit(image.crop((0, 0, *shape)), (28, 28)).shape == (28, 28, 1)


def test_errors_of_preparing_a_folder(tmp_path):
  for name in ("My-Flowers", "cifar10", "fake"):
    save_folder(tmp_path / name, {"a": 1})
    with pytest.raises(
      ValueError, match=rf'^the folder name "{name}" cannot name a set: [^\n]*rename'
    ):
      prepare_set(f"folder:{tmp_path / name}", str(tmp_path))
  save_folder(tmp_path / "flowers", {"a": 2})
  (tmp_path / "flowers" / "train" / "a" / "1.png").write_bytes(b"no png")
  with pytest.raises(ValueError, match=r"^[^\n]*a/1.png is not usable: [^\n]*$"):
    prepare_set(f"folder:{tmp_path / 'flowers'}", str(tmp_path))
  with pytest.raises(ValueError, match=r"no folder .*/none: folder:PATH"):
    prepare_set(f"folder:{tmp_path / 'none'}", str(tmp_path))


@pytest.mark.parametrize(
  ("raised", "message"),
  [
    (ModuleNotFoundError("No module named 'tensorflow'"), r'pip install -e "\.\[tfds\]" \(No'),
    (
      AssertionError("Manual archive missing\nmore"),
      r'"mnist" cannot be prepared: Manual .* missing$',
    ),
  ],
)
def test_errors_of_preparing_a_tfds_set(raised, message, monkeypatch):
  class Builder:
    def download_and_prepare(self, **options):
      assert options["file_format"] == "array_record"
      assert str(options["download_config"].manual_dir) == "archives"
      raise raised

  monkeypatch.setattr(tfds, "builder", lambda name, data_dir: Builder())
  with pytest.raises(ValueError, match=message):
    prepare_set("mnist", None, "archives")


def test_missing_tensorflow_is_reported_before_a_download(tmp_path, monkeypatch):
  class Builder:
    __module__ = "tensorflow_datasets.image_classification.mnist"
    data_path = tmp_path / "mnist"

    def download_and_prepare(self, **options):
      """Does nothing, as for a prepared set."""

  monkeypatch.setattr(tfds, "builder", lambda name, data_dir: Builder())
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(ValueError, match=r'"mnist" is prepared with TensorFlow: pip install'):
    prepare_set("mnist", None)
  Builder.data_path.mkdir()
  prepare_set("mnist", None)


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("nzp:x.npz", 'TFDS cannot open "nzp:x.npz": .*allowed are "digits"'),
    ("no_such_set", 'no source "no_such_set": .*; allowed are "digits", .*"npz:PATH"'),
    ("npz:", 'source "npz:" has no path: allowed are "digits"'),
    ("fake:x", 'source "fake:x" takes no path: allowed are "digits"'),
    ("cifar10/no_such_config", 'TFDS cannot open "cifar10/no_such_config"'),
    (
      "ag_news_subset",
      "is not a set of labelled images: a uint8 image and a label .*, it has label",
    ),
  ],
)
def test_source_errors(name, message, tmp_path):
  with pytest.raises(ValueError, match=message) as error:
    data.load(config(name, data_dir=str(tmp_path)))
  assert "\n" not in str(error.value)


def test_a_set_that_only_tensorflow_opens(monkeypatch):
  def builder(*args, **kwargs):
    raise ModuleNotFoundError("No module named 'tensorflow'")

  monkeypatch.setattr(tfds, "builder", builder)
  with pytest.raises(ValueError, match=r'without TensorFlow: pip install -e "\.\[tfds\]"$'):
    data.load(config("titanic"))

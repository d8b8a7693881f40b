"""Images from folders of image files."""

import os
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from nas_submod import data
from nas_submod.data import pixels
from tests.tiny_data import config, save_folder


def _chunk(kind, content):
  return (
    struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
  )


# A PNG file of one pixel with 16 bits in each of three channels, which Pillow cannot write.
COLOURS_OF_16_BITS = (
  b"\x89PNG\r\n\x1a\n"
  + _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
  + _chunk(b"IDAT", zlib.compress(b"\0" + bytes(6)))
  + _chunk(b"IEND", b"")
)


def test_a_path_of_a_folder_needs_no_prefix(tmp_path, monkeypatch):
  save_folder(tmp_path / "images", {"a": 4, "b": 4}, {"a": 2, "b": 2})
  loaded = data.load(config(str(tmp_path / "images"), 2))
  assert loaded.class_names == ("a", "b")
  monkeypatch.chdir(tmp_path)  # It may be a name of TFDS.
  with pytest.raises(ValueError, match="did you mean folder:images"):
    data.load(config("images", 2))


def test_validation_folders(tmp_path):
  colours = save_folder(tmp_path, {"a": 4, "b": 4}, {"a": 2, "b": 2})
  (tmp_path / "test").rename(tmp_path / "Validation")
  loaded = data.load(config(f"folder:{tmp_path}", 2))
  assert loaded.notes == ("Validation has the test images",)
  assert [len(split.labels) for split in loaded[:3]] == [6, 2, 4]
  save_folder(tmp_path / "more", {}, {"a": 1})
  (tmp_path / "more" / "test").rename(tmp_path / "test")
  loaded = data.load(config(f"folder:{tmp_path}", 2))
  assert [len(split.labels) for split in loaded[:3]] == [10, 2, 1]
  assert loaded.notes == (
    "left out: the folders more",
    "Validation joins the images to train on, from which validation images are drawn",
    "test images that are also training images: 1 of 1",
  )
  seen = np.concatenate([loaded.train.images, loaded.validation.images])[:, 0, 0]
  assert {tuple(pixel) for pixel in seen.tolist()} == set(colours.values())


def test_classes_without_a_folder_of_splits(tmp_path):
  save_folder(tmp_path, {"a": 4, "b": 4})
  (tmp_path / "train" / "__MACOSX").mkdir()
  for name in ("a/Thumbs.db", "a/notes.txt", "a/more.txt", "classes.csv"):
    (tmp_path / "train" / name).touch()
  loaded = data.load(config(f"folder:{tmp_path / 'train'}", 2, test_size=2))
  assert loaded.class_names == ("a", "b")
  assert loaded.notes == (
    f"the folders of {tmp_path / 'train'} are 2 classes: a, b",
    "left out, no images that can be read: 2 .txt, 1 beside the classes in train, 1 .db",
  )


def test_a_class_may_be_called_as_a_split_is(tmp_path):
  save_folder(tmp_path, {"a": 4, "b": 4, "test": 4})
  loaded = data.load(config(f"folder:{tmp_path / 'train'}", 3, test_size=3))
  assert loaded.class_names == ("a", "b", "test")
  (tmp_path / "train" / "a").rename(tmp_path / "train" / "train")
  with pytest.raises(ValueError, match=r"train/train has no folders, but 4 files"):
    data.load(config(f"folder:{tmp_path / 'train'}", 3, test_size=3))
  (tmp_path / "train" / "train").rename(tmp_path / "train" / "a")
  (tmp_path / "train" / "a" / "deeper").mkdir()
  with pytest.raises(ValueError, match=r"no folder .*train beside test"):
    data.load(config(f"folder:{tmp_path / 'train'}", 3, test_size=3))


@pytest.mark.parametrize("suffix", [".webp", ".bmp", ".GIF", ".tif", ".tga", ".ppm", ".jp2"])
def test_formats(tmp_path, suffix):
  if suffix in (".webp", ".jp2") and not features.check({".jp2": "jpg_2000"}.get(suffix, "webp")):
    pytest.skip(f"this Pillow reads no {suffix}")
  colours = save_folder(tmp_path, {"a": 3, "b": 3}, suffix=suffix)
  loaded = data.load(config(f"folder:{tmp_path}", 2, test_size=2))
  found = np.concatenate([split.images for split in loaded[:3]])[:, 3, 3].astype(int)
  # Lossy formats change a colour by a little.
  distance = np.abs(found[:, None] - np.array(list(colours.values()))).max(-1)
  assert len(found) == 6 and distance.min(0).max() <= 4


def test_images_are_turned_as_their_exif_data_say(tmp_path):
  save_folder(tmp_path, {"a": 3, "b": 3}, size=(8, 4))
  upright = Image.new("RGB", (4, 8), (0, 0, 0))
  upright.paste((255, 255, 255), (0, 0, 4, 4))  # White above black.
  exif = Image.Exif()
  exif[0x0112] = 6  # Stored turned by 90 degrees, to be turned back clockwise.
  stored = upright.rotate(90, expand=True)
  for name in ("a", "b"):
    for number in range(3):
      stored.save(tmp_path / "train" / name / f"{number}.png", exif=exif)
  loaded = data.load(config(f"folder:{tmp_path}", 2, test_size=2))
  assert loaded.train.images.shape == (2, 8, 4, 3)
  np.testing.assert_array_equal(loaded.train.images[0], np.asarray(upright))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_one_wrong_tag_does_not_keep_an_image_from_being_turned(tmp_path, orientation):
  image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8))
  turn = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
  wrong = struct.pack("<HHI4s", 0x011A, 2, 3, b"72")  # A resolution as text.
  for name, tags in (("plain", [turn]), ("wrong", [turn, wrong])):
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(tags) + bytes(4)
    image.save(tmp_path / f"{name}.png", exif=exif)
  with Image.open(tmp_path / "plain.png") as plain:
    expected = np.asarray(ImageOps.exif_transpose(plain))
  found = pixels.decode(tmp_path / "wrong.png", "wrong.png", "RGB")
  np.testing.assert_array_equal(np.asarray(found), expected)


@pytest.mark.parametrize("suffix", [".png", ".JPG"])
def test_folder(tmp_path, suffix):
  colours = save_folder(tmp_path, {"cat": 5, "ant": 7}, {"cat": 2, "ant": 3}, suffix=suffix)
  (tmp_path / "train" / "ant" / "notes.txt").write_text("no image")
  loaded = data.load(config(f"folder:{tmp_path}", 2))
  assert [split.images.shape for split in loaded[:3]] == [
    (10, 6, 6, 3),
    (2, 6, 6, 3),
    (5, 6, 6, 3),
  ]
  assert loaded.class_names == ("ant", "cat")
  assert loaded.test.labels.tolist() == [0, 0, 0, 1, 1]
  expected = [colours["test", name, i] for name, n in (("ant", 3), ("cat", 2)) for i in range(n)]
  difference = loaded.test.images.astype(int) - np.array(expected)[:, None, None]
  assert np.abs(difference).max() <= (0 if suffix == ".png" else 4)


def test_a_folder_is_gray_if_all_its_images_are(tmp_path):
  save_folder(tmp_path, {"a": 3, "b": 3}, mode="L")
  source = config(f"folder:{tmp_path}", 2, test_size=2)
  gray = data.load(source)
  assert gray.train.images.shape == (2, 6, 6, 1)
  Image.new("RGBA", (6, 6), (1, 2, 3, 4)).save(tmp_path / "train" / "a" / "x.png")
  coloured = data.load(source)
  assert coloured.train.images.shape == (3, 6, 6, 3)


def test_folder_images_of_unequal_size(tmp_path):
  save_folder(tmp_path, {"a": 3, "b": 3})
  wide = Image.new("RGB", (12, 6), (255, 0, 0))
  wide.paste((0, 255, 0), (3, 0, 9, 6))
  wide.save(tmp_path / "train" / "a" / "0.png")
  source = f"folder:{tmp_path}"
  with pytest.raises(
    ValueError, match=r"train/a/0.png is 6x12, .*train/b/..png is 6x6; .* config.data.image_size"
  ):
    data.load(config(source, 2, test_size=2))
  loaded = data.load(config(source, 2, test_size=2, image_size=3))
  every = np.concatenate([split.images for split in loaded[:3]])
  assert every.shape == (6, 3, 3, 3)
  # The wide image keeps its green centre square and loses its red sides.
  assert (every[:, 1, 1] == (0, 255, 0)).all(-1).sum() == 1
  assert not (every == (255, 0, 0)).all(-1).any()


def test_folder_errors(tmp_path):
  source = f"folder:{tmp_path}"
  with pytest.raises(ValueError, match=r"no folder .*/none: folder:PATH takes PATH/train/CLASS"):
    data.load(config(source + "/none"))
  with pytest.raises(ValueError, match="has no folders: a folder for each class"):
    data.load(config(source))
  (tmp_path / "Val").mkdir()
  with pytest.raises(ValueError, match=r"no folder .*train beside Val: folder:PATH takes"):
    data.load(config(source))
  (tmp_path / "valid").mkdir()
  with pytest.raises(ValueError, match=r"has Val and valid, which mean the same"):
    data.load(config(source))
  (tmp_path / "Val").rmdir()
  (tmp_path / "valid").rename(tmp_path / "train images")
  with pytest.raises(ValueError, match=r"has train images: call them train, with a folder"):
    data.load(config(source))
  (tmp_path / "train images" / "deeper").mkdir()
  (tmp_path / "train images").rename(tmp_path / "cat")
  with pytest.raises(ValueError, match=r"cat has no image, but folders: deeper; folder:PATH takes"):
    data.load(config(source))
  shutil.rmtree(tmp_path / "cat")
  save_folder(tmp_path, {"a": 4, "b": 0}, {"c": 1})
  with pytest.raises(ValueError, match=r"train/b has no image: allowed are .png, .jpg"):
    data.load(config(source))
  Image.new("L", (6, 6)).save(tmp_path / "train" / "b" / "0.png")
  with pytest.raises(ValueError, match="test has classes missing in train: c"):
    data.load(config(source))
  (tmp_path / "test" / "c").rename(tmp_path / "test" / "a")
  with pytest.raises(ValueError, match=r"class 1 \(b\) has 1 images, at least 2 are needed"):
    data.load(config(source))
  Image.fromarray(np.zeros((6, 6), np.uint16)).save(tmp_path / "train" / "b" / "1.png")
  with pytest.raises(ValueError, match=r"b/1.png is not usable: more than 8 bits"):
    data.load(config(source, 2))
  (tmp_path / "train" / "b" / "1.png").write_bytes(COLOURS_OF_16_BITS)
  with pytest.raises(ValueError, match=r"b/1.png is not usable: more than 8 bits"):
    data.load(config(source, 2))
  names = os.fsencode(tmp_path / "train") + b"/caf\xe9"
  os.mkdir(names)
  with pytest.raises(ValueError, match=r"has a folder whose name is not UTF-8: 'caf.udce9'"):
    data.load(config(source, 2))
  os.rmdir(names)
  shutil.rmtree(tmp_path / "test")
  (tmp_path / "test").mkdir()
  (tmp_path / "test" / "1.png").touch()
  with pytest.raises(ValueError, match=r"test has no folders, but 1 files without a class"):
    data.load(config(source, 2))
  (tmp_path / "test").rename(tmp_path / "others")
  Image.new("L", (6, 6)).save(tmp_path / "train" / "b" / "2.png")
  source = config(source, 2, test_size=2)
  (tmp_path / "train" / "b" / "1.png").write_bytes(b"no png")
  with pytest.raises(ValueError, match=r"b/1.png is not usable: [^\n]*$"):
    data.load(source)
  whole = (tmp_path / "train" / "a" / "0.png").read_bytes()
  (tmp_path / "train" / "b" / "1.png").write_bytes(whole[: len(whole) // 2])
  with pytest.raises(ValueError, match=r"b/1.png is not usable: [^\n]*$"):
    data.load(source)

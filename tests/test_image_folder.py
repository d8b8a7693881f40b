"""Images from folders of image files."""

import numpy as np
import pytest
from PIL import Image

from nas_submod import data
from tests.tiny_data import config, save_folder


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
    ValueError, match=r"train/a/0.png is 6x12, .*train/b/..png is 6x6; .* image_size"
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
  with pytest.raises(ValueError, match=r"no folder .*train: folder:PATH takes PATH/train/CLASS"):
    data.load(config(source))
  (tmp_path / "train").mkdir()
  with pytest.raises(ValueError, match="has no folders: one for each class"):
    data.load(config(source))
  save_folder(tmp_path, {"a": 4, "b": 0}, {"c": 1})
  with pytest.raises(ValueError, match=r"train/b has no image: allowed are .png, .jpg"):
    data.load(config(source))
  Image.new("L", (6, 6)).save(tmp_path / "train" / "b" / "0.png")
  with pytest.raises(ValueError, match="test has classes missing in train: c"):
    data.load(config(source))
  (tmp_path / "test" / "c").rename(tmp_path / "test" / "a")
  with pytest.raises(ValueError, match="class 1 has 1 images, at least 2 are needed"):
    data.load(config(source))
  Image.fromarray(np.zeros((6, 6), np.uint16)).save(tmp_path / "train" / "b" / "1.png")
  with pytest.raises(ValueError, match=r"b/1.png is not usable: more than 8 bits"):
    data.load(config(source, 2))
  (tmp_path / "train" / "b" / "1.png").write_bytes(b"no png")
  with pytest.raises(ValueError, match=r"b/1.png is not usable: [^\n]*$"):
    data.load(config(source, 2))
  whole = (tmp_path / "train" / "a" / "0.png").read_bytes()
  (tmp_path / "train" / "b" / "1.png").write_bytes(whole[: len(whole) // 2])
  with pytest.raises(ValueError, match=r"b/1.png is not usable: [^\n]*$"):
    data.load(config(source, 2))

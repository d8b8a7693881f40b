"""Images from npz files."""

import shutil
import zipfile

import numpy as np
import pytest

from nas_submod import data
from tests.tiny_data import arrays, config, per_class, rows, save

CLASSES = np.arange(40) % 4  # Those of the training images of `arrays`.


def test_npz(tmp_path):
  source, given_arrays = save(tmp_path, class_names=np.array(list("abcd"))), arrays()
  loaded = data.load(config(source, 8))
  assert loaded.class_names == ("a", "b", "c", "d")
  assert loaded.classes == 4 and len(loaded.train.labels) == 32
  np.testing.assert_array_equal(loaded.test.images, given_arrays["x_test"])
  np.testing.assert_array_equal(loaded.test.labels, given_arrays["y_test"])
  assert set(per_class(loaded.validation.labels, 4)) == {2}
  labels = {
    image.tobytes(): y for image, y in zip(*[given_arrays[k] for k in ("x_train", "y_train")])
  }
  both = [(*pair,) for split in loaded[:2] for pair in zip(*split)]
  assert {image.tobytes(): label for image, label in both} == labels
  pixels = loaded.train.images.astype(np.float64)
  np.testing.assert_allclose(loaded.mean, pixels.mean((0, 1, 2)), rtol=1e-6)
  np.testing.assert_allclose(loaded.std, pixels.std((0, 1, 2)), rtol=1e-6)
  assert loaded.mean.dtype == loaded.std.dtype == np.float32


def test_test_images_that_are_training_images_are_counted(tmp_path):
  given = arrays()
  leaked = np.concatenate([given["x_train"][:3], given["x_test"][3:]])
  loaded = data.load(config(save(tmp_path, x_test=leaked)))
  assert loaded.notes == ("test images that are also training images: 3 of 8",)


@pytest.mark.parametrize(
  ("changes", "names", "notes"),
  [
    ({"y_train": CLASSES[:, None]}, "0123", ()),  # As Keras has them.
    ({"y_train": np.eye(4)[CLASSES]}, "0123", ("y_train: one-hot labels of 4 classes",)),
    ({"y_train": CLASSES * 1.0}, "0123", ("y_train: float64 labels, all whole numbers",)),
    (
      {"y_train": np.array(list("bdac"))[CLASSES], "y_test": np.array(list("bdac") * 2, "S1")},
      "abcd",
      ("y_train: labels are names", "y_test: labels are names"),
    ),
    ({"x_train": arrays()["x_train"].astype(np.float32)}, "0123", ()),
    ({"x_train": arrays()["x_train"].astype(int), "y_train": CLASSES.astype("u8")}, "0123", ()),
  ],
)
def test_npz_labels_and_pixels_in_other_forms(tmp_path, changes, names, notes):
  loaded, given = data.load(config(save(tmp_path, **changes))), arrays()
  assert loaded.class_names == tuple(names) and loaded.notes == notes
  numbers = [1, 3, 0, 2] if names == "abcd" else [0, 1, 2, 3]
  expected = {i.tobytes(): numbers[c] for i, c in zip(given["x_train"], CLASSES)}
  found = [pair for split in loaded[:2] for pair in zip(split.images, split.labels)]
  assert {image.tobytes(): label for image, label in found} == expected
  assert loaded.test.labels.tolist() == numbers * 2


def test_npz_of_medmnist(tmp_path):
  given = arrays()
  parts = {"train": slice(0, 30), "val": slice(30, 40)}
  renamed = {f"{name}_images": given["x_train"][part] for name, part in parts.items()}
  renamed |= {f"{name}_labels": CLASSES[part, None] for name, part in parts.items()}
  without_test = tmp_path / "without_test.npz"
  np.savez(without_test, **renamed)
  loaded = data.load(config(f"npz:{without_test}"))
  assert rows(loaded.test.images) == rows(given["x_train"][30:])
  assert loaded.notes == (f"{without_test} val_images are the test images",)
  whole = tmp_path / "whole.npz"
  np.savez(whole, **renamed, Test_Images=given["x_test"], TEST_LABELS=given["y_test"][:, None])
  loaded = data.load(config(f"npz:{whole}", 8))
  assert rows(loaded.test.images) == rows(given["x_test"])
  both = np.concatenate([loaded.train.images, loaded.validation.images])
  assert rows(both) == rows(given["x_train"])
  assert [note.partition("val_images ")[2] for note in loaded.notes] == [
    "join the images to train on, from which validation images are drawn"
  ]


@pytest.mark.parametrize(
  ("names", "left_out"),
  [
    (("data", "labels"), ()),
    (("Data", "target"), ()),
    (("x", "y"), ("data", "target")),
    (("images", "labels"), ("data",)),
  ],
)
def test_npz_without_splits_has_images_to_train_on(tmp_path, names, left_out):
  path, given = tmp_path / "set.npz", arrays()
  others = {name: np.zeros(3) for name in left_out}
  np.savez(path, **dict(zip(names, (given["x_train"], CLASSES))), **others)
  fields = config(f"npz:{path}", 8)
  fields.test_size = 8
  loaded = data.load(fields)
  assert len(loaded.train.images) == len(CLASSES) - 16
  assert loaded.notes == ((f"left out: {', '.join(left_out)}",) if left_out else ())


def test_npz_says_what_it_leaves_out_and_decodes_names(tmp_path):
  more = {"class_names": np.array(list("abcd"), "S1"), "ids": np.arange(40)}
  loaded = data.load(config(save(tmp_path, **more)))
  assert loaded.class_names == tuple("abcd") and loaded.notes == ("left out: ids",)


def test_npz_validation_images_of_another_size_are_scaled(tmp_path):
  given = arrays()
  val = {"x_val": np.repeat(given["x_test"], 2, axis=1).repeat(2, axis=2), "y_val": given["y_test"]}
  source = save(tmp_path, **val)
  fields = config(source, 8)
  with pytest.raises(ValueError, match=r"unequal size: .* is 5x5, .*x_val is 10x10; make them eq"):
    data.load(fields)
  fields.image_size = 5
  loaded = data.load(fields)
  assert len(loaded.train.labels) + len(loaded.validation.labels) == 48


def test_npz_with_too_few_class_names_is_refused_whatever_is_wrong_first(tmp_path):
  source = save(tmp_path, class_names=np.array(["a"]))
  with pytest.raises(ValueError, match=r"validation_size=37 .* class 0 \(a\) has 10"):
    data.load(config(source, 37))
  few = np.append(CLASSES[:-1], 0)  # Class 3, which has no name, is the smallest.
  with pytest.raises(ValueError, match=r"validation_size=37 .* class 3 has 9 images"):
    data.load(config(save(tmp_path, class_names=np.array(["a"]), y_train=few), 37))
  with pytest.raises(ValueError, match=r"set.npz: class_names: .*decode"):
    data.load(config(save(tmp_path, class_names=np.array([b"\xff", b"b", b"c", b"d"]))))


def test_npz_gray_images_have_one_channel(tmp_path):
  gray = {f"x_{s}": arrays()[f"x_{s}"][..., 0] for s in ("train", "test")}
  assert data.load(config(save(tmp_path, **gray))).train.images.shape == (36, 5, 5, 1)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"x_train": None}, "lacks x_train; it has y_train, x_test, y_test"),
    ({"y_test": None}, "lacks y_test; it has"),
    (
      {"x_train": arrays()["x_train"] / 255},
      r"float64, from 0.0 to 1.0: whole .* \(x \* 255\).round",
    ),
    ({"x_train": arrays()["x_train"].astype(int) + 1}, "pixels 1 to 256: allowed are 0 to 255"),
    ({"x_train": np.zeros((40, 3, 32, 32), np.uint8)}, r"channels first: save x.transpose\(0, 2"),
    ({"X_train": arrays()["x_train"]}, "has x_train and X_train, which mean the same"),
    ({"train_x": arrays()["x_train"]}, "has x_train and train_x, which mean the same"),
    (
      {"y_train": np.eye(4)[CLASSES], "y_test": np.eye(3)[[0, 1, 2, 0] * 2]},
      "y_train has 4, y_test has 3: one-hot",
    ),
    ({"y_train": np.eye(4)[CLASSES] * 3}, "one-hot rows of 0 and 1 are expected"),
    ({"y_train": np.eye(5)[CLASSES]}, "no row of y_train is of class 4"),
    ({"y_test": np.array(list("abcd") * 2)}, "y_train has numbers, y_test names: save both alike"),
    ({"y_train": CLASSES + 2.0**40}, "labels that are no class numbers"),
    ({"class_names": np.array(list("aabc"))}, "class_names holds a name twice"),
    ({"y_val": arrays()["y_test"]}, "lacks x_val; it has"),
    ({"x_train": arrays()["x_train"][0, 0]}, r"has shape \[5, 3\]: allowed are \[N, H, W\] and"),
    ({"x_train": arrays()["x_train"][:0], "y_train": np.zeros(0, int)}, r"\[0, 5, 5, 3\].*N >= 1"),
    ({"y_train": arrays()["y_train"][:-1]}, r"40 images, but labels of shape \[39\]; \[40\]"),
    ({"y_train": np.ones((40, 4))}, "y_train: row 0 names 4 classes; one class for each image"),
    ({"y_train": np.full((40, 2), 7)}, r"shape \[40, 2\]: class numbers \[N\], names"),
    ({"y_train": arrays()["y_train"] / 2}, "y_train has fractions: class numbers from 0, or names"),
    ({"y_train": np.array(list("abcd") * 10), "y_test": np.array(list("abcx") * 2)}, "class 'x'"),
    ({"y_train": arrays()["y_train"] - 1}, "labels -1 to 2: allowed are 0 and up"),
    ({"y_train": arrays()["y_train"] + 1}, "no image of class 0: .* from 1, subtract 1"),
    ({"y_train": np.zeros(40, int)}, "only one class: at least 2"),
    ({"y_test": arrays()["y_test"] + 1}, "x_test has labels 1 to 4: allowed are 0 to 3, for 4"),
    ({"x_test": arrays()["x_test"][:, :4]}, r"\[5, 5, 3\] in .*x_train, \[4, 5, 3\] in .*x_test"),
    ({"class_names": np.array(["a"])}, "has 4 classes, but 1 class names"),
    ({"class_names": np.array(list("abcde"))}, r"no image of class 4 \(e\): each of 0 to 4"),
    ({"x_train": 0 * arrays()["x_train"]}, "x_train has pixels of 0 only"),
    ({"x_test": arrays()["x_test"] // 128}, "x_test is of type uint8, from 0 to 1: .* save .x"),
    ({"x_test": arrays()["x_test"][..., :1]}, r"\[5, 5, 3\] .* \[5, 5, 1\] .*; make their chann"),
    (
      {"class_names": np.array(list("abcd")), "y_train": CLASSES % 3},
      r"no image of class 3 \(d\): each of 0 to 3",
    ),
    ({"class_names": np.eye(4)}, r"class_names is float64 of shape \[4, 4\]; text"),
    ({"x_train": np.array([{}], object)}, "cannot be read: Object .* not objects"),
  ],
)
def test_npz_errors(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message) as error:
    data.load(config(save(tmp_path, **changes)))
  assert "\n" not in str(error.value)


def test_npz_file_errors(tmp_path):
  with pytest.raises(ValueError, match=r"^no file .*none.npz: npz:PATH takes one npz file$"):
    data.load(config(f"npz:{tmp_path / 'none.npz'}"))
  (tmp_path / "text.npz").write_text("not a zip")
  with pytest.raises(ValueError, match=r"text.npz is not an npz file, or a damaged one$"):
    data.load(config(f"npz:{tmp_path / 'text.npz'}"))
  np.save(tmp_path / "one.npy", np.zeros(3))
  with pytest.raises(ValueError, match=r"one.npy is not an npz file, but a single array$"):
    data.load(config(f"npz:{tmp_path / 'one.npy'}"))
  with zipfile.ZipFile(tmp_path / "junk.npz", "w") as archive:
    archive.writestr("x_train.npy", b"junk")
    archive.writestr("y_train.npy", b"junk")
  with pytest.raises(ValueError, match=r"junk.npz: y_train is not an array$"):
    data.load(config(f"npz:{tmp_path / 'junk.npz'}"))
  save(tmp_path)
  shutil.copy(tmp_path / "set.npz", tmp_path / "again.npz")
  with zipfile.ZipFile(tmp_path / "again.npz", "a") as archive, pytest.warns(UserWarning):
    archive.writestr("y_test.npy", b"junk")
  with pytest.raises(ValueError, match=r"again.npz has y_test and y_test, which mean the same"):
    data.load(config(f"npz:{tmp_path / 'again.npz'}"))
  whole = bytearray((tmp_path / "set.npz").read_bytes())
  (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
  with pytest.raises(ValueError, match=r"half.npz is not an npz file, or a damaged one$"):
    data.load(config(f"npz:{tmp_path / 'half.npz'}"))
  whole[1000] ^= 1
  (tmp_path / "flipped.npz").write_bytes(whole)
  with pytest.raises(ValueError, match=r"flipped.npz: x_train cannot be read: [^\n]*$"):
    data.load(config(f"npz:{tmp_path / 'flipped.npz'}"))


def test_images_and_labels_may_be_named_in_two_styles(tmp_path):
  given = arrays()
  path = tmp_path / "set.npz"
  names = {
    "x_train": "x_train",
    "train_labels": "y_train",
    "test_images": "x_test",
    "y_test": "y_test",
  }
  np.savez(path, **{name: given[usual] for name, usual in names.items()})
  loaded = data.load(config(f"npz:{path}"))
  assert loaded.classes == 4

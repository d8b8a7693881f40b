"""Small TFDS sets of encoded images, written and read without TensorFlow."""

import io

import tensorflow_datasets as tfds
from PIL import Image


class Photos(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Encoded images of one colour each, 24 per class for training. As in ImageNet, `test` has no
  labels."""

  VERSION = tfds.core.Version("1.0.0")
  encoding, shape = "png", (9, 9, 3)

  def _info(self):
    features = {
      "image": tfds.features.Image(shape=self.shape, encoding_format=self.encoding),
      "mask": tfds.features.Image(shape=(None, None, 1)),
      "species": tfds.features.ClassLabel(num_classes=5),
    }
    features = tfds.features.FeaturesDict(features)
    return tfds.core.DatasetInfo(
      builder=self, features=features, supervised_keys=("image", "species")
    )

  def _split_generators(self, dl_manager):
    return {
      "train": self._generate_examples(120),
      "validation": self._generate_examples(50),
      "test": self._generate_examples(9, labelled=False),
    }

  def _generate_examples(self, count, labelled=True):
    for i in range(count):
      height, width = (side or 9 + i % 3 for side in self.shape[:2])
      image = io.BytesIO()
      colour = (i, 255 - i, 2 * i) if self.shape[2] == 3 else i
      mode = "RGB" if self.shape[2] == 3 else "L"
      Image.new(mode, (width, height), colour).save(image, self.encoding)
      image.seek(0)
      yield (
        i,
        {"image": image, "mask": io.BytesIO(b"not read"), "species": i % 5 if labelled else -1},
      )


class GrayPhotos(Photos, skip_registration=True):
  shape = (9, 9, 1)


class AnyPhotos(Photos, skip_registration=True):
  encoding, shape = "jpeg", (None, None, 3)

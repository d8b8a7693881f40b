"""Classifies image files with onnxruntime alone: python classify.py IMAGE... [MODEL.onnx]."""

import json
import pathlib
import sys
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

# By the EXIF tag Orientation. As in data/pixels.py, which this file cannot import: it runs alone.
TURNS = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}


def main(arguments: list[str]) -> None:
  """Prints the most likely class of each image and its probability."""
  import onnxruntime

  models = [name for name in arguments if name.lower().endswith(".onnx")]
  images = [name for name in arguments if name not in models]
  if not images or len(models) > 1 or "--help" in images:
    sys.exit(__doc__)
  model = models[0] if models else str(pathlib.Path(__file__).with_name("model.onnx"))
  if not pathlib.Path(model).is_file():
    sys.exit(f"error: there is no model {model}")
  session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
  for file in images:
    found = classify(session, file)
    print(f"{file}: {found}" if len(images) > 1 else found)


def classify(session: Any, file: str) -> str:
  """The most likely class of an image file and its probability."""
  facts = session.get_modelmeta().custom_metadata_map
  known = ("image_shape", "mean", "std", "classes", "border")
  if missing := [name for name in known if name not in facts]:
    sys.exit(f"error: the model has no {missing[0]}: experiments.export did not write it")
  [height, width, channels], mean, std, classes, border = (json.loads(facts[n]) for n in known)
  modes = {1: "L", 3: "RGB", 4: "RGBA"}
  if channels not in modes:
    sys.exit(f"error: the model takes {channels} channels; image files have 1, 3 or 4")
  try:
    with Image.open(file) as opened:
      # Pillow would silently clip such values to 0..255. "BGR;16" has 5 or 6 bits a channel.
      stored = str(getattr(opened, "tile", "")).replace("BGR;16", "")
      if opened.mode[0] in "IF" or ";16" in stored:
        sys.exit(f"error: {file} has more than 8 bits a channel; 8 are expected")
      turn = TURNS.get(opened.getexif().get(ExifTags.Base.Orientation, 1))
      image = (opened if turn is None else opened.transpose(turn)).convert(modes[channels])
  # Pillow raises many kinds of errors for broken files.
  except (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError) as error:
    sys.exit(f"error: {file} is not a usable image: {error}")
  # Scaled to cover the size, and cropped to the centre; each channel alone, because Pillow would
  # multiply colours by alpha.
  size = width, height
  bands = [ImageOps.fit(b, size, Image.Resampling.BILINEAR, bleed=border) for b in image.split()]
  x = (np.stack([np.asarray(band, np.float32) for band in bands], -1) - mean) / std
  images = x.transpose(2, 0, 1)[None].astype(np.float32)
  [[logits]] = session.run(None, {"images": images})
  shares = np.exp(logits - logits.max())
  best = int(logits.argmax())
  return f"{classes[best]} {shares[best] / shares.sum():.1%}"


if __name__ == "__main__":
  main(sys.argv[1:])

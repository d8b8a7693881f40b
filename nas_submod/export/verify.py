"""Runs exported files and compares them with the network that they came from."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nas_submod.data.loading import Split

BATCH = 64
# A float file whose logits differ by more is faulty, and so is a larger fall in accuracy.
LARGEST_DIFFERENCE = 1e-4
LARGEST_FALL = 0.01

Run = Callable[[np.ndarray], np.ndarray]


class Comparison(NamedTuple):
  """A file compared with its reference, on the same images.

  Attributes:
    images: Number of images.
    accuracy: Share of images that the file classifies as labelled.
    reference_accuracy: The same for the reference.
    agreement: Share of images for which both predict the same class.
    difference: Largest difference of two logits.
    relative_difference: `difference` divided by the largest absolute logit of the reference.
  """

  images: int
  accuracy: float
  reference_accuracy: float
  agreement: float
  difference: float
  relative_difference: float


def normalized(images: Any, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
  """Pixels 0..255 `[B, H, W, C]` as a network takes them, float32."""
  return (np.asarray(images, np.float32) - mean) / std


def logits(
  run: Run,
  split: Split,
  on_progress: Callable[[int, int], None] = lambda done, count: None,
) -> np.ndarray:
  """The logits of all images of a split. Shape `[N, classes]`, float32.

  Args:
    run: Maps pixels `[B, H, W, C]`, uint8, to logits `[B, classes]`.
    split: Arrays, or images that are not read yet.
    on_progress: Called with the number of images done, and of all images.
  """
  count, found = len(split.labels), []
  for first in range(0, count, BATCH):
    rows = slice(first, min(first + BATCH, count))
    found.append(run(split.images[rows]))
    on_progress(rows.stop, count)
  return np.concatenate(found)


def compare(found: np.ndarray, reference: np.ndarray, labels: np.ndarray) -> Comparison:
  """Compares the logits of a file with its reference; all `[N, classes]`, labels `[N]`."""
  difference = float(np.abs(found - reference).max())
  # A logit that is not finite must not count as a small difference, nor as correct.
  finite = np.isfinite(found).all(1)
  predicted, expected = found.argmax(1), reference.argmax(1)
  return Comparison(
    images=len(labels),
    accuracy=float(np.mean(finite & (predicted == labels))),
    reference_accuracy=float(np.mean(expected == labels)),
    agreement=float(np.mean(finite & (predicted == expected))),
    difference=difference if np.isfinite(difference) else float("inf"),
    relative_difference=(
      difference / max(float(np.abs(reference).max()), 1e-30)
      if np.isfinite(difference)
      else float("inf")
    ),
  )


def faults(comparison: Comparison, is_float: bool, trained: bool) -> list[str]:
  """What is wrong with a file, one line each; empty if nothing is.

  Args:
    comparison: On test images.
    is_float: Whether its logits must equal the reference's.
    trained: Whether the network is trained; else accuracy has no meaning.
  """
  found = []
  fall = comparison.reference_accuracy - comparison.accuracy
  if trained and fall > LARGEST_FALL:
    found.append(
      f"accuracy is {100 * fall:.2f} points below that of the checkpoint; at most "
      f"{100 * LARGEST_FALL:.0f} is expected"
    )
  if is_float and not comparison.relative_difference <= LARGEST_DIFFERENCE:
    found.append(
      f"logits differ by {comparison.relative_difference:.1e} of the largest one; at most "
      f"{LARGEST_DIFFERENCE:.0e} is expected"
    )
  return found

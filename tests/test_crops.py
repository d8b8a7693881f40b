"""Random crops of streamed images: the boxes and their pixels."""

import numpy as np
import pytest
from scipy import stats

from nas_submod.data import stream
from nas_submod.data.source import Source


def ramp(height, width):
  """Returns an image whose channels are column, row and 7."""
  rows, columns = np.mgrid[:height, :width]
  return np.stack([columns, rows, np.full_like(rows, 7)], -1).astype(np.uint8)


@pytest.mark.parametrize("seed", range(4))
def test_a_crop_of_a_ramp_is_the_ramp_of_its_box(seed):
  """Smoothing keeps linear functions, so pixels equal the coordinates of their centres."""
  height, width, size = 120, 200, 8
  source = Source(
    "ramp", np.zeros(1, np.int32), lambda i: ramp(height, width), lambda i: "the ramp"
  )
  images = stream.Images(source, np.arange(1), size)
  left, top, right, bottom = stream.crop_box(np.random.default_rng(seed), height, width)
  centres = (np.arange(size) + 0.5) / size
  expected = np.empty((size, size, 3))
  expected[..., 0] = left + centres * (right - left) - 0.5
  expected[..., 1] = (top + centres * (bottom - top) - 0.5)[:, None]
  expected[..., 2] = 7
  found = images.random_crop(0, np.random.default_rng(seed))
  # The image border truncates the filter.
  inside = found[1:-1, 1:-1].astype(float)
  np.testing.assert_allclose(inside, expected[1:-1, 1:-1], atol=1)
  centre = images.centre(0)
  side = 0.875 * height
  expected[..., 0] = (width - side) / 2 + centres * side - 0.5
  expected[..., 1] = ((height - side) / 2 + centres * side - 0.5)[:, None]
  np.testing.assert_allclose(centre.astype(float)[1:-1, 1:-1], expected[1:-1, 1:-1], atol=1)
  np.testing.assert_array_equal(images[:1][0], centre)


def test_boxes_are_drawn_as_described():
  """Compares areas, proportions and places with rejection sampling by another generator."""
  height, width = 60, 80
  found = np.array([stream.crop_box(np.random.default_rng(i), height, width) for i in range(4000)])
  left, top, right, bottom = found.T
  assert left.min() >= 0 and top.min() >= 0 and right.max() <= width and bottom.max() <= height
  rng = np.random.RandomState(0)
  area = rng.uniform(0.08, 1, 20_000)
  ratio = (4 / 3) ** rng.uniform(-1, 1, 20_000)
  parts = np.stack([area * ratio, area / ratio]) * height * width
  fits = (parts[0] <= width**2) & (parts[1] <= height**2)
  drawn_width, drawn_height = np.sqrt(parts[:, fits])
  drawn_left = (width - drawn_width) * rng.uniform(size=fits.sum())
  drawn_top = (height - drawn_height) * rng.uniform(size=fits.sum())
  for ours, theirs in (
    ((right - left) * (bottom - top), drawn_width * drawn_height),
    ((right - left) / (bottom - top), drawn_width / drawn_height),
    (left, drawn_left),
    (top, drawn_top),
  ):
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-3
  # No part with allowed proportions covers 8% of such a narrow image.
  assert stream.crop_box(np.random.default_rng(0), 3, 400) == (198, 0, 202, 3)
  assert stream.crop_box(np.random.default_rng(0), 400, 3) == (0, 198, 3, 202)

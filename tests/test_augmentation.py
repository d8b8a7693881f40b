"""Random crops, flips and mixup: against NumPy, and equal for any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_submod.training import augmentation


def windows(image, padding, flip):
  """All results that augmentation may give for an image, computed by NumPy: bytes -> operation."""
  height, width, _ = image.shape
  padded = np.zeros((height + 2 * padding, width + 2 * padding, image.shape[2]), np.uint8)
  padded[padding : padding + height, padding : padding + width] = image
  found = {}
  for top in range(2 * padding + 1):
    for left in range(2 * padding + 1):
      window = padded[top : top + height, left : left + width]
      found[window.tobytes()] = (top, left, False)
      if flip:
        found[window[:, ::-1].tobytes()] = (top, left, True)
  return found


@pytest.mark.parametrize(("padding", "flip"), [(2, True), (1, False), (0, True)])
@pytest.mark.parametrize("shape", [(6, 7, 3), (8, 8, 1)])
def test_augment_is_pad_crop_flip(padding, flip, shape):
  """Each result is a window of its image, and all windows are equally likely."""
  batch = 4000
  images = np.random.default_rng(0).integers(0, 256, (batch, *shape), np.uint8)
  images[1:] = images[0]
  result = jax.jit(augmentation.augment, static_argnames=("crop_padding", "flip"))(
    jax.random.key(0), images, crop_padding=padding, flip=flip
  )
  assert result.dtype == jnp.uint8 and result.shape == images.shape
  known = windows(images[0], padding, flip)
  outcomes = (2 * padding + 1) ** 2 * (2 if flip else 1)
  assert len(known) == outcomes
  done = [known[image.tobytes()] for image in np.asarray(result)]
  numbers = np.array([done.count(outcome) for outcome in known.values()])
  expected = batch / outcomes
  # Chi square has mean `outcomes - 1` and variance twice that; six standard deviations.
  chi_square = np.sum((numbers - expected) ** 2 / expected)
  assert chi_square < outcomes - 1 + 6 * np.sqrt(2 * outcomes)


def test_augment_treats_each_image_alone():
  images = np.random.default_rng(0).integers(0, 256, (16, 6, 6, 2), np.uint8)
  result = augmentation.augment(jax.random.key(3), images, crop_padding=1, flip=True)
  for image, augmented in zip(images, np.asarray(result)):
    assert augmented.tobytes() in windows(image, 1, True)
  again = augmentation.augment(jax.random.key(3), images, crop_padding=1, flip=True)
  other = augmentation.augment(jax.random.key(4), images, crop_padding=1, flip=True)
  np.testing.assert_array_equal(result, again)
  assert not np.array_equal(result, other)


def test_augment_identity():
  images = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 2), np.uint8)
  result = augmentation.augment(jax.random.key(3), jnp.asarray(images), crop_padding=0, flip=False)
  np.testing.assert_array_equal(result, images)


def test_augment_in_a_loop_and_mapped():
  """Results are the same inside `while_loop` and `vmap`, where training calls it."""
  images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 8, 6, 6, 1), np.uint8))

  def step(carry):
    i, x = carry
    return i + 1, augmentation.augment(jax.random.key(i), x, crop_padding=2, flip=True)

  def steps(x):
    return jax.lax.while_loop(lambda carry: carry[0] < 3, step, (0, x))[1]

  result = jax.jit(jax.vmap(steps))(images)
  for i in range(2):
    expected = images[i]
    for j in range(3):
      _, expected = step((j, expected))
    np.testing.assert_array_equal(result[i], expected)


def test_augment_refuses_floats():
  with pytest.raises(AssertionError):
    augmentation.augment(jax.random.key(0), jnp.zeros((1, 2, 2, 1)), crop_padding=1, flip=True)


def test_mixup_mixes_neighbours_and_draws_for_the_whole_batch():
  images = jnp.arange(8.0)[:, None, None, None] * jnp.ones((8, 2, 2, 1))
  mixed, share = augmentation.mix_pairs(jax.random.key(0), images, 0.5)
  assert ((share >= 0) & (share <= 1)).all()
  np.testing.assert_array_equal(share[::2], share[1::2])
  assert len(set(share.tolist())) == 4
  partner = jnp.array([1, 0, 3, 2, 5, 4, 7, 6])
  np.testing.assert_array_equal(augmentation.swap_pairs(jnp.arange(8)), partner)
  expected = share * jnp.arange(8) + (1 - share) * partner
  np.testing.assert_allclose(mixed[:, 0, 0, 0], expected, rtol=1e-6)
  with pytest.raises(ValueError, match="even number of images on each device, got 3"):
    augmentation.mix_pairs(jax.random.key(0), images[:3], 0.5)


def test_shards_are_augmented_as_the_whole_batch():
  images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (8, 5, 5, 2), np.uint8))
  options = {"crop_padding": 2, "flip": True}
  whole = augmentation.augment(jax.random.key(3), images, **options)
  shards = jax.vmap(
    lambda part: augmentation.augment(jax.random.key(3), part, axis_name="batch", **options),
    axis_name="batch",
  )(images.reshape(4, 2, 5, 5, 2))
  np.testing.assert_array_equal(shards.reshape(whole.shape), whole)

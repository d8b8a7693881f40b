"""Preprocessing of training images: random shifts and flips, mixup, normalisation."""

import chex
import jax
import jax.numpy as jnp

from nas_submod import parallel


def augment(
  rng: jax.Array,
  images: jax.Array,
  *,
  crop_padding: int,
  flip: bool,
  axis_name: str | None = None,
) -> jax.Array:
  """Shifts and mirrors each image at random.

  This equals padding an image with zeros (black), cropping a random window of the original size,
  and mirroring the window with probability one half.

  Args:
    rng: Determines the shifts and flips, independently of the images.
    images: Shape `[B, H, W, C]`, uint8.
    crop_padding: Pixels of padding on each side; 0 for no shift. Static.
    flip: Whether to mirror images left to right. Static.
    axis_name: Mapped axis, if the images are this device's part of a larger batch. Draws are made
      for the whole batch, so that they do not depend on the number of devices.

  Returns:
    Shape `[B, H, W, C]`, uint8.
  """
  chex.assert_rank(images, 4)
  chex.assert_type(images, jnp.uint8)
  batch, height, width, _ = images.shape
  # One draw for all, because random number generators dominate the compilation time here.
  draws = jax.random.uniform(rng, (batch * parallel.axis_size(axis_name), 3))
  draws = parallel.device_rows(draws, axis_name)
  columns = jnp.arange(width)[None]
  if flip:
    columns = jnp.where(draws[:, 2:] < 0.5, width - 1 - columns, columns)
  # Gathering rows, then columns, is much faster on CPU inside a loop than a vmapped dynamic_slice
  # or one gather of pixels.
  if crop_padding:
    shifts = jnp.floor(draws[:, :2] * (2 * crop_padding + 1)).astype(jnp.int32)
    columns = columns + shifts[:, 1:]
    rows = jnp.arange(height)[None] + shifts[:, :1]
    border = (crop_padding, crop_padding)
    images = jnp.pad(images, ((0, 0), border, border, (0, 0)))
    images = jnp.take_along_axis(images, rows[:, :, None, None], axis=1)
  if crop_padding or flip:
    images = jnp.take_along_axis(images, columns[:, None, :, None], axis=2)
  return images


def mix_pairs(
  rng: jax.Array, images: jax.Array, alpha: float, axis_name: str | None = None
) -> tuple[jax.Array, jax.Array]:
  """Mixup (Zhang et al. 2018) of neighbours in the batch: image 0 with 1, 2 with 3 and so on.

  Args:
    rng: Key for one draw of Beta(alpha, alpha) per pair.
    images: Shape `[B, H, W, C]`, float; B is even.
    alpha: Parameter of the beta distribution.
    axis_name: As for `augment`.

  Returns:
    The mixed images `[B, H, W, C]`, and the weight `[B]` of each image in its mixture. Its
    neighbour has the remaining weight.

  Raises:
    ValueError: If B is odd.
  """
  if images.shape[0] % 2:
    raise ValueError(f"mixup needs an even number of images on each device, got {images.shape[0]}")
  pairs = images.shape[0] // 2 * parallel.axis_size(axis_name)
  share = parallel.device_rows(jax.random.beta(rng, alpha, alpha, (pairs,)), axis_name).repeat(2)
  weight = share.astype(images.dtype)[:, None, None, None]
  return weight * images + (1 - weight) * swap_pairs(images), share


def swap_pairs(values: jax.Array) -> jax.Array:
  """Swaps rows 0 and 1, rows 2 and 3 and so on. Shape `[B, ...]`."""
  return values.reshape(-1, 2, *values.shape[1:])[:, ::-1].reshape(values.shape)


def normalize(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
  """Normalises each channel to mean 0 and standard deviation 1.

  Args:
    images: Shape `[..., C]`, uint8.
    mean: Mean of the training pixels, from 0 to 255. Shape `[C]`.
    std: Standard deviation of the training pixels. Shape `[C]`.

  Returns:
    Shape `[..., C]`, float32.
  """
  return (images.astype(jnp.float32) - mean) / std

"""What a training step does to its images: random shifts and flips, mixup, normalisation."""

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
  """Shifts and mirrors every image at random.

  Equal to padding each image with zeros (black), cutting a random window of the old size out of
  it, and mirroring that with probability one half.

  Args:
    rng: The same key gives the same shifts and flips, whatever the images.
    images: Shape `[B, H, W, C]`, uint8.
    crop_padding: Pixels of padding on each side; 0: no shift. Static.
    flip: Whether to mirror left and right. Static.
    axis_name: The images are this device's part of a batch that is spread over this mapped axis:
      the draws are those of the whole batch, however many devices there are.

  Returns:
    Shape `[B, H, W, C]`, uint8.

  Raises:
    ValueError: The padding is negative.
  """
  chex.assert_rank(images, 4)
  chex.assert_type(images, jnp.uint8)
  if crop_padding < 0:
    raise ValueError(f"crop_padding={crop_padding}: 0 or more is expected")
  batch, height, width, _ = images.shape
  # One draw for everything: random numbers are most of what there is to compile here.
  draws = jax.random.uniform(rng, (batch * parallel.axis_size(axis_name), 3))
  draws = parallel.own_rows(draws, axis_name)
  columns = jnp.arange(width)[None]
  if flip:
    columns = jnp.where(draws[:, 2:] < 0.5, width - 1 - columns, columns)
  # A gather of rows, then one of columns: in a loop on CPU much cheaper than a dynamic_slice
  # mapped over the images, or one gather of pixels.
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
  """Mixup (Zhang et al. 2018) of each image with its neighbour in the batch, 0 with 1, 2 with 3.

  Args:
    rng: A key; both images of a pair get the same draw of Beta(alpha, alpha).
    images: B even. Shape `[B, H, W, C]`, float.
    alpha: Of the beta distribution.
    axis_name: As for `augment`.

  Returns:
    The mixed images `[B, H, W, C]`, and the share `[B]` of each image itself in its mixture; the
    rest is `swap_pairs(images)`.

  Raises:
    ValueError: B is odd.
  """
  if images.shape[0] % 2:
    raise ValueError(f"mixup takes an even number of images on each device, not {images.shape[0]}")
  pairs = images.shape[0] // 2 * parallel.axis_size(axis_name)
  share = parallel.own_rows(jax.random.beta(rng, alpha, alpha, (pairs,)), axis_name).repeat(2)
  weight = share.astype(images.dtype)[:, None, None, None]
  return weight * images + (1 - weight) * swap_pairs(images), share


def swap_pairs(values: jax.Array) -> jax.Array:
  """Exchanges rows 0 and 1, 2 and 3 and so on. Shape `[B, ...]`."""
  return values.reshape(-1, 2, *values.shape[1:])[:, ::-1].reshape(values.shape)


def normalize(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
  """Turns pixels into numbers of mean 0 and standard deviation 1, channel by channel.

  Args:
    images: Shape `[..., C]`, uint8.
    mean: Of the training pixels, in 0..255. Shape `[C]`.
    std: Their standard deviation. Shape `[C]`.

  Returns:
    Shape `[..., C]`, float32.
  """
  return (images.astype(jnp.float32) - mean) / std

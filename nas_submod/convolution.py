"""How a convolution is computed: the one place where the backend matters.

Inside loops and branches XLA's CPU convolutions are an order of magnitude slower than the same sums
written as matrix products and shifted multiply-adds; accelerators have fast convolutions.
"""

import jax
import jax.numpy as jnp


def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1, groups: int = 1) -> jax.Array:
  """Convolves with padding `(K - 1) / 2`.

  Args:
    x: Images. Shape `[B, H, W, cin]`.
    kernel: Odd kernel. Shape `[K, K, cin / groups, cout]`.
    stride: Step in pixels.
    groups: Independent groups of channels.

  Returns:
    Shape `[B, ceil(H / stride), ceil(W / stride), cout]`.
  """
  if jax.default_backend() == "cpu":
    return convolve_by_products(x, kernel, stride, groups)
  return convolve_by_primitive(x, kernel, stride, groups)


def convolve_by_primitive(
  x: jax.Array, kernel: jax.Array, stride: int = 1, groups: int = 1
) -> jax.Array:
  """The same by `lax.conv_general_dilated`."""
  padding = (kernel.shape[0] - 1) // 2
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    [(padding, padding)] * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=groups,
  )


def convolve_by_products(
  x: jax.Array, kernel: jax.Array, stride: int = 1, groups: int = 1
) -> jax.Array:
  """The same by matrix products, or shifted multiply-adds where it is depthwise."""
  side, _, group_in, cout = kernel.shape
  shifts = _shifts(x, side, stride)
  taps = kernel.reshape(side * side, group_in, cout)
  if groups == x.shape[-1] == cout:
    return sum((shift * tap[0] for shift, tap in zip(shifts, taps)), start=jnp.zeros((), x.dtype))
  if groups == 1:
    return jnp.concatenate(shifts, -1) @ taps.reshape(-1, cout)
  grouped = [s.reshape(*s.shape[:3], groups, group_in) for s in shifts]
  weights = taps.reshape(side * side * group_in, groups, cout // groups)
  y = jnp.einsum("bhwgi,igo->bhwgo", jnp.concatenate(grouped, -1), weights)
  return y.reshape(*y.shape[:3], cout)


def _shifts(x: jax.Array, side: int, stride: int) -> list[jax.Array]:
  """The input as each of the `side * side` taps sees it, in row-major order."""
  padding = (side - 1) // 2
  height, width = x.shape[1:3]
  padded = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
  return [
    padded[:, i : i + height : stride, j : j + width : stride]
    for i in range(side)
    for j in range(side)
  ]

"""Convolutions, written for the platform that a program is lowered for.

On CPUs, XLA's convolutions inside loops and branches are an order of magnitude slower than the same
sums written as matrix products and shifted multiply-adds. Accelerators have fast convolutions, but
XLA's GPU compiler autotunes each one. Autotuning takes minutes in a program with many convolutions;
without it they run an order of magnitude slower. Matrix products compile and run faster there too,
so 1x1 convolutions of few groups are products on every backend. `python -m benchmarks.convolutions`
measures this.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


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
  if kernel.shape[0] == 1 and groups <= _MOST_PRODUCTS:
    return convolve_by_products(x, kernel, stride, groups)
  return _by_platform(x, kernel, stride, groups)


def shuffle_channels(x: jax.Array, groups: int) -> jax.Array:
  """Interleaves the channels of groups (Zhang et al. 2018), so that groups exchange features."""
  *lead, channels = x.shape
  return x.reshape(*lead, groups, channels // groups).swapaxes(-1, -2).reshape(x.shape)


def kernel_without_groups(kernel: jax.Array, groups: int, shuffle: bool = False) -> jax.Array:
  """The kernel of the same convolution without groups.

  Args:
    kernel: Shape `[K, K, cin / groups, cout]`.
    groups: Its groups.
    shuffle: Whether `shuffle_channels` comes before the convolution.

  Returns:
    Shape `[K, K, cin, cout]`; zero between channels of different groups.
  """
  *window, group_in, cout = kernel.shape
  group_of_input = np.arange(groups * group_in) // group_in
  group_of_output = np.arange(cout) // (cout // groups)
  kernel = jnp.concatenate([kernel] * groups, -2)
  kernel = jnp.where(group_of_input[:, None] == group_of_output, kernel, 0)
  if shuffle:  # Channel `group * group_in + i` becomes channel `i * groups + group`.
    apart = kernel.reshape(*window, group_in, groups, cout)
    kernel = apart.swapaxes(-3, -2).reshape(kernel.shape)
  return kernel


def convolve_by_primitive(
  x: jax.Array, kernel: jax.Array, stride: int = 1, groups: int = 1
) -> jax.Array:
  """Convolves by `lax.conv_general_dilated`; arguments as for `convolve`."""
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
  """Convolves by matrix products, depthwise by multiply-adds; arguments as for `convolve`."""
  side, _, group_in, cout = kernel.shape
  if groups == x.shape[-1] == cout:
    return _depthwise(x, kernel[:, :, 0], stride)
  shifts = _shifts(_pad(x, side), side, stride)
  taps = kernel.reshape(side * side, group_in, groups, cout // groups)
  if groups > _MOST_PRODUCTS:
    grouped = [s.reshape(*s.shape[:3], groups, group_in) for s in shifts]
    weights = taps.reshape(-1, groups, cout // groups)
    y = jnp.einsum("bhwgi,igo->bhwgo", jnp.concatenate(grouped, -1), weights)
    return y.reshape(*y.shape[:3], cout)
  products = []
  for group in range(groups):
    channels = slice(group * group_in, (group + 1) * group_in)
    seen = jnp.concatenate([shift[..., channels] for shift in shifts], -1)
    products.append(_product(seen, taps[:, :, group].reshape(-1, cout // groups)))
  return jnp.concatenate(products, -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _by_platform(x: jax.Array, kernel: jax.Array, stride: int, groups: int) -> jax.Array:
  """Convolves by products on CPUs, by the primitive elsewhere.

  The custom gradient chooses again; JAX would differentiate both, and store the residuals of both.
  """
  return jax.lax.platform_dependent(
    x,
    kernel,
    cpu=lambda x, kernel: convolve_by_products(x, kernel, stride, groups),
    default=lambda x, kernel: convolve_by_primitive(x, kernel, stride, groups),
  )


def _by_platform_forward(x: jax.Array, kernel: jax.Array, stride: int, groups: int) -> Any:
  return _by_platform(x, kernel, stride, groups), (x, kernel)


def _by_platform_backward(stride: int, groups: int, inputs: Any, gradient: jax.Array) -> Any:
  def pull(convolve):
    def transpose(x, kernel, gradient):
      return jax.vjp(lambda x, kernel: convolve(x, kernel, stride, groups), x, kernel)[1](gradient)

    return transpose

  return jax.lax.platform_dependent(
    *inputs, gradient, cpu=pull(convolve_by_products), default=pull(convolve_by_primitive)
  )


_by_platform.defvjp(_by_platform_forward, _by_platform_backward)


# With at most this many groups, each group has its own product. This takes half the time of one
# batched product, but longer to compile.
_MOST_PRODUCTS = 8


@jax.custom_vjp
def _product(x: jax.Array, weights: jax.Array) -> jax.Array:
  """`x @ weights` of shapes `[..., I]` and `[I, O]`, with a custom gradient of the weights.

  JAX's own gradient is a transpose of `gradient.T @ x`, and XLA's CPU compiler stores the large
  transposed gradient.
  """
  return x @ weights


def _product_forward(x: jax.Array, weights: jax.Array) -> Any:
  return x @ weights, (x, weights)


def _product_backward(inputs: Any, gradient: jax.Array) -> Any:
  x, weights = inputs
  rows = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
  return gradient @ weights.T, jax.lax.dot_general(*rows, (((0,), (0,)), ((), ())))


_product.defvjp(_product_forward, _product_backward)


def _pad(x: jax.Array, side: int) -> jax.Array:
  padding = (side - 1) // 2
  return jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))


def _shifts(padded: jax.Array, side: int, stride: int) -> list[jax.Array]:
  """The input pixels of each of the `side * side` taps, in row-major order."""
  height, width = padded.shape[1] - side + 1, padded.shape[2] - side + 1
  return [
    padded[:, i : i + height : stride, j : j + width : stride]
    for i in range(side)
    for j in range(side)
  ]


def _multiply_add(x: jax.Array, taps: jax.Array, stride: int) -> jax.Array:
  """The depthwise convolution with taps `[K, K, C]`."""
  side, _, channels = taps.shape
  shifts = _shifts(_pad(x, side), side, stride)
  products = (shift * tap for shift, tap in zip(shifts, taps.reshape(-1, channels)))
  return sum(products, start=jnp.zeros((), x.dtype))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(x: jax.Array, taps: jax.Array, stride: int) -> jax.Array:
  """`_multiply_add` with a custom gradient of the taps.

  JAX's own gradient is a reduction of a product for every tap. XLA's CPU compiler fuses these into
  a loop that it does not vectorise.
  """
  return _multiply_add(x, taps, stride)


def _depthwise_forward(x: jax.Array, taps: jax.Array, stride: int) -> Any:
  return _multiply_add(x, taps, stride), (x, taps)


def _depthwise_backward(stride: int, inputs: Any, gradient: jax.Array) -> Any:
  x, taps = inputs
  [of_x] = jax.linear_transpose(lambda x: _multiply_add(x, taps, stride), x)(gradient)
  return of_x, _gradient_of_taps(x, gradient, taps.shape[0], stride).astype(taps.dtype)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)

# Numbers in the running sums of a block: a megabyte, which stays in the cache of a core.
_BLOCK = 1 << 18


def _gradient_of_taps(x: jax.Array, gradient: jax.Array, side: int, stride: int) -> jax.Array:
  """The gradient of taps `[K, K, C]`: adds up blocks of images or rows, then sums the block."""
  batch, height, width, channels = gradient.shape
  padded = _pad(x, side)
  most = max(_BLOCK // (side * side * width * channels), 1)
  rows = _largest_divisor(height, most)
  images = _largest_divisor(batch, max(most // height, 1))
  block = (images, rows, width, channels)
  window = (images, (rows - 1) * stride + side, *padded.shape[2:])

  def add(index, sums):
    image, row = index // (height // rows) * images, index % (height // rows) * rows
    part = jax.lax.dynamic_slice(gradient, (image, row, 0, 0), block)
    seen = jax.lax.dynamic_slice(padded, (image, row * stride, 0, 0), window)
    return [total + part * shift for total, shift in zip(sums, _shifts(seen, side, stride))]

  start = [jnp.zeros(block, jnp.float32)] * (side * side)
  blocks = batch // images * (height // rows)
  sums = jax.lax.fori_loop(0, blocks, add, start)
  return jnp.stack([_sum_by_halves(total) for total in sums]).reshape(side, side, channels)


def _sum_by_halves(pixels: jax.Array) -> jax.Array:
  """Sums over all axes but the last. XLA vectorises additions of arrays, not small reductions."""
  pixels = pixels.reshape(-1, pixels.shape[-1])
  while len(pixels) % 2 == 0:
    half = len(pixels) // 2
    pixels = pixels[:half] + pixels[half:]
  return pixels.sum(0)


def _largest_divisor(number: int, most: int) -> int:
  return next(d for d in range(min(number, most), 0, -1) if number % d == 0)

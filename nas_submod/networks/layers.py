"""Layers, and combinators of layers.

Combinators take and return layers, so a network is an expression. Images are `[B, H, W, C]`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from nas_submod.networks import convolution, graph, normalization
from nas_submod.networks.graph import Shape
from nas_submod.networks.layer import Layer, Variables, trace_of, traced

_MOST_MERGED_GROUPS = 8  # Without groups a kernel is larger by their number.
BATCH_NORM_MOMENTUM = 0.9  # weight of the old running statistics in an update


def parameter_free(
  function: Callable[[jax.Array], jax.Array],
  output_shape: Callable[[Shape], Shape] = lambda s: s,
  kind: str = "",
  **fields: Any,
) -> Layer:
  """A layer from a function without parameters.

  Args:
    function: `x [B, ...] -> y [B, ...]`.
    output_shape: Maps the shape of one input example to that of its output.
    kind: Its kind of operation, a key of `graph.KINDS`; "" for a layer without trace.
    **fields: Fields of that operation.
  """
  layer = Layer(
    init=lambda rng, draw=jax.random.normal: Variables((), ()),
    apply=lambda params, state, x, train: (function(x), state),
    cost=lambda shape: (output_shape(shape), {"params": 0, "madds": 0}),
  )
  if not kind:
    return layer
  return layer._replace(
    trace=lambda shape: graph.start(shape).add(kind, shape=output_shape(shape), **fields)
  )


def identity() -> Layer:
  """The layer that returns its input."""
  return parameter_free(lambda x: x)._replace(trace=graph.start)


def relu() -> Layer:
  """The ReLU."""
  return parameter_free(jax.nn.relu, kind="relu")


def global_average_pool() -> Layer:
  """Averages over height and width: `[B, H, W, C] -> [B, C]`."""
  return parameter_free(lambda x: x.mean((1, 2)), lambda shape: (shape[-1],), "pool")


def conv(
  cin: int,
  cout: int,
  kernel: int = 1,
  stride: int = 1,
  groups: int = 1,
  bias: bool = False,
  shuffle: bool = False,
) -> Layer:
  """A 2-d convolution with padding `(kernel - 1) / 2`, initialised He-normal by fan-out.

  Args:
    cin: Input channels.
    cout: Output channels.
    kernel: Odd side of the kernel, in pixels.
    stride: Step in both directions, in pixels.
    groups: Independent groups of channels; `groups == cin == cout` is a depthwise convolution.
    bias: Whether to add a bias, initially zero.
    shuffle: Whether to shuffle the channels of the groups first (Zhang et al. 2018).

  Raises:
    ValueError: If channels do not divide into groups, or the kernel is even.
  """
  if cin % groups or cout % groups:
    raise ValueError(f"conv: {cin} -> {cout} channels do not divide into {groups} groups")
  if kernel % 2 == 0:
    raise ValueError(f"conv: kernel {kernel} is even; allowed: odd sizes")
  shape = (kernel, kernel, cin // groups, cout)
  scale = (2 * groups / (kernel * kernel * cout)) ** 0.5

  def init(rng, draw=jax.random.normal):
    params = {"kernel": scale * draw(rng, shape)}
    return Variables(params | ({"bias": jnp.zeros(cout)} if bias else {}), ())

  def apply(params, state, x, train):
    x = convolution.shuffle_channels(x, groups) if shuffle and groups > 1 else x
    y = convolution.convolve(x, params["kernel"].astype(x.dtype), stride, groups)
    return (y + params["bias"].astype(x.dtype) if bias else y), state

  def trace(in_shape):
    height, width = -(-in_shape[0] // stride), -(-in_shape[1] // stride)
    weights = kernel * kernel * (cin // groups) * cout
    found = graph.start(in_shape)
    if shuffle and groups > 1:
      found = found.add("shuffle", groups=groups)
    return found.add(
      "conv",
      shape=(height, width, cout),
      params=weights + (cout if bias else 0),
      madds=weights * height * width,
      kernel=kernel,
      stride=stride,
      groups=groups,
      bias=bias,
    )

  def merge(params):
    merged = convolution.kernel_without_groups(params["kernel"], groups, shuffle)
    return params | {"kernel": merged}

  ungrouped = None
  if kernel == 1 and 1 < groups <= _MOST_MERGED_GROUPS:
    ungrouped = conv(cin, cout, kernel, stride, bias=bias), merge
  return traced(init, apply, trace, ungrouped)


def batch_norm(channels: int, epsilon: float = 1e-5) -> Layer:
  """Batch normalisation over all axes but the last (Ioffe and Szegedy 2015).

  Args:
    channels: Size of the last axis.
    epsilon: Added to the variance.
  """

  def init(rng, draw=jax.random.normal):
    params = {"scale": jnp.ones(channels), "bias": jnp.zeros(channels)}
    return Variables(params, {"mean": jnp.zeros(channels), "var": jnp.ones(channels)})

  def apply(params, state, x, train):
    scale, bias = params["scale"], params["bias"]
    if not train:
      return normalization.normalize(x, scale, bias, state["mean"], state["var"], epsilon), state
    y, mean, var = normalization.normalize_batch(x, scale, bias, epsilon, train)
    moved = {"mean": mean, "var": var}
    weight = BATCH_NORM_MOMENTUM
    return y, jax.tree.map(lambda old, new: weight * old + (1 - weight) * new, state, moved)

  def trace(shape):
    return graph.start(shape).add("batch_norm", params=2 * channels, epsilon=epsilon)

  return traced(init, apply, trace)


def dense(cin: int, cout: int, scale: float = 0.01) -> Layer:
  """A fully connected layer, `[B, cin] -> [B, cout]`; its multiply-adds are not counted."""

  def init(rng, draw=jax.random.normal):
    return Variables({"kernel": scale * draw(rng, (cin, cout)), "bias": jnp.zeros(cout)}, ())

  def apply(params, state, x, train):
    return x @ params["kernel"].astype(x.dtype) + params["bias"].astype(x.dtype), state

  def trace(shape):
    return graph.start(shape).add("dense", shape=(cout,), params=(cin + 1) * cout)

  return traced(init, apply, trace)


def _ungrouped(combine: Callable[..., Layer], *layers: Layer) -> Any:
  """The field `ungrouped` of a combination of layers, whose parameters are a tuple."""
  if not any(layer.ungrouped for layer in layers):
    return None
  pairs = [layer.ungrouped or (layer, lambda params: params) for layer in layers]

  def merge(params):
    return tuple(merge(part) for (_, merge), part in zip(pairs, params))

  return combine(*(layer for layer, _ in pairs)), merge


def serial(*layers: Layer) -> Layer:
  """Applies layers one after the other."""

  def init(rng, draw=jax.random.normal):
    rngs = jax.random.split(rng, max(len(layers), 1))
    variables = [layer.init(rng, draw) for layer, rng in zip(layers, rngs)]
    return Variables(tuple(v.params for v in variables), tuple(v.state for v in variables))

  def apply(params, state, x, train):
    states = []
    for layer, layer_params, layer_state in zip(layers, params, state):
      x, moved = layer.apply(layer_params, layer_state, x, train)
      states.append(moved)
    return x, tuple(states)

  def trace(shape):
    found = graph.start(shape)
    for index, layer in enumerate(layers):
      found = found.then(trace_of(layer, found.output_shape), index)
    return found

  return traced(init, apply, trace, _ungrouped(serial, *layers))


def _parallel(
  left: Layer, right: Layer, combine: Callable[[jax.Array, jax.Array], jax.Array], kind: str
) -> Layer:
  """Applies two layers to the same input, and combines their outputs by an operation."""

  def init(rng, draw=jax.random.normal):
    variables = [layer.init(r, draw) for layer, r in zip((left, right), jax.random.split(rng))]
    return Variables(tuple(v.params for v in variables), tuple(v.state for v in variables))

  def apply(params, state, x, train):
    y, left_state = left.apply(params[0], state[0], x, train)
    z, right_state = right.apply(params[1], state[1], x, train)
    return combine(y, z), (left_state, right_state)

  def trace(shape):
    one = graph.start(shape).then(trace_of(left, shape), 0)
    both = one.then(trace_of(right, shape), 1, tensor=0)
    return both.add(kind, one.output, both.output)

  def parallel(left, right):
    return _parallel(left, right, combine, kind)

  return traced(init, apply, trace, _ungrouped(parallel, left, right))


def residual(branch: Layer, shortcut: Layer | None = None) -> Layer:
  """`branch(x) + shortcut(x)`; the shortcut is the identity by default (He et al. 2016)."""
  return _parallel(branch, identity() if shortcut is None else shortcut, jnp.add, "add")


def squeeze_excite(channels: int, reduction: int = 4) -> Layer:
  """Multiplies channels by a gate computed from their averages (Hu et al. 2018).

  Its two 1x1 convolutions of the averages have biases, and their multiply-adds are counted.
  """
  squeezed = max(channels // reduction, 1)
  gate = serial(
    parameter_free(
      lambda x: x.mean((1, 2), keepdims=True), lambda shape: (1, 1, shape[-1]), "pool"
    ),
    conv(channels, squeezed, bias=True),
    relu(),
    conv(squeezed, channels, bias=True),
    parameter_free(jax.nn.hard_sigmoid, kind="hard_sigmoid"),
  )
  return _parallel(identity(), gate, jnp.multiply, "multiply")

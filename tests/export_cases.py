"""Small layers, ready for export, with the logits that every file of them must return."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import numpy as np
import pytest

from nas_submod.export.model import Model, make_model
from nas_submod.networks import architectures, build, layers, spaces
from nas_submod.networks.blocks import conv_bn, inverted_residual


class Case(NamedTuple):
  """A model, images `[3, H, W, C]`, and what the layer makes of them without training."""

  model: Model
  images: np.ndarray
  outputs: np.ndarray


def _network(name, text, **fields):
  space = dataclasses.replace(spaces.get(name), **fields)
  return build(space, space.parse(text)), space.image_shape


def _rcnet():
  space = spaces.get("rcnet_cifar100")
  return build(space, architectures.read(space, "rcnet")), space.image_shape


def _part(shape, *parts):
  return layers.serial(*parts), shape


METADATA = {"classes": '["é", "b"]', "seed": "0"}
CASES = {
  "digits": lambda: _network("digits", "e3 e6g2p2 | e3p2 | e12g2p4 e6"),
  # Its second stage holds its projection alone.
  "projection": lambda: _network(
    "nas_bench_macro", "e3 . | . . . | e6k5 . .", image_shape=(8, 8, 3), head_channels=16
  ),
  "squeeze_excite": lambda: _part(
    (5, 4, 6), inverted_residual(6, 6, 1, expansion=2, squeeze_excite=True, project_groups=3)
  ),
  "pre_activation": lambda: _part(
    (5, 5, 4),
    layers.residual(
      layers.serial(layers.batch_norm(4), layers.relu(), layers.conv(4, 4, 3), layers.relu())
    ),
    layers.batch_norm(4),
    layers.global_average_pool(),
    layers.batch_norm(4),
    layers.dense(4, 8),
    layers.relu(),
  ),
  "shortcut": lambda: _part(
    (7, 6, 4),
    layers.residual(
      layers.serial(conv_bn(4, 6, 3, 2), conv_bn(6, 6, 3, active=False)),
      conv_bn(4, 6, stride=2, active=False),
    ),
    layers.relu(),
  ),
  "kernel_5_of_odd_sides": lambda: _part(
    (7, 5, 4),
    layers.conv(4, 8, 5, 2, groups=2, bias=True),
    layers.batch_norm(8),
    layers.conv(8, 8, 5, 2, groups=8),
    layers.relu(),
  ),
  "identity": lambda: _part((3, 3, 2), layers.identity()),
  "rcnet": _rcnet,
}

# All kinds of operation are in the other cases; the depth of RCNet takes most of the time.
NAMES = [pytest.param(n, marks=pytest.mark.slow if n == "rcnet" else ()) for n in CASES]


@functools.cache
def case(name: str) -> Case:
  """The case of a name, with random values of batch norm."""
  layer, shape = CASES[name]()
  rng = np.random.default_rng(0)
  images = rng.normal(size=(3, *shape)).astype(np.float32)

  def drawn(leaf):
    """Zeros become small numbers, ones numbers near one; kernels stay."""
    near = leaf * rng.uniform(0.5, 1.5, leaf.shape) + (leaf == 0) * rng.normal(0, 0.2, leaf.shape)
    return near.astype(np.float32) if leaf.ndim == 1 else leaf

  # JAX would compile a draw for each shape of a kernel.
  start = layer.init(jax.random.key(0), lambda _, shape: rng.normal(size=shape).astype(np.float32))
  variables = jax.tree.map(lambda leaf: drawn(np.asarray(leaf)), start)
  outputs = jax.jit(lambda v, x: layer.apply(*v, x, False)[0])(variables, images)
  outputs = np.asarray(outputs)
  # Otherwise a file that ignores its images would pass.
  assert np.ptp(outputs, axis=0).max() > 0.02 * np.abs(outputs).max()
  place = None if name in ("digits", "projection", "rcnet") else (lambda path: name)
  model = make_model(layer, shape, variables, METADATA, place)
  return Case(model, images, outputs)


def assert_close(actual, expected):
  """Asserts an error of at most 1e-5 of the largest output."""
  np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())

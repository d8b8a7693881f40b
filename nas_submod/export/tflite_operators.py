"""The TFLite operators for each operation of a network."""

from collections.abc import Callable

import numpy as np

from nas_submod.export.model import Weights
from nas_submod.export.tflite_build import Builder
from nas_submod.networks.graph import Operation, Shape
from nas_submod.resources.memory import padded_copy


def add(
  build: Builder,
  operation: Operation,
  weights: Weights,
  name: str,
  output_name: str,
  inputs: list[int],
  shapes: list[Shape],
) -> int:
  """Adds the operators of an operation; returns the tensor they make."""
  shape = (1, *operation.shape)
  activation = {"fusedActivationFunction": "RELU" if operation.active else "NONE"}

  def output():
    return build.tensor(output_name, shape)

  if operation.kind == "conv":
    return _convolution(build, operation, weights, name, inputs[0], shapes[0], output)
  if operation.kind == "batch_norm":
    return _scale_and_shift(build, weights, name, inputs[0], shapes[0], output)
  if operation.kind == "dense":
    assert weights.kernel is not None and weights.bias is not None
    kernel = build.constant(f"{name}/kernel", weights.kernel.T)
    bias = build.constant(f"{name}/bias", weights.bias)
    read = [*inputs, kernel, bias]
    return build.operator("FULLY_CONNECTED", read, output(), "FullyConnectedOptions", **activation)
  if operation.kind == "shuffle":
    return _shuffle(build, operation, name, inputs[0], output)
  if operation.kind == "pool":
    axes = build.constant(f"{name}/axes", np.array([1, 2], np.int32))
    keep = len(operation.shape) == 3
    return build.operator("MEAN", [*inputs, axes], output(), "ReducerOptions", keepDims=keep)
  if operation.kind == "hard_sigmoid":
    three = build.constant(f"{name}/three", np.array([3], np.float32))
    sixth = build.constant(f"{name}/sixth", np.array([1 / 6], np.float32))
    between = build.tensor(f"{name}/relu6", shape)
    fused = {"fusedActivationFunction": "RELU6"}
    build.operator("ADD", [*inputs, three], between, "AddOptions", **fused)
    return build.operator("MUL", [between, sixth], output(), "MulOptions", **activation)
  if operation.kind == "relu":
    return build.operator("RELU", inputs, output())
  code, options = {"add": ("ADD", "AddOptions"), "multiply": ("MUL", "MulOptions")}[operation.kind]
  return build.operator(code, inputs, output(), options, **activation)


def _convolution(
  build: Builder,
  operation: Operation,
  weights: Weights,
  name: str,
  source: int,
  before: Shape,
  output: Callable[[], int],
) -> int:
  assert weights.kernel is not None and weights.bias is not None
  step, side = operation.stride, operation.kernel
  padding = build.schema.Padding.SAME
  if padded_copy(before, side, step):
    edge, [height, width, channels] = side // 2, before
    sides = build.constant(
      f"{name}/sides", np.array([[0, 0], [edge, edge], [edge, edge], [0, 0]], np.int32)
    )
    padded = build.tensor(f"{name}/pad", (1, height + 2 * edge, width + 2 * edge, channels))
    source = build.operator("PAD", [source, sides], padded, "PadOptions")
    padding = build.schema.Padding.VALID
  options = {
    "padding": padding,
    "strideH": step,
    "strideW": step,
    "fusedActivationFunction": "RELU" if operation.active else "NONE",
  }
  kernel, channels = weights.kernel, before[-1]
  bias = build.constant(f"{name}/bias", weights.bias)
  if operation.groups == channels > 1:
    depthwise = build.constant(f"{name}/kernel", kernel.reshape(1, side, side, -1))
    options["depthMultiplier"] = kernel.shape[-1] // channels
    read = [source, depthwise, bias]
    return build.operator("DEPTHWISE_CONV_2D", read, output(), "DepthwiseConv2DOptions", **options)
  # Runtimes take the number of groups from the shape of the kernel.
  read = [source, build.constant(f"{name}/kernel", kernel.transpose(3, 0, 1, 2)), bias]
  return build.operator("CONV_2D", read, output(), "Conv2DOptions", **options)


def _scale_and_shift(
  build: Builder, weights: Weights, name: str, source: int, before: Shape, output: Callable[[], int]
) -> int:
  """A batch norm that is not folded: a depthwise 1x1 convolution, which int8 stores as usual."""
  assert weights.kernel is not None and weights.bias is not None
  image = (1,) * (3 - len(before)) + before
  if len(before) == 1:
    source = reshape(build, source, f"{name}/image", build.tensor(f"{name}/in", (1, *image)))
  kernel = build.constant(f"{name}/kernel", weights.kernel.reshape(1, 1, 1, -1))
  bias = build.constant(f"{name}/bias", weights.bias)
  target = output() if len(before) == 3 else build.tensor(f"{name}/out", (1, *image))
  build.operator(
    "DEPTHWISE_CONV_2D",
    [source, kernel, bias],
    target,
    "DepthwiseConv2DOptions",
    padding=build.schema.Padding.SAME,
    strideH=1,
    strideW=1,
    depthMultiplier=1,
  )
  return target if len(before) == 3 else reshape(build, target, f"{name}/vector", output())


def _shuffle(
  build: Builder, operation: Operation, name: str, source: int, output: Callable[[], int]
) -> int:
  *sides, channels = operation.shape
  area, groups = int(np.prod(sides)), operation.groups
  apart = build.tensor(f"{name}/apart", (1, area, groups, channels // groups))
  reshape(build, source, f"{name}/split", apart)
  turned = build.tensor(f"{name}/turned", (1, area, channels // groups, groups))
  order = build.constant(f"{name}/order", np.array([0, 1, 3, 2], np.int32))
  build.operator("TRANSPOSE", [apart, order], turned, "TransposeOptions")
  return reshape(build, turned, f"{name}/join", output())


def reshape(build: Builder, source: int, name: str, target: int) -> int:
  """Adds the operator that gives a tensor the shape of another."""
  shape = build.tensors[target].shape
  constant = build.constant(f"{name}_shape", np.array(shape, np.int32))
  return build.operator(
    "RESHAPE", [source, constant], target, "ReshapeOptions", newShape=list(shape)
  )

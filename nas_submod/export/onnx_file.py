"""ONNX files, float and int8: opset 17, images `[batch, C, H, W]`, any batch size."""

import collections
import math
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from nas_submod import files
from nas_submod.export.extras import package
from nas_submod.export.model import Model, Weights
from nas_submod.export.runtimes import content
from nas_submod.networks.graph import Operation, Shape
from nas_submod.validation import first_line

# Runtimes of 2022 and later read these versions.
_OPSET = 17
_IR_VERSION = 8
_CALIBRATION_BATCH = 32


def write_onnx(model: Model, path: str | pathlib.Path) -> None:
  """Writes a model as an ONNX file.

  Its input "images" is float32 `[batch, C, H, W]`. Its output "logits" is `[batch, classes]`, or
  `[batch, C, H, W]` for a part of a network. Nodes and tensors have the names of the model, and
  the file holds its metadata.

  Raises:
    ValueError: If package onnx is missing.
  """
  onnx = package("onnx")
  helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
  graph = model.graph
  tensors = ["images", *model.names]
  if graph.output:
    tensors[graph.output] = "logits"
  nodes, arrays = [], {}
  for index, name in enumerate(model.names):
    operation, weights = graph.operations[index], model.weights[index]
    inputs = [tensors[i] for i in operation.inputs]
    steps = list(_steps(operation, weights, graph.shape_of(operation.inputs[0])))
    for number, (kind, suffix, attributes, constants) in enumerate(steps, 1):
      node = f"{name}/{suffix}" if suffix else name
      named = {f"{name}/{key}": array for key, array in constants.items()}
      # The last step makes the tensor that other operations read.
      output = tensors[index + 1] if number == len(steps) else f"{name}/step{number}"
      nodes.append(helper.make_node(kind, [*inputs, *named], [output], name=node, **attributes))
      arrays.update(named)
      inputs = [output]
  if not graph.output:  # A part that returns its input.
    nodes.append(helper.make_node("Identity", ["images"], ["logits"], name="identity"))
  written = helper.make_model(
    helper.make_graph(
      nodes,
      "nas_submod",
      [helper.make_tensor_value_info("images", float32, _batched(graph.shape))],
      [helper.make_tensor_value_info("logits", float32, _batched(graph.output_shape))],
      [onnx.numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in arrays.items()],
    ),
    producer_name="nas_submod",
    opset_imports=[helper.make_opsetid("", _OPSET)],
    ir_version=_IR_VERSION,
  )
  helper.set_model_props(written, dict(model.metadata))
  onnx.checker.check_model(written, full_check=True)
  files.write_bytes(pathlib.Path(path), written.SerializeToString())


def _batched(shape: Shape) -> list[int | str]:
  """The shape of a tensor in the file: batch and channels first."""
  *sides, channels = shape
  return ["batch", channels, *sides]


Step = tuple[str, str, dict[str, Any], dict[str, np.ndarray]]


def _steps(operation: Operation, weights: Weights, before: Shape) -> Iterator[Step]:
  """The ONNX nodes of an operation: kind, suffix of its name, attributes, constant inputs."""
  *sides, channels = before
  column = (-1, *(1 for _ in sides))  # A number for each channel, to be broadcast over the image.
  if operation.kind == "conv":
    assert weights.kernel is not None and weights.bias is not None
    attributes = {
      "kernel_shape": [operation.kernel] * 2,
      "strides": [operation.stride] * 2,
      "pads": [operation.kernel // 2] * 4,
      "group": operation.groups,
    }
    kernel = weights.kernel.transpose(3, 2, 0, 1)
    yield "Conv", "", attributes, {"kernel": kernel, "bias": weights.bias}
  elif operation.kind == "dense":
    assert weights.kernel is not None and weights.bias is not None
    yield "Gemm", "", {}, {"kernel": weights.kernel, "bias": weights.bias}
  elif operation.kind == "batch_norm":
    assert weights.kernel is not None and weights.bias is not None
    yield "Mul", "", {}, {"scale": weights.kernel.reshape(column)}
    yield "Add", "shift", {}, {"shift": weights.bias.reshape(column)}
  elif operation.kind == "shuffle":
    groups = operation.groups
    apart = np.array([0, groups, channels // groups, *sides], np.int64)  # 0 keeps the batch.
    joined = np.array([0, channels, *sides], np.int64)
    yield "Reshape", "split", {}, {"split_shape": apart}
    yield "Transpose", "", {"perm": [0, 2, 1, *range(3, len(apart))]}, {}
    yield "Reshape", "join", {}, {"join_shape": joined}
  elif operation.kind == "pool":
    yield "GlobalAveragePool", "", {}, {}
    if len(operation.shape) == 1:
      yield "Flatten", "flatten", {}, {}
  else:
    kinds = {"relu": "Relu", "hard_sigmoid": "HardSigmoid", "add": "Add", "multiply": "Mul"}
    slope = {"alpha": 1 / 6, "beta": 0.5} if operation.kind == "hard_sigmoid" else {}
    yield kinds[operation.kind], "", slope, {}
  if operation.active:
    yield "Relu", "relu", {}, {}


def nodes(path: str | pathlib.Path) -> dict[str, int]:
  """The number of nodes of each kind in an ONNX file, the most frequent first.

  Raises:
    ValueError: If the file cannot be read.
  """
  return dict(collections.Counter(n.op_type for n in _read(path).graph.node).most_common())


def metadata(path: str | pathlib.Path) -> dict[str, str]:
  """The metadata of an ONNX file.

  Raises:
    ValueError: If the file cannot be read.
  """
  return {entry.key: entry.value for entry in _read(path).metadata_props}


def _read(path: str | pathlib.Path) -> Any:
  onnx = package("onnx")
  written = content(path)
  try:
    model = onnx.load_model_from_string(written)
    onnx.checker.check_model(model)
  except Exception as error:  # Protobuf's and the checker's errors have no common class.
    raise ValueError(f"{path} cannot be read as an ONNX file: {first_line(error)}") from None
  return model


def counts(path: str | pathlib.Path) -> tuple[int, int]:
  """The number of weights in a float file, and the multiply-adds of its convolutions.

  Args:
    path: A file of `write_onnx`.

  Returns:
    Kernels and biases together; multiply-adds for one image.

  Raises:
    ValueError: If the file cannot be read.
  """
  onnx = package("onnx")
  graph = onnx.shape_inference.infer_shapes(_read(path)).graph
  sizes = {w.name: list(w.dims) for w in graph.initializer if w.data_type == onnx.TensorProto.FLOAT}
  shapes = {
    t.name: [size.dim_value for size in t.type.tensor_type.shape.dim]
    for t in (*graph.value_info, *graph.output)
  }
  madds = sum(
    math.prod(sizes[node.input[1]]) * math.prod(shapes[node.output[0]][2:])
    for node in graph.node
    if node.op_type == "Conv"
  )
  return sum(map(math.prod, sizes.values())), madds


def quantize_onnx(
  path_float: str | pathlib.Path, path_int8: str | pathlib.Path, images: np.ndarray
) -> None:
  """Writes an ONNX file with int8 weights and activations, from a file of `write_onnx`.

  The ranges of activations are their minimum and maximum over the images. Weights have a scale for
  each output channel. Operations stay in float between nodes that dequantise and quantise (QDQ);
  runtimes fuse these to integer operations. The metadata is kept.

  Args:
    path_float: The file of `write_onnx`.
    path_int8: The file to write.
    images: Normalised training images. Shape `[N, H, W, C]`.

  Raises:
    ValueError: If the file cannot be read, the images do not fit it, or a package is missing.
  """
  onnx, quantization = package("onnx"), package("onnxruntime.quantization")
  model = _read(path_float)
  [expected] = [_sizes(tensor) for tensor in model.graph.input]
  images = np.asarray(images, np.float32)
  if not len(images) or images.shape[1:] != expected:
    raise ValueError(
      f"calibration images have shape {list(images.shape)}; allowed for {path_float}: "
      f"[N, {', '.join(map(str, expected))}] with N >= 1"
    )

  class Reader(quantization.CalibrationDataReader):  # type: ignore[name-defined, misc]
    """Batches of the images."""

    starts = iter(range(0, len(images), _CALIBRATION_BATCH))

    def get_next(self):
      start = next(self.starts, None)
      if start is None:
        return None
      batch = np.moveaxis(images[start : start + _CALIBRATION_BATCH], -1, 1)
      return {"images": np.ascontiguousarray(batch)}

  known = metadata(path_float)
  onnx.helper.set_model_props(model, known | {"onnx.quant.pre_process": "onnxruntime.quant"})
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "int8.onnx"
    quantization.quantize_static(
      model,
      path,
      Reader(),
      quant_format=quantization.QuantFormat.QDQ,
      per_channel=True,
      activation_type=quantization.QuantType.QInt8,
      weight_type=quantization.QuantType.QInt8,
      calibrate_method=quantization.CalibrationMethod.MinMax,
      # Otherwise a ReLU is dropped even if its output is always 0 and has the scale 1.
      extra_options={"QDQKeepRemovableActivations": True},
    )
    written = _read(path)
  onnx.helper.set_model_props(written, known)
  files.write_bytes(pathlib.Path(path_int8), written.SerializeToString())


def _sizes(tensor: Any) -> Shape:
  """The shape `[H, W, C]` of one example of an input."""
  _, channels, *sides = [size.dim_value for size in tensor.type.tensor_type.shape.dim]
  return (*sides, channels)

"""TFLite files, float32 or int8: images `[1, H, W, C]`."""

import collections
import contextlib
import io
import json
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from nas_submod import files
from nas_submod.export.extras import package
from nas_submod.export.model import Model
from nas_submod.export.runtimes import content
from nas_submod.export.standard_error import captured
from nas_submod.export.tflite_build import METADATA, Builder, packed, schema
from nas_submod.export.tflite_operators import add, reshape
from nas_submod.validation import first_line

_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def write_tflite(model: Model, path: str | pathlib.Path) -> None:
  """Writes a model as a float32 TFLite file.

  Its input "images" is `[1, H, W, C]`. Its output "logits" is `[1, classes]`, or `[1, H, W, C]` for
  a part of a network. Tensors have the names of the model, and the file holds its metadata.

  Raises:
    ValueError: If package ai-edge-litert is missing.
  """
  graph = model.graph
  build = Builder()
  tensors = [build.tensor("images", (1, *graph.shape))]
  for operation, weights, name in zip(graph.operations, model.weights, model.names):
    inputs = [tensors[i] for i in operation.inputs]
    shapes = [graph.shape_of(i) for i in operation.inputs]
    # The last tensor of an operation has its name, earlier tensors have longer names.
    output_name = "logits" if len(tensors) == graph.output else name
    tensors.append(add(build, operation, weights, name, output_name, inputs, shapes))
  if not graph.output:  # A part that returns its input.
    tensors[0] = reshape(build, 0, "identity", build.tensor("logits", (1, *graph.shape)))
  files.write_bytes(pathlib.Path(path), build.finish(0, tensors[graph.output], model.metadata))


def quantize_tflite(
  path_float: str | pathlib.Path, path_int8: str | pathlib.Path, images: np.ndarray
) -> None:
  """Writes the int8 form of a float32 file, with int8 input and output.

  Weights have a scale for each output channel. The range of a tensor runs from its smallest to its
  largest value over all images.

  Args:
    path_float: A file of `write_tflite`.
    path_int8: The file to write.
    images: Normalised training images `[N, H, W, C]`.

  Raises:
    ValueError: If the file cannot be read, is int8 already or computes values that are not finite,
      the images do not fit, or a package is missing.
  """
  quantizer = package("ai_edge_quantizer.quantizer", "tflite")
  recipe = package("ai_edge_quantizer.recipe", "tflite")
  tools = package("ai_edge_litert.tools.flatbuffer_utils", "tflite")
  ranges = _ranges(path_float, np.asarray(images, np.float32))
  quantize = quantizer.Quantizer(content(path_float), recipe.static_wi8_ai8())
  with _quiet():
    result = quantize.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
  # The quantizer stores large buffers after the flatbuffer, where TFLite Micro reads zeros.
  model = tools.read_model_from_bytearray(bytes(result.quantized_model))
  files.write_bytes(pathlib.Path(path_int8), packed(model))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Silences warnings about memory for all tensors, progress bars, and C++ output."""
  with warnings.catch_warnings(), captured(), contextlib.redirect_stderr(io.StringIO()):
    warnings.simplefilter("ignore")
    yield


def _ranges(path: str | pathlib.Path, images: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
  """The smallest and the largest value of each tensor, by name, in the form of the quantizer.

  The quantizer's own calibration averages them over images, which costs accuracy.
  """
  litert = package("ai_edge_litert.interpreter", "tflite")
  model = read(path)
  [graph] = model.subgraphs
  shape = tuple(graph.tensors[graph.inputs[0]].shape[1:])
  if len(images) == 0 or images.shape[1:] != shape or not np.isfinite(images).all():
    raise ValueError(
      f"images to quantize {path} have shape {images.shape}; allowed: finite numbers of "
      f"shape (images, {', '.join(map(str, shape))}), at least one image"
    )
  if graph.tensors[graph.inputs[0]].type != schema().TensorType.FLOAT32:
    raise ValueError(f"{path} is not a float32 file; allowed: a file of write_tflite")
  with _quiet():
    interpreter = litert.Interpreter(
      model_path=str(path), num_threads=1, experimental_preserve_all_tensors=True
    )
    interpreter.allocate_tensors()
  computed = [i for i, t in enumerate(graph.tensors) if model.buffers[t.buffer].data is None]
  low, high = np.full(len(graph.tensors), np.inf), np.full(len(graph.tensors), -np.inf)
  for image in images:
    interpreter.set_tensor(graph.inputs[0], image[None])
    interpreter.invoke()
    for i in computed:
      values = interpreter.get_tensor(i)
      low[i] = np.minimum(low[i], values.min())  # Unlike min, it keeps NaN.
      high[i] = np.maximum(high[i], values.max())
  for i in computed:
    if not np.isfinite([low[i], high[i]]).all():  # TFLite Micro would end the process.
      name = graph.tensors[i].name.decode()
      raise ValueError(f"tensor {name} of {path} reaches values that are not finite")
  kernels = _widen(model, low, high)

  def number(value, tensor):
    return np.full((1,) * len(graph.tensors[tensor].shape), value, np.float32)

  bounds = {i: (number(low[i], i), number(high[i], i)) for i in computed}
  bounds |= {i: (-bound, bound) for i, bound in kernels.items()}
  return {
    graph.tensors[i].name.decode(): {"min": smallest, "max": largest}
    for i, (smallest, largest) in bounds.items()
  }


def _widen(model: Any, low: np.ndarray, high: np.ndarray) -> dict[int, np.ndarray]:
  """Widens ranges that are too narrow for integers, such as of channels that are always 0.

  XNNPACK refuses an output whose step is far below the product of the steps of its inputs. A bias
  has this product as its step, and 32 bits, which overflow if a channel's kernel is all zeros.

  Args:
    model: The content of a float32 file.
    low: The smallest value of each tensor. Shape `[tensors]`.
    high: The largest value; raised in place.

  Returns:
    The bounds on absolute values of kernels that need a larger bound than their own, by tensor,
    with as many axes as the kernel.
  """
  [graph] = model.subgraphs
  names, kernels = _operator_names(model), {}

  def values(tensor):
    tensor = graph.tensors[tensor]
    content = bytes(model.buffers[tensor.buffer].data)
    return np.frombuffer(content, np.float32).reshape(tensor.shape)

  def step(tensor):
    return max(max(high[tensor], 0) - min(low[tensor], 0), 1e-9) / 255

  for operator in graph.operators:
    kind, [target] = names[operator.opcodeIndex], operator.outputs
    source, *others = operator.inputs
    product = step(source)
    if kind in _WEIGHTED:
      kernel, bias = np.abs(values(others[0])), np.abs(values(others[1]))
      axis = kernel.ndim - 1 if kind == "DEPTHWISE_CONV_2D" else 0
      bound = kernel.max(tuple(i for i in range(kernel.ndim) if i != axis), keepdims=True)
      smallest = 127 * bias.reshape(bound.shape) / (step(source) * 2**30)
      if (bound < smallest).any():
        bound = kernels[others[0]] = np.maximum(bound, smallest).astype(np.float32)
      product *= bound.max() / 127
    elif kind == "MUL" and np.isfinite(low[others[0]]):
      product *= step(others[0])
    if step(target) < product / 128:
      high[target] = min(low[target], 0) + 255 * product / 128
  return kernels


def nodes(path: str | pathlib.Path) -> dict[str, int]:
  """The number of operators of each kind in a TFLite file, the most frequent first.

  Raises:
    ValueError: If the file cannot be read.
  """
  model = read(path)
  names = _operator_names(model)
  return dict(
    collections.Counter(names[o.opcodeIndex] for o in model.subgraphs[0].operators).most_common()
  )


def quantization(path: str | pathlib.Path) -> dict[str, tuple[float, int]]:
  """The scale and the zero point of `input` and `output` of an int8 file.

  A number x is stored as `round(x / scale) + zero`.

  Raises:
    ValueError: If the file cannot be read, or its input or output is no int8.
  """
  [graph] = read(path).subgraphs
  ends = {"input": graph.tensors[graph.inputs[0]], "output": graph.tensors[graph.outputs[0]]}
  found = {}
  for name, tensor in ends.items():
    settings = tensor.quantization
    if settings is None or settings.scale is None:
      raise ValueError(f"{path} is no int8 file: its {name} is float32")
    found[name] = float(settings.scale[0]), int(settings.zeroPoint[0])
  return found


def metadata(path: str | pathlib.Path) -> dict[str, str]:
  """The metadata of a TFLite file, as `write_tflite` stored it.

  Raises:
    ValueError: If the file cannot be read.
  """
  model = read(path)
  for entry in model.metadata or ():
    if entry.name == METADATA.encode():
      return json.loads(bytes(model.buffers[entry.buffer].data))
  return {}


def weight_bytes(path: str | pathlib.Path) -> int:
  """Bytes of the weights and biases of a TFLite file, as the resource `flash` counts them.

  The rest of the file is overhead. An int8 file has about 24 bytes per output channel for scales,
  310 bytes per operator and 1 kB besides metadata; a float32 file has 245 bytes per operator.

  Raises:
    ValueError: If the file cannot be read.
  """
  model = read(path)
  [graph] = model.subgraphs
  names = _operator_names(model)
  buffers = {
    graph.tensors[tensor].buffer
    for operator in graph.operators
    if names[operator.opcodeIndex] in _WEIGHTED
    for tensor in operator.inputs[1:]
  }
  return sum(len(model.buffers[buffer].data) for buffer in buffers)


def _operator_names(model: Any) -> list[str]:
  names = {code: name for name, code in vars(schema().BuiltinOperator).items()}
  return [names[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in model.operatorCodes]


def read(path: str | pathlib.Path) -> Any:
  """The content of a TFLite file, as objects of the schema.

  Raises:
    ValueError: If the file cannot be read, or package ai-edge-litert is missing.
  """
  tools = package("ai_edge_litert.tools.flatbuffer_utils", "tflite")
  written = content(path)
  try:
    if written[4:8] != b"TFL3":
      raise ValueError("its bytes 4 to 8 are not TFL3")
    return tools.read_model_from_bytearray(written)
  except Exception as error:  # A damaged file raises errors of any class.
    reason = first_line(error)
    raise ValueError(f"{path} cannot be read as a TFLite file: {reason}") from None

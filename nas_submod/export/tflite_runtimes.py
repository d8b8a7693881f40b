"""Runs TFLite files with LiteRT and TFLite Micro, image by image."""

import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from nas_submod.export import tflite_build, tflite_file
from nas_submod.export.extras import package
from nas_submod.export.runtimes import Runner, content
from nas_submod.export.standard_error import captured
from nas_submod.validation import first_line


def load_litert(path: str | pathlib.Path) -> Runner:
  """Loads a TFLite file on the CPU.

  Args:
    path: The file, float32 or int8.

  Raises:
    ValueError: If the file cannot be loaded, or package ai-edge-litert is missing.
  """
  litert = package("ai_edge_litert.interpreter", "tflite")
  written = content(path)
  try:
    with captured():
      interpreter = litert.Interpreter(model_content=written, num_threads=1)
      interpreter.allocate_tensors()
  except Exception as error:  # Its errors have no common class.
    raise ValueError(f"{path} cannot be loaded by LiteRT: {first_line(error)}") from None
  [source], [target] = interpreter.get_input_details(), interpreter.get_output_details()

  def one(image):
    interpreter.set_tensor(source["index"], image)
    interpreter.invoke()
    return interpreter.get_tensor(target["index"])

  return Runner(_run(one, source, target))


def load_tflite_micro(path: str | pathlib.Path) -> Runner:
  """Loads a TFLite file as a microcontroller would.

  `Runner.arena` is the part of the arena that holds activations, and `Runner.persistent` the part
  that holds the graph, which pointers make larger here than on a 32-bit device.

  Args:
    path: The file, int8 or float32.

  Raises:
    ValueError: If the file cannot be loaded, or package tflite-micro is missing; it exists for
      Linux on x86-64 only.
  """
  runtime = package("tflite_micro.python.tflite_micro.runtime", "tflite")
  model = tflite_file.read(path)
  written = content(path)
  packed = tflite_build.schema().Model.GetRootAs(written, 0)
  if any(packed.Buffers(i).Offset() for i in range(packed.BuffersLength())):
    raise ValueError(
      f"{path} stores weights outside its flatbuffer, which TFLite Micro reads as zeros; "
      "allowed: a file of write_tflite or quantize_tflite"
    )
  [graph] = model.subgraphs
  # More than it needs: all tensors at once, and the objects of the graph.
  size = sum(4 * int(np.prod(t.shape)) + 1024 for t in graph.tensors) + (1 << 20)
  with captured() as text:
    try:
      interpreter = runtime.Interpreter.from_bytes(written, arena_size=size)
    except Exception as error:  # Its errors have no common class.
      reason = first_line(error)
      raise ValueError(f"{path} cannot be loaded by TFLite Micro: {reason}") from None
    interpreter.print_allocations()
    found = dict(re.findall(r"Arena allocation (head|tail) (\d+) bytes", text()))
  source, target = interpreter.get_input_details(0), interpreter.get_output_details(0)

  def one(image):
    interpreter.set_input(image, 0)
    interpreter.invoke()
    return interpreter.get_output(0)

  return Runner(_run(one, source, target), int(found["head"]), int(found["tail"]))


def _run(
  one: Callable[[np.ndarray], np.ndarray], source: Any, target: Any
) -> Callable[[np.ndarray], np.ndarray]:
  """Makes a function that runs images one by one, converted between float32 and the file's type."""

  def run(x):
    images = quantized(np.asarray(x, np.float32), source)
    outputs = [one(np.ascontiguousarray(image[None])) for image in images]
    shape = (len(images), *target["shape"][1:])
    return dequantized(np.array(outputs, target["dtype"]).reshape(shape), target)

  return run


def quantized(x: np.ndarray, details: Any) -> np.ndarray:
  """Converts float32 numbers to the form of a tensor with these details."""
  if details["dtype"] == np.float32:
    return x
  scale, zero = _quantization(details)
  limits = np.iinfo(details["dtype"])
  return np.clip(np.round(x / scale) + zero, limits.min, limits.max).astype(details["dtype"])


def dequantized(x: np.ndarray, details: Any) -> np.ndarray:
  """The inverse of `quantized`, up to rounding."""
  if details["dtype"] == np.float32:
    return x
  scale, zero = _quantization(details)
  return (x.astype(np.float32) - zero) * scale


def _quantization(details: Any) -> tuple[np.float32, int]:
  """The scale and the zero point of a whole tensor."""
  parameters = details["quantization_parameters"]
  return np.float32(parameters["scales"][0]), int(parameters["zero_points"][0])

"""Runs exported files with the runtimes that a device would use."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import export

from nas_submod.export.extras import package
from nas_submod.validation import first_line


class Runner(NamedTuple):
  """A file that its runtime has loaded.

  Attributes:
    run: Maps normalised images `[B, H, W, C]` to logits `[B, classes]`, float32. A part of a
      network returns `[B, H, W, C]`.
    arena: Bytes of memory that the runtime needs for activations; None if it does not say.
    persistent: Bytes that it needs for the graph, besides the file; None if it does not say.
  """

  run: Callable[[np.ndarray], np.ndarray]
  arena: int | None = None
  persistent: int | None = None


def content(path: str | pathlib.Path) -> bytes:
  """The bytes of a file.

  Raises:
    ValueError: If it cannot be read.
  """
  try:
    return pathlib.Path(path).read_bytes()
  except OSError as error:
    raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def onnx_session(model: bytes | str, threads: int) -> Any:
  """A session of onnxruntime on the CPU, from the content of an ONNX file or from its path."""
  onnxruntime = package("onnxruntime")
  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
  options.log_severity_level = 3  # Errors only.
  return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def load_onnxruntime(path: str | pathlib.Path) -> Runner:
  """Loads an ONNX file on the CPU.

  Args:
    path: The file.

  Raises:
    ValueError: If the file cannot be loaded, or package onnxruntime is missing.
  """
  package("onnxruntime")
  written = content(path)
  try:
    session = onnx_session(written, 1)
  except Exception as error:  # Its errors have no common class.
    raise ValueError(f"{path} cannot be loaded by onnxruntime: {first_line(error)}") from None
  [name] = [tensor.name for tensor in session.get_inputs()]

  def run(x):
    images = np.moveaxis(np.asarray(x, np.float32), -1, 1)
    [y] = session.run(None, {name: np.ascontiguousarray(images)})
    return np.moveaxis(y, 1, -1)

  return Runner(run)


def load_stablehlo(path: str | pathlib.Path) -> Runner:
  """Loads a StableHLO file; JAX compiles it for its device, once for each batch size.

  Args:
    path: The file.

  Raises:
    ValueError: If the file cannot be loaded, or package flatbuffers is missing.
  """
  package("flatbuffers")
  written = bytearray(content(path))
  try:
    exported = export.deserialize(written)
    call = jax.jit(exported.call)
    # `deserialize` does not read the program, but this does.
    call.lower(jax.ShapeDtypeStruct((1, *exported.in_avals[0].shape[1:]), np.float32))
  except Exception as error:  # Its errors have no common class.
    raise ValueError(f"{path} cannot be loaded as StableHLO: {first_line(error)}") from None
  return Runner(lambda x: np.asarray(call(np.asarray(x, np.float32))))

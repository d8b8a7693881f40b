"""Exported files, run by the runtimes that a device would use."""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nas_submod.export.extras import package
from nas_submod.validation import at_least_one, first_line


class Runner(NamedTuple):
  """A file that its runtime has loaded.

  Attributes:
    run: Normalised images `[B, H, W, C]` to logits `[B, classes]`, float32. A part of a network
      returns `[B, H, W, C]`.
    arena: Bytes of memory that the runtime says it needs; None if it does not say.
  """

  run: Callable[[np.ndarray], np.ndarray]
  arena: int | None = None


def load_onnxruntime(path: str | pathlib.Path, threads: int = 1) -> Runner:
  """Loads an ONNX file on the CPU.

  Args:
    path: The file.
    threads: Threads that share an operation.

  Raises:
    ValueError: If the file cannot be loaded, or package onnxruntime is missing.
  """
  at_least_one(threads=threads)
  onnxruntime = package("onnxruntime")
  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
  options.log_severity_level = 3  # Errors only.
  try:
    # Its errors for a missing path are long; Python's name the cause.
    content = pathlib.Path(path).read_bytes()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
  except Exception as error:  # Its errors have no common class.
    raise ValueError(f"{path} cannot be loaded by onnxruntime: {first_line(error)}") from None
  [name] = [tensor.name for tensor in session.get_inputs()]

  def run(x):
    images = np.moveaxis(np.asarray(x, np.float32), -1, 1)
    [y] = session.run(None, {name: np.ascontiguousarray(images)})
    return np.moveaxis(y, 1, -1)

  return Runner(run)

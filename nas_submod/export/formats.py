"""The table of file formats: how each is written, quantised and loaded."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nas_submod.export import (
  onnx_file,
  runtimes,
  stablehlo_file,
  tflite_file,
  tflite_runtimes,
  timing,
)
from nas_submod.export.extras import package
from nas_submod.export.model import Model
from nas_submod.export.runtimes import Runner


class Format(NamedTuple):
  """A format of files.

  Attributes:
    file: Name of the file.
    runtime: The runtime used here.
    packages: The packages that it needs, with the extra that installs each.
    load: Loads the file, to run on one thread if its runtime has a choice.
    write: Writes a float file; None for an int8 format.
    source: The float format that is quantised; "" for a float format.
    quantize: `(float file, int8 file, calibration images)`; None for a float format.
    nodes: Counts the operations in a file by kind; None if they are not counted.
    quantization: Reads the scale and the zero of `input` and `output` of a file that takes and
      returns int8; None for other formats.
    prepare: Makes a function that runs the file once, to be timed; None if it is not timed.
    checked: Largest number of test images to check it on; None: all.
  """

  file: str
  runtime: str
  packages: Mapping[str, str]
  load: Callable[..., Runner]
  write: Callable[[Model, pathlib.Path], None] | None = None
  source: str = ""
  quantize: Callable[[pathlib.Path, pathlib.Path, np.ndarray], None] | None = None
  nodes: Callable[[pathlib.Path], dict[str, int]] | None = None
  quantization: Callable[[pathlib.Path], dict[str, tuple[float, int]]] | None = None
  prepare: Callable[[pathlib.Path, int], Callable[[], None]] | None = None
  checked: int | None = None


_ONNX = {"onnx": "export", "onnxruntime": "export"}
_TFLITE = {"ai_edge_litert": "tflite", "flatbuffers": "tflite"}

FORMATS: Mapping[str, Format] = {
  "onnx": Format(
    "model.onnx",
    "onnxruntime",
    _ONNX,
    runtimes.load_onnxruntime,
    write=onnx_file.write_onnx,
    nodes=onnx_file.nodes,
    prepare=timing.prepare_onnxruntime,
  ),
  "onnx_int8": Format(
    "model_int8.onnx",
    "onnxruntime",
    _ONNX,
    runtimes.load_onnxruntime,
    source="onnx",
    quantize=onnx_file.quantize_onnx,
    nodes=onnx_file.nodes,
    prepare=timing.prepare_onnxruntime,
  ),
  "tflite": Format(
    "model.tflite",
    "LiteRT",
    _TFLITE,
    tflite_runtimes.load_litert,
    write=tflite_file.write_tflite,
    nodes=tflite_file.nodes,
    prepare=timing.prepare_litert,
  ),
  "tflite_int8": Format(
    "model_int8.tflite",
    "LiteRT",
    _TFLITE | {"ai_edge_quantizer": "tflite"},
    tflite_runtimes.load_litert,
    source="tflite",
    quantize=tflite_file.quantize_tflite,
    nodes=tflite_file.nodes,
    quantization=tflite_file.quantization,
    prepare=timing.prepare_litert,
  ),
  "stablehlo": Format(
    "model.stablehlo",
    "JAX",
    {"flatbuffers": "export"},
    runtimes.load_stablehlo,
    write=stablehlo_file.write_stablehlo,
    checked=1000,  # XLA is slow at grouped convolutions on a CPU.
  ),
}


class Choice(NamedTuple):
  """The formats to write.

  Attributes:
    names: Keys of `FORMATS`, in its order.
    left_out: Formats that are not possible, with the reason; empty if formats were named.
  """

  names: tuple[str, ...]
  left_out: Mapping[str, str]


def choose(names: Sequence[str], no_int8: str = "") -> Choice:
  """Chooses the formats to write, before any work.

  Args:
    names: Wanted formats. Empty: all that are possible.
    no_int8: Why int8 is not possible; "" if it is.

  Raises:
    ValueError: If a wanted format is unknown or not possible, or none is possible.
  """
  if unknown := [name for name in names if name not in FORMATS]:
    raise ValueError(f"unknown format {unknown[0]!r}; allowed: {', '.join(FORMATS)}")
  left_out = {}
  for name, form in FORMATS.items():
    reason = (no_int8 if form.source else "") or missing(form.packages)
    if reason and name in names:
      raise ValueError(f"format {name}: {reason}")
    if reason:
      left_out[name] = reason
  chosen = tuple(name for name in FORMATS if name in (names or FORMATS) and name not in left_out)
  if not chosen:
    raise ValueError(f"no format is possible: {next(iter(left_out.values()))}")
  return Choice(chosen, {} if names else left_out)


def missing(packages: Mapping[str, str]) -> str:
  """Why one of some packages cannot be imported, and how to install it; "" if all can."""
  for name, extra in packages.items():
    try:
      package(name, extra)
    except ValueError as error:
      return str(error)
  return ""

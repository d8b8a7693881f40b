"""Times many models in turn, so that each finds caches as cold as inside an application.

A model that runs in a loop is up to a quarter faster than the same model among others, and medians
vary with the load of the machine. Therefore every model runs once in each sweep, in shuffled order,
and its time is the 10th percentile of 50 sweeps.
"""

import gc
import importlib.metadata
import json
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from nas_submod import files
from nas_submod.export.extras import package
from nas_submod.export.runtimes import onnx_session
from nas_submod.export.standard_error import captured
from nas_submod.validation import at_least_one

PERCENTILE = 10
SWEEPS = 50  # Per percentile.
_KEEP_EVERY = 10  # Sweeps; writing more often would disturb what is timed.


def prepare_onnxruntime(path: pathlib.Path, threads: int = 1) -> Callable[[], None]:
  """A function that runs an ONNX file once, on an input that is already in place.

  Raises:
    ValueError: If package onnxruntime is missing.
  """
  onnxruntime = package("onnxruntime")
  session = onnx_session(str(path), threads)
  [source], [target] = session.get_inputs(), session.get_outputs()
  binding = session.io_binding()
  binding.bind_cpu_input(source.name, _image([1, *source.shape[1:]]))
  output = np.zeros([1, *target.shape[1:]], np.float32)
  binding.bind_ortvalue_output(target.name, onnxruntime.OrtValue.ortvalue_from_numpy(output))
  return lambda: session.run_with_iobinding(binding)


def prepare_litert(path: pathlib.Path, threads: int = 1) -> Callable[[], None]:
  """A function that runs a TFLite file once, on an input that is already in place.

  Raises:
    ValueError: If package ai-edge-litert is missing.
  """
  litert = package("ai_edge_litert.interpreter", "tflite")
  with captured():  # It prints which delegate it uses.
    interpreter = litert.Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
  [source] = interpreter.get_input_details()
  interpreter.set_tensor(source["index"], _image(source["shape"]).astype(source["dtype"]))
  return interpreter.invoke


def _image(shape: Any) -> np.ndarray:
  return np.random.default_rng(0).standard_normal(tuple(shape), np.float32)


class Runtime(NamedTuple):
  """A runtime that can time files.

  Attributes:
    format: The extension of its files, a key of `parts.WRITERS`.
    prepare: `(path, threads) -> function that runs the file once`.
    package: The distribution that contains it.
  """

  format: str
  prepare: Callable[[pathlib.Path, int], Callable[[], None]]
  package: str


RUNTIMES: Mapping[str, Runtime] = {
  "onnxruntime": Runtime("onnx", prepare_onnxruntime, "onnxruntime"),
  "litert": Runtime("tflite", prepare_litert, "ai-edge-litert"),
}


def version_of(runtime: str) -> str:
  """The version of a runtime, a key of RUNTIMES.

  Raises:
    ValueError: If it is not installed.
  """
  name = RUNTIMES[runtime].package
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    extra = "export" if runtime == "onnxruntime" else "tflite"
    raise ValueError(
      f"{name} is not installed; install it by pip install -e '.[{extra}]'"
    ) from None


def clock_of(threads: int) -> tuple[str, Callable[[], float]]:
  """The name of a clock and the clock, in seconds.

  With one thread, it counts only the time of this thread, so that other programs disturb less.
  """
  return ("thread time", time.thread_time) if threads == 1 else ("wall time", time.perf_counter)


def sweep(
  runs: Mapping[str, Callable[[], None]], rng: np.random.Generator, clock: Callable[[], float]
) -> list[float]:
  """Runs every function once in shuffled order; returns milliseconds in the order of `runs`."""
  functions = list(runs.values())
  milliseconds = [0.0] * len(functions)
  order = rng.permutation(len(functions)).tolist()
  gc.disable()  # A collection would count as the time of a model.
  try:
    for index in order:
      run = functions[index]
      start = clock()
      run()
      milliseconds[index] = 1e3 * (clock() - start)
  finally:
    gc.enable()
  return milliseconds


def round_robin(
  runs: Mapping[str, Callable[[], None]],
  sweeps: int,
  threads: int = 1,
  log: pathlib.Path | None = None,
  settings: Any = None,
  renew: Callable[[], Mapping[str, Callable[[], None]]] | None = None,
  show: Callable[[int], None] = lambda done: None,
) -> dict[str, float]:
  """Times functions in turn.

  Args:
    runs: The functions by name.
    sweeps: How often each runs; 60 to 300 are usual.
    threads: Threads that they use; decides the clock.
    log: A file that keeps finished sweeps. Given the same file, the next call continues.
    settings: JSON of what else the sweeps depend on; a log with other settings is refused.
    renew: Loads the functions again, under the same names; called every 50 sweeps. The place of a
      program in memory changes its time by a few percent.
    show: Called with the number of finished sweeps.

  Returns:
    Milliseconds by name: the 10th percentile of 50 sweeps, averaged over all of them.

  Raises:
    ValueError: If the log belongs to other functions or settings.
  """
  at_least_one(sweeps=sweeps, threads=threads)
  names = list(runs)
  rows = _resumed(log, {"settings": settings, "names": names})[:sweeps]
  rng = np.random.default_rng([0, len(rows)])
  _, clock = clock_of(threads)
  is_new, kept = True, len(rows)
  try:
    while len(rows) < sweeps:
      if renew is not None and not is_new and len(rows) % SWEEPS == 0:
        runs = {}  # Frees the memory of the old ones.
        runs, is_new = renew(), True
      if is_new:
        sweep(runs, rng, clock)  # The first runs allocate memory.
      rows.append(sweep(runs, rng, clock))
      is_new = False
      show(len(rows))
      if log is not None and len(rows) - kept == _KEEP_EVERY:
        files.append_lines(log, rows[kept:])
        kept = len(rows)
  finally:
    if log is not None:
      files.append_lines(log, rows[kept:])
  together = np.array_split(np.array(rows), max(1, len(rows) // SWEEPS))
  values = np.mean([np.percentile(some, PERCENTILE, axis=0) for some in together], axis=0)
  return dict(zip(names, values.tolist()))


def _resumed(log: pathlib.Path | None, head: Any) -> list[list[float]]:
  """The sweeps of a log; begins the log if there is none."""
  if log is None:
    return []
  try:
    lines = [json.loads(line) for line in files.read_lines(log)] if log.is_file() else []
  except ValueError:
    lines = [None]  # It is no log.
  if not lines:
    files.append_lines(log, [head])
  elif lines[0] != json.loads(json.dumps(head)):
    raise ValueError(
      f"{log} holds sweeps of other settings, parts or versions: delete it, or take another output"
    )
  return lines[1:]

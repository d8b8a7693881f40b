"""Writes the files of a network, runs each with its own runtime, and reports what was found."""

import functools
import pathlib
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nas_submod import files
from nas_submod.data.loading import Split
from nas_submod.export import card, classify, file_costs, tflite_runtimes, timing, verify
from nas_submod.export.extras import package
from nas_submod.export.formats import FORMATS, Choice
from nas_submod.export.model import Model, make_model
from nas_submod.export.runtimes import Runner
from nas_submod.export.subject import Subject, data_of_card, metadata, network_facts, versions
from nas_submod.resources import latency
from nas_submod.resources.additive import weights_of

CALIBRATION = 256
SWEEPS = 60
_CARD, _FACTS = "MODEL_CARD.md", "export.json"
_MICRO_IMAGES = 100  # TFLite Micro has reference kernels, which are slow.
_MICRO_AGREEMENT = 0.9

OnProgress = Callable[[str, int, int], None]


class _Loaded(NamedTuple):
  """An exported file, loaded by its runtime."""

  path: pathlib.Path
  runner: Runner


def deploy(
  subject: Subject,
  choice: Choice,
  output: pathlib.Path,
  calibration: int = CALIBRATION,
  on_progress: OnProgress = lambda doing, done, count: None,
) -> dict[str, Any]:
  """Writes files, checks them on test images, times them, and writes a card and a script.

  Args:
    subject: What is exported.
    choice: The formats.
    output: The folder of the files.
    calibration: Number of training images that give the ranges of int8 numbers.
    on_progress: Called with an activity, its steps done, and all its steps.

  Returns:
    The content of `export.json`.

  Raises:
    ValueError: If the network has a layer without `Layer.trace`, or a file cannot be written or
      loaded.
  """
  network = subject.network
  facts = metadata(subject)
  model = make_model(network.network, network.space.image_shape, network.variables, facts)
  try:
    output.mkdir(parents=True, exist_ok=True)
    for name in (_CARD, _FACTS):  # They would be wrong if this export stops halfway.
      (output / name).unlink(missing_ok=True)
  except OSError as error:
    raise ValueError(f"folder {output} cannot be used: {error.strerror}") from error
  quantizes = any(FORMATS[name].quantize for name in choice.names)
  images = _calibration_images(subject, calibration) if quantizes else None
  loaded = {
    name: _Loaded(path, FORMATS[name].load(path))
    for name, path in _write(model, choice.names, output, images, on_progress).items()
  }
  rows = {name: _file_facts(name, at, model) for name, at in loaded.items()}
  accuracy = _check(subject, loaded, rows, on_progress)
  _time(loaded, rows, on_progress)
  found = file_costs.in_files(rows, output, subject.settings)
  content = {
    "network": network_facts(subject),
    "data": data_of_card(network),
    "accuracy": accuracy,
    "calibration": {"images": 0 if images is None else len(images), "split": "train"},
    "latency": {"sweeps": SWEEPS, "threads": 1, "percentile": timing.PERCENTILE, "batch": 1},
    "resources": dict(subject.resources),
    "units": dict(subject.units),
    "budget": dict(subject.budget),
    "measured": found,
    "over_budget": file_costs.over(found, subject.budget, _timed_runtime(subject.settings)),
    "formats": rows,
    "left_out": dict(choice.left_out),
    "earlier": [f.file for f in FORMATS.values() if (output / f.file).exists()],
    "unchecked": subject.no_data,
    "commands": list(subject.commands),
    "versions": versions(),
  }
  files.write_json(output / _FACTS, content)
  files.write_bytes(output / _CARD, card.text(content).encode())
  if "onnx" in loaded:
    files.write_bytes(output / "classify.py", pathlib.Path(classify.__file__).read_bytes())
  return content


def _timed_runtime(settings: Mapping[str, Any]) -> str:
  """The runtime of the latency table; "" without one."""
  try:
    return latency.runtime_of(settings["latency"]) if settings.get("latency") else ""
  except ValueError:  # The table is no longer there.
    return ""


def _calibration_images(subject: Subject, count: int) -> np.ndarray | None:
  """Normalised training images, drawn by the seed of the config. Shape `[count, H, W, C]`."""
  if subject.data is None:
    return None
  train, network = subject.data.train, subject.network
  rng = np.random.default_rng((network.config["seed"], 0))
  rows = np.sort(rng.permutation(len(train.labels))[:count])
  return verify.normalized(train.images[rows], network.mean, network.std)


def _write(
  model: Model,
  names: Sequence[str],
  output: pathlib.Path,
  images: np.ndarray | None,
  on_progress: OnProgress,
) -> dict[str, pathlib.Path]:
  """Writes all files; makes an int8 file from its float file, which is kept only if wanted."""
  written: dict[str, pathlib.Path] = {}
  with tempfile.TemporaryDirectory() as scratch:
    for number, name in enumerate(names):
      on_progress("writing", number, len(names))
      form, path = FORMATS[name], output / FORMATS[name].file
      if form.write is not None:
        form.write(model, path)
      elif form.quantize is not None:
        source = FORMATS[form.source]
        base = written.get(form.source, pathlib.Path(scratch) / source.file)
        if form.source not in written and source.write is not None:
          source.write(model, base)
        assert images is not None, "formats.choose refuses int8 without data"
        form.quantize(base, path, images)
      written[name] = path
    on_progress("writing", len(names), len(names))
  return written


def _file_facts(name: str, loaded: _Loaded, model: Model) -> dict[str, Any]:
  """Facts about a file, without running it."""
  form = FORMATS[name]
  kernels, biases = weights_of(model.graph)
  return {
    "file": form.file,
    "runtime": form.runtime,
    "bytes": loaded.path.stat().st_size,
    "weight_bytes": (1 if form.source else 4) * kernels + 4 * biases,
    "nodes": form.nodes(loaded.path) if form.nodes else None,
    "quantization": form.quantization(loaded.path) if form.quantization else None,
    "comparison": None,
    "latency_ms": None,
    "arena_bytes": None,
    "faults": [],
    "notes": [],
  }


def _check(
  subject: Subject,
  loaded: Mapping[str, _Loaded],
  rows: Mapping[str, dict[str, Any]],
  on_progress: OnProgress,
) -> dict[str, Any] | None:
  """Runs test images through every file; returns JAX's accuracy on all test images."""
  network, data = subject.network, subject.data
  if data is None:
    return None
  test = data.test

  def logits(run: verify.Run, doing: str, split: Split) -> np.ndarray:
    return verify.logits(run, split, lambda done, count: on_progress(doing, done, count))

  def compare(
    run: verify.Run, doing: str, expected: np.ndarray, most: int | None
  ) -> tuple[np.ndarray, verify.Comparison]:
    split = test
    if most is not None and most < len(test.labels):
      chosen = np.linspace(0, len(test.labels) - 1, most).astype(int)
      split, expected = Split(test.images[chosen], test.labels[chosen]), expected[chosen]

    def of_pixels(pixels):
      return run(verify.normalized(pixels, network.mean, network.std))

    found = logits(of_pixels, doing, split)
    return found, verify.compare(found, expected, split.labels)

  reference = logits(network, "JAX", test)
  for name, (path, runner) in loaded.items():
    found, comparison = compare(runner.run, name, reference, FORMATS[name].checked)
    rows[name]["comparison"] = comparison._asdict()
    rows[name]["faults"] += verify.faults(comparison, not FORMATS[name].source, network.step > 0)
    if name == "tflite_int8":
      _check_micro(
        path,
        rows[name],
        functools.partial(compare, doing="TFLite Micro", expected=found, most=_MICRO_IMAGES),
      )
  return {
    "images": len(test.labels),
    "accuracy": float(np.mean(reference.argmax(1) == test.labels)),
    "checkpoint": dict(network.scores),
    "evaluated_on": network.config["final"]["evaluate_on"],
  }


def _check_micro(
  path: pathlib.Path,
  row: dict[str, Any],
  compare: Callable[[verify.Run], tuple[np.ndarray, verify.Comparison]],
) -> None:
  """Compares TFLite Micro with LiteRT on some test images, and notes its arena."""
  try:
    package("tflite_micro", "tflite")
  except ValueError as error:
    row["notes"].append(f"not run by TFLite Micro: {error}")
    return
  runner = tflite_runtimes.load_tflite_micro(path)
  row["arena_bytes"] = runner.arena
  if runner.persistent is not None:
    row["persistent_bytes"] = runner.persistent
    row["notes"].append(
      f"the graph takes {runner.persistent:,} bytes of TFLite Micro's arena on this machine, "
      "beside the activations; less where pointers have 32 bits"
    )
  _, comparison = compare(runner.run)
  row["micro"] = comparison._asdict()
  row["notes"].append(
    f"TFLite Micro predicts as LiteRT on {comparison.agreement:.1%} of {comparison.images} test "
    "images"
  )
  if comparison.agreement < _MICRO_AGREEMENT:
    row["faults"].append(
      f"TFLite Micro predicts as LiteRT on {comparison.agreement:.1%} of {comparison.images} test "
      f"images; at least {_MICRO_AGREEMENT:.0%} is expected"
    )


def _time(
  loaded: Mapping[str, _Loaded], rows: Mapping[str, dict[str, Any]], on_progress: OnProgress
) -> None:
  """Times the files in turn, one image on one thread."""
  prepared = {name: FORMATS[name].prepare for name in loaded}
  runs = {name: make(loaded[name].path, 1) for name, make in prepared.items() if make is not None}
  if not runs:
    return
  found = timing.round_robin(runs, SWEEPS, show=lambda done: on_progress("timing", done, SWEEPS))
  for name, row in rows.items():
    row["latency_ms"] = found.get(name)
    if name == "onnx_int8" and platform.machine().lower() in ("x86_64", "amd64"):
      row["notes"].append("its latency on x86 is not that of a device: int8 is slower than float")

"""The parts of a space and whole networks with random weights, as models and files to be timed."""

import pathlib
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from nas_submod import files, networks
from nas_submod.export.model import Model, make_model
from nas_submod.export.onnx_file import write_onnx
from nas_submod.export.tflite_file import quantize_tflite, write_tflite
from nas_submod.networks.layer import Layer, Variables
from nas_submod.networks.parts import parts
from nas_submod.networks.search_space import SearchSpace
from nas_submod.resources.latency.by_part import CHECK, NETWORK, quoted
from nas_submod.resources.latency.samples import Samples


def _write_int8(model: Model, path: pathlib.Path) -> None:
  """Writes a TFLite file in int8; time does not depend on the ranges, so random images set them."""
  with tempfile.TemporaryDirectory() as folder:
    whole = pathlib.Path(folder) / "float.tflite"
    write_tflite(model, whole)
    shape = 4, *model.graph.shape
    quantize_tflite(whole, path, np.random.default_rng(0).standard_normal(shape, np.float32))


# By file extension.
WRITERS: Mapping[str, Callable[[Model, pathlib.Path], None]] = {
  "onnx": write_onnx,
  "tflite": write_tflite,
  "int8.tflite": _write_int8,
}


def random_variables(layer: Layer, rng: np.random.Generator) -> Variables:
  """Variables of a layer for timing: normal kernels scaled by fan-in, initial batch norm.

  This is much faster than `Layer.init`, which compiles a program for each shape.
  """

  def leaf(path, form):
    name = str(getattr(path[-1], "key", "")) if path else ""
    if len(form.shape) > 1:
      scale = (2 / np.prod(form.shape[:-1])) ** 0.5
      return np.float32(scale) * rng.standard_normal(form.shape, np.float32)
    return np.full(form.shape, name in ("scale", "var"), np.float32)

  forms = jax.eval_shape(layer.init, jax.random.key(0))
  return Variables(*(jax.tree_util.tree_map_with_path(leaf, tree) for tree in forms))


def random_model(name: str, layer: Layer, shape: tuple[int, ...], **arguments: Any) -> Model:
  """The model of a layer with random weights.

  Args:
    name: Its name, which decides its weights and is stored as metadata.
    layer: The layer.
    shape: Shape of its input.
    **arguments: Arguments of `make_model`.

  Raises:
    ValueError: If the layer has no `Layer.trace`.
  """
  rng = np.random.default_rng(list(name.encode()))
  return make_model(layer, shape, random_variables(layer, rng), {"name": name}, **arguments)


def models(space: SearchSpace, samples: Samples) -> Iterator[tuple[str, Model]]:
  """Names and models of all parts of a space, and of sampled networks.

  Raises:
    ValueError: If a layer has no `Layer.trace`.
  """
  for part in parts(space):
    place = part.name
    yield place, random_model(place, part.layer, part.shape, place=lambda _, name=place: name)
  for prefix, keys in ((NETWORK, samples.fit), (CHECK, samples.check)):
    for key in keys:
      layer = networks.build(space, space.from_key(key))
      yield prefix + key, random_model(prefix + key, layer, space.image_shape)


def write(
  named: Iterable[tuple[str, Model]], folder: pathlib.Path, formats: Iterable[str]
) -> dict[str, str]:
  """Writes models as files.

  Args:
    named: Names and models.
    folder: Where to write; made if missing.
    formats: Keys of WRITERS.

  Returns:
    The file of each model, without extension.

  Raises:
    ValueError: If the package of a format is missing.
  """
  folder.mkdir(parents=True, exist_ok=True)
  formats, stems = tuple(formats), {}
  for number, (name, model) in enumerate(named, 1):
    stems[name] = f"{number:03d}_{re.sub(r'[^A-Za-z0-9]+', '_', name).strip('_')[:80]}"
    for ending in formats:
      WRITERS[ending](model, folder / f"{stems[name]}.{ending}")
  return stems


def write_skeleton(
  stems: Mapping[str, str], path: pathlib.Path, comments: Mapping[str, str]
) -> None:
  """Writes a table of parts whose milliseconds are to be filled in."""
  lines = [f"# {key}: {value}" for key, value in comments.items()]
  lines += ["part,file,milliseconds"]
  lines += [f"{quoted(name)},{stem}," for name, stem in stems.items()]
  files.write_bytes(path, ("\n".join(lines) + "\n").encode())

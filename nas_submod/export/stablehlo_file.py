"""StableHLO files for JAX and XLA: images `[batch, H, W, C]`, any batch size."""

import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from nas_submod import files
from nas_submod.export.extras import package
from nas_submod.export.model import Model, Weights
from nas_submod.networks import convolution
from nas_submod.networks.graph import Operation

PLATFORMS = ("cpu", "cuda", "tpu")


def interpret(model: Model, x: jax.Array) -> jax.Array:
  """Applies a model with JAX, in float32, with one `lax.conv` for each convolution.

  Args:
    model: The model.
    x: Normalised images. Shape `[B, H, W, C]`.

  Returns:
    Logits `[B, classes]`, or `[B, H, W, C]` for a part of a network.
  """
  tensors = [x]
  # Otherwise a TPU would multiply in bfloat16.
  with jax.default_matmul_precision("highest"):
    for operation, weights, name in zip(model.graph.operations, model.weights, model.names):
      with jax.named_scope(name):
        y = _apply(operation, weights, *(tensors[i] for i in operation.inputs))
        tensors.append(jax.nn.relu(y) if operation.active else y)
  return tensors[model.graph.output]


def _apply(operation: Operation, weights: Weights, x: jax.Array, *others: jax.Array) -> jax.Array:
  if weights.kernel is not None:
    kernel = jnp.asarray(weights.kernel)
    return _weighted(operation, kernel, x) + jnp.asarray(weights.bias)
  if operation.kind == "shuffle":
    return convolution.shuffle_channels(x, operation.groups)
  if operation.kind == "pool":
    return x.mean((1, 2), keepdims=len(operation.shape) == 3)
  functions: dict[str, Callable[..., jax.Array]] = {
    "relu": jax.nn.relu,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "add": jnp.add,
    "multiply": jnp.multiply,
  }
  return functions[operation.kind](x, *others)


def _weighted(operation: Operation, kernel: jax.Array, x: jax.Array) -> jax.Array:
  if operation.kind == "conv":
    return convolution.convolve_by_primitive(x, kernel, operation.stride, operation.groups)
  return x @ kernel if operation.kind == "dense" else x * kernel


def write_stablehlo(model: Model, path: str | pathlib.Path) -> None:
  """Writes a model as a StableHLO program, serialised by `jax.export`.

  The program runs on CPUs, CUDA GPUs and TPUs. Its format has no place for metadata, which are in
  a JSON file next to it, with ".json" added to its name.

  Raises:
    ValueError: If package flatbuffers is missing.
  """
  package("flatbuffers")
  path = pathlib.Path(path)
  [batch] = export.symbolic_shape("batch")
  images = jax.ShapeDtypeStruct((batch, *model.graph.shape), np.float32)
  program = jax.jit(lambda images: interpret(model, images))
  limit = jax.config.values["jax_traceback_in_locations_limit"]
  try:
    jax.config.update(
      "jax_traceback_in_locations_limit", 0
    )  # No paths of this machine in the file.
    exported = export.export(program, platforms=PLATFORMS)(images)
  finally:
    jax.config.update("jax_traceback_in_locations_limit", limit)
  files.write_bytes(path, bytes(exported.serialize()))
  files.write_json(path.with_name(f"{path.name}.json"), dict(model.metadata))

"""Speed of convolutions: XLA's primitive, or matrix products and shifted multiply-adds.

python -m benchmarks.convolutions [--batch_size=32] [--dtype=float32|bfloat16] [--repeats=3]
  [--untuned]

Each convolution of RCNet on CIFAR-100 is one program. The table has the seconds to compile it and
the microseconds of a call: mean and standard deviation of the repeats of ten calls, in turn. The
gradient is that of the input and the kernel together. On GPUs XLA times algorithms for every
convolution and product (autotuning). --untuned compiles without autotuning, like
`XLA_FLAGS=--xla_gpu_autotune_level=0` for all commands.
"""

import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from rich.console import Console
from rich.table import Table

from benchmarks import workload
from benchmarks.workload import BATCH_SIZE, DTYPE, REPEATS
from nas_submod.networks import convolution

flags.adopt_module_key_flags(workload)
UNTUNED = flags.DEFINE_bool("untuned", False, "Compile without autotuning; needs a GPU.")

_CALLS = 10
WAYS = {
  "primitive": convolution.convolve_by_primitive,
  "products": convolution.convolve_by_products,
}


class Form(NamedTuple):
  """A convolution: image side, input and output channels, kernel side, stride, groups."""

  side: int
  cin: int
  cout: int
  kernel: int = 1
  stride: int = 1
  groups: int = 1


FORMS = (
  Form(32, 24, 144),
  Form(8, 576, 96),
  Form(4, 1920, 320, groups=2),
  Form(32, 144, 144, 3, groups=144),
  Form(32, 192, 192, 3, 2, groups=192),
  Form(8, 576, 576, 3, groups=576),
)


class Timing(NamedTuple):
  """Seconds to compile a program, and seconds of a call in each repeat."""

  compile: float
  calls: list[float]


def programs(way: Callable[..., jax.Array], form: Form) -> dict[str, tuple[Any, tuple[Any, ...]]]:
  """Returns the forward pass and the gradient, jitted, with their arguments."""
  rng = np.random.default_rng(0)

  def draw(*shape: int) -> jax.Array:
    return jnp.asarray(rng.normal(size=shape), DTYPE.value)

  def convolve(x, kernel):
    return way(x, kernel, form.stride, form.groups)

  x = draw(BATCH_SIZE.value, form.side, form.side, form.cin)
  kernel = draw(form.kernel, form.kernel, form.cin // form.groups, form.cout)
  y = draw(*jax.eval_shape(convolve, x, kernel).shape)
  gradient = jax.jit(lambda x, kernel, y: jax.vjp(convolve, x, kernel)[1](y))
  return {"forward": (jax.jit(convolve), (x, kernel)), "gradient": (gradient, (x, kernel, y))}


def measure(form: Form) -> dict[tuple[str, str], Timing]:
  """Times each pass in each way."""
  options = {"xla_gpu_autotune_level": "0"} if UNTUNED.value else {}
  found, calls = {}, {}
  for way, function in WAYS.items():
    for name, (jitted, arguments) in programs(function, form).items():
      began = time.perf_counter()
      program = jitted.lower(*arguments).compile(options)
      found[name, way] = Timing(time.perf_counter() - began, [])
      calls[name, way] = program, arguments
      jax.block_until_ready(program(*arguments))
  for _ in range(REPEATS.value):
    for key, (program, arguments) in calls.items():
      began = time.perf_counter()
      for _ in range(_CALLS):
        result = program(*arguments)
      jax.block_until_ready(result)
      found[key].calls.append((time.perf_counter() - began) / _CALLS)
  return found


def main(argv: Any) -> None:
  """Prints a row for each convolution and pass."""
  if len(argv) > 1:
    sys.exit(f"error: unknown argument {argv[1]!r}; options begin with --")
  if UNTUNED.value and jax.default_backend() != "gpu":
    sys.exit(f"error: --untuned is for GPUs, the backend is {jax.default_backend()}")
  device = jax.local_devices()[0].device_kind
  tuned = ", untuned" if UNTUNED.value else ""
  table = Table(
    title=f"{BATCH_SIZE.value} images, {DTYPE.value}, {device}{tuned}, "
    f"jax {jax.__version__}, n = {REPEATS.value}"
  )
  table.add_column("convolution")
  table.add_column("pass")
  for way in WAYS:
    table.add_column(f"{way}: compile s", justify="right")
    table.add_column("µs", justify="right")
  table.add_column("primitive / products", justify="right")
  for form in FORMS:
    found = measure(form)
    text = f"{form.kernel}x{form.kernel}, {form.side}x{form.side}x{form.cin} -> {form.cout}"
    text += f", stride {form.stride}" * (form.stride > 1)
    text += f", {'depthwise' if form.groups == form.cin else f'{form.groups} groups'}" * (
      form.groups > 1
    )
    for name in ("forward", "gradient"):
      cells = []
      for way in WAYS:
        seconds, calls = found[name, way]
        mean, deviation = np.mean(calls), np.std(calls, ddof=min(1, len(calls) - 1))
        cells += [f"{seconds:.1f}", f"{1e6 * mean:,.0f} ± {1e6 * deviation:,.0f}"]
      means = [np.mean(found[name, way].calls) for way in WAYS]
      table.add_row(text, name, *cells, f"{means[0] / means[1]:.2f}")
  Console(width=None if sys.stdout.isatty() else 150, highlight=False).print(table)


if __name__ == "__main__":
  app.run(main)

"""Matrix products of the same precision on every device."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
  """What is traced inside, or in a function that this decorates, multiplies matrices in float32.

  Unless asked, GPUs round the factors to 10 bits and TPUs to 8, so that F and costs would differ
  from those on a CPU by more than choices may hang on. A product that names its own precision keeps
  it. Networks are trained as the user has set it.
  """
  with jax.default_matmul_precision("highest"):
    yield

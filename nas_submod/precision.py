"""Matrix products of the same precision on every device."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
  """Traces matrix products in float32, in a `with` block or in a function that it decorates.

  By default GPUs round the factors to 10 bits and TPUs to 8. Values and costs would then differ
  between devices by more than a choice allows. A product that names its own precision keeps it.
  Training of networks does not use this: it follows the user's setting.
  """
  with jax.default_matmul_precision("highest"):
    yield

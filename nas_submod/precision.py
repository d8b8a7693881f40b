"""Gives numbers the same type and precision everywhere."""

import contextlib
from collections.abc import Iterator

import jax

# JAX settings that change numbers, or raise errors for non-finite ones. People set them for all
# their programs. The precision of matrix products is not among them: users may choose it.
_SETTINGS = {
  "jax_enable_x64": False,
  "jax_default_prng_impl": "threefry2x32",
  "jax_threefry_partitionable": True,
  "jax_random_seed_offset": 0,
  "jax_enable_custom_prng": False,
  "jax_numpy_dtype_promotion": "standard",
  "jax_numpy_rank_promotion": "allow",
  "jax_softmax_custom_jvp": False,
  "jax_debug_nans": False,
  "jax_debug_infs": False,
  "jax_disable_jit": False,
}


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
  """Traces matrix products in float32, in a `with` block or in a function that it decorates.

  By default GPUs round the factors to 10 bits and TPUs to 8. Values and costs would then differ
  between devices enough to change choices. A product that names its own precision keeps it.
  Training of networks does not use this: it follows the user's setting.
  """
  with jax.default_matmul_precision("highest"):
    yield


def other_settings() -> dict[str, object]:
  """The JAX settings that differ from those that results rely on, with their values."""
  known = jax.config.values  # Some are not in every version.
  return {name: known[name] for name, value in _SETTINGS.items() if known.get(name, value) != value}


def use_our_settings() -> None:
  """Gives JAX the settings that results rely on."""
  for name in other_settings():
    jax.config.update(name, _SETTINGS[name])

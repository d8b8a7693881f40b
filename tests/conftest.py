"""Eight CPU devices for every test, because pmap needs several, and shared fixtures."""

import os
from importlib.metadata import version

# Compilation dominates the tests. These flags make it three times as fast, in command lines too.
# To test as users run: `XLA_FLAGS="--xla_backend_optimization_level=3
# --xla_cpu_use_fusion_emitters=true"`.
os.environ["XLA_FLAGS"] = " ".join(
  [
    "--xla_backend_optimization_level=0",
    # XLA ends the process at an unknown flag.
    "--xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.10.") else "",
    os.environ.get("XLA_FLAGS", ""),
  ]
)

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

# `TEST_PLATFORM=cuda python -m pytest tests/optimizers` tests the optimizers on a GPU.
jax.config.update("jax_platforms", os.environ.get("TEST_PLATFORM", "cpu"))
jax.config.update("jax_num_cpu_devices", 8)

_compilations = []


def _count(event, duration, **_):
  if event == "/jax/core/compile/backend_compile_duration":
    _compilations.append(duration)


jax.monitoring.register_event_duration_secs_listener(_count)


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
  """Caches programs that take over 0.05 s to compile; halves the time of the search tests.

  Command lines have another folder, because a killed one may leave an unfinished file. The user's
  folder is not touched.
  """
  least = "0.05"
  jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", float(least))
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled_by_commands")))
    patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", least)
    yield


@pytest.fixture(scope="session")
def digits_npz(tmp_path_factory):
  """The path of an npz file of 500 real images, 400 of them for training."""
  found = load_digits()
  images = np.round(found.images * (255 / 16)).astype(np.uint8)
  arrays = {"x_train": images[:400], "y_train": found.target[:400]}
  path = tmp_path_factory.mktemp("digits") / "digits.npz"
  np.savez(path, x_test=images[400:500], y_test=found.target[400:500], **arrays)
  return path


@pytest.fixture
def compilations():
  """A function that returns the number of XLA programs that this process has compiled."""
  return lambda: len(_compilations)


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
  """Drops the programs of a test module at its end.

  Each program takes memory maps. Linux allows 65,530 per process, and XLA aborts beyond that.
  """
  yield
  jax.clear_caches()

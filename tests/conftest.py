"""Eight CPU devices for every test, as pmap needs several; and a count of compilations."""

import os
from importlib.metadata import version

# Most of the time goes into compiling: two thirds less of it. Command lines under test see it too.
# `XLA_FLAGS="--xla_backend_optimization_level=3 --xla_cpu_use_fusion_emitters=true"`: as users run.
os.environ["XLA_FLAGS"] = " ".join(
  [
    "--xla_backend_optimization_level=0",
    # An XLA that does not know a flag ends the process.
    "--xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.10.") else "",
    os.environ.get("XLA_FLAGS", ""),
  ]
)

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

# `TEST_PLATFORM=cuda python -m pytest tests/optimizers`: optimizers run there too.
jax.config.update("jax_platforms", os.environ.get("TEST_PLATFORM", "cpu"))
jax.config.update("jax_num_cpu_devices", 8)

_compilations = []


def _count(event, duration, **_):
  if event == "/jax/core/compile/backend_compile_duration":
    _compilations.append(duration)


jax.monitoring.register_event_duration_secs_listener(_count)


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
  """What takes over 0.05 s to compile is compiled once: half the time of the tests of searches.

  Command lines have a folder of their own, as one that is killed may leave half a file. The user's
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
  """A function that tells how many XLA programs this process has compiled so far."""
  return lambda: len(_compilations)


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
  """Programs of one module are not kept for the next.

  Each takes memory maps, of which Linux allows a process 65,530: XLA aborts beyond.
  """
  yield
  jax.clear_caches()

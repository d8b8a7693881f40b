"""Memory that is freed and used again."""

import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
import jax, jax.numpy as jnp
from nas_submod.allocation import keep_freed_memory
if sys.argv[1] == "keep":
  assert keep_freed_memory()

@jax.jit
def program(x):  # 64 MB of temporary memory.
  return jnp.square(jnp.full((4096, 16), x) @ jnp.full((16, 4096), x)).sum()

for i in range(4):
  program(float(i)).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for i in range(4):
  program(float(i)).block_until_ready()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_temporary_memory_of_programs_is_not_cleared_in_every_call():
  faults = {
    mode: int(subprocess.check_output([sys.executable, "-c", _FAULTS, mode]))
    for mode in ("keep", "default")
  }
  assert faults["keep"] < faults["default"] / 10

"""Eight CPU devices for every test, as pmap needs several; and a count of compilations."""

import jax
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)

_compilations = []


def _count(event, duration, **_):
  if event == "/jax/core/compile/backend_compile_duration":
    _compilations.append(duration)


jax.monitoring.register_event_duration_secs_listener(_count)


@pytest.fixture
def compilations():
  """A function that tells how many XLA programs this process has compiled so far."""
  return lambda: len(_compilations)

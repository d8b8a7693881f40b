"""What JAX compiled, counted from its own compilation events."""

import contextlib
import threading
from collections.abc import Iterator

import jax.monitoring

_BACKEND = "/jax/core/compile/backend_compile_duration"
_STAGES = (
  "/jax/core/compile/jaxpr_trace_duration",
  "/jax/core/compile/jaxpr_to_mlir_module_duration",
  _BACKEND,
)


class CompilationLog:
  """Counts the programs compiled, and the seconds it took, inside its `counting` blocks.

  Attributes:
    programs: Programs that XLA compiled (or read from its cache).
    seconds: Tracing, lowering and compiling, nested traces counted once.
  """

  def __init__(self):
    self.programs = 0
    self.seconds = 0.0

  @contextlib.contextmanager
  def counting(self) -> Iterator[None]:
    """Counts what this thread compiles inside the block."""
    _active.logs.append(self)
    try:
      yield
    finally:
      _active.logs.remove(self)


class _Active(threading.local):
  def __init__(self):
    self.logs: list[CompilationLog] = []


_active = _Active()


def _listen(event: str, duration_secs: float, **_: str | int) -> None:
  if event not in _STAGES:
    return
  for log in _active.logs:
    log.programs += event == _BACKEND
    log.seconds += duration_secs


jax.monitoring.register_event_duration_secs_listener(_listen)

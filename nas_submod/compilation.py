"""Compilation: counting programs, compiling several at once, and the persistent cache."""

import contextlib
import hashlib
import os
import pathlib
import platform
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent import futures
from typing import Any

import jax

# Events that JAX reports to listeners.
_BACKEND = "/jax/core/compile/backend_compile_duration"
_STAGES = (
  "/jax/core/compile/jaxpr_trace_duration",
  "/jax/core/compile/jaxpr_to_mlir_module_duration",
  _BACKEND,
)


class CompilationLog:
  """Counts compiled programs and compilation time inside its `counting` blocks.

  Attributes:
    programs: Programs that XLA compiled or read from its cache.
    seconds: Time of tracing, lowering and compiling; nested traces count once.
  """

  def __init__(self):
    self.programs = 0
    self.seconds = 0.0

  @contextlib.contextmanager
  def counting(self) -> Iterator[None]:
    """Counts the compilations of this thread inside the block."""
    _active.logs.append(self)
    try:
      yield
    finally:
      _active.logs.remove(self)


@contextlib.contextmanager
def uncounted() -> Iterator[None]:
  """Counts nothing in this thread inside the block."""
  logs, _active.logs = _active.logs, []
  try:
    yield
  finally:
    _active.logs = logs


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


def options_for(platform: str, seldom: bool = False) -> dict[str, Any]:
  """XLA's options for a program.

  Args:
    platform: The platform of its devices, such as "cpu", "cuda" or "tpu".
    seldom: Whether the program runs so seldom that its compile time matters more than its speed.
  """
  if platform == "cpu":
    # Level 1 compiles a fifth faster, and a search's training steps are no slower.
    return {"xla_backend_optimization_level": "1"}
  if platform == "tpu" and seldom:
    # Compiles in a third to a fifth of the time. The compiler expects two to three times the cycles
    # (docs/tpu.md).
    return {"exec_time_optimization_effort": -0.5}
  return {}


def compile_together(
  *lower: Callable[[], jax.stages.Lowered], platform: str, seldom: Collection[int] = ()
) -> list[jax.stages.Compiled]:
  """Lowers and compiles programs in parallel.

  The logs of this thread count all programs, and the time until the last one is compiled.

  Args:
    lower: Functions that each trace and lower one program.
    platform: The platform of their devices, such as "cpu".
    seldom: Places in `lower` of programs that run seldom, as for `options_for`.

  Returns:
    The compiled programs, in the order of `lower`.
  """
  began = time.perf_counter()

  def counted(place: int) -> tuple[jax.stages.Compiled, int]:
    log = CompilationLog()  # The logs of the calling thread do not see this thread's events.
    with log.counting():
      program = lower[place]().compile(options_for(platform, place in seldom))
      return program, log.programs

  threads = futures.ThreadPoolExecutor(len(lower))
  try:
    found = list(threads.map(counted, range(len(lower))))
  finally:
    # XLA cannot be interrupted: a `with` block would make Ctrl-C wait for minutes.
    threads.shutdown(wait=False)
  passed = time.perf_counter() - began
  for log in _active.logs:
    log.programs += sum(programs for _, programs in found)
    log.seconds += passed
  return [program for program, _ in found]


def keep_programs() -> None:
  """Turns on JAX's persistent compilation cache, in the user's cache folder.

  The folder is `$XDG_CACHE_HOME/nas_submod/jax` or `~/.cache/nas_submod/jax`, with a subfolder for
  each kind of processor. `JAX_COMPILATION_CACHE_DIR` sets another folder, and
  `JAX_ENABLE_COMPILATION_CACHE=false` turns the cache off. Without a home folder, or without write
  access to the folder, there is no cache.
  """
  settings = jax.config.values
  if settings["jax_compilation_cache_dir"] or not settings["jax_enable_compilation_cache"]:
    return
  try:
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    folder = pathlib.Path(base) / "nas_submod" / "jax" / _processor()
    folder.mkdir(parents=True, exist_ok=True)
  except (OSError, RuntimeError):  # RuntimeError: a container may have no home folder.
    return
  if os.access(folder, os.W_OK):
    jax.config.update("jax_compilation_cache_dir", str(folder))


def _processor() -> str:
  """A short name for the kind of processor and its instructions."""
  # XLA compiles for the instructions of this CPU. In a home folder shared by several machines a
  # program from another CPU could end the process with an illegal instruction.
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
  except OSError:
    lines = []
  described = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
  text = "\n".join(sorted(described)) or platform.processor()
  return f"{platform.machine()}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

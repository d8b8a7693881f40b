"""What JAX compiled, counted from its own compilation events, and kept for the next run."""

import contextlib
import hashlib
import os
import pathlib
import platform
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures

import jax

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


def compile_together(*lower: Callable[[], jax.stages.Lowered]) -> list[jax.stages.Compiled]:
  """Lowers and compiles programs at once, so that one does not wait for another.

  Logs that count in this thread count the programs of all, and the time that passes here.

  Args:
    lower: Functions that trace and lower a program each.

  Returns:
    The programs, in this order.
  """
  began = time.perf_counter()
  # A fifth less time to compile for the CPU; steps of the programs of a search take as long.
  options: dict[str, str | bool] = {}
  if jax.default_backend() == "cpu":
    options["xla_backend_optimization_level"] = "1"

  def counted(lower: Callable[[], jax.stages.Lowered]) -> tuple[jax.stages.Compiled, int]:
    log = CompilationLog()
    with log.counting():
      return lower().compile(options), log.programs

  threads = futures.ThreadPoolExecutor(len(lower))
  try:
    found = list(threads.map(counted, lower))
  finally:
    threads.shutdown(wait=False)  # Who presses Ctrl-C does not wait for the compiler.
  passed = time.perf_counter() - began
  for log in _active.logs:
    log.programs += sum(programs for _, programs in found)
    log.seconds += passed
  return [program for program, _ in found]


def keep_programs() -> None:
  """Turns on JAX's persistent compilation cache, in the user's cache folder.

  That is `$XDG_CACHE_HOME/nas_submod/jax` or `~/.cache/nas_submod/jax`, with a folder for each kind
  of processor, as XLA compiles for the instructions of the one it runs on. A folder that is set
  already (`JAX_COMPILATION_CACHE_DIR`) stays; `JAX_ENABLE_COMPILATION_CACHE=false` switches it off;
  where the folder cannot be written nothing is kept.
  """
  settings = jax.config.values
  if settings["jax_compilation_cache_dir"] or not settings["jax_enable_compilation_cache"]:
    return
  base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  folder = pathlib.Path(base) / "nas_submod" / "jax" / _processor()
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError:
    return
  if os.access(folder, os.W_OK):
    jax.config.update("jax_compilation_cache_dir", str(folder))


def _processor() -> str:
  """A short name of the processor's kind and instructions."""
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
  except OSError:
    lines = []
  described = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
  text = "\n".join(sorted(described)) or platform.processor()
  return f"{platform.machine()}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

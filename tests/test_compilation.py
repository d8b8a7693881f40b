"""Counts of compiled programs, parallel compilation, and the folder of the persistent cache."""

import functools
import signal
import subprocess
import sys
import threading
import types

import jax
import pytest

from nas_submod import compilation

TWICE = """
import jax
from nas_submod import compilation
jax.config.update("jax_platforms", "cpu")
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event.endswith("cache_hits")))
compilation.keep_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
x = jax.numpy.ones(3)
for _ in range(2):
  jax.clear_caches()
  log, before = compilation.CompilationLog(), sum(hits)
  with log.counting():
    y = jax.jit(lambda x: (x @ x) ** 2)(x)
  print(log.programs, sum(hits) - before, float(y), log.seconds > 0)
"""


def test_programs_from_the_cache_are_counted_too(tmp_path):
  command = [sys.executable, "-W", "error", "-c", TWICE]
  environment = {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": ":".join(filter(None, sys.path))}
  done = subprocess.run(command, env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert done.stderr == ""
  assert done.stdout.splitlines() == ["1 0 9.0 True", "1 1 9.0 True"]
  assert list(tmp_path.glob("nas_submod/jax/*/jit_*"))


def test_programs_compiled_together_are_counted_in_the_calling_thread():
  x = jax.numpy.ones(5)
  programs = [jax.jit(lambda x, factor=factor: x * factor) for factor in (2.0, 3.0, 4.0)]
  outer, inner = compilation.CompilationLog(), compilation.CompilationLog()
  with outer.counting(), inner.counting():
    compiled = compilation.compile_together(
      *(functools.partial(program.lower, x) for program in programs), platform="cpu"
    )
  products = [float(program(x).sum()) for program in compiled]
  assert products == [10.0, 15.0, 20.0]
  assert (outer.programs, inner.programs) == (3, 3)
  assert outer.seconds == inner.seconds > 0


def test_programs_that_run_seldom_compile_faster_on_a_tpu():
  options = []

  def compiled(given):
    options.append(given)

  lowered = types.SimpleNamespace(compile=compiled)
  compilation.compile_together(lambda: lowered, lambda: lowered, platform="tpu", seldom=(1,))
  assert sorted(options, key=len) == [{}, {"exec_time_optimization_effort": -0.5}]
  assert compilation.options_for("cpu") == compilation.options_for("cpu", seldom=True)


def test_an_error_in_one_program_is_raised():
  with pytest.raises(ZeroDivisionError):
    compilation.compile_together(lambda: 1 / 0, lambda: None, platform="cpu")


@pytest.fixture
def interrupts():
  """Handles SIGINT, which a process in the background of a shell ignores."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_does_not_wait_for_the_compiler():
  release, ended = threading.Event(), threading.Event()

  def lower():
    release.wait(60)
    ended.set()
    return jax.jit(lambda x: x + 1).lower(1.0)

  main = threading.main_thread().ident
  threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()
  with pytest.raises(KeyboardInterrupt):
    compilation.compile_together(lower, platform="cpu")
  assert not ended.is_set()
  release.set()


@pytest.fixture
def cache_setting():
  before = jax.config.jax_compilation_cache_dir
  yield lambda: jax.config.jax_compilation_cache_dir
  jax.config.update("jax_compilation_cache_dir", before)


def test_the_cache_folder(cache_setting, tmp_path, monkeypatch):
  jax.config.update("jax_compilation_cache_dir", None)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
  (tmp_path / "file").write_text("")
  compilation.keep_programs()
  assert cache_setting() is None  # not writable
  monkeypatch.delenv("XDG_CACHE_HOME")
  with monkeypatch.context() as patch:
    patch.delenv("HOME")
    patch.setattr("os.path.expanduser", str)  # A container may know no home folder.
    compilation.keep_programs()
    assert cache_setting() is None
  monkeypatch.setenv("HOME", str(tmp_path))
  compilation.keep_programs()
  assert cache_setting().startswith(str(tmp_path / ".cache" / "nas_submod" / "jax"))
  jax.config.update("jax_compilation_cache_dir", "of the user")
  compilation.keep_programs()
  assert cache_setting() == "of the user"


def test_the_cache_can_be_turned_off(cache_setting, tmp_path, monkeypatch):
  jax.config.update("jax_compilation_cache_dir", None)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  jax.config.update("jax_enable_compilation_cache", False)
  try:
    compilation.keep_programs()
  finally:
    jax.config.update("jax_enable_compilation_cache", True)
  assert cache_setting() is None
  assert not list(tmp_path.iterdir())

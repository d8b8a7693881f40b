"""SIGTERM: the notice that a machine will be taken away."""

import contextlib
import itertools
import signal
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

# EX_TEMPFAIL of sysexits.h: the same command continues where this one stopped.
EXIT_CODE = 75


class Preempted(Exception):
  """Training stopped on SIGTERM and wrote a checkpoint; the same call continues.

  Attributes:
    step: Steps done.
  """

  def __init__(self, step: int):
    super().__init__(f"stopped on SIGTERM after step {step}")
    self.step = step


@contextlib.contextmanager
def watch() -> Iterator[Callable[[], bool]]:
  """Handles SIGTERM as a notice instead of ending the process.

  Yields:
    A function that returns whether to stop now. Call it after every training step and every
    evaluated batch. With `--distributed` all processes must call it equally often. They get the
    same answer, one or more calls after the notice.
  """
  # With `--distributed`, JAX's preemption service owns the signal, so a Python handler would never
  # run. Its answer is keyed by the number of the call, which makes processes agree.
  if jax.distributed.is_initialized():
    if not getattr(jax.config, "jax_enable_preemption_service"):  # noqa: B009 (mypy knows no flags)
      yield lambda: False  # The command ends at the signal, see `experiments.common`.
      return
    calls = itertools.count(1)
    yield lambda: multihost_utils.reached_preemption_sync_point(next(calls))
    return
  notice = threading.Event()
  if threading.current_thread() is not threading.main_thread():
    yield lambda: False  # Python lets only the main thread install a signal handler.
    return
  before = signal.signal(signal.SIGTERM, lambda *_: notice.set())
  try:
    yield notice.is_set
  finally:
    signal.signal(signal.SIGTERM, before)

"""The notice that a machine will be taken away: SIGTERM."""

import contextlib
import itertools
import signal
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

# EX_TEMPFAIL of sysexits.h: the same command goes on where this one stopped.
EXIT_CODE = 75


class Preempted(Exception):
  """Training stopped on notice, its checkpoint written; the same call goes on.

  Attributes:
    step: Steps done.
  """

  def __init__(self, step: int):
    super().__init__(f"stopped on SIGTERM after step {step}")
    self.step = step


@contextlib.contextmanager
def watch() -> Iterator[Callable[[], bool]]:
  """Takes SIGTERM as a notice instead of an end.

  Yields:
    A function to call after every step and every batch that is evaluated: whether to stop now. With
    `--distributed` all processes must call it equally often; they get the same answer, a call or
    more after the notice (JAX's preemption service, which catches the signal itself).
  """
  if jax.distributed.is_initialized():  # Of one process too: JAX has the signal then.
    calls = itertools.count(1)
    yield lambda: multihost_utils.reached_preemption_sync_point(next(calls))
    return
  notice = threading.Event()
  if threading.current_thread() is not threading.main_thread():
    yield lambda: False  # Only the main thread may handle signals.
    return
  before = signal.signal(signal.SIGTERM, lambda *_: notice.set())
  try:
    yield notice.is_set
  finally:
    signal.signal(signal.SIGTERM, before)

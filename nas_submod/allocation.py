"""Makes the C library keep freed memory."""

import ctypes
import os
import platform

# Parameters of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_NEVER = -1


def keep_freed_memory() -> bool:
  """Makes glibc keep freed memory for the next request; other C libraries stay as they are.

  Call it at the very start, before JAX has a device: a thread that has already allocated memory
  keeps its own arena, where this has no effect.

  XLA's CPU programs allocate their temporary memory again in each call. By default glibc returns
  large blocks to the system, which clears every page again at its first use. With freed memory
  kept, a process never shrinks.

  Returns:
    Whether it does: not if an environment variable already controls allocation.
  """
  is_set = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
  if is_set or platform.libc_ver()[0] != "glibc":
    return False
  # Large blocks come from the heap, which never shrinks and which all threads share.
  options = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_ARENA_MAX, 1))
  return all(ctypes.CDLL(None).mallopt(*option) for option in options)

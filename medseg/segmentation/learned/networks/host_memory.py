"""Memory of the features on the CPU: kept from one patch to the next, not given back and asked for again."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import threading
from collections.abc import Iterator

# <malloc.h>: parameters of mallopt
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 2**31 - 1  # mallopt takes an int
# Larger blocks (features of two stages joined) go back at once: kept side by side with smaller ones they only leave holes.
_KEPT_BLOCK = 96 * 2**20
_USUAL_MMAP_THRESHOLD = 32 * 2**20  # where glibc's own adjustment ends, once a program frees large blocks
_USUAL_TRIM_THRESHOLD = 2 * _USUAL_MMAP_THRESHOLD

_lock = threading.Lock()
_users: list[int] = []


@contextlib.contextmanager
def kept_host_memory() -> Iterator[None]:
    """Within, glibc keeps freed blocks for the next allocation; afterwards they go back to the system.

    A network frees and allocates the same large features for every patch. glibc maps and unmaps each of them, and the
    system clears every page again: up to 40 % of the time of a small network on a CPU. Does nothing on other systems.
    Several threads may be within at once: the last one to leave gives the memory back.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    with _lock:
        _users.append(threading.get_ident())
        libc.malloc_trim(0)  # what preparing the image left behind would stay for the whole run
        libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BLOCK)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST)
    try:
        yield
    finally:
        with _lock:
            _users.pop()
            if not _users:
                libc.mallopt(_M_MMAP_THRESHOLD, _USUAL_MMAP_THRESHOLD)
                libc.mallopt(_M_TRIM_THRESHOLD, _USUAL_TRIM_THRESHOLD)
                libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None

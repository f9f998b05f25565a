"""How much memory a volume needs and how much is free, asked before any is taken."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from medseg.core.errors import UnreadableFileError

_KEEP_FREE_BYTES = 1 << 26
_MEMORY_INFO = Path("/proc/meminfo")
_OWN_STATUS = Path("/proc/self/status")
_GROUP = Path("/sys/fs/cgroup")


def check_memory(name: str, needed: int) -> None:
    """Raise UnreadableFileError with need and have where a volume does not fit into the memory that is free.

    Where the system does not say how much is free, nothing is checked.
    """
    free = free_memory_bytes()
    if free is not None and needed > max(free - _KEEP_FREE_BYTES, 0):
        raise UnreadableFileError(too_large(name, needed, free))


def too_large(name: str, needed: int, free: int | None = None) -> str:
    """Return the sentence for a volume that does not fit."""
    have = "more than is free" if free is None else f"and {free / 1e9:,.1f} GB are free"
    return f"{name} needs {needed / 1e9:,.1f} GB of memory, {have}: crop the scan, close other programs or take a larger machine"


def free_memory_bytes() -> int | None:
    """Return the bytes this process can take: of the machine, its container and its own limit; None where nobody says."""
    known = [free for free in (_free_of_machine(), _free_of_group(), _free_of_process()) if free is not None]
    return min(known, default=None)


def _free_of_machine() -> int | None:
    free = _figure(_MEMORY_INFO, "MemAvailable:")
    if free is not None:
        return free
    if sys.platform == "win32":
        return _free_of_windows()
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _free_of_group() -> int | None:
    """What a container (control group, version 2) may still take; pages of files that it holds are given up first."""
    try:
        limit = (_GROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((_GROUP / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    if not limit.isdigit():
        return None
    return max(int(limit) - used + (_figure(_GROUP / "memory.stat", "inactive_file", unit=1) or 0), 0)


def _free_of_process() -> int | None:
    if sys.platform == "win32":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    used = _figure(_OWN_STATUS, "VmSize:")
    return None if limit == resource.RLIM_INFINITY or used is None else max(limit - used, 0)


def _figure(path: Path, key: str, unit: int = 1024) -> int | None:
    """A figure from one of the kernel's tables, most of which count in kB, as bytes."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        return next((int(line.split()[1]) * unit for line in lines if line.startswith(key)), None)
    except (OSError, ValueError, IndexError):
        return None


def _free_of_windows() -> int | None:  # pragma: no cover - other system
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ulong), ("load", ctypes.c_ulong), *((f"size_{n}", ctypes.c_ulonglong) for n in range(7)))

    status = Status()
    status.length = ctypes.sizeof(Status)
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):  # type: ignore[attr-defined]
        return None
    return int(status.size_1)  # the free physical memory follows the total

"""How much memory this process takes, and took at most."""

from __future__ import annotations

import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def rss_bytes() -> int:
    """Return the memory that this process has in use now; 0 where the system does not say."""
    return _field("VmRSS")


def data_bytes() -> int:
    """Return what a cap on data (RLIMIT_DATA) counts of this process; 0 where the system does not say."""
    return _field("VmData")


def peak_bytes() -> int:
    """Return the most memory this process had in use since `reset_peak`, or since it began where that cannot be reset."""
    found = _field("VmHWM")
    if found:
        return found
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def reset_peak() -> None:
    """Begin to look for the most memory anew, where the system can."""
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return


def _field(name: str) -> int:
    try:
        text = _STATUS.read_text()
    except OSError:
        return 0
    line = next((line for line in text.splitlines() if line.startswith(f"{name}:")), "")
    return int(line.split()[1]) * 1024 if line else 0

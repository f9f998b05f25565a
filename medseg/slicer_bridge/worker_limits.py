"""What the worker does to itself before it works: a memory cap, and no foreign words in its log."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import warnings
from typing import Any


def limit_memory(gigabytes: float | None) -> bool:
    """Cap the address space of this process where the platform can; return whether it is capped.

    The cap counts mapped files and what a GPU driver reserves too, so a GPU needs a generous one or none.
    """
    if not gigabytes or gigabytes <= 0:
        return False
    try:
        import resource

        limit = int(gigabytes * 1e9)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, AttributeError, OSError, ValueError):  # Windows has none; macOS refuses
        return False
    return True


def quieten() -> None:
    """Keep what foreign warnings and log records quote out of the log: their text may hold values of a header."""
    faulthandler.enable()
    warnings.showwarning = _show_warning
    logging.basicConfig(level=logging.WARNING, handlers=[_Terse()])


class _Terse(logging.Handler):
    """Says who logged something, not what."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the level and the name of the logger."""
        sys.stderr.write(f"{record.levelname.lower()} logged by {record.name}\n")


def _show_warning(message: Any, category: type[Warning], filename: str, lineno: int, file: Any = None, line: str | None = None) -> None:
    own = category.__module__.startswith("medseg.")
    sys.stderr.write(f"{category.__name__}: {message}\n" if own else f"{category.__name__} at {os.path.basename(filename)}:{lineno}\n")

"""What a process does that serves another through its standard streams: lines as events, and no foreign words among them.

Standard library only.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable
from typing import IO, Any


class LineChannel:
    """Standard output as it was before libraries could write to it: one event a line, from any thread.

    `to_line` turns an event into bytes; where the other side is gone the process ends with `exit_code`.
    """

    def __init__(self, stream: IO[bytes], to_line: Callable[[dict[str, Any]], bytes], exit_code: int = 0) -> None:
        self._stream, self._to_line, self._exit_code = stream, to_line, exit_code
        self._lock = threading.Lock()

    def send(self, event: dict[str, Any]) -> None:
        """Write one event."""
        line = self._to_line(event)
        try:
            with self._lock:
                self._stream.write(line)
                self._stream.flush()
        except (OSError, ValueError):
            os._exit(self._exit_code)


def take_streams() -> tuple[IO[bytes], IO[bytes]]:
    """Take standard input and output for the protocol; libraries then read nothing and print to standard error."""
    requests = os.fdopen(os.dup(0), "rb")
    events = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout.flush()
    os.dup2(2, 1)
    return requests, events


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

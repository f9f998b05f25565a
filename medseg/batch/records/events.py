"""The log of a run: one JSON object a line, only ever appended to, without paths and names."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from medseg.core.errors import OutputError

Observe = Callable[[dict[str, Any]], None]

# for those who look on only: they come by the thousand and are of no use later
UNLOGGED = frozenset({"worker_alive", "case_stage", "case_skipped"})


class EventLog:
    """Appends events to a file and hands each to `observe`.

    Every event is in the file before it is handed on, and in one piece: what a process that was killed left as half a line
    stays a line of its own.
    """

    def __init__(self, path: Path, observe: Observe) -> None:
        self._path = path
        self._observe = observe
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
        except OSError as err:
            raise self._error(err) from err
        self._end_torn_line()

    def write(self, event: str, **values: Any) -> None:
        """Log one event and hand it on; raises OutputError where the file cannot be written."""
        document = {"time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), "event": event, **values}
        if event not in UNLOGGED:
            self._append(json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n")
        self._observe(document)

    def close(self) -> None:
        """Flush the log to disk."""
        if self._file < 0:
            return
        try:
            os.fsync(self._file)
        except OSError:  # the results are the truth; a log that cannot be flushed is no reason to fail
            pass
        finally:
            os.close(self._file)
            self._file = -1

    def _append(self, line: bytes) -> None:
        try:
            while line:
                line = line[os.write(self._file, line) :]
        except OSError as err:
            raise self._error(err) from err

    def _end_torn_line(self) -> None:
        size = os.lseek(self._file, 0, os.SEEK_END)
        if size:
            os.lseek(self._file, size - 1, os.SEEK_SET)
            if os.read(self._file, 1) != b"\n":
                self._append(b"\n")

    def _error(self, err: OSError) -> OutputError:
        return OutputError(f"{self._path} cannot be written ({err.strerror or err}): free some space or check its permissions, then go on")

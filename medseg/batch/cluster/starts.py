"""How often a case was begun in this run, kept as empty files on the shared storage: what is left when a process is gone.

A process runs one case at a time, so a case that was begun and has no result is the one that its process died with. Every start
is a file made with O_EXCL, which is atomic on network file systems too, whatever their caches say.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from medseg.core.errors import OutputError

_MOST = 1000


@dataclass(frozen=True)
class Starts:
    """The starts of all cases of one run, in a folder of its own that `make` makes and `remove` deletes."""

    folder: Path

    def make(self) -> None:
        """Make the folder; raises OutputError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise OutputError(f"{self.folder} cannot be made ({err.strerror}); check the output folder and its permissions") from err

    def begin(self, case_id: str, result: Path) -> int:
        """Record one more start and return which it is, from 1; raises OutputError.

        The first one notes what lies at `result` then, so that `is_news` can tell a result of this run from an older one.
        """
        for number in range(1, _MOST):
            try:
                handle = os.open(self._path(case_id, number), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            except FileExistsError:
                continue
            except OSError as err:
                raise OutputError(f"{self.folder} cannot be written ({err.strerror}); free some space or check its permissions") from err
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(_digest(result))
            return number
        raise OutputError(f"{self.folder} holds {_MOST} starts of one case: remove that folder while nothing runs")

    def count(self, case_id: str) -> int:
        """Return how often a case was begun."""
        return next((number - 1 for number in range(1, _MOST) if not self._path(case_id, number).exists()), _MOST)

    def is_news(self, case_id: str, result: Path) -> bool:
        """Whether what lies at `result` was written after the first start."""
        try:
            before = self._path(case_id, 1).read_text(encoding="ascii")
        except OSError:
            return False
        return _digest(result) not in ("", before)

    def forget(self, case_id: str) -> None:
        """Delete the starts of a case that has ended."""
        for number in range(1, _MOST):
            try:
                self._path(case_id, number).unlink()
            except OSError:
                return

    def remove(self) -> None:
        """Delete the folder, and what is in it."""
        try:
            for path in self.folder.iterdir():
                path.unlink(missing_ok=True)
            self.folder.rmdir()
        except OSError:  # it was never made, or another process has a file open there; the next run deletes it
            return

    def _path(self, case_id: str, number: int) -> Path:
        return self.folder / f"{case_id}.{number}"


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""

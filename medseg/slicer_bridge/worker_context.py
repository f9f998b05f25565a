"""What a job may use while it runs: a voice to the host, scans, and names for the files it makes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.core.errors import OutputError
from medseg.io.atomic import TEMPORARY_PREFIX
from medseg.slicer_bridge.jobs import Job
from medseg.slicer_bridge.paths import clear_job_files

if TYPE_CHECKING:
    from medseg.core.finding import Finding
    from medseg.slicer_bridge.worker_data import Scans

_PROGRESS_EVERY_S = 0.1  # a host that draws each step of a fast loop would do nothing else


class Context:
    """One running job: its events, its scans, its files; `clear` removes every file whose name it gave out."""

    def __init__(self, job: Job, send: Callable[[dict[str, Any]], None], scans: Scans) -> None:
        self.job = job
        self.scans = scans
        self._send = send
        self._said: set[tuple[str, str]] = set()
        self._last = ("", 0.0)

    def progress(self, text: str, done: int, total: int) -> None:
        """Tell how far the work is; between the first and the last step of a text at most ten times a second."""
        now = time.monotonic()
        before, when = self._last
        if text == before and done < total and now - when < _PROGRESS_EVERY_S:
            return
        self._last = (text, now)
        self._send({"event": "progress", "text": text, "done": int(done), "total": int(total)})

    def log(self, text: str) -> None:
        """Say something worth a line in the log."""
        self._send({"event": "log", "text": text})

    def findings(self, findings: Iterable[Finding]) -> None:
        """Tell what checks found, each once: before the result, so that it is read before any number."""
        for finding in findings:
            if (finding.code, finding.message) not in self._said:
                self._said.add((finding.code, finding.message))
                self._send({"event": "finding", **finding.to_dict()})

    @property
    def base(self) -> Path:
        """The beginning of the paths of all files of this job; raises OutputError where its folder is not there."""
        folder = self.job.get("out")
        if not folder:
            raise OutputError("this job needs `out`, a folder for the files that it makes")
        if not Path(folder).is_dir():
            raise OutputError("the folder of the job is gone: the host must make it again")
        return Path(folder) / self.job.id

    def clear(self) -> None:
        """Remove every file that this job has made in its folder."""
        clear_job(self.job)


def clear_job(job: Job) -> None:
    """Remove the files of a job in its folder."""
    if job.get("out"):
        clear_job_files(job["out"], job.id)


class Strays:
    """The half-written files that a cancelled export would leave beside its output: those that were not there before it."""

    def __init__(self, job: Job) -> None:
        path = Path(job["path"]) if job.do == "export" else None
        self._folders = () if path is None else (path.parent, path, path / "pictures")
        self._before = self._there()

    def _there(self) -> set[Path]:
        return {path for folder in self._folders for path in folder.glob(f"{TEMPORARY_PREFIX}*") if path.is_file()}

    def remove(self) -> None:
        """Remove what came since; what cannot be removed stays, and is safe to delete."""
        for path in self._there() - self._before:
            try:
                path.unlink(missing_ok=True)
            except OSError:
                continue

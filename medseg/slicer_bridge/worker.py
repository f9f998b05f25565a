"""The process that works for a host: jobs on standard input, events on standard output, one JSON object a line.

`python -m medseg.slicer_bridge.worker [--memory-gb N]`. Whatever libraries print goes to standard error. A
cancelled job ends the process, as does the end of standard input; the host starts another one.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

from medseg import __version__
from medseg.core.errors import MedsegError
from medseg.core.served_process import LineChannel, quieten, take_streams
from medseg.slicer_bridge.job_fields import JobFormatError
from medseg.slicer_bridge.jobs import PROTOCOL, Cancel, Job, parse_request, to_line
from medseg.slicer_bridge.worker_limits import limit_memory

if TYPE_CHECKING:
    from medseg.slicer_bridge.worker_context import Context, Strays
    from medseg.slicer_bridge.worker_data import Scans

MOST_WAITING = 64
CANCELLED = 130
_CLEAN_UP_S = 0.3  # what a cancelled job gets to remove its half-written files
_IDLE_S = 0.2


class Desk:
    """The jobs that wait and the one that runs; a thread reads requests, the main thread works."""

    def __init__(self, channel: LineChannel, memory_gb: float | None = None) -> None:
        self._channel = channel
        self._memory_gb = memory_gb
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._running: Job | None = None
        self._is_cancelled = False
        self._scans: Scans | None = None
        self._strays: Strays | None = None

    def read(self, requests: IO[bytes]) -> None:
        """Take requests until the host closes the pipe; then end at once, leaving no half-written file."""
        for line in requests:
            if line.strip():
                self._take(line.decode("utf-8", "replace"))
        self._leave(0)

    def _take(self, line: str) -> None:
        try:
            request = parse_request(line)
        except JobFormatError as err:
            self._channel.send({"id": err.id or None, **_error_event(err)})
            return
        if isinstance(request, Cancel):
            self._cancel(request.id)
            return
        with self._changed:
            known = {job.id for job in self._waiting} | ({self._running.id} if self._running else set())
            refusal = "a job with this id is there already: give each job its own" if request.id in known else ""
            if len(self._waiting) >= MOST_WAITING:
                refusal = f"{MOST_WAITING} jobs are waiting already: wait until some are done"
            if not refusal:
                self._waiting.append(request)
                self._changed.notify()
        if refusal:
            self._channel.send({"id": request.id, **_error_event(JobFormatError(refusal))})

    def _cancel(self, id: str) -> None:
        with self._changed:
            waiting = [job for job in self._waiting if job.id == id]
            for job in waiting:
                self._waiting.remove(job)
            is_running = self._running is not None and self._running.id == id
            self._is_cancelled = self._is_cancelled or is_running
        if waiting:
            self._channel.send({"id": id, **_cancelled()})
        if is_running:
            self._leave(CANCELLED)

    def _leave(self, code: int) -> None:
        """End the process: the main thread is asked to clean up, and not waited for when it cannot."""
        import _thread

        with self._changed:
            running = self._running
            self._is_cancelled = True
            self._changed.notify()
        if running is not None:
            _thread.interrupt_main()
            time.sleep(_CLEAN_UP_S)  # the main thread leaves in the meantime where it can
            self._clear(running)
        os._exit(code)

    def _clear(self, job: Job) -> None:
        from medseg.slicer_bridge.worker_context import clear_job

        clear_job(job)
        if self._strays is not None:
            self._strays.remove()

    def work(self) -> None:
        """Do one job after the other, in the order they came, until the host goes."""
        try:
            while True:
                job = self._next()
                event = self._done(job)
                with self._changed:
                    if self._is_cancelled:
                        break
                    self._running = None
                    self._channel.send({"id": job.id, **event})
        except KeyboardInterrupt:
            pass
        if self._running is not None:
            self._clear(self._running)
            self._channel.send({"id": self._running.id, **_cancelled()})
        os._exit(CANCELLED)

    def _next(self) -> Job:
        with self._changed:
            if not self._waiting:
                self._changed.wait(_IDLE_S)
            is_idle = not self._waiting and self._scans is None
        if is_idle:
            self._prepare()
            from medseg.slicer_bridge.worker_jobs import warm

            warm()
        with self._changed:
            while not self._waiting:
                self._changed.wait()
            self._running = self._waiting.popleft()
            return self._running

    def _prepare(self) -> Scans:
        """Load what nearly every job needs, while the host has nothing to do."""
        if self._scans is None:
            from medseg.slicer_bridge.worker_data import Scans

            self._scans = Scans()
        return self._scans

    def _done(self, job: Job) -> dict[str, Any]:
        """Return the event a job ends with: whatever goes wrong becomes one sentence."""
        begun = time.monotonic()
        self._channel.send({"id": job.id, "event": "started"})
        try:
            from medseg.slicer_bridge.worker_context import Context, Strays
            from medseg.slicer_bridge.worker_jobs import perform

            self._strays = Strays(job)
            context = Context(job, lambda event: self._channel.send({"id": job.id, **event}), self._prepare())
            return self._result(context, perform(context), begun)
        except BaseException as err:
            if isinstance(err, KeyboardInterrupt):
                raise
            self._clear(job)
            if isinstance(err, MemoryError) and self._scans is not None:
                self._scans.forget()
            if not isinstance(err, (MedsegError, OSError, MemoryError)):
                _trace(err)
            for finding in getattr(err, "findings", ()):
                self._channel.send({"id": job.id, "event": "finding", **finding.to_dict()})
            return _error_event(err, self._memory_gb)

    def _result(self, context: Context, values: dict[str, Any], begun: float) -> dict[str, Any]:
        return {"event": "result", **values, "seconds": round(time.monotonic() - begun, 3)}


def _cancelled() -> dict[str, Any]:
    return {"event": "error", "kind": "Cancelled", "message": "cancelled; nothing half-written was left", "exit_code": CANCELLED}


def _error_event(err: BaseException, memory_gb: float | None = None) -> dict[str, Any]:
    """Return the error event of what was raised: a sentence of our own, never the words of a foreign exception."""
    kind, code = type(err).__name__, 1
    if isinstance(err, MedsegError):
        message, code = str(err), err.exit_code
    elif isinstance(err, MemoryError):
        kind = "OutOfMemory"
        allowed = f"of the {memory_gb:g} GB this process may use" if memory_gb else "on this machine"
        message = f"out of memory: too little is left {allowed}. Crop or resample the scan, or allow more memory"
    elif isinstance(err, OSError):
        from medseg.slicer_bridge.array_files import disk_sentence

        kind, message, code = "OutputError", disk_sentence(err), 5
    else:
        message = f"unexpected {kind}: a fault of medseg, please report it with the log"
    return {"event": "error", "kind": kind, "message": message, "exit_code": code}


def _trace(err: BaseException) -> None:
    """Tell the log where it happened; the text of a foreign exception may quote a header, so it stays out."""
    frames = traceback.extract_tb(err.__traceback__)
    for frame in frames[-12:]:
        sys.stderr.write(f"  {os.path.basename(frame.filename)}:{frame.lineno} in {frame.name}\n")
    sys.stderr.write(f"unexpected {type(err).__name__}\n")
    sys.stderr.flush()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m medseg.slicer_bridge.worker", description=__doc__)
    parser.add_argument("--memory-gb", type=float, default=None, help="most memory this process may take")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the worker until its host goes."""
    options = _options(arguments)
    requests, events = take_streams()
    channel = LineChannel(events, to_line)
    quieten()
    is_limited = limit_memory(options.memory_gb)
    desk = Desk(channel, options.memory_gb if is_limited else None)
    python = ".".join(str(part) for part in sys.version_info[:3])
    ready = {"event": "ready", "protocol": PROTOCOL, "version": __version__, "python": python}
    channel.send({**ready, "memory_gb": options.memory_gb if is_limited else None})
    threading.Thread(target=desk.read, args=(requests,), daemon=True).start()
    desk.work()


if __name__ == "__main__":
    main()

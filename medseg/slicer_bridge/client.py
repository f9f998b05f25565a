"""The host's side of the worker: start it, hand it jobs, collect events, cancel, and say in one sentence when it dies.

Two threads read what the worker writes; nothing is called back: the host asks with `poll` whenever its own loop has time.
Standard library only.
"""

from __future__ import annotations

import contextlib
import queue
import subprocess
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from medseg.core.child_process import kill_group, last_words, own_group, signal_name
from medseg.slicer_bridge.job_fields import JobFormatError
from medseg.slicer_bridge.jobs import PROTOCOL, Job, check_request, parse_event, to_line
from medseg.slicer_bridge.paths import clear_job_files

KILL_AFTER_S = 0.6  # what a worker gets to end by itself after a cancellation: together well below a second
_READ_REST_S = 0.3
_STDERR_LINES = 200
_LONGEST_LINE = 2000

Event = dict[str, Any]


class Worker:
    """One worker process at a time: `start` it, `send` jobs, `poll` events; after its death it may be started again.

    `command` is what `paths.worker_command` gives. `environment` is the whole environment of the process, None for that of
    the host; `paths.clean_environment` takes out what would lead a foreign Python astray. Every job ends with exactly one
    event `result` or `error`: a worker that dies leaves an `error` of kind WorkerDied for each of its jobs, a cancelled one of
    kind Cancelled. All methods return at once, except `close` (a second at most).
    """

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, folder: str | Path | None = None) -> None:
        self._command = list(command)
        self._environment = None if environment is None else dict(environment)
        self._folder = folder
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._life: _Life | None = None

    def start(self) -> None:
        """Start the process where none is running; where it cannot be, the event `error` without a job says why."""
        if self._life is not None and self._life.takes_jobs:
            return
        try:
            self._life = _Life(self._command, self._environment, self._folder, self._events)
        except (OSError, ValueError) as err:
            self._life = None
            reason = getattr(err, "strerror", None) or "it is no program"
            self._events.put(_died(None, f"the worker cannot be started ({reason}): install the environment again"))

    @property
    def is_alive(self) -> bool:
        """Whether the process runs and takes jobs: no longer once its running job was cancelled.

        Of one that died this is true until its last words are among the events.
        """
        return self._life is not None and self._life.is_alive

    @property
    def is_ready(self) -> bool:
        """Whether the process has said that it takes jobs."""
        return self._life is not None and self._life.ready is not None and self.is_alive

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits, or its last event was not collected."""
        return self._life is not None and bool(self._life.unfinished)

    @property
    def pid(self) -> int | None:
        """The number of the process, None where none was started."""
        return self._life.pid if self._life is not None else None

    @property
    def stderr(self) -> list[str]:
        """The last lines that the process and its libraries wrote to standard error."""
        return self._life.stderr if self._life is not None else []

    def send(self, job: Mapping[str, Any]) -> str:
        """Hand over a job and return its id, made here where it has none; raises JobFormatError for what is no job.

        A worker that is not running leaves the job's `error` among the events.
        """
        given = {**job, "id": job.get("id") or uuid.uuid4().hex[:12]}
        checked = check_request(given)
        if not isinstance(checked, Job):
            raise JobFormatError("a cancellation is no job: call cancel")
        if self._life is None or not self._life.send(checked, to_line(given)):
            self._events.put(_died(checked.id, "the worker is not running: start it again"))
        return checked.id

    def poll(self) -> list[Event]:
        """Return the events since the last call, in order."""
        found = []
        while True:
            try:
                found.append(self._events.get_nowait())
            except queue.Empty:
                return found

    def wait(self, timeout_s: float) -> list[Event]:
        """Return the events since the last call, waiting for the first one where there is none yet."""
        try:
            first = self._events.get(timeout=timeout_s)
        except queue.Empty:
            return []
        return [first, *self.poll()]

    def cancel(self, id: str | None = None) -> None:
        """Cancel a job, or all: a running one ends with its process within a second, killed where it does not listen."""
        if self._life is not None:
            self._life.cancel(id)

    def close(self) -> None:
        """End the process: by closing its input, and by killing it and its children where that is not enough."""
        if self._life is not None:
            self._life.close()


class _Life:
    """One process from its start to its end: pipes, threads, and the jobs that are not finished."""

    def __init__(
        self, command: list[str], environment: dict[str, str] | None, folder: str | Path | None, events: queue.SimpleQueue[Event]
    ) -> None:
        self._process = subprocess.Popen(  # a command of the host, no shell
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=folder,
            **own_group(),
        )
        self.ready: Event | None = None
        self.unfinished: dict[str, Job] = {}
        self._cancelled: set[str] = set()
        self._running: str | None = None
        self._is_closed = False
        self._is_over = False  # it died, and its last events are there to be collected
        self._is_ending = False  # a running job was cancelled: the process ends with it
        self._events = events
        self._lock = threading.RLock()
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._errors = threading.Thread(target=self._read_errors, daemon=True, name="medseg-worker-log")
        for thread in (
            self._errors,
            threading.Thread(target=self._read_events, daemon=True, name="medseg-worker-events"),
            threading.Thread(target=self._write, daemon=True, name="medseg-worker-jobs"),
        ):
            thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return not self._is_over and not self._is_closed and not self._is_ending

    @property
    def takes_jobs(self) -> bool:
        return self._process.poll() is None and self.is_alive

    @property
    def stderr(self) -> list[str]:
        return list(self._stderr)

    def send(self, job: Job, line: bytes) -> bool:
        with self._lock:
            if not self.takes_jobs:
                return False
            if job.id in self.unfinished:
                raise JobFormatError(f"there is a job {job.id} already: give each job its own id", job.id)
            self.unfinished[job.id] = job
        self._outgoing.put(line)
        return True

    def cancel(self, id: str | None) -> None:
        with self._lock:
            chosen = [one for one in self.unfinished if id in (None, one)]
            self._cancelled.update(chosen)
            must_end = self._running in chosen or id is None
            self._is_ending = self._is_ending or (must_end and bool(chosen))
        for one in chosen:
            self._outgoing.put(to_line({"cancel": one}))
        if chosen and must_end:
            threading.Thread(target=self._end_soon, daemon=True, name="medseg-worker-end").start()
        elif chosen:
            threading.Thread(target=self._end_where_it_runs, args=(chosen,), daemon=True, name="medseg-worker-end").start()

    def _end_where_it_runs(self, chosen: list[str]) -> None:
        """A waiting job is dropped by the worker; one that began meanwhile, or a worker that does not listen, is ended."""
        if not _until(lambda: not any(one in self.unfinished for one in chosen), KILL_AFTER_S):
            self._kill()

    def _end_soon(self) -> None:
        if not _until(lambda: self._process.poll() is not None, KILL_AFTER_S):
            self._kill()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._cancelled.update(self.unfinished)
        self._outgoing.put(None)
        if not _until(lambda: self._process.poll() is not None, KILL_AFTER_S):
            self._kill()

    def _kill(self) -> None:
        """Kill the process and everything it started."""
        if self._process.poll() is not None:
            return
        kill_group(self._process)
        _until(lambda: self._process.poll() is not None, _READ_REST_S)

    def _write(self) -> None:
        stream: IO[bytes] = self._process.stdin  # type: ignore[assignment]
        while True:
            line = self._outgoing.get()
            try:
                if line is None:
                    stream.close()
                    return
                stream.write(line)
                stream.flush()
            except (OSError, ValueError):  # it is dead; the thread that reads its events says so
                with contextlib.suppress(OSError, ValueError):  # what it did not take cannot be flushed; the pipe is closed all the same
                    stream.close()
                return

    def _read_errors(self) -> None:
        stream: IO[bytes] = self._process.stderr  # type: ignore[assignment]
        for line in iter(lambda: stream.readline(_LONGEST_LINE), b""):
            text = line.decode("utf-8", "replace").rstrip()
            if text:
                self._stderr.append(text)
        stream.close()

    def _read_events(self) -> None:
        stream: IO[bytes] = self._process.stdout  # type: ignore[assignment]
        for line in stream:
            event = parse_event(line)
            if event is None:
                self._events.put({"event": "log", "text": "the worker wrote a line that is no event; it was passed over"})
                continue
            self._note(event)
        stream.close()
        self._finish()

    def _note(self, event: Event) -> None:
        id, kind = event.get("id"), event["event"]
        if kind == "ready":
            self.ready = event
            if event.get("protocol") != PROTOCOL:
                event = _died(None, f"the worker speaks {event.get('protocol')}, this host {PROTOCOL}: update the environment")
        elif kind in ("started", "result", "error"):
            with self._lock:
                self._is_ending = self._is_ending or (kind == "error" and id == self._running and event.get("kind") == "Cancelled")
                self._running = id if kind == "started" else None if self._running == id else self._running
                if kind != "started" and id is not None:
                    if id not in self.unfinished:
                        return  # its one last event was given already
                    job = self.unfinished.pop(id)
                    if kind == "result" and id in self._cancelled:
                        _clear(job)  # it was done before the cancellation arrived; who cancels wants nothing
                        event = {"id": id, **_CANCELLED}
        self._events.put(event)

    def _finish(self) -> None:
        try:
            self._give_last_events()
        finally:
            self._is_over = True

    def _give_last_events(self) -> None:
        """The pipe is closed: give every job that is left its last event."""
        _until(lambda: self._process.poll() is not None, 2.0)
        if self._process.poll() is None:  # it closed its output, but lives: nobody will ever hear of it again
            self._kill()
        self._errors.join(_READ_REST_S)
        self._outgoing.put(None)
        with self._lock:
            left = list(self.unfinished.items())
            self.unfinished.clear()
            cancelled = {id for id, _ in left if id in self._cancelled}
            is_ending = self._is_ending or bool(cancelled) or self._process.returncode == _CANCELLED["exit_code"]
        for id, job in left:
            _clear(job)
            if id in cancelled:
                self._events.put({"id": id, **_CANCELLED})
            elif is_ending:
                self._events.put(_died(id, "the job waited behind one that was cancelled, and ended with it: start it again"))
            else:
                self._events.put(_died(id, death_sentence(self._process.returncode, self.stderr)))
        if not left and not is_ending and not self._is_closed:
            self._events.put(_died(None, death_sentence(self._process.returncode, self.stderr)))


_CANCELLED: Event = {"event": "error", "kind": "Cancelled", "message": "cancelled; nothing half-written was left", "exit_code": 130}


def _clear(job: Job) -> None:
    """Remove what a job that ended without a result left in its folder."""
    if job.get("out"):
        clear_job_files(job["out"], job.id)


def _died(id: str | None, message: str) -> Event:
    return {"id": id, "event": "error", "kind": "WorkerDied", "message": message, "exit_code": 1}


def _until(is_so: Any, seconds: float) -> bool:
    """Wait until something is so, at most so long; return whether it is."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def death_sentence(code: int | None, stderr: Sequence[str]) -> str:
    """Say how a worker ended: its exit code or signal, the likely reason, and its last words without anyone's paths.

    >>> death_sentence(-9, [])
    'the worker was killed (signal SIGKILL): most likely memory ran out. Crop or resample the scan, or close other programs'
    """
    if code is not None and code < 0:
        name = signal_name(-code)
        if name == "SIGKILL":
            return f"the worker was killed (signal {name}): most likely memory ran out. Crop or resample the scan, or close other programs"
        how = f"the worker crashed (signal {name})"
    else:
        how = f"the worker ended by itself (exit code {'unknown' if code is None else code})"
    words = last_words(stderr)
    return f"{how}{f', saying: {words}' if words else ''}. Start it again; if it happens again, press Doctor"

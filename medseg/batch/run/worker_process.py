"""One worker process as its parent sees it: started in a group of its own, heard by threads, killed with all it started."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import IO, Any

from medseg.batch.worker.messages import MessageError, parse_event, to_line
from medseg.core.child_process import kill_group, last_words, own_group

Inbox = queue.SimpleQueue[Any]

_STDERR_LINES = 100
_LONGEST_STDERR = 2000
_LONGEST_EVENT = 1 << 20
_END_S = 5.0  # what a process gets to end once it has closed its output
_LAST_WORDS_S = 1.0  # its log is read in another thread, and may be held open by what it started


class Heard:
    """What a worker said, or that it died (`event` None, once, and last)."""

    __slots__ = ("event", "worker")

    def __init__(self, worker: WorkerProcess, event: dict[str, Any] | None) -> None:
        self.worker = worker
        self.event = event


class WorkerProcess:
    """A process from its start to its end; what it says arrives as `Heard` in the inbox of its parent.

    No method waits: lines are written by a thread too, since a worker that hangs does not read. Raises OSError where the
    process cannot be started.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], start: Mapping[str, Any], inbox: Inbox) -> None:
        self.name = name
        self.device = str(start.get("device", ""))
        self.token = str(start.get("token", ""))
        self.is_ready = False
        self.rss_bytes = 0
        self.strange_lines = 0
        self.started = self.heard = time.monotonic()
        self.ended_by = ""  # why the parent killed it
        self.killed = float("inf")
        self.is_stuck = False  # killed, and still there: it waits inside the system, for a file server that does not answer
        self.oom_kills = oom_kill_count()
        self._inbox = inbox
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._process = subprocess.Popen(  # a program of this environment, no shell
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            **own_group(),
        )
        self._threads = [
            threading.Thread(target=target, daemon=True, name=f"medseg-{name}-{what}")
            for target, what in ((self._read_errors, "log"), (self._read_events, "events"), (self._write, "cases"))
        ]
        self._errors = self._threads[0]
        for thread in self._threads:
            thread.start()
        self.send(start)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    @property
    def last_words(self) -> str:
        """The line of its log that tells most, without folders."""
        return last_words(list(self._stderr))

    @property
    def was_out_of_memory(self) -> bool:
        """Whether the system has ended a process for want of memory since this one was started."""
        return oom_kill_count() > self.oom_kills

    def send(self, message: Mapping[str, Any]) -> None:
        """Hand over a message; one that is dead takes it and does nothing."""
        self._outgoing.put(to_line(message))

    def close_input(self) -> None:
        """Tell it that there are no more cases: it finishes what it has, and ends."""
        self._outgoing.put(None)

    def kill(self, reason: str) -> None:
        """Kill it and all it started; that it died is heard as ever."""
        self.ended_by = self.ended_by or reason
        self.killed = min(self.killed, time.monotonic())
        kill_group(self._process)

    def join(self, timeout_s: float) -> bool:
        """Wait until it has ended and everything it said was heard; False where that takes longer."""
        end = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _write(self) -> None:
        stream: IO[bytes] = self._process.stdin  # type: ignore[assignment]
        with contextlib.suppress(OSError, ValueError):  # it is dead; the thread that hears it says so
            while (line := self._outgoing.get()) is not None:
                stream.write(line)
                stream.flush()
        with contextlib.suppress(OSError, ValueError):
            stream.close()

    def _read_errors(self) -> None:
        stream: IO[bytes] = self._process.stderr  # type: ignore[assignment]
        with stream:
            for line in iter(lambda: stream.readline(_LONGEST_STDERR), b""):
                text = line.decode("utf-8", "replace").rstrip()
                if text:
                    self._stderr.append(text)

    def _read_events(self) -> None:
        stream: IO[bytes] = self._process.stdout  # type: ignore[assignment]
        with stream:
            for line in iter(lambda: stream.readline(_LONGEST_EVENT), b""):
                try:
                    event = parse_event(line)
                except MessageError:
                    self.strange_lines += 1
                    continue
                self.heard = time.monotonic()
                self._inbox.put(Heard(self, event))
        self._wait_for_end()
        self._errors.join(_LAST_WORDS_S)  # whoever hears that it has ended asks for its last words
        self._outgoing.put(None)
        self._inbox.put(Heard(self, None))

    def _wait_for_end(self) -> None:
        """The pipe is closed: a process that lives on will never be heard of again."""
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            kill_group(self._process)
            self._process.wait()


def oom_kill_count() -> int:
    """Return how many processes the system has ended for want of memory since it started; 0 where it does not say."""
    try:
        with open("/proc/vmstat", encoding="ascii") as file:
            for line in file:
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
    except (OSError, ValueError):
        return 0
    return 0

"""What is known of a running batch, made from its events alone, and said in one line."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Clock = Callable[[], float]

_WINDOW_S = 600.0  # the rate is that of the last ten minutes
_LAST_FAILURES = 5
_STOPPING = dict.fromkeys(("SIGINT", "SIGTERM"), "what runs gets a moment to finish")


@dataclass
class WorkerState:
    """What one worker does: its case and stage with the time they began, and what its last heartbeat said."""

    device: str = ""
    cases: dict[str, tuple[str, float]] = field(default_factory=dict)
    rss_bytes: int = 0
    cpu_percent: float | None = None
    accelerator: Mapping[str, Any] = field(default_factory=dict)
    is_gone: bool = False


@dataclass
class BatchState:
    """Everything the view shows, made from the events alone; `clock` is monotonic, in seconds.

    `array` is what is known of a job array, whose cases send no events; `waiting` says why nothing runs yet.
    """

    clock: Clock = time.monotonic
    total: int = 0
    done: int = 0
    failed: int = 0
    already: int = 0
    failed_before: int = 0
    retried: int = 0
    began: float | None = None
    stopping: str = ""
    searched: int = 0
    array: str = ""
    waiting: str = ""
    is_over: bool = False
    codes: Counter[str] = field(default_factory=Counter)
    workers: dict[str, WorkerState] = field(default_factory=dict)
    failures: deque[tuple[str, str, str]] = field(default_factory=lambda: deque(maxlen=_LAST_FAILURES))
    finished_at: deque[float] = field(default_factory=deque)
    notes: list[str] = field(default_factory=list)

    def take(self, event: Mapping[str, Any]) -> None:
        """Change by one event; one that is not known changes nothing."""
        if self.began is None:
            self.began = self.clock()
        if isinstance(event.get("total"), int):
            self.total = event["total"]
        if event.get("event") in _TAKES:
            _TAKES[event["event"]](self, event)

    @property
    def left(self) -> int:
        """How many cases are still to be looked at."""
        return max(0, self.total - self.looked_at)

    @property
    def looked_at(self) -> int:
        """How many cases have ended, in this run or before."""
        return self.done + self.failed + self.already + self.failed_before

    @property
    def a_minute(self) -> float | None:
        """Cases that ended in a minute, over the last ten; None before two have ended."""
        now = self.clock()
        while self.finished_at and now - self.finished_at[0] > _WINDOW_S:
            self.finished_at.popleft()
        if len(self.finished_at) < 2 or self.began is None:
            return None
        passed = now - max(self.began, now - _WINDOW_S)
        return len(self.finished_at) / passed * 60 if passed > 0 else None

    @property
    def left_s(self) -> float | None:
        """How many seconds the rest takes at this rate; None where there is no rate yet."""
        rate = self.a_minute
        return None if not rate else self.left / rate * 60

    def _searching(self, event: Mapping[str, Any]) -> None:
        self.searched = int(event.get("files") or 0)

    def _found(self, event: Mapping[str, Any]) -> None:
        self.searched = 0
        if isinstance(event.get("cases"), int):
            self.total = event["cases"]

    def _submitted(self, event: Mapping[str, Any]) -> None:
        self.searched = 0
        self.array = f"{_array(event)}: {_counted(event.get('shards'), 'task')} submitted for {_counted(self.total, 'case')}"

    def _jobs_left(self, event: Mapping[str, Any]) -> None:
        left = event.get("jobs_left")
        name = self.array.partition(":")[0] or "job array"
        self.array = f"{name}: {_counted(left, 'job')} left" if left else f"{name}: no job left, the cohort is awaited"

    def _no_workers(self, event: Mapping[str, Any]) -> None:
        self.waiting = str(event.get("message") or "no worker is there yet")

    def _run_started(self, event: Mapping[str, Any]) -> None:
        self.began = self.clock()
        self.searched = 0

    def _run_finished(self, event: Mapping[str, Any]) -> None:
        self.is_over = True
        self.workers.clear()

    def _worker(self, event: Mapping[str, Any]) -> WorkerState:
        return self.workers.setdefault(str(event.get("worker", "")), WorkerState())

    def _worker_started(self, event: Mapping[str, Any]) -> None:
        self.waiting = ""
        self.workers[str(event.get("worker", ""))] = WorkerState(device=str(event.get("device") or ""))

    def _worker_alive(self, event: Mapping[str, Any]) -> None:
        worker = self._worker(event)
        worker.rss_bytes = int(event.get("rss_bytes") or 0)
        worker.cpu_percent = event.get("cpu_percent")
        given = event.get("device")
        worker.accelerator = given if isinstance(given, Mapping) else {}

    def _worker_died(self, event: Mapping[str, Any]) -> None:
        worker = self._worker(event)
        worker.is_gone = True
        worker.cases.clear()

    def _case_started(self, event: Mapping[str, Any]) -> None:
        self.waiting = ""
        self._worker(event).cases[str(event.get("case_id"))] = ("", self.clock())

    def _case_stage(self, event: Mapping[str, Any]) -> None:
        self._worker(event).cases[str(event.get("case_id"))] = (str(event.get("stage", "")), self.clock())

    def _case_retried(self, event: Mapping[str, Any]) -> None:
        self.retried += 1
        self._leave(event)

    def _case_skipped(self, event: Mapping[str, Any]) -> None:
        if event.get("status") == "failed":
            self.failed_before += int(event.get("count", 1))
        else:
            self.already += int(event.get("count", 1))

    def _case_finished(self, event: Mapping[str, Any]) -> None:
        self._leave(event)
        self.finished_at.append(self.clock())
        if event.get("status") == "done":
            self.done += 1
            return
        self.failed += 1
        code = str(event.get("code") or "FAILED")
        self.codes[code] += 1
        self.failures.append((str(event.get("case_id")), code, str(event.get("message") or "")))

    def _leave(self, event: Mapping[str, Any]) -> None:
        for worker in self.workers.values():
            worker.cases.pop(str(event.get("case_id")), None)

    def _index_rebuilt(self, event: Mapping[str, Any]) -> None:
        self.notes.append(f"the index was made anew from the results: {event.get('reason') or event.get('message') or 'it was not usable'}")

    def _index_given_up(self, event: Mapping[str, Any]) -> None:
        reason = f" ({event['reason']})" if event.get("reason") else ""
        self.notes.append(f"the index cannot be written any more{reason}: no result is lost, the next run makes it anew from them")

    def _claim_taken_over(self, event: Mapping[str, Any]) -> None:
        self.notes.append(f"case {event.get('case_id')} was left by a process that is gone, and is taken over")

    def _stopping(self, event: Mapping[str, Any]) -> None:
        said = _STOPPING.get(str(event.get("reason"))) or str(event.get("message") or "")
        self.stopping = f"stopping: {said}" if said else "stopping"


_TAKES: Mapping[str, Callable[[BatchState, Mapping[str, Any]], None]] = {
    "searching": BatchState._searching,
    "found": BatchState._found,
    "submitted": BatchState._submitted,
    "waiting": BatchState._jobs_left,
    "waiting_for_workers": BatchState._no_workers,
    "run_started": BatchState._run_started,
    "worker_started": BatchState._worker_started,
    "worker_alive": BatchState._worker_alive,
    "worker_died": BatchState._worker_died,
    "case_started": BatchState._case_started,
    "case_stage": BatchState._case_stage,
    "case_retried": BatchState._case_retried,
    "case_skipped": BatchState._case_skipped,
    "case_finished": BatchState._case_finished,
    "index_rebuilt": BatchState._index_rebuilt,
    "index_given_up": BatchState._index_given_up,
    "claim_taken_over": BatchState._claim_taken_over,
    "stopping": BatchState._stopping,
    "run_finished": BatchState._run_finished,
}


def _array(event: Mapping[str, Any]) -> str:
    return f"job array {event.get('array_job') or ''}".rstrip()


def _counted(count: Any, what: str) -> str:
    return f"{count if isinstance(count, int) else 0:,} {what}{'' if count == 1 else 's'}"


def counted_line(state: BatchState) -> str:
    """Return the counts in one line: "42 of 118 cases done, 3 failed, 73 left, 12.4 cases/min, about 6 min left".

    >>> counted_line(BatchState(total=118, done=42, failed=3))
    '42 of 118 cases done, 3 failed, 73 left'
    """
    if state.searched:
        return f"searching: {state.searched:,} files looked at"
    if state.array:
        return state.array
    parts = [f"{state.done} of {state.total} cases done" if state.total else f"{state.done} cases done"]
    if state.already:
        parts.append(f"{state.already} done before")
    if state.failed_before:
        parts.append(f"{state.failed_before} failed before")
    parts += [f"{state.failed} failed", f"{state.left} left"]
    if state.retried:
        parts.append(f"{state.retried} tried again")
    rate, left = state.a_minute, state.left_s
    if rate is not None and state.left:
        parts.append(f"{rate:.3g} cases/min")
    if left is not None and state.left:
        parts.append(f"about {in_words(left)} left")
    return ", ".join(parts)


def in_words(seconds: float) -> str:
    """Return a time in words.

    >>> in_words(42), in_words(400), in_words(9000), in_words(400_000)
    ('42 s', '7 min', '2.5 h', '4.6 days')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"

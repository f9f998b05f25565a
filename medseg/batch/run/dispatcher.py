"""Which case runs next and where, and what a death, a failure or a signal means for the cases on their way."""

from __future__ import annotations

import heapq
import itertools
import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from medseg.batch.run.deaths import death_of
from medseg.batch.run.feed import Feed, Prepared
from medseg.batch.run.jobs import Company, Job, retry_of
from medseg.batch.run.ledger import Ledger
from medseg.batch.run.run_options import RunOptions
from medseg.batch.run.slot import DEPTH, MOST_BAD_STARTS, Slot
from medseg.batch.run.stop_signals import StopAsked
from medseg.batch.run.worker_process import Heard, Inbox, WorkerProcess

_TICK_S = 1.0
_STUCK_S = 30.0  # what a killed process gets to end; one that waits inside the system for a dead file server never does
_BEYOND_LIMIT_BYTES = 500_000_000  # code of libraries counts as memory in use, but not for the limit that a process has
_GB = 1_000_000_000
_CRASHES = (1, 2)  # exit codes of a worker that came upon something unforeseen: the case it had is suspected, the others go on
_INNOCENT = ("DEVICE", "IDLE")  # a worker that was ended for itself, not for a case


@dataclass(frozen=True)
class Written:
    """The result of a case that failed with its worker lies in its folder, or could not be written (`error`)."""

    job: Job
    code: str
    message: str
    error: Exception | None = None


class Dispatcher:
    """The loop of a run: everything that happens arrives in one inbox, and a tick a second looks at what did not happen.

    `write_failure` (job, code, message, whether its files can be looked at) writes the result of a case whose worker could not;
    it is called in a thread.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        feed: Feed,
        ledger: Ledger,
        *,
        options: RunOptions,
        inbox: Inbox,
        write_failure: Callable[[Job, str, str, bool], None],
        beat: Callable[[], None],
    ) -> None:
        self._slots = slots
        self._feed = feed
        self._ledger = ledger
        self._log = ledger.log
        self._options = options
        self._inbox = inbox
        self._write_failure = write_failure
        self._beat = beat
        self._ready: deque[Job] = deque()
        self._suspects: deque[Job] = deque()  # each runs alone in a worker
        self._last: deque[Job] = deque()  # each runs at the end, with no other worker beside it
        self._later: list[tuple[float, int, Job]] = []
        self._number = itertools.count()
        self._writing = 0
        self._bad_starts = 0
        self._deadline = float("inf")
        self._next_tick = 0.0
        self._next_beat = 0.0
        self._tick_s = min(_TICK_S, options.timeout_s / 4, options.silence_s / 4, options.claim_timeout_s / 20)
        self.stopped = ""
        self.message = ""

    def run(self) -> None:
        """Run every case that comes; ends when there is none left, or `stopped` says why not."""
        while not self._is_over():
            self._fill()
            self._hear()
            now = time.monotonic()
            if now >= self._next_tick:
                self._forgive(now - self._next_tick if self._next_tick else 0.0)
                self._next_tick = now + self._tick_s
                self._tick(now)

    def stop(self, reason: str, message: str, *, signal: str = "") -> None:
        """Hand out no more cases; what runs gets the grace time. A second time: end what runs at once."""
        if self.stopped:
            self._deadline = time.monotonic()
            self._next_tick = 0.0
            return
        self.stopped, self.message = reason, message
        self._deadline = time.monotonic() + self._options.grace_s
        self._feed.stop()
        waiting = [*self._ready, *self._suspects, *self._last, *(job for _, _, job in self._later)]
        for queued in (self._ready, self._suspects, self._last, self._later):
            queued.clear()  # type: ignore[attr-defined]
        for job in waiting:
            self._ledger.dropped(job)
        self._log.write("stopping", reason=reason, signal=signal, message=message)

    def _is_over(self) -> bool:
        if self._writing or any(not slot.is_idle for slot in self._slots):
            return False
        if self.stopped:
            return True
        return self._feed.is_over and not (self._ready or self._suspects or self._last or self._later)

    def _forgive(self, late_s: float) -> None:
        """Take time in which this process itself stood still (Ctrl-Z, a machine that slept) off what its workers have used."""
        if late_s > self._tick_s:
            for slot in self._slots:
                slot.forgive(late_s)

    def _hear(self) -> None:
        """Wait for the next message until the next tick, and take all that have come."""
        try:
            message = self._inbox.get(timeout=max(0.0, self._next_tick - time.monotonic()))
            while True:
                self._take(message)
                message = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _take(self, message: Any) -> None:
        if isinstance(message, Heard):
            slot = next((slot for slot in self._slots if slot.worker is message.worker), None)
            if slot is None:
                return
            if message.event is None:
                self._take_death(slot, message.worker)
            else:
                self._take_event(slot, message.worker, message.event)
        elif isinstance(message, Prepared):
            self._take_prepared(message)
        elif isinstance(message, Written):
            self._take_written(message)
        elif isinstance(message, StopAsked):
            self.stop("SIGINT" if message.name == "SIGINT" else "SIGTERM", f"stopping: {message.name}", signal=message.name)

    # what the feed says

    def _take_prepared(self, prepared: Prepared) -> None:
        self._feed.arrived(prepared)
        if prepared.error is not None:
            raise prepared.error
        job = Job(prepared.case)
        if prepared.verdict in ("done", "failed"):
            self._ledger.skipped(prepared)
        elif prepared.verdict == "run" and self.stopped:
            self._ledger.dropped(job)
        elif prepared.verdict == "run":
            if prepared.taken_over:
                self._log.write("claim_taken_over", case_id=prepared.case.case_id)
            self._ready.append(job)

    def _take_written(self, written: Written) -> None:
        self._writing -= 1
        if written.error is not None:
            raise written.error
        self._ledger.finished(written.job, "failed", written.code, worker="", seconds={}, message=written.message)

    # what workers say

    def _take_event(self, slot: Slot, worker: WorkerProcess, event: dict[str, Any]) -> None:
        kind, case_id = event["event"], event.get("case_id")
        if isinstance(event.get("rss_bytes"), int):
            worker.rss_bytes = event["rss_bytes"]
        if kind == "alive":
            said = {name: event.get(name) for name in ("rss_bytes", "cpu_percent", "device")}
            self._log.write("worker_alive", worker=slot.name, **said)
        elif kind == "ready":
            worker.is_ready = True
            slot.bad_starts = self._bad_starts = 0
            slot.restart_clocks()
        elif kind == "stage" and isinstance(case_id, str):
            job = slot.begin_stage(case_id, str(event.get("stage")))
            if job is not None:
                self._ledger.at_stage(job, slot.name)
        elif kind == "finished" and isinstance(case_id, str):
            self._take_finished(slot, worker, case_id, event)
        elif kind == "stopping":
            self.stop("OUTPUT", str(event.get("message", "")))
        elif kind == "fatal" and not (worker.is_ready and event.get("exit_code") in _CRASHES):
            self.stop("MODEL", str(event.get("message", "")))

    def _take_finished(self, slot: Slot, worker: WorkerProcess, case_id: str, event: dict[str, Any]) -> None:
        status, code = event.get("status"), str(event.get("code") or "")
        job = slot.end(case_id) if status in ("done", "failed") else None
        if job is None:
            return
        if code == "DEVICE_LOST":  # nothing can be computed in that process any more
            worker.kill("DEVICE")
        if status == "failed" and self._again(job, code):
            return
        seconds = event.get("seconds")
        self._ledger.finished(job, str(status), code, worker=slot.name, seconds=seconds if isinstance(seconds, dict) else {})

    def _take_death(self, slot: Slot, worker: WorkerProcess) -> None:
        suspects, innocent = slot.lose()
        if worker.ended_by == "IDLE":
            return
        self._log.write("worker_died", worker=slot.name, exit_code=worker.exit_code, reason=worker.ended_by)
        if worker.ended_by in _INNOCENT or not worker.is_ready:
            suspects, innocent = [], [*suspects, *innocent]
        if not worker.is_ready and not self.stopped:
            self._count_bad_start(slot, f"the worker cannot start ({worker.last_words or 'it says nothing'})")
        for job in reversed(innocent):
            self._queue(job, is_first=True)
        is_certain = len(suspects) == 1 and (suspects[0].rank > 0 or suspects[0].company is not Company.ANY)
        for job in suspects:
            if self.stopped:
                self._ledger.dropped(job)
            elif is_certain:
                self._died_of(job, worker)
            else:  # which of them did it is not known: each is run by itself
                code, _ = self._death(worker, job)
                job.again(Company.ALONE)
                self._ledger.retried(job, code)
                self._queue(job)

    def _died_of(self, job: Job, worker: WorkerProcess) -> None:
        code, message = self._death(worker, job)
        if self._again(job, code):
            return
        self._writing += 1
        self._feed.run(lambda: self._written(job, code, message, not worker.is_stuck))

    def _written(self, job: Job, code: str, message: str, has_files: bool) -> Written:
        try:
            self._write_failure(job, code, message, has_files)
        except Exception as err:  # noqa: BLE001 - it must come out in the parent, not vanish in a thread
            return Written(job, code, message, err)
        return Written(job, code, message)

    def _death(self, worker: WorkerProcess, job: Job) -> tuple[str, str]:
        options = self._options
        return death_of(worker, job.stage, timeout_s=options.timeout_s, silence_s=options.silence_s, memory_gb=options.memory_gb)

    def _again(self, job: Job, code: str) -> bool:
        """Let a case wait for another attempt where its failure can pass; return whether it does."""
        retry = None if self.stopped else retry_of(job, code, workers=len(self._slots))
        if retry is None:
            return False
        job.again(retry.company)
        self._ledger.retried(job, code, retry.pause_s)
        if retry.pause_s:
            heapq.heappush(self._later, (time.monotonic() + retry.pause_s, next(self._number), job))
        else:
            self._queue(job)
        return True

    def _count_bad_start(self, slot: Slot, message: str) -> None:
        """Give up a worker that cannot be started, and the run where that is so of all, or of all that were tried."""
        slot.bad_starts += 1
        self._bad_starts += 1
        if self._bad_starts >= MOST_BAD_STARTS or all(slot.bad_starts >= MOST_BAD_STARTS for slot in self._slots):
            self.stop("MODEL", f"{message}: install medseg again, or look at what it says when you run one case with medseg run")

    # what is handed out

    def _queue(self, job: Job, *, is_first: bool = False) -> None:
        if self.stopped:
            self._ledger.dropped(job)
            return
        queued = {Company.ANY: self._ready, Company.ALONE: self._suspects, Company.ONLY: self._last}[job.company]
        if is_first:
            queued.appendleft(job)
        else:
            queued.append(job)

    def _fill(self) -> None:
        """Give cases to the workers that can take one: first one to each, then the next one to be read ahead."""
        if self.stopped:
            return
        self._feed.advance(len(self._ready), len(self._slots) * DEPTH)
        for depth in range(1, DEPTH + 1):
            for slot in self._slots:
                job = self._next_for(slot, depth)
                if job is not None:
                    self._give(slot, job)

    def _next_for(self, slot: Slot, depth: int) -> Job | None:
        if self._suspects:  # no other case is handed out meanwhile, so that a worker gets empty for them
            return self._suspects.popleft() if slot.takes(Company.ALONE) else None
        if self._ready:
            return self._ready.popleft() if slot.takes(Company.ANY, depth) else None
        if self._last and slot.takes(Company.ONLY) and self._is_quiet(slot):
            return self._last.popleft()
        return None

    def _is_quiet(self, slot: Slot) -> bool:
        """Whether nothing else is to be done, with the memory of all other workers given back; ends those that are left."""
        if not self._feed.is_over or self._later or self._writing or any(not slot.is_idle for slot in self._slots):
            return False
        others = [other.worker for other in self._slots if other is not slot and other.worker is not None]
        for worker in others:
            worker.kill("IDLE")
        return not others

    def _give(self, slot: Slot, job: Job) -> None:
        try:
            is_new = slot.give(job)
        except OSError as err:
            self._count_bad_start(slot, f"the worker cannot be started ({err.strerror or type(err).__name__})")
            self._queue(job, is_first=True)
            return
        if is_new and slot.worker is not None:
            self._log.write("worker_started", worker=slot.name, device=slot.device, pid=slot.worker.pid)
        self._ledger.started(job, slot.name)

    def _tick(self, now: float) -> None:
        options = self._options
        memory = float("inf") if options.memory_gb is None else options.memory_gb * 1.1 * _GB + _BEYOND_LIMIT_BYTES
        for slot in self._slots:
            slot.check(now, timeout_s=options.timeout_s, silence_s=options.silence_s, start_s=options.start_s, memory_bytes=memory)
            if slot.worker is not None and now - slot.worker.killed > _STUCK_S:
                slot.worker.is_stuck = True
                self._take_death(slot, slot.worker)
            if self.stopped and now >= self._deadline and slot.worker is not None and not slot.is_idle:
                slot.worker.kill("STOP")
        while self._later and self._later[0][0] <= now:
            self._queue(heapq.heappop(self._later)[2])
        if now >= self._next_beat:
            self._next_beat = now + options.claim_timeout_s / 10
            self._beat()
        self._feed.look_again(now)
        self._ledger.commit()

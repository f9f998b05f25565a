"""The client's side of a run on dask: hand out, collect, try again, and say in time when it must end."""

from __future__ import annotations

import json
import queue
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from medseg.batch.cluster.cluster_error import ClusterError
from medseg.batch.cluster.dask_clusters import Connection
from medseg.batch.cluster.dask_task import DIED, MOST_STARTS, CasePlugin, answer_of, run_case
from medseg.batch.cluster.starts import Starts
from medseg.batch.records.case import Case
from medseg.batch.records.events import EventLog
from medseg.batch.records.layout import Layout
from medseg.batch.records.result import PASSING
from medseg.batch.records.results import Standing, is_done, write_failure
from medseg.batch.run.run_options import RunOptions, Summary
from medseg.batch.run.stop_signals import StopAsked
from medseg.batch.run.worker_process import Inbox
from medseg.batch.worker.messages import Run, Start

GPU = "GPU"  # the resource of a worker that has a device: dask worker --resources GPU=1
AHEAD = 2  # tasks for each process: the one that runs and the next
_MOST_RETRIES = 2
_MOST_LOSSES = 10  # a case that the pool loses this often is not handed out a further time
_LOOK_EVERY_S = 0.3
_COUNT_EVERY_S = 2.0
_SAY_AFTER_S = 60.0
_ANSWER_S = 60.0
_ENDS_ITS_PROCESS = ("DEVICE_LOST", "TIMEOUT", "CRASH")
_GONE = "the scheduler of the pool is gone: what was done is safe; start it and run the same command again"
_LOST = "the pool lost this case {count} times without a word of its worker; see the logs of the pool"


@dataclass(frozen=True)
class _Begun:
    """A worker has begun with a case."""

    said: dict[str, Any]


@dataclass(frozen=True)
class _Ended:
    """A task has come to its end, one way or another."""

    case_id: str
    future: Any


@dataclass
class _Handed:
    """A case that is on its way: its attempt, how often the pool lost it, and the task."""

    case: Case
    attempt: int = 1
    losses: int = 0
    future: Any = None
    worker: str = ""


class DaskRun:
    """One run on the workers of a client, from `with` to its end; `all` runs it.

    Entering gives every worker, also one that joins later, the plugin that holds plan and model. Raises ClusterError where a
    worker cannot take it.
    """

    def __init__(self, pool: Connection, start: Start, options: RunOptions, log: EventLog, starts: Starts, inbox: Inbox) -> None:
        self._client, self._refusals, self._start, self._options = pool.client, pool.refusals, start, options
        self._log, self._starts, self._inbox = log, starts, inbox
        self._layout = Layout(start.output)
        self._topic = f"medseg-{start.token}"
        self._handed: dict[str, _Handed] = {}
        self._again: list[_Handed] = []
        self._counts: Counter[str] = Counter()
        self._codes: Counter[str] = Counter()
        self._workers: dict[str, str] = {}
        self._room = AHEAD
        self._next_count = 0.0
        self._alone_since = time.monotonic()
        self._stopped = self._message = ""
        self._asked, self._asked_at = 0, 0.0

    def __enter__(self) -> DaskRun:
        plugin = CasePlugin(self._start.to_dict(), str(self._starts.folder), self._options.timeout_s, self._topic)
        try:
            self._client.register_plugin(plugin)
        except Exception as err:
            raise ClusterError(
                f"the workers of the pool cannot run medseg ({type(err).__name__}): install medseg {self._start.plan.version} and "
                "the same Python on all of them"
            ) from err
        self._client.subscribe_topic(self._topic, lambda event: self._inbox.put(_Begun(event[1])))
        return self

    def __exit__(self, *failure: object) -> None:
        try:
            self._client.unsubscribe_topic(self._topic)
            self._client.unregister_worker_plugin(self._topic)
        except Exception:  # noqa: BLE001 - the pool is gone, and nothing on it can be tidied
            return

    def all(self, cases: Iterable[Case]) -> Summary:
        """Run every case that is not done; raises ClusterError where the pool is lost, OutputError."""
        listed = iter(cases)
        while not self._is_given_up():
            self._tend()
            is_full = self._stopped != "" or self._hand_out(listed)
            if not self._handed and is_full:
                break
            self._take(wait_s=_LOOK_EVERY_S if is_full else 0.0)
        self._client.cancel([handed.future for handed in self._handed.values()])
        counts = {name: self._counts[name] for name in ("done", "failed", "skipped", "failed_before")}
        return Summary(**counts, by_code=dict(sorted(self._codes.items())), stopped=self._stopped, message=self._message)

    def _is_given_up(self) -> bool:
        """Whether running cases are dropped: after a second signal, or when the time they were given is over."""
        return self._asked > 1 or (self._asked == 1 and time.monotonic() - self._asked_at > self._options.grace_s)

    def _hand_out(self, listed: Iterator[Case]) -> bool:
        """Hand out what the pool has room for; False where there is more to look at, which may be very much that is done."""
        end = time.monotonic() + _LOOK_EVERY_S
        while len(self._handed) < self._room:
            if self._again:
                self._submit(self._again.pop())
                continue
            if time.monotonic() > end:
                return False
            case = next(listed, None)
            if case is None:
                return True
            if self._is_missing(case):
                self._submit(_Handed(case))
        return True

    def _is_missing(self, case: Case) -> bool:
        """Whether a case is to be run; what stands is counted."""
        standing = is_done(self._layout, case, self._start.plan, self._start.root, quick=self._options.quick)
        if standing.status == "done":
            self._counts["skipped"] += 1
        elif standing.status == "failed" and not self._options.retry_failed:
            self._counts["failed_before"] += 1
            self._codes[_code_of(standing)] += 1
        else:
            return True
        self._log.write("case_skipped", case_id=case.case_id, status=standing.status, code=_code_of(standing), count=1)
        return False

    def _submit(self, handed: _Handed) -> None:
        case_id = handed.case.case_id
        is_device = self._start.device.startswith("cuda")
        handed.future = self._client.submit(
            run_case,
            self._topic,
            json.dumps(Run(handed.case, handed.attempt).to_dict()),  # ASCII, whatever bytes the names of files have
            key=f"{self._topic}-{case_id}-{handed.attempt}-{handed.losses}",
            pure=False,
            resources={GPU: 1} if is_device else None,
        )
        self._handed[case_id] = handed
        handed.future.add_done_callback(lambda future: self._inbox.put(_Ended(case_id, future)))

    def _take(self, wait_s: float) -> None:
        """Take what the pool and the system have said, waiting for the first word."""
        try:
            said = self._inbox.get(timeout=wait_s)
            while True:
                if isinstance(said, StopAsked):
                    self._asked_to_stop(said.name)
                elif isinstance(said, _Begun):
                    self._begun(said.said)
                elif isinstance(said, _Ended):
                    self._ended(said.case_id, said.future)
                said = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _asked_to_stop(self, name: str) -> None:
        self._asked += 1
        self._asked_at = self._asked_at or time.monotonic()
        self._stop("SIGINT" if name == "SIGINT" else "SIGTERM")

    def _stop(self, reason: str, message: str = "") -> None:
        """Hand out no more, and take back what no worker has begun."""
        if self._stopped:
            return
        self._stopped, self._message = reason, message
        self._log.write("stopping", reason=reason, message=message)
        unstarted = [case_id for case_id in self._handed if not self._starts.count(case_id)]
        self._client.cancel([self._handed.pop(case_id).future for case_id in unstarted])

    def _begun(self, event: dict[str, Any]) -> None:
        handed = self._handed.get(event["case_id"])
        if handed is None:
            return
        if handed.worker:  # begun before, and the process that did is gone
            self._log.write("worker_died", worker=handed.worker, case_id=handed.case.case_id)
        handed.worker = self._name_of(event["worker"], event["pid"])
        self._log.write("case_started", case_id=handed.case.case_id, attempt=handed.attempt, worker=handed.worker)

    def _name_of(self, address: str, pid: int) -> str:
        """Return a short name of a process; addresses name machines and stay out of the log."""
        key = f"{address}/{pid}"
        if key not in self._workers:
            self._workers[key] = f"dask-{len(self._workers) + 1}"
            self._log.write("worker_started", worker=self._workers[key], pid=pid)
        return self._workers[key]

    def _ended(self, case_id: str, future: Any) -> None:
        handed = self._handed.get(case_id)
        if handed is None or handed.future is not future:
            return
        del self._handed[case_id]
        handed.future = None
        answer = _answer_in(future)
        if answer is None or answer["event"] == "lost":
            self._lost(handed)
        elif answer["event"] == "finished":
            self._finished(handed, answer)
        else:
            self._stop("OUTPUT" if answer["event"] == "stopping" else "MODEL", answer["message"])

    def _finished(self, handed: _Handed, answer: dict[str, Any]) -> None:
        case_id, status, code = handed.case.case_id, answer["status"], answer["code"]
        self._starts.forget(case_id)
        if code in _ENDS_ITS_PROCESS and handed.worker:
            self._log.write("worker_died", worker=handed.worker, case_id=case_id, reason=code)
            handed.worker = ""
        said = {"case_id": case_id, "status": status, "code": code, "attempt": handed.attempt, "worker": handed.worker}
        said |= {"seconds": answer["seconds"], "message": answer["message"]}
        if code in PASSING and handed.attempt <= _MOST_RETRIES and not self._stopped:
            self._log.write("case_retried", **said)
            self._again.append(_Handed(handed.case, handed.attempt + 1))
            return
        self._counts[status] += 1
        if status == "failed":
            self._codes[code] += 1
        self._log.write("case_finished", **said)

    def _lost(self, handed: _Handed) -> None:
        """A task ended without an answer; dask blames every task of a process that died, our starts say which one it was."""
        if self._client.status != "running":
            raise ClusterError(_GONE)
        died = self._starts.count(handed.case.case_id)
        if self._stopped:
            return
        if died >= MOST_STARTS:
            self._fail(handed, "CRASH", DIED.format(count=died))
        elif handed.losses >= _MOST_LOSSES:
            self._fail(handed, "KILLED", _LOST.format(count=handed.losses))
        else:
            self._again.append(_Handed(handed.case, handed.attempt, handed.losses + 1, worker=handed.worker))

    def _fail(self, handed: _Handed, code: str, message: str) -> None:
        plan, root, token = self._start.plan, self._start.root, self._start.token
        result = write_failure(self._layout, handed.case, plan, code, message, attempts=handed.attempt, token=token, root=root)
        handed.attempt = max(handed.attempt, _MOST_RETRIES + 1)  # it was tried often enough
        self._finished(handed, answer_of(result))

    def _tend(self) -> None:
        """Count the workers, who come and go."""
        now = time.monotonic()
        if now >= self._next_count:
            self._next_count = now + _COUNT_EVERY_S
            self._count_workers(now)

    def _count_workers(self, now: float) -> None:
        if self._client.status not in ("running", "connecting"):
            raise ClusterError(_GONE)
        if self._client.status != "running":
            return
        count = len(self._client.nthreads())
        if not count and self._refusals:
            raise ClusterError(f"the scheduler takes no job ({self._refusals[-1]}): change --dask-option and try again")
        if count:
            self._alone_since = now
        elif now - self._alone_since > _SAY_AFTER_S:
            self._alone_since = float("inf")  # said once
            self._log.write("waiting_for_workers", message="no worker of the pool is there yet: its jobs wait, or cannot start")
        self._room = AHEAD * max(1, count)


def _answer_in(future: Any) -> dict[str, Any] | None:
    """Return what a task said, None where it has none: KilledWorker, or the connection was lost and dask forgot the task."""
    if future.status != "finished":
        return None
    try:
        return dict(future.result(timeout=_ANSWER_S))
    except Exception:  # noqa: BLE001 - its worker ended with the answer; the result lies on disk and is found by the next try
        return None


def _code_of(standing: Standing) -> str:
    return standing.result.code if standing.result is not None else ""

"""Cases on their way to the workers: looked at and claimed by a few threads, never more than a handful ahead."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from medseg.batch.records.case import Case
from medseg.batch.records.result import CaseResult
from medseg.batch.records.results import Standing
from medseg.batch.run.claims import Claims
from medseg.batch.run.worker_process import Inbox

Verdict = Literal["run", "done", "failed", "elsewhere"]

_THREADS = 4
_AHEAD = 16
_LOOK_AGAIN_S = 5.0


@dataclass(frozen=True)
class Prepared:
    """What is to become of a case: run (it is claimed), or why not; `taken_over` says that the claim was another process's."""

    case: Case
    verdict: Verdict
    standing: Standing | None = None
    taken_over: bool = False
    error: Exception | None = None


class Feed:
    """Takes cases from where they are listed, as fast as workers need them, and puts each as `Prepared` into the inbox.

    `stand` says whether the result of a case stands, `clear` removes what a process that is gone left half-written of one. A
    case that another process works on is looked at again every few seconds, until it is done or its process is gone.
    """

    def __init__(
        self,
        cases: Iterable[Case],
        *,
        stand: Callable[[Case], Standing],
        claims: Claims,
        clear: Callable[[Case], None],
        retry_failed: bool,
        inbox: Inbox,
    ) -> None:
        self._cases: Iterator[Case] | None = iter(cases)
        self._stand = stand
        self._claims = claims
        self._clear = clear
        self._retry_failed = retry_failed
        self._inbox = inbox
        self._work: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._is_stopped = False
        self._out = 0
        self._elsewhere: list[Prepared] = []
        self._look_again = 0.0
        for number in range(_THREADS):  # of a pool the end of the program would wait for a file server that never answers
            threading.Thread(target=self._serve, daemon=True, name=f"medseg-feed-{number}").start()

    @property
    def is_over(self) -> bool:
        """Whether no case will come any more."""
        return self._cases is None and not self._out and not self._elsewhere

    @property
    def is_listed(self) -> bool:
        """Whether every case of the list was looked at once."""
        return self._cases is None and not self._out

    def advance(self, waiting: int, wanted: int) -> None:
        """Look at more cases where fewer than `wanted` wait for a worker."""
        while self._cases is not None and self._out < _AHEAD and waiting + self._out < wanted + _AHEAD // 2:
            case = next(self._cases, None)
            if case is None:
                self._cases = None
                return
            self._look_at(case, None)

    def look_again(self, now: float) -> None:
        """Look again at the cases that other processes work on, where that was long enough ago."""
        if self._elsewhere and now >= self._look_again:
            self._look_again = now + _LOOK_AGAIN_S
            again, self._elsewhere = self._elsewhere, []
            for prepared in again:
                self._look_at(prepared.case, prepared)

    def arrived(self, prepared: Prepared) -> None:
        """Note that a case came out of the inbox."""
        self._out -= 1
        if prepared.verdict == "elsewhere" and not self._is_stopped:
            if not self._elsewhere:
                self._look_again = time.monotonic() + _LOOK_AGAIN_S
            self._elsewhere.append(prepared)

    def stop(self) -> None:
        """Take no more cases."""
        self._is_stopped = True
        self._cases = None
        self._elsewhere = []

    def run(self, work: Callable[[], Any]) -> None:
        """Do something that may take a while in one of the threads, and put what it returns into the inbox."""
        self._work.put(work)

    def close(self) -> None:
        """End the threads, once each has done what it does."""
        self.stop()
        for _ in range(_THREADS):
            self._work.put(None)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            self._inbox.put(work())

    def _look_at(self, case: Case, before: Prepared | None) -> None:
        self._out += 1
        self.run(lambda: self._prepared(case, before))

    def _prepared(self, case: Case, before: Prepared | None) -> Prepared:
        try:
            return self._decide(case, before)
        except Exception as err:  # noqa: BLE001 - it must come out in the parent, not vanish in a thread
            return Prepared(case, "run", error=err)

    def _decide(self, case: Case, before: Prepared | None) -> Prepared:
        standing = self._stand(case)
        tried = before.standing if before is not None else standing
        if self._is_over(standing, tried) or self._is_stopped:
            return Prepared(case, standing.status if standing.status in ("done", "failed") else "elsewhere", standing)
        taken_over = False
        if not self._claims.take(case.case_id):
            taken_over = self._claims.take_over(case.case_id)
            if not taken_over:
                return Prepared(case, "elsewhere", tried)
        standing = self._stand(case)  # whose claim it was may have finished it between the look and the claim
        if self._is_over(standing, tried):
            self._claims.release(case.case_id)
            return Prepared(case, "done" if standing.status == "done" else "failed", standing)
        if taken_over:
            self._clear(case)
        return Prepared(case, "run", standing, taken_over)

    def _is_over(self, standing: Standing, tried: Standing | None) -> bool:
        """Whether a case need not be run; `tried` is what lay there first, so that a failure is tried again once, by one process."""
        if standing.status == "failed":
            return not self._retry_failed or _result_of(standing) != _result_of(tried)
        return standing.status == "done"


def _result_of(standing: Standing | None) -> CaseResult | None:
    return standing.result if standing is not None else None

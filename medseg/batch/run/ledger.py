"""What became of the cases of a run so far: counted, logged, indexed, their claims given back."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Mapping
from typing import Any

from medseg.batch.records.events import EventLog
from medseg.batch.records.index import Index, Row
from medseg.batch.records.layout import Layout
from medseg.batch.records.result import read_result
from medseg.batch.run.claims import Claims
from medseg.batch.run.feed import Prepared
from medseg.batch.run.jobs import Job
from medseg.batch.run.run_options import Summary
from medseg.core.errors import UnreadableFileError


class Ledger:
    """Takes note of everything that happens to a case; the files of the results stay the truth."""

    def __init__(self, layout: Layout, plan_key: str, *, log: EventLog, index: Index, claims: Claims) -> None:
        self._layout = layout
        self._plan_key = plan_key
        self.log = log
        self._index: Index | None = index
        self._claims = claims
        self.counts: Counter[str] = Counter()
        self.by_code: Counter[str] = Counter()

    def started(self, job: Job, worker: str) -> None:
        """A case was given to a worker."""
        self.log.write("case_started", case_id=job.case.case_id, worker=worker, attempt=job.attempt)

    def at_stage(self, job: Job, worker: str) -> None:
        """A case began a stage."""
        self.log.write("case_stage", case_id=job.case.case_id, worker=worker, stage=job.stage)

    def retried(self, job: Job, code: str, pause_s: float = 0.0) -> None:
        """A case will be tried again."""
        self.log.write("case_retried", case_id=job.case.case_id, code=code, attempt=job.attempt, company=job.company.value, pause_s=pause_s)

    def skipped(self, prepared: Prepared) -> None:
        """A case need not be run: it is done, or failed in a way that trying again does not change."""
        case_id, result = prepared.case.case_id, prepared.standing.result if prepared.standing is not None else None
        code = result.code if result is not None else ""
        if prepared.verdict == "failed":
            self.counts["failed_before"] += 1
            self.by_code[code] += 1
        else:
            self.counts["skipped"] += 1
        with self._indexed() as index:
            if result is not None and index is not None and index.is_temporary:  # one that stays has been compared with the results
                index.record_result(result)
        self.log.write("case_skipped", case_id=case_id, status=prepared.verdict, code=code, count=1)

    def finished(self, job: Job, status: str, code: str, *, worker: str, seconds: Mapping[str, Any], message: str = "") -> None:
        """A case has its result, which lies in its folder."""
        case_id = job.case.case_id
        if status == "failed":
            message = message or self._message_of(case_id)
            self.by_code[code] += 1
        self.counts["done" if status == "done" else "failed"] += 1
        spent = {name: value for name, value in seconds.items() if isinstance(value, (int, float))}
        self._note(case_id, status, code, job.attempt, float(sum(spent.values())))
        said = {"message": message} if message else {}
        self.log.write(
            "case_finished", case_id=case_id, status=status, code=code, attempt=job.attempt, seconds=spent, worker=worker, **said
        )
        self._claims.release(case_id)

    def dropped(self, job: Job) -> None:
        """A case stays as it was: the run ends before it."""
        self._claims.release(job.case.case_id)

    def commit(self) -> None:
        """Make the index stay."""
        with self._indexed() as index:
            if index is not None:
                index.commit()

    def summary(self, stopped: str, message: str) -> Summary:
        """Return the counts."""
        names = ("done", "failed", "skipped", "failed_before")
        counts = {name: self.counts[name] for name in names}
        return Summary(**counts, by_code=dict(sorted(self.by_code.items())), stopped=stopped, message=message)

    def _note(self, case_id: str, status: str, code: str, attempt: int, seconds: float) -> None:
        with self._indexed() as index:
            if index is not None:
                try:
                    changed_ns = self._layout.result(case_id).stat().st_mtime_ns
                except OSError:  # a server whose answers are late; the next run compares again
                    changed_ns = 0
                index.record(Row(case_id, status, code, self._plan_key, attempt, seconds, changed_ns))

    @contextlib.contextmanager
    def _indexed(self) -> Any:
        """Give the index, and give it up where it cannot be written: it is made again from the results by the next run."""
        try:
            yield self._index
        except (sqlite3.Error, OSError) as err:
            self._index = None
            self.log.write("index_given_up", reason=type(err).__name__)

    def _message_of(self, case_id: str) -> str:
        try:
            result = read_result(self._layout.result(case_id))
        except UnreadableFileError:
            return ""
        return result.message if result is not None else ""

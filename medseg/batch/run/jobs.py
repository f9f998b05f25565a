"""What the parent knows of a case on its way: how often it was tried, in which company it runs, how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from medseg.batch.records.case import Case
from medseg.batch.records.result import PASSING
from medseg.batch.worker.messages import STAGES

MOST_RETRIES = 2
# seconds until what can pass by itself is tried again: a server that hiccups, a file that is still being copied
_PAUSE_S = dict.fromkeys(("IO_ERROR", "INPUT_CHANGED", "INPUT_GONE"), (1.0, 4.0))
_ONCE = frozenset({"DEVICE_LOST"})
_MEMORY = frozenset({"OUT_OF_MEMORY", "KILLED"})


class Company(Enum):
    """What else may run while a case does: anything, nothing in the same worker, nothing at all."""

    ANY = "any"
    ALONE = "alone"
    ONLY = "only"


@dataclass(eq=False)
class Job:
    """A case that is to be run, or runs."""

    case: Case
    attempt: int = 1
    company: Company = Company.ANY
    stage: str = ""  # "" until the worker has begun with it
    since: float = 0.0  # when it was given, began its stage, or its way was cleared

    @property
    def rank(self) -> int:
        """How far it is: 0 for not begun."""
        return STAGES.index(self.stage) + 1 if self.stage in STAGES else 0  # type: ignore[arg-type]

    def again(self, company: Company) -> None:
        """Make it a case that waits for another attempt."""
        self.company = company
        self.attempt += 1
        self.stage = ""


@dataclass(frozen=True)
class Retry:
    """How a case is tried again: in which company, and after how many seconds."""

    company: Company
    pause_s: float = 0.0


def retry_of(job: Job, code: str, *, workers: int) -> Retry | None:
    """Return how a case that failed with this code is tried again, None where that is its result.

    Only what can pass is: memory first alone in a worker and then with no other worker beside it, files after a pause, a lost
    device once.
    """
    if code not in PASSING or job.attempt > (1 if code in _ONCE else MOST_RETRIES):
        return None
    if code in _MEMORY:
        if job.company is Company.ONLY or (job.company is Company.ALONE and workers == 1):
            return None
        is_last = job.company is Company.ALONE or code == "KILLED"
        return Retry(Company.ONLY if is_last else Company.ALONE)
    pauses = _PAUSE_S.get(code, (0.0,))
    return Retry(Company.ALONE if code in _ONCE else job.company, pauses[min(job.attempt, len(pauses)) - 1])


def overdue(jobs: list[Job], now: float, timeout_s: float) -> Job | None:
    """Return the case of a worker whose stage takes longer than it may, None where none does.

    A case that waits until another one leaves the next stage is not late: its time counts from the moment its way was cleared.
    """
    taken = {job.rank for job in jobs}
    late = [job for job in jobs if now - job.since > timeout_s and job.rank + 1 not in taken]
    return max(late, key=lambda job: job.rank, default=None)


def note_stage(jobs: list[Job], job: Job, stage: str, now: float) -> None:
    """Note that a case begins a stage, or ends (stage "finished"); the time of those behind it counts from now."""
    for other in jobs:
        if other is not job and other.rank <= job.rank:
            other.since = now
    job.stage, job.since = stage, now

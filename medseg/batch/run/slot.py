"""A place for one worker process, which is started when there is something to do and again after it died."""

from __future__ import annotations

import time
from collections.abc import Callable

from medseg.batch.run.jobs import Company, Job, note_stage, overdue
from medseg.batch.run.worker_process import WorkerProcess
from medseg.batch.worker.messages import Run

MOST_BAD_STARTS = 3
DEPTH = 3  # cases in a worker: the next one is read ahead while one is computed and the last one written


class Slot:
    """One worker of a run, by its number and device, with the cases that were given to it."""

    def __init__(self, name: str, device: str, start: Callable[[Slot], WorkerProcess]) -> None:
        self.name = name
        self.device = device
        self.worker: WorkerProcess | None = None
        self.jobs: dict[str, Job] = {}
        self.guilty: Job | None = None  # whose stage took too long
        self.starts = 0
        self.bad_starts = 0  # one after the other
        self._start = start

    @property
    def is_idle(self) -> bool:
        """Whether it has no case."""
        return not self.jobs

    def takes(self, company: Company, depth: int = DEPTH) -> bool:
        """Whether a case for this company can be given now."""
        if self.bad_starts >= MOST_BAD_STARTS or self.guilty is not None or (self.worker is not None and self.worker.ended_by):
            return False  # about to die
        if company is not Company.ANY:
            return not self.jobs
        return len(self.jobs) < depth and all(job.company is Company.ANY for job in self.jobs.values())

    def give(self, job: Job) -> bool:
        """Hand a case over, starting the worker where there is none; return whether it was started. Raises OSError."""
        is_new = self.worker is None
        if self.worker is None:
            self.starts += 1
            self.worker = self._start(self)
        job.stage, job.since = "", time.monotonic()
        self.jobs[job.case.case_id] = job
        self.worker.send(Run(job.case, job.attempt).to_dict())
        return is_new

    def restart_clocks(self) -> None:
        """Count the time of every case from now: the worker has only now become ready."""
        for job in self.jobs.values():
            job.since = time.monotonic()

    def forgive(self, seconds: float) -> None:
        """Take off the time in which nobody listened to the worker."""
        for job in self.jobs.values():
            job.since += seconds
        if self.worker is not None:
            self.worker.started += seconds
            self.worker.heard += seconds

    def begin_stage(self, case_id: str, stage: str) -> Job | None:
        """Note a stage; None where the case is not one of this worker."""
        job = self.jobs.get(case_id)
        if job is not None:
            note_stage(list(self.jobs.values()), job, stage, time.monotonic())
        return job

    def end(self, case_id: str) -> Job | None:
        """Take a case that is finished; None where the case is not one of this worker."""
        job = self.begin_stage(case_id, "finished")
        return self.jobs.pop(case_id, None) if job is not None else None

    def lose(self) -> tuple[list[Job], list[Job]]:
        """Take everything of a worker that died: the cases that may be guilty of it, and the innocent.

        Guilty is the one it was ended for; where there is none such, it may have been any.
        """
        jobs, guilty = list(self.jobs.values()), self.guilty
        self.jobs, self.guilty, self.worker = {}, None, None
        suspects = [guilty] if guilty is not None else jobs
        return suspects, [job for job in jobs if job not in suspects]

    def check(self, now: float, *, timeout_s: float, silence_s: float, start_s: float, memory_bytes: float) -> None:
        """End a worker that has not started, is silent, takes too much memory, or takes too long for a case."""
        worker = self.worker
        if worker is None or worker.ended_by:
            return
        if not worker.is_ready:
            if now - worker.started > start_s:
                worker.kill("START")
        elif now - worker.heard > silence_s:
            worker.kill("SILENT")
        elif worker.rss_bytes > memory_bytes:
            worker.kill("MEMORY")
        else:
            self.guilty = overdue(list(self.jobs.values()), now, timeout_s)
            if self.guilty is not None:
                worker.kill("TIMEOUT")

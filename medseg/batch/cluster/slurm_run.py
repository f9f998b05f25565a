"""The cases of a batch on SLURM: written, handed in, and, where that is asked for, waited for and counted."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from medseg.batch.cluster.slurm import SlurmOptions, Submitted, submit, wait_for_results, write_array
from medseg.batch.records.case import Case
from medseg.batch.records.events import Observe
from medseg.batch.records.layout import Layout
from medseg.batch.records.plan import Plan
from medseg.batch.records.result import CaseResult, read_result
from medseg.batch.run.run_options import RunOptions, Summary
from medseg.core.errors import UnreadableFileError

PROGRAM = (sys.executable, "-m", "medseg")
NOT_RUN = "NOT_RUN"


@dataclass(frozen=True)
class SlurmRun:
    """Runs cases as a job array; an object of this class is called as `run_cases` is.

    `arguments` are those of `medseg batch` for every task, in `directory`; `identify` is passed on to the report. With `wait` the
    call returns when the last task has ended and the cohort is written, else as soon as SLURM has taken the jobs: then the summary
    is "SUBMITTED" and counts nothing.
    """

    arguments: tuple[str, ...]
    options: SlurmOptions
    directory: Path
    wait: bool = False
    identify: bool = False

    def __call__(
        self, plan: Plan, cases: Iterable[Case], *, total: int, root: Path, layout: Layout, options: RunOptions, observe: Observe
    ) -> Summary:
        """Submit the array, and the job that collects; raises ClusterError, OutputError."""
        shards = max(1, min(self.options.shards, total))
        collect = [*PROGRAM, "report", str(layout.folder.absolute()), *(["--identify"] if self.identify else [])]
        program = [*PROGRAM, "batch"]
        array = write_array(layout, program, self.arguments, collect, replace(self.options, shards=shards), directory=self.directory)
        submitted = submit(array)
        tell = _teller(observe)
        tell("submitted", total=total, shards=shards, array_job=submitted.array_job, collect_job=submitted.collect_job)
        if not self.wait:
            return Summary(stopped="SUBMITTED", message=_submitted(submitted))
        wait_for_results(submitted, observe=lambda left: tell("waiting", jobs_left=left))
        return count_results(plan, cases, layout)


def count_results(plan: Plan, cases: Iterable[Case], layout: Layout) -> Summary:
    """Return what became of cases, read from their results alone; a case without one of this plan counts as failed, NOT_RUN."""
    counts: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    for case in cases:
        result = _result(layout, case)
        if result is not None and result.plan_key == plan.key and result.status == "done":
            counts["done"] += 1
            continue
        counts["failed"] += 1
        codes[result.code if result is not None and result.plan_key == plan.key else NOT_RUN] += 1
    return Summary(done=counts["done"], failed=counts["failed"], by_code=dict(sorted(codes.items())))


def without_options(arguments: Sequence[str], *, flags: Iterable[str], valued: Iterable[str]) -> tuple[str, ...]:
    """Return the arguments of a command line without these options; what comes after "--" is never an option.

    >>> without_options(["in", "--slurm", "--slurm-option", "--mem=4G", "-o", "out"], flags=["--slurm"], valued=["--slurm-option"])
    ('in', '-o', 'out')
    """
    kept: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == "--":
            return (*kept, argument, *waiting)
        name, joined, _ = argument.partition("=")
        if name in valued:
            if not joined:
                next(waiting, None)
        elif argument not in flags:
            kept.append(argument)
    return tuple(kept)


def _result(layout: Layout, case: Case) -> CaseResult | None:
    try:
        return read_result(layout.result(case.case_id))
    except UnreadableFileError:
        return None


def _submitted(submitted: Submitted) -> str:
    return (
        f"job array {submitted.array_job} runs the cases, job {submitted.collect_job} then writes the cohort; "
        f"squeue -j {submitted.array_job},{submitted.collect_job} shows them, and the same command submits again what is missing"
    )


def _teller(observe: Observe) -> Any:
    def tell(event: str, **values: Any) -> None:
        observe({"time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), "event": event, **values})

    return tell

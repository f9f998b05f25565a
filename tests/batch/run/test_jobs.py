"""How often and in which company a case is tried, and which case of a worker is late."""

from __future__ import annotations

import pytest

from medseg.batch.records.case import Case
from medseg.batch.run.jobs import Company, Job, Retry, note_stage, overdue, retry_of


def job(number: int = 0, **values: object) -> Job:
    return Job(Case(f"{number:016x}", "NIfTI", ("a.nii",)), **values)  # type: ignore[arg-type]


def attempts(code: str, workers: int = 4) -> list[Retry]:
    """Every retry of a case that always fails with this code."""
    one, found = job(), []
    while (retry := retry_of(one, code, workers=workers)) is not None:
        found.append(retry)
        one.again(retry.company)
        assert len(found) < 10
    return found


@pytest.mark.parametrize("code", ["CRASH", "TIMEOUT", "MISSING_SLICES", "UNREADABLE", ""])
def test_what_cannot_pass_is_not_tried_again(code: str) -> None:
    assert attempts(code) == []


def test_memory_is_tried_alone_and_then_with_the_machine_for_itself() -> None:
    assert attempts("OUT_OF_MEMORY") == [Retry(Company.ALONE), Retry(Company.ONLY)]
    assert attempts("OUT_OF_MEMORY", workers=1) == [Retry(Company.ALONE)]
    assert attempts("KILLED") == [Retry(Company.ONLY)]


def test_files_are_tried_after_a_pause_and_a_device_once() -> None:
    assert attempts("IO_ERROR") == [Retry(Company.ANY, 1.0), Retry(Company.ANY, 4.0)]
    assert attempts("INPUT_GONE") == [Retry(Company.ANY, 1.0), Retry(Company.ANY, 4.0)]
    assert attempts("DEVICE_LOST") == [Retry(Company.ALONE)]


def test_the_case_whose_stage_takes_too_long_is_late() -> None:
    computing, reading = job(0, stage="compute", since=0.0), job(1, stage="read", since=5.0)
    assert overdue([computing, reading], 9.0, 10.0) is None
    assert overdue([computing, reading], 11.0, 10.0) is computing
    assert overdue([reading], 14.0, 10.0) is None
    assert overdue([reading], 16.0, 10.0) is reading


def test_waiting_for_the_case_ahead_counts_for_nothing() -> None:
    computing, reading = job(0, stage="compute", since=19.0), job(1, stage="read", since=0.0)
    assert overdue([computing, reading], 20.0, 10.0) is None  # it may have been read long ago, and waits
    note_stage([computing, reading], computing, "write", 25.0)
    assert overdue([computing, reading], 30.0, 10.0) is None
    assert overdue([computing, reading], 36.0, 10.0) is computing
    note_stage([computing, reading], computing, "finished", 36.0)
    assert overdue([reading], 40.0, 10.0) is None
    assert overdue([reading], 47.0, 10.0) is reading


def test_a_case_that_was_given_and_is_never_begun_is_late_too() -> None:
    given = job(since=0.0)
    assert overdue([given], 11.0, 10.0) is given
    assert overdue([job(1, stage="read", since=8.0), given], 11.0, 10.0) is None

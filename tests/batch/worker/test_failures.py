"""Codes and sentences of what went wrong."""

from __future__ import annotations

import errno

import pytest

from medseg.batch.records.result import PASSING
from medseg.batch.worker import failures
from medseg.core import errors
from medseg.core.finding import Finding, Severity


def _raised(err: BaseException, cause: BaseException | None = None) -> BaseException:
    err.__cause__ = cause
    return err


def test_a_series_is_named_by_its_first_severe_finding() -> None:
    """Warnings before it do not count."""
    findings = [
        Finding("NOISE", Severity.WARNING, "w"),
        Finding("MISSING_SLICES", Severity.ERROR, "e"),
        Finding("GAP", Severity.ERROR, "e"),
    ]
    assert failures.failure_of(errors.InconsistentSeriesError("text", findings)) == ("MISSING_SLICES", "text")


@pytest.mark.parametrize(
    ("err", "code"),
    [
        (errors.UnreadableFileError("x"), "UNREADABLE_FILE"),
        (errors.WrongModalityError("x"), "WRONG_MODALITY"),
        (errors.IncompatibleModelError("x"), "INCOMPATIBLE_MODEL"),
        (errors.InconsistentSeriesError("x"), "INCONSISTENT_SERIES"),
        (errors.OutOfMemoryError("x"), "OUT_OF_MEMORY"),
        (MemoryError(), "OUT_OF_MEMORY"),
        (_raised(errors.UnreadableFileError("x"), OSError(errno.EIO, "")), "IO_ERROR"),
        (_raised(errors.UnreadableFileError("x"), OSError(errno.EACCES, "")), "UNREADABLE_FILE"),
        (errors.OutputError("no room to unpack"), "IO_ERROR"),
        (OSError(errno.ETIMEDOUT, "DOE"), "IO_ERROR"),
        (_raised(errors.DeviceError("x"), RuntimeError("CUDA error")), "DEVICE_LOST"),
        (RuntimeError("CUDA error: device-side assert triggered"), "DEVICE_LOST"),
        (RuntimeError("shape mismatch"), "UNEXPECTED"),
        (SystemExit(0), "UNEXPECTED"),
    ],
)
def test_every_kind_of_error_has_a_code(err: BaseException, code: str) -> None:
    """Those that may pass are the ones that are tried again."""
    found, text = failures.failure_of(err)
    assert found == code
    assert "DOE" not in text
    assert (code in PASSING) == (code in {"OUT_OF_MEMORY", "IO_ERROR", "DEVICE_LOST"})


def test_what_concerns_all_cases_is_told_from_what_concerns_one() -> None:
    """A model that is missing, against a scan that does not fit it; a device that is not there, against one that failed."""
    of_all = [
        errors.ModelNotFoundError("x"),
        errors.ChecksumError("x"),
        errors.UnsafeModelError("x"),
        errors.DeviceError("x"),
        errors.PipelineError("x"),
        errors.MissingDependencyError("x"),
    ]
    of_one = [
        errors.IncompatibleModelError("x"),
        errors.OutOfMemoryError("x"),
        errors.InputError("x"),
        errors.ParameterError("x"),
        _raised(errors.DeviceError("x"), RuntimeError("CUDA error")),
        ValueError("x"),
        MemoryError(),
    ]
    assert [failures.is_of_all_cases(err) for err in of_all] == [True] * len(of_all)
    assert [failures.is_of_all_cases(err) for err in of_one] == [False] * len(of_one)


def test_what_concerns_the_output_is_told_from_a_format() -> None:
    """A full disk, against DICOM SEG of a scan that is not DICOM."""
    from medseg.io.write import OutputFormatError

    assert failures.is_of_the_output(errors.OutputError("x"))
    assert failures.is_of_the_output(OSError(errno.ENOSPC, "x"))
    assert not failures.is_of_the_output(OutputFormatError("x"))
    assert not failures.is_of_the_output(MemoryError())


def test_a_fault_of_ours_says_where() -> None:
    """File and line, but not the words of the error."""
    from medseg.batch.records.case import case_id_of

    try:
        case_id_of([1])  # type: ignore[list-item]
    except TypeError as err:
        code, text = failures.failure_of(err)
    assert code == "UNEXPECTED"
    assert "in case.py, line" in text

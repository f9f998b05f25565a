"""What went wrong with a case, as a code and a sentence; and what is no fault of the case, so that the run must know."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

from medseg.core.errors import (
    DeviceError,
    InputError,
    MedsegError,
    MissingDependencyError,
    ModelError,
    OutOfMemoryError,
    OutputError,
    PipelineError,
    UnsupportedFormatError,
)
from medseg.core.finding import errors_in
from medseg.io.file_report import code_of

# What a network share or a disk says in a bad moment, and may not say again
PASSING_ERRNO = frozenset(
    getattr(errno, name) for name in ("EIO", "ESTALE", "ETIMEDOUT", "EAGAIN", "EINTR", "EHOSTDOWN", "ENETDOWN", "ENETUNREACH", "ENOBUFS")
)
_CASE_MODEL_ERRORS = ("IncompatibleModelError",)  # this scan is not for this model; every other ModelError is about the model itself


class InputGoneError(InputError):
    """A file of a case is not there any more."""


class InputChangedError(InputError):
    """A file of a case changed while it was read."""


def failure_of(err: BaseException) -> tuple[str, str]:
    """Return code and sentence of what was raised while a case was worked on; words of foreign exceptions stay out.

    >>> failure_of(InputGoneError("file 2 of 3 is gone"))
    ('INPUT_GONE', 'file 2 of 3 is gone')
    """
    if isinstance(err, (MemoryError, OutOfMemoryError)):
        text = str(err) if isinstance(err, OutOfMemoryError) else "main memory ran out"
        return "OUT_OF_MEMORY", f"{text}; allow more with --memory-gb, or run fewer workers at once"
    if isinstance(err, MedsegError):
        return _code_of(err), str(err)
    if isinstance(err, OSError):
        return (
            "IO_ERROR",
            f"reading or writing failed ({os.strerror(err.errno) if err.errno else type(err).__name__}); check disk and network",
        )
    if _is_device_failure(err):
        return "DEVICE_LOST", "the device failed while it computed; it is started anew"
    return "UNEXPECTED", f"unexpected {type(err).__name__}{_where(err)}: a fault of medseg or of a library, please report it"


def _code_of(err: MedsegError) -> str:
    if isinstance(err, DeviceError):
        return "DEVICE_LOST"
    if passing_cause(err) is not None or (isinstance(err, OutputError) and not isinstance(err, UnsupportedFormatError)):
        return "IO_ERROR"
    severe = errors_in(getattr(err, "findings", ()))
    return severe[0].code if severe else code_of(err)


def is_of_all_cases(err: BaseException) -> bool:
    """Whether what was raised while computing would be raised for every case: pipeline, model, device, a missing package."""
    if isinstance(err, DeviceError):
        return err.__cause__ is None  # it is not there at all; one that failed in the middle has a cause
    if isinstance(err, ModelError):
        return not isinstance(err, OutOfMemoryError) and type(err).__name__ not in _CASE_MODEL_ERRORS
    return isinstance(err, (PipelineError, MissingDependencyError))


def is_of_the_output(err: BaseException) -> bool:
    """Whether what was raised while writing says that the output folder takes no more: disk full, read-only, broken."""
    if isinstance(err, UnsupportedFormatError):
        return False  # this case in this format
    return isinstance(err, (OutputError, OSError))


def passing_cause(err: BaseException) -> OSError | None:
    """Return the system's error behind an exception where it is one that may pass."""
    return next((cause for cause in _chain(err) if isinstance(cause, OSError) and cause.errno in PASSING_ERRNO), None)


def missing_file(err: BaseException) -> bool:
    """Whether a file that was not there is behind an exception."""
    return any(isinstance(cause, OSError) and cause.errno == errno.ENOENT for cause in _chain(err))


def _chain(err: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = err
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_device_failure(err: BaseException) -> bool:
    text = str(err)
    return isinstance(err, RuntimeError) and ("CUDA error" in text or "cuDNN error" in text or "device-side assert" in text)


def _where(err: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(err.__traceback__) if f"{Path(frame.filename).parent.as_posix()}/".count("/medseg/")]
    return f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""

"""Every error medseg raises on purpose, with the exit code a program should end with.

MedsegError
├ InputError                     3  UnreadableFileError · InconsistentSeriesError(findings)
│                                   UnsupportedFormatError › SeveralVolumesError(count)
│                                   TooLargeError (ValueError) · WrongModalityError
├ GeometryError (ValueError)     3  SingularAffineError · GeometryMismatchError(expected, got)
├ SegmentError                   3  UnknownSegmentError (LookupError) · OverlappingSegmentsError
├ MethodError                    2  UnknownMethodError (LookupError) · DuplicateMethodError · ParameterError (ValueError)
├ PipelineError                  4
├ ModelError                     4  ModelNotFoundError · UnsafeModelError · ChecksumError · IncompatibleModelError
│                                   DeviceError · OutOfMemoryError
├ OutputError                    5  OutputExistsError (FileExistsError) · OutputVerificationError
└ MissingDependencyError         4  (ImportError; names the extra)
MedsegWarning                       GeometryWarning · SeriesWarning

A message says what is wrong, where, and what to do; it never holds a patient's name, ID or birth date.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medseg.core.finding import Finding
    from medseg.core.geometry import Geometry


class MedsegError(Exception):
    """Base of every error raised on purpose."""

    exit_code = 1


class InputError(MedsegError):
    """An input cannot be used."""

    exit_code = 3


class UnreadableFileError(InputError):
    """A file is missing, truncated, corrupted or not what it claims to be."""


class UnsupportedFormatError(InputError):
    """A file is sound, but of a kind medseg does not read or write."""


class SeveralVolumesError(UnsupportedFormatError):
    """A file holds `count` volumes (time points, directions, channels) and none was chosen."""

    def __init__(self, message: str, count: int = 0) -> None:
        super().__init__(message)
        self.count = count


class InconsistentSeriesError(InputError):
    """A DICOM series does not describe one volume; `findings` says why."""

    def __init__(self, message: str, findings: Iterable[Finding] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)


class TooLargeError(InputError, ValueError):
    """A scan has more voxels than a method can number; cropping or resampling it first helps."""


class WrongModalityError(InputError):
    """A scan is of another modality than what is to be done with it."""


class GeometryError(MedsegError, ValueError):
    """A grid is impossible or does not fit."""

    exit_code = 3


class SingularAffineError(GeometryError):
    """An affine has no volume: zero, missing or non-finite spacing."""


class GeometryMismatchError(GeometryError):
    """Two grids that must be the same are not."""

    def __init__(self, message: str, expected: Geometry | None = None, got: Geometry | None = None) -> None:
        super().__init__(message)
        self.expected = expected
        self.got = got


class SegmentError(MedsegError):
    """Segments are contradictory or missing."""

    exit_code = 3


class UnknownSegmentError(SegmentError, LookupError):
    """A segment was asked for that the label map does not have."""


class OverlappingSegmentsError(SegmentError):
    """Segments overlap where one label a voxel is needed."""


class MethodError(MedsegError):
    """A method cannot be found, registered or called as asked."""

    exit_code = 2


class UnknownMethodError(MethodError, LookupError):
    """No method has that name."""


class DuplicateMethodError(MethodError):
    """Two methods claim one name."""


class ParameterError(MethodError, ValueError):
    """A parameter is missing, unknown or out of its limits."""


class PipelineError(MedsegError):
    """A pipeline file cannot be used."""

    exit_code = 4


class ModelError(MedsegError):
    """A trained network cannot be used."""

    exit_code = 4


class ModelNotFoundError(ModelError):
    """No model has that name or lies at that path."""


class UnsafeModelError(ModelError):
    """A model file asks to run code; medseg never does."""


class ChecksumError(ModelError):
    """A model's weights are not the ones its description names."""


class IncompatibleModelError(ModelError):
    """Weights, network and scan do not fit together."""


class DeviceError(ModelError):
    """The asked-for device is not there."""


class OutOfMemoryError(ModelError):
    """The device has too little memory even for the smallest patch."""


class OutputError(MedsegError):
    """A result cannot be written."""

    exit_code = 5


class OutputExistsError(OutputError, FileExistsError):
    """The output is there already and overwriting was not asked for."""


class OutputVerificationError(OutputError):
    """What was read back is not what was written; the file did not get its name."""


class MissingDependencyError(MedsegError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""

    exit_code = 4


class MedsegWarning(UserWarning):
    """Base of every warning."""


class GeometryWarning(MedsegWarning):
    """A grid is usable, but not as it should be."""


class SeriesWarning(MedsegWarning):
    """A series is usable, but not as it should be."""

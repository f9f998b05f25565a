"""What `medseg inspect` says about one volume: read or not, where it lies and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry

_GRID_KEYS = ("shape", "spacing_mm", "affine", "orientation", "voxel_volume_mm3", "is_oblique", "is_sheared")


@dataclass(frozen=True)
class VolumeReport:
    """One volume found on disk; `geometry` is None and `error` says why where it cannot be read.

    `path` is the file, or the folder of a DICOM series; `format` is "DICOM", "DICOM SEG", "NIfTI-1", "NIfTI-2", "NRRD",
    "seg.nrrd", "MetaImage", or "" where unknown; `label_numbers` are the values of a label map, None for intensities.

    >>> VolumeReport("x.nii", "NIfTI-1", error="cut short").to_dict()["findings"][0]["code"]
    'UNREADABLE'
    """

    path: str
    format: str = ""
    modality: str = ""
    series_uid: str | None = None
    geometry: Geometry | None = None
    findings: tuple[Finding, ...] = field(default=())
    dtype: str = ""
    unit: str = ""
    slice_count: int | None = None
    error: str | None = None
    label_numbers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        findings = tuple(self.findings)
        if self.error is not None and not any(finding.severity is Severity.ERROR for finding in findings):
            findings = (*findings, Finding("UNREADABLE", Severity.ERROR, self.error))
        object.__setattr__(self, "findings", findings)

    @property
    def is_readable(self) -> bool:
        """Whether the volume could be read to its end."""
        return self.error is None and self.geometry is not None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: the keys every reader of `medseg inspect --json` may rely on, null where unknown."""
        grid: dict[str, Any] = dict.fromkeys(_GRID_KEYS)
        if self.geometry is not None:
            grid.update({key: value for key, value in self.geometry.to_dict().items() if key in grid})
        return {
            "path": self.path,
            "format": self.format,
            "modality": self.modality,
            "series_uid": self.series_uid,
            **grid,
            "findings": [finding.to_dict() for finding in self.findings],
            "dtype": self.dtype,
            "unit": self.unit,
            "slice_count": self.slice_count,
            "readable": self.is_readable,
            "error": self.error,
            "label_numbers": list(self.label_numbers) if self.label_numbers is not None else None,
        }

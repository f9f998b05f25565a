"""What `medseg inspect` says about one volume: read or not, where it lies, what is wrong with it and what each fault costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from medseg.core.advice import advice_on
from medseg.core.finding import Finding, Severity, errors_in
from medseg.core.geometry import Geometry
from medseg.io.options import ReadOptions
from medseg.measurement.pricing import SegmentPrice

_GRID_KEYS = ("shape", "spacing_mm", "affine", "orientation", "voxel_volume_mm3", "is_oblique", "is_sheared")
_AUDIT_KEYS = (
    "slices_found", "slices_expected", "first_mm", "last_mm", "usual_gap_mm", "gaps", "duplicates", "tilt_degrees",
    "obliqueness_degrees", "stacks", "disagreeing_tags", "options_used",
)  # fmt: skip


def choices_of(options: ReadOptions) -> dict[str, Any]:
    """Return the explicit ways on that were taken, by name: what every result records; empty where there was none.

    >>> choices_of(ReadOptions(allow_gaps=True, select="2"))
    {'select': '2', 'allow_gaps': True}
    """
    taken = {name: value for name, value in vars(options).items() if value is not None and value is not False}  # 0 is a choice
    return {name: list(value) if isinstance(value, tuple) else value for name, value in taken.items()}


@dataclass(frozen=True)
class SliceGap:
    """A place where two neighbouring slices are further apart than usual.

    `after_mm` is the position along the normal of the slice before it, `gap_mm` the distance to the next, `missing` how many
    slices would have been there at the usual distance (0 where the distance is no multiple of it).
    """

    after_mm: float
    gap_mm: float
    missing: int = 0


@dataclass(frozen=True)
class StackSummary:
    """One of the stacks a series holds: what chooses it on the command line, its slices, and the header fields that set it apart."""

    select: str
    slices: int
    differs: str = ""


@dataclass(frozen=True)
class TagDisagreement:
    """A header field that should be the same all through a stack, or agree with the positions, and is not.

    `tag` is "(gggg,eeee)", `keyword` its DICOM name, `values` what was found (the first few), never a patient's attribute.
    """

    tag: str
    keyword: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class SeriesAudit:
    """The geometry of a DICOM stack in figures; what could not be measured is None.

    `slices_expected` is `slices_found` plus those missing between first and last; positions are mm along the slice normal.
    `options_used` names the explicit ways on that were taken, as on the command line.

    >>> SeriesAudit(44, 47, gaps=(SliceGap(394.28, 9.81, 2), SliceGap(459.68, 6.54, 1))).to_dict()["gaps"][0]["missing"]
    2
    """

    slices_found: int
    slices_expected: int | None = None
    first_mm: float | None = None
    last_mm: float | None = None
    usual_gap_mm: float | None = None
    gaps: tuple[SliceGap, ...] = ()
    duplicates: int = 0
    tilt_degrees: float | None = None
    obliqueness_degrees: float | None = None
    stacks: tuple[StackSummary, ...] = ()
    disagreeing_tags: tuple[TagDisagreement, ...] = ()
    options_used: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


@dataclass(frozen=True)
class StructureSummary:
    """A structure of an RTSTRUCT as its contours alone give it; `volume_ml` is None, with a reason, where they enclose none."""

    number: int
    label: str
    type: str = ""
    contours: int = 0
    volume_ml: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class VolumeReport:
    """One volume found on disk; `geometry` is None and `error` says why where it cannot be read.

    `path` is the file, or the folder of a DICOM series; `format` is "DICOM", "DICOM SEG", "DICOM RTSTRUCT", "NIfTI-1",
    "NIfTI-2", "NRRD", "seg.nrrd", "MetaImage", or "" where unknown; `label_numbers` are the values of a label map, None for
    intensities. `layers` is how many label maps the segments of one file need (more than 1 where they overlap). `audit`
    holds the figures of a DICOM stack, `prices` what its faults cost each segment of a segmentation that was given,
    `structures` the contours of an RTSTRUCT.

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
    audit: SeriesAudit | None = None
    prices: tuple[SegmentPrice, ...] | None = None
    structures: tuple[StructureSummary, ...] | None = None
    layers: int | None = None

    def __post_init__(self) -> None:
        findings = tuple(self.findings)
        if self.error is not None and not any(finding.severity is Severity.ERROR for finding in findings):
            findings = (*findings, Finding("UNREADABLE", Severity.ERROR, self.error))
        object.__setattr__(self, "findings", findings)

    @property
    def is_readable(self) -> bool:
        """Whether the volume could be read to its end."""
        return self.error is None and (self.geometry is not None or self.structures is not None)

    @property
    def is_reportable(self) -> bool:
        """Whether a volume measured on this may be reported: nothing that was found forbids it."""
        return not errors_in(self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: the keys every reader of `medseg inspect --json` may rely on, null where unknown."""
        grid: dict[str, Any] = dict.fromkeys(_GRID_KEYS)
        if self.geometry is not None:
            grid.update({key: value for key, value in self.geometry.to_dict().items() if key in grid})
        audit: Mapping[str, Any] = dict.fromkeys(_AUDIT_KEYS) if self.audit is None else self.audit.to_dict()
        return {
            "path": self.path,
            "format": self.format,
            "modality": self.modality,
            "series_uid": self.series_uid,
            **grid,
            "findings": [finding.to_dict() | {"advice": advice_on(finding).to_dict()} for finding in self.findings],
            "dtype": self.dtype,
            "unit": self.unit,
            "slice_count": self.slice_count,
            "readable": self.is_readable,
            "reportable": self.is_reportable,
            "error": self.error,
            "label_numbers": list(self.label_numbers) if self.label_numbers is not None else None,
            "layers": self.layers,
            **audit,
            "prices": None if self.prices is None else [price.to_dict() for price in self.prices],
            "structures": None if self.structures is None else [asdict(structure) for structure in self.structures],
        }

"""How one thing that was read, or could not be, becomes a report."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from medseg.core.errors import GeometryMismatchError, MedsegError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.io.report import VolumeReport


def layers_report(path: Path, name: str, layers: tuple[LabelMap, ...]) -> VolumeReport:
    """Return the report of a segmentation, whose segments may share voxels."""
    first = value_report(path, name, layers[0])
    numbers = tuple(sorted(segment.number for layer in layers for segment in layer.segments))
    findings = list({finding.message: finding for layer in layers for finding in layer.findings}.values())
    if len(layers) > 1:
        text = f"segments share voxels: they are held in {len(layers)} layers, and each is measured on its own"
        findings.append(Finding("OVERLAPPING_SEGMENTS", Severity.INFO, text, {"layers": len(layers)}))
    return replace(first, findings=tuple(findings), label_numbers=numbers, layers=len(layers))


def contrast_findings(volume: Volume) -> tuple[Finding, ...]:
    """Return the finding that a scan has one value only, nothing where it has more.

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> contrast_findings(Volume(np.ones((2, 2, 2)), Geometry((2, 2, 2), np.eye(4))))[0].code
    'CONSTANT_INTENSITY'
    """
    low, high = np.fmin.reduce(volume.array, axis=None), np.fmax.reduce(volume.array, axis=None)
    if low != high:
        return ()
    text = f"every voxel has the value {low:g}: there is no contrast in which anything could be seen"
    return (Finding("CONSTANT_INTENSITY", Severity.WARNING, text, {"intensity": float(low)}),)


def value_report(path: Path, name: str, value: Volume | LabelMap) -> VolumeReport:
    """Return the report of a scan or a label map that was read."""
    numbers = tuple(segment.number for segment in value.segments) if isinstance(value, LabelMap) else None
    return VolumeReport(
        path=str(path),
        format=name,
        modality="SEG" if name == "DICOM SEG" else getattr(value, "modality", ""),
        series_uid=value.source.series_uid if value.source else None,
        geometry=value.geometry,
        findings=value.findings if isinstance(value, LabelMap) else (*value.findings, *contrast_findings(value)),
        dtype=value.array.dtype.name,
        slice_count=value.geometry.shape[2],
        label_numbers=numbers,
        layers=None if numbers is None else 1,
    )


def unreadable(path: Path, name: str, err: MedsegError, series_uid: str | None = None, modality: str = "") -> VolumeReport:
    """Return the report of what could not be read."""
    # GeometryMismatchError and its like speak of two inputs; here there is one, and its findings say more
    findings = tuple(getattr(err, "findings", ())) if not isinstance(err, GeometryMismatchError) else ()
    if not findings:
        findings = (Finding(code_of(err), Severity.ERROR, str(err)),)
    return VolumeReport(str(path), name, modality, series_uid=series_uid, findings=findings, error=str(err))


def code_of(err: MedsegError) -> str:
    """A finding's code from the class of an error, such as UNREADABLE_FILE of UnreadableFileError."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(err).__name__.removesuffix("Error")).upper()

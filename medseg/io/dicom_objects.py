"""DICOM files that are no images: segmentations, structure sets, reports, named for what they are."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from medseg.core.errors import MedsegError
from medseg.core.finding import Finding, Severity
from medseg.core.native_slices import NativeSlices
from medseg.io.file_report import layers_report, unreadable
from medseg.io.report import StructureSummary, VolumeReport

_SOP_CLASS = 0x00080016
_STRUCTURES = "radiotherapy structure set (RTSTRUCT)"  # as io.dicom.kinds names it


def kind_of_object(path: Path) -> str:
    """Return what kind of DICOM object a file is, "" where it may be an image or is no readable DICOM file."""
    from medseg.io.dicom.elements import HeaderError, NotDicomError, read_elements
    from medseg.io.dicom.kinds import other_object

    try:
        elements = read_elements(os.fspath(path), frozenset({_SOP_CLASS}))
    except (NotDicomError, HeaderError, OSError, ValueError):
        return ""
    sop_class = elements.values.get(_SOP_CLASS, b"").decode("ascii", "replace").strip("\0 ")
    return other_object(sop_class or elements.media_sop_class_uid)


def is_contours(path: str | Path) -> bool:
    """Whether a file is an RTSTRUCT, which has no grid of its own: its contours are filled on that of a scan."""
    return Path(path).is_file() and kind_of_object(Path(path)) == _STRUCTURES


def object_report(path: Path) -> VolumeReport | None:
    """Return the report of a DICOM file that is no image by nature; None for anything else."""
    kind = kind_of_object(path)
    if not kind:
        return None
    if kind == "segmentation (SEG)":
        return _segmentation(path)
    if kind == _STRUCTURES:
        return _structures(path)
    finding = Finding("NO_VOLUME", Severity.INFO, f"a DICOM {kind}: it holds no image volume")
    return VolumeReport(str(path), f"DICOM {kind}", findings=(finding,))


def frames_left_out(path: Path) -> tuple[Finding, ...]:
    """Return the finding that a DICOM SEG has no frame at places between others; nothing for any other file.

    Empty frames may be left out, so that a place without frame is an empty slice, or one that the scan never had: only the
    scan can tell.
    """
    from medseg.io.dicom.quiet import quiet
    from medseg.io.dicom.seg_grid import distinct_planes
    from medseg.io.dicom.seg_header import is_seg, read_seg_header

    if not path.is_file() or not is_seg(path):
        return ()
    with quiet():
        positions, _ = distinct_planes(read_seg_header(path))
    if len(positions) < 3:
        return ()
    gaps = np.diff(positions)
    usual = float(np.median(gaps[gaps < 1.5 * gaps.min()]))
    holes = int((np.rint(gaps / usual) - 1).sum())
    if not holes:
        return ()
    text = (
        f"{holes} place(s) between the frames have no frame: slices without a label, or slices that the scan never had. In the second case"
        " volumes are too small"
    )
    return (Finding("FRAMES_LEFT_OUT", Severity.WARNING, text, {"count": holes, "usual_gap_mm": usual}),)


def _segmentation(path: Path) -> VolumeReport:
    from medseg.io.read import read_layers

    try:
        report = layers_report(path, "DICOM SEG", read_layers(path))
        return replace(report, findings=(*report.findings, *frames_left_out(path)))
    except MedsegError as err:
        native = _native_slices(path)
        if native is not None:
            return _native_report(path, native)
        return unreadable(path, "DICOM SEG", err, modality="SEG")


def _native_slices(path: Path) -> NativeSlices | None:
    from medseg.io.dicom.seg_read import read_native_slices

    try:
        return read_native_slices(path)
    except MedsegError:
        return None


def _native_report(path: Path, native: NativeSlices) -> VolumeReport:
    from medseg.measurement.native import native_volumes_ml

    volumes = native_volumes_ml(native)
    text = (
        f"the segmentation lies on {len(native.positions_mm)} slices at uneven distances, which no even grid holds: its volumes are"
        " the sum of area × slice width over the slices that it has"
    )
    finding = Finding("NATIVE_SLICES", Severity.INFO, text, {"positions_mm": list(native.positions_mm)})
    rows = [StructureSummary(one.number, one.label, "segment", volume_ml=volumes[one.number]) for one in native.segments]
    numbers = tuple(segment.number for segment in native.segments)
    return VolumeReport(
        str(path),
        "DICOM SEG",
        "SEG",
        findings=(finding,),
        slice_count=len(native.positions_mm),
        label_numbers=numbers,
        structures=tuple(rows),
    )


def _structures(path: Path) -> VolumeReport:
    from medseg.io.dicom.rtstruct_read import read_structures

    try:
        found = read_structures(path)
    except MedsegError as err:
        return unreadable(path, "DICOM RTSTRUCT", err, modality="RTSTRUCT")
    rows = [
        StructureSummary(roi.number, roi.name, roi.interpreted_type, len(roi.contours), roi.volume_ml, roi.no_volume) for roi in found.rois
    ]
    return VolumeReport(str(path), "DICOM RTSTRUCT", "RTSTRUCT", found.series_uid or None, findings=found.findings, structures=tuple(rows))

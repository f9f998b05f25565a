"""RTSTRUCT files of any writer as regions drawn by contours; `rasterise` makes label maps of them (PS3.3, A.19)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.core.codes import Code
from medseg.core.errors import InputError, MedsegError, UnreadableFileError, UnsupportedFormatError
from medseg.core.finding import Finding, Severity
from medseg.core.segment import Colour
from medseg.io.dicom.contour_checks import check_rois
from medseg.io.dicom.contour_fill import rasterise
from medseg.io.dicom.contour_grid import default_geometry
from medseg.io.dicom.contours import CLOSED, POINT, Contour, Roi, StructureSet
from medseg.io.dicom.elements import HeaderError, NotDicomError, read_elements
from medseg.io.dicom.foreign import FOREIGN_ERRORS
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.seg_terms import code_of
from medseg.kernels.decimals import parse_decimals

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Contour", "Roi", "StructureSet", "default_geometry", "is_rtstruct", "rasterise", "read_structures"]

RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"

_SOP_CLASS = 0x00080016
_LONGEST_NAME = 64
_INTERPOLATED = "INTERPOLATED_PLANAR"  # not of the standard: closed contours that OsiriX drew between those of the user


def is_rtstruct(path: str | os.PathLike[str]) -> bool:
    """Tell from its header whether a file is an RTSTRUCT; False for what cannot be read."""
    try:
        elements = read_elements(os.fspath(path), frozenset({_SOP_CLASS}))
    except (NotDicomError, HeaderError, OSError, ValueError):
        return False
    sop_class = elements.values.get(_SOP_CLASS, b"").decode("ascii", "replace").strip("\0 ")
    return (sop_class or elements.media_sop_class_uid) == RTSTRUCT_CLASS


def read_structures(path: str | os.PathLike[str]) -> StructureSet:
    """Read an RTSTRUCT file, or the only one in a folder: every ROI, also one without contours, with points in RAS mm.

    `findings` say what is unusual about the contours and what it does to a volume. Volumes come from the contours alone,
    `rasterise` brings them onto a grid. Raises UnreadableFileError for damaged files, UnsupportedFormatError for what is no
    RTSTRUCT, InputError for a folder with none or several.
    """
    file = _one_file(Path(path))
    with quiet():
        dataset = _dataset(file)
        try:
            return _structures(dataset, file)
        except MedsegError:
            raise
        except FOREIGN_ERRORS as err:
            # the text of these errors may quote the patient's header, so it is not passed on
            raise UnreadableFileError(
                f"{file}: the structure set lacks attributes it must have, or they hold nonsense ({type(err).__name__}): export it again"
            ) from None


def _one_file(path: Path) -> Path:
    if not path.exists():
        raise UnreadableFileError(f"{path}: no such file or folder")
    if path.is_dir():
        found = sorted(entry for entry in path.rglob("*") if entry.is_file() and not entry.is_symlink() and is_rtstruct(entry))
        if len(found) != 1:
            names = ", ".join(entry.name for entry in found[:5]) or "none"
            raise InputError(f"{path}: one RTSTRUCT is needed, there are {len(found)} ({names}); give the file")
        return found[0]
    return path


def _dataset(file: Path) -> Dataset:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        elements = read_elements(os.fspath(file), frozenset({_SOP_CLASS}))  # every length is checked here, bombs are refused
        sop_class = elements.values.get(_SOP_CLASS, b"").decode("ascii", "replace").strip("\0 ") or elements.media_sop_class_uid
        if sop_class != RTSTRUCT_CLASS:
            raise UnsupportedFormatError(f"{file}: not a DICOM structure set (RTSTRUCT)")
        return dcmread(file, force=True)
    except (HeaderError, NotDicomError) as err:
        raise UnreadableFileError(f"{file}: the structure set cannot be read ({err}): copy or export the file again") from None
    except MedsegError:
        raise
    except (InvalidDicomError, *FOREIGN_ERRORS) as err:
        raise UnreadableFileError(f"{file}: the structure set cannot be read ({type(err).__name__}): copy the file again") from None


@dataclass
class _Notes:
    """Findings while the file is read."""

    findings: list[Finding]

    def add(self, code: str, severity: Severity, text: str, **details: object) -> None:
        self.findings.append(Finding(code, severity, text, details))


def _structures(dataset: Dataset, file: Path) -> StructureSet:
    notes = _Notes([])
    contours = {int(item.ReferencedROINumber): item for item in dataset.get("ROIContourSequence") or ()}
    observations = _by_roi(dataset.get("RTROIObservationsSequence") or ())
    listed = list(dataset.get("StructureSetROISequence") or ())
    numbers = [int(item.ROINumber) for item in listed]
    if len(set(numbers)) != len(numbers):
        raise UnreadableFileError(
            f"{file}: two ROIs have the same number, so contours cannot be told apart: export the structure set again"
        )
    if not numbers:
        notes.add("NO_ROIS", Severity.WARNING, "the structure set holds no ROI")
    orphans = sorted(set(contours) - set(numbers))
    if orphans:
        text = f"contours of ROI number(s) {orphans[:10]} belong to no ROI of the file; they are left out: export the structure set again"
        notes.add("ORPHAN_CONTOURS", Severity.WARNING, text, numbers=orphans)
    names = _unique_names([str(item.get("ROIName") or "") for item in listed], numbers)
    rois = [
        _roi(item, name, contours.get(number), observations.get(number), notes, file)
        for item, name, number in zip(listed, names, numbers, strict=True)
    ]
    checked, findings, step = check_rois(rois)
    frames = [roi.frame_of_reference_uid for roi in checked if roi.frame_of_reference_uid]
    referenced = list(_references(dataset))
    return StructureSet(
        os.fspath(file),
        checked,
        label=_clean(str(dataset.get("StructureSetLabel") or "")),
        approval=_clean(str(dataset.get("ApprovalStatus") or "")),
        sop_instance_uid=str(dataset.get("SOPInstanceUID") or ""),
        series_uid=str(dataset.get("SeriesInstanceUID") or ""),
        frame_of_reference_uid=next(iter([*(frame for frame, _ in referenced if frame), *frames]), ""),
        referenced_series_uids=tuple(dict.fromkeys(series for _, series in referenced if series)),
        step_mm=step,
        findings=(*notes.findings, *findings),
    )


def _by_roi(items: Iterable[Dataset]) -> dict[int, Dataset]:
    """The first observation of each ROI; one that names no ROI is left out."""
    found: dict[int, Dataset] = {}
    for item in items:
        number = item.get("ReferencedROINumber")
        if number is not None:
            found.setdefault(int(number), item)
    return found


def _references(dataset: Dataset) -> Iterable[tuple[str, str]]:
    """Frame of reference and series, as far as they are named."""
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ():
        uid = str(frame.get("FrameOfReferenceUID") or "")
        yield uid, ""
        for study in frame.get("RTReferencedStudySequence") or ():
            for series in study.get("RTReferencedSeriesSequence") or ():
                yield uid, str(series.get("SeriesInstanceUID") or "")
    yield str(dataset.get("FrameOfReferenceUID") or ""), ""


def _clean(text: str) -> str:
    """Names as they may be shown: one line, no control characters."""
    return re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in text)).strip()[:_LONGEST_NAME]


def _unique_names(given: list[str], numbers: list[int]) -> list[str]:
    taken: set[str] = set()
    names: list[str] = []
    for text, number in zip(given, numbers, strict=True):
        name = _clean(text) or f"roi_{number}"
        unique, repeat = name, 2
        while unique in taken:
            unique, repeat = f"{name} ({repeat})", repeat + 1
        taken.add(unique)
        names.append(unique)
    return names


def _roi(item: Dataset, name: str, drawn: Dataset | None, observed: Dataset | None, notes: _Notes, file: Path) -> Roi:
    number = int(item.ROINumber)
    contours = tuple(_contours(drawn, f"{file}: ROI {number} {name!r}", notes, number)) if drawn is not None else ()
    codes: dict[str, Any] = {}
    if observed is not None:
        codes = {
            "type": code_of(observed, "RTROIIdentificationCodeSequence"),
            "category": code_of(observed, "SegmentedPropertyCategoryCodeSequence"),
        }
        kind = observed.get("RTROIIdentificationCodeSequence")
        codes["modifier"] = _side(kind[0]) if kind else None
    return Roi(
        number,
        name,
        contours,
        interpreted_type=_clean(str(observed.get("RTROIInterpretedType") or "")) if observed is not None else "",
        generation=_clean(str(item.get("ROIGenerationAlgorithm") or "")),
        colour=_colour(drawn),
        frame_of_reference_uid=str(item.get("ReferencedFrameOfReferenceUID") or ""),
        **codes,
    )


def _side(kind: Dataset) -> Code | None:
    return code_of(kind, "SegmentedPropertyTypeModifierCodeSequence")


def _colour(drawn: Dataset | None) -> Colour | None:
    try:
        values = [int(part) for part in (drawn.get("ROIDisplayColor") or ())] if drawn is not None else []
    except (TypeError, ValueError):
        return None
    if len(values) != 3 or not all(0 <= part <= 255 for part in values):
        return None
    return values[0], values[1], values[2]


def _contours(drawn: Dataset, where: str, notes: _Notes, number: int) -> Iterable[Contour]:
    mismatched = unnamed = 0
    for place, item in enumerate(drawn.get("ContourSequence") or (), start=1):
        points = _points(item, f"{where}, contour {place}")
        kind = str(item.get("ContourGeometricType") or "").strip().upper()
        if not kind:
            unnamed += 1
            kind = POINT if len(points) == 1 else CLOSED
        elif kind == _INTERPOLATED:
            kind = CLOSED
        declared = item.get("NumberOfContourPoints")
        mismatched += declared is not None and int(declared) != len(points)
        images = [image for image in item.get("ContourImageSequence") or () if image.get("ReferencedSOPInstanceUID")]
        frames = [image.get("ReferencedFrameNumber") for image in images]
        yield Contour(
            kind,
            points,
            tuple(str(image.ReferencedSOPInstanceUID) for image in images),
            tuple(int(np.atleast_1d(frame)[0]) for frame in frames if frame is not None),
        )
    name = where.split(": ", 1)[-1]
    if mismatched:
        text = f"{name}: {mismatched} contour(s) hold another number of points than they say; points may be lost: export it again"
        notes.add("POINT_COUNT", Severity.WARNING, text, roi=number, count=mismatched)
    if unnamed:
        text = f"{name}: {unnamed} contour(s) do not say of what kind they are; those of several points are taken as closed"
        notes.add("UNKNOWN_CONTOUR_KIND", Severity.WARNING, text, roi=number, count=unnamed)


def _points(item: Dataset, where: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the points of a contour, (n, 3) RAS mm; the text is parsed in one go, pydicom's numbers are slow."""
    element = item.get_item("ContourData") if "ContourData" in item else None
    raw = element.value if element is not None else None
    if raw is None or len(raw) == 0:
        return np.empty((0, 3))
    try:
        values = parse_decimals(raw) if isinstance(raw, bytes) else np.array([float(value) for value in raw])
    except ValueError:
        raise UnreadableFileError(f"{where}: its points are no numbers; copy or export the file again") from None
    if values.size == 0 or values.size % 3 or not np.isfinite(values).all() or np.abs(values).max() > 1e6:
        raise UnreadableFileError(f"{where}: {values.size} numbers that are no points in mm (x, y, z); copy or export the file again")
    return np.ascontiguousarray(values.reshape(-1, 3) * (-1.0, -1.0, 1.0))

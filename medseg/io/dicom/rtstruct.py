"""Segments as a DICOM RTSTRUCT: contours in the slices of the scan they were made on (PS3.3, A.19).

A hole is part of the contour around it, reached by a slit that is walked in and back out (keyhole). Readers disagree about
rings inside rings: some fill each contour and join them, which closes the hole, some know CLOSEDPLANAR_XOR and most do not;
a keyhole is filled right by all of them, and by the standard (PS3.3, C.8.8.6.3).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.core.codes import ANATOMICAL_STRUCTURE, TISSUE, Code
from medseg.core.errors import InputError, MedsegError, OutputError, OutputVerificationError
from medseg.core.label_map import LabelMap
from medseg.core.layers import check_layers, segments_of
from medseg.core.segment import Segment
from medseg.core.terminology import GENERIC_TERMS, described
from medseg.core.volume import Volume
from medseg.io.atomic import write_verified
from medseg.io.dicom.contour_trace import Outline, trace_segments
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.rtstruct_check import check_structures
from medseg.io.dicom.rtstruct_read import RTSTRUCT_CLASS, is_rtstruct, read_structures
from medseg.io.dicom.seg_terms import code_item
from medseg.io.dicom.source_patient import copy_patient_and_study
from medseg.io.dicom.source_slices import SourceSlices, source_slices

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["is_rtstruct", "read_structures", "write_rtstruct"]

MOST_DIGITS = 16  # characters of a decimal string
FINEST_SHARE = 1e-3  # points are rounded to less than this share of a voxel

_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, retired, but what the attribute still asks for
_IMPLICIT_LITTLE = "1.2.840.10008.1.2"
_CONTOUR_DATA = 0x30060050
_PURPOSES = ("GTV", "CTV", "PTV")  # names that say what the region stands for
_BODY, _TUMOUR = "38266002", "108369006"


def write_rtstruct(layers: LabelMap | Sequence[LabelMap], path: str | os.PathLike[str], source: Volume, *, overwrite: bool = False) -> Path:
    """Write segments as an RTSTRUCT that refers to the slices of `source`, the scan read from DICOM; layers may overlap.

    Contours run between voxel centres, enclose as much as the voxels of their plane, and filled again on the same grid they
    give the same voxels, down to a single one. Patient and study are copied from the scan, as an archive needs it. A segment
    without voxels is listed without contours; one without codes gets those of its label. The set is marked UNAPPROVED. What is
    written is read again before the file gets its name: voxels, volume, and place by the headers of the slices. Raises
    GeometryMismatchError where the segments are not on the grid of the scan, InputError where the source is no DICOM series
    or its files are gone, OutputExistsError, OutputError, OutputVerificationError.
    """
    maps = check_layers(layers)
    if not segments_of(maps):
        raise InputError("there is no segment to write: an RTSTRUCT describes at least one")
    from pydicom.config import disable_value_validation

    with quiet(), disable_value_validation():
        slices = source_slices(maps[0].geometry, source, "an RTSTRUCT")
        if not slices.frame_of_reference_uid:
            raise InputError("the scan names no frame of reference, which an RTSTRUCT must refer to: write .nii.gz or .seg.nrrd instead")
        outlines = {number: found for layer in maps for number, found in trace_segments(layer).items()}
        dataset = _structure_set(maps, outlines, slices, Path(path))

        def write(temporary: Path) -> None:
            dataset.save_as(temporary, enforce_file_format=True)

        def verify(temporary: Path) -> None:
            try:
                check_structures(read_structures(temporary), maps, slices)
            except OutputVerificationError:
                raise
            except MedsegError as err:
                raise OutputVerificationError(f"{path}: the structure set cannot be read back: {err}") from err

        return write_verified(Path(path), write, verify, overwrite)


def _structure_set(maps: Sequence[LabelMap], outlines: dict[int, list[Outline]], slices: SourceSlices, path: Path) -> Dataset:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import generate_uid

    made = Dataset()
    try:
        copy_patient_and_study(slices.file, made)
    except (AttributeError, ValueError, TypeError, LookupError, OSError) as err:
        # the text of these errors may quote the patient's header, so it is not passed on
        raise OutputError(f"{path}: patient and study of the scan cannot be copied ({type(err).__name__}); write NIfTI instead") from None
    now = datetime.now()
    made.SOPClassUID, made.SOPInstanceUID = RTSTRUCT_CLASS, str(generate_uid())
    made.InstanceCreationDate, made.InstanceCreationTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    made.Modality, made.SeriesInstanceUID, made.SeriesNumber, made.InstanceNumber = "RTSTRUCT", str(generate_uid()), 302, 1
    made.SeriesDescription, made.OperatorsName = "Structures (medseg)", ""
    made.Manufacturer = made.ManufacturerModelName = "medseg"
    made.DeviceSerialNumber, made.SoftwareVersions = "0", _version()
    made.FrameOfReferenceUID, made.PositionReferenceIndicator = slices.frame_of_reference_uid, ""
    made.StructureSetLabel, made.StructureSetName = "MEDSEG", "Structures by medseg"
    made.StructureSetDescription = "Research software, not a medical device. Not reviewed."
    made.StructureSetDate, made.StructureSetTime = made.InstanceCreationDate, made.InstanceCreationTime
    made.ReferencedFrameOfReferenceSequence = [_frame_of_reference(slices)]
    segments = [described(segment) for segment in segments_of(maps)]
    made.StructureSetROISequence = [_roi(segment, slices) for segment in segments]
    digits = _digits(maps[0])
    made.ROIContourSequence = [_contours(segment, outlines[segment.number], slices, digits) for segment in segments]
    made.RTROIObservationsSequence = [_observation(number, segment) for number, segment in enumerate(segments, start=1)]
    made.ApprovalStatus = "UNAPPROVED"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = _IMPLICIT_LITTLE  # explicit lengths of 16 bits would not hold the points of a long contour
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    return made


def _version() -> str:
    from importlib import import_module

    return str(import_module("medseg").__version__)


def _frame_of_reference(slices: SourceSlices) -> Dataset:
    from pydicom.dataset import Dataset

    series = Dataset()
    series.SeriesInstanceUID = slices.series_uid
    series.ContourImageSequence = [_image(class_uid, instance_uid) for class_uid, instance_uid in slices.instances]
    study = Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = _STUDY_CLASS, slices.study_uid
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = slices.frame_of_reference_uid
    frame.RTReferencedStudySequence = [study]
    return frame


def _image(class_uid: str, instance_uid: str, frame: int | None = None) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = class_uid, instance_uid
    if frame is not None:
        item.ReferencedFrameNumber = frame
    return item


def _text(text: str, longest: int = 64) -> str:
    """A label as DICOM can hold it: no backslash, which parts values, and no control characters."""
    return "".join(c if c.isprintable() and c != "\\" else " " for c in text).strip()[:longest]


def _roi(segment: Segment, slices: SourceSlices) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ROINumber = segment.number
    item.ReferencedFrameOfReferenceUID = slices.frame_of_reference_uid
    item.ROIName = _text(segment.label)
    # without the name of an algorithm nobody knows how much of the work was done by hand
    item.ROIGenerationAlgorithm = "AUTOMATIC" if segment.algorithm else "SEMIAUTOMATIC"
    if segment.algorithm:
        item.ROIGenerationDescription = _text(segment.algorithm)
    return item


def _contours(segment: Segment, outlines: Sequence[Outline], slices: SourceSlices, digits: int) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ROIDisplayColor = list(segment.rgb)
    item.ReferencedROINumber = segment.number
    if outlines:
        item.ContourSequence = [_contour(number, outline, slices, digits) for number, outline in enumerate(outlines, start=1)]
    return item


def _contour(number: int, outline: Outline, slices: SourceSlices, digits: int) -> Dataset:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

    item = Dataset()
    header = slices.headers[outline.k]
    if header is not None:
        frame = header.frame + 1 if header.frame_count > 1 else None
        item.ContourImageSequence = [_image(header.sop_class_uid, header.sop_instance_uid, frame)]
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(outline.points_mm)
    item.ContourNumber = number
    # The file is implicit VR, so the text goes in as bytes: pydicom would make a number object of every value and back
    item[_CONTOUR_DATA] = DataElement(_CONTOUR_DATA, "OB", _decimals(outline.points_mm * (-1.0, -1.0, 1.0), digits))
    return item


def _decimals(points: np.ndarray[Any, Any], digits: int) -> bytes:
    form = f"%.{digits}f"
    text = "\\".join([form % value for value in (points + 0.0).ravel().tolist()])
    return (text + " " * (len(text) % 2)).encode("ascii")


def _digits(layer: LabelMap) -> int:
    """Digits after the point: fine enough for the voxels, and no longer than a decimal string may be."""
    whole = len(f"{np.abs(layer.geometry.corners_mm()).max() + 1:.0f}") + 2  # sign and point
    needed = int(np.ceil(-np.log10(FINEST_SHARE * min(layer.geometry.spacing_mm))))
    return int(np.clip(needed, 3, MOST_DIGITS - whole))


def _observation(number: int, segment: Segment) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ObservationNumber, item.ReferencedROINumber = number, segment.number
    item.RTROIInterpretedType = interpreted_type(segment)
    item.ROIInterpreter = ""
    category, kind, _ = GENERIC_TERMS
    item.SegmentedPropertyCategoryCodeSequence = [code_item(segment.category or category)]
    code = code_item(segment.type or kind)
    if segment.modifier is not None:
        code.SegmentedPropertyTypeModifierCodeSequence = [code_item(segment.modifier)]
    item.RTROIIdentificationCodeSequence = [code]
    return item


def interpreted_type(segment: Segment) -> str:
    """Return the RT ROI Interpreted Type of a segment, "" where none can be claimed.

    >>> interpreted_type(Segment(1, "PTV 60Gy")), interpreted_type(described(Segment(2, "liver")))
    ('PTV', 'ORGAN')
    """
    purpose = next((purpose for purpose in _PURPOSES if segment.label.upper().startswith(purpose)), "")
    if purpose:
        return purpose
    if segment.type is not None and segment.type.value in (_BODY, _TUMOUR):
        return "EXTERNAL" if segment.type.value == _BODY else "GTV"
    return "ORGAN" if _is_anatomy(segment.category) else ""


def _is_anatomy(category: Code | None) -> bool:
    return category is not None and category.value in (ANATOMICAL_STRUCTURE.value, TISSUE.value)

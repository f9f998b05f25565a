"""Label maps as DICOM segmentations (SEG, BINARY) that refer to the scan they were made on (PS3.3, A.51)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.core.errors import GeometryMismatchError, InputError, MedsegError, OutputError, OutputVerificationError
from medseg.core.label_map import LabelMap, smallest_unsigned
from medseg.core.segment import Segment
from medseg.core.terminology import GENERIC_TERMS, described
from medseg.core.volume import Volume
from medseg.io.atomic import write_verified
from medseg.io.dicom.elements import HeaderError, NotDicomError
from medseg.io.dicom.header import NotAnImageError, read_header
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.seg_read import is_seg, read_seg
from medseg.io.dicom.seg_terms import UNSPECIFIED, code_item, lab_from_rgb
from medseg.io.dicom.volume import stack_geometry

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

EMPTY_FRAMES_BYTES = 64 << 20  # frames without the segment are kept, so that the grid comes back whole, up to this size

_DATE = re.compile(r"(\d{8})?")
_TIME = re.compile(r"(\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?)?")

__all__ = ["is_seg", "read_seg", "write_seg"]


def write_seg(label_map: LabelMap, path: str | os.PathLike[str], source: Volume, *, overwrite: bool = False) -> Path:
    """Write a label map as a DICOM SEG that refers to the files of `source`, the scan read from DICOM.

    Patient and study are copied from those files, as a picture archive needs it. Segments are numbered 1, 2, ... in the
    order of their numbers; one without codes gets those of its label, else "Anatomical Structure"; the side is the
    modifier of the type. A segment without voxels is described all the same. What is written is decoded again and
    compared voxel by voxel, segment by segment, before the file gets its name. Raises GeometryMismatchError where the
    label map is not on the grid of the files, InputError where the source is no DICOM series or its files are gone,
    OutputExistsError, OutputError, OutputVerificationError.
    """
    if not label_map.segments:
        raise InputError("the label map has no segment: a DICOM SEG describes at least one")
    files = _source_files(label_map, source)
    segments = tuple(described(segment) for segment in label_map.segments)
    from pydicom.config import disable_value_validation

    # patient and study are copied as they are, and de-identified files often hold values that the standard forbids
    with quiet(), disable_value_validation():
        dataset = _segmentation(label_map, segments, files, Path(path))

        def write(temporary: Path) -> None:
            dataset.save_as(temporary, enforce_file_format=True)

        def verify(temporary: Path) -> None:
            _verify(temporary, label_map, segments)

        return write_verified(Path(path), write, verify, overwrite)


def _source_files(label_map: LabelMap, source: Volume) -> tuple[str, ...]:
    """Return the source's files in the order of k, after a look whether they are still those that were read."""
    origin = source.source
    if origin is None or not origin.files or not origin.series_uid or not all(origin.sop_instance_uids):
        raise InputError("a DICOM SEG refers to the files of a DICOM series with UIDs: give the scan read from them, or write NIfTI")
    try:
        headers = [read_header(file) for file in origin.files]
    except (OSError, HeaderError, NotDicomError, NotAnImageError) as err:
        raise InputError(f"{origin.path}: a file of the source series cannot be read any more ({type(err).__name__})") from err
    if tuple(header.sop_instance_uid for header in headers) != origin.sop_instance_uids:
        raise InputError(f"{origin.path}: the files of the source series have changed since they were read; read them again")
    geometry = stack_geometry(headers)
    if not label_map.geometry.matches(geometry):
        raise GeometryMismatchError(
            f"the label map ({label_map.geometry.shape}) is not on the grid of the source files ({geometry.shape}),"
            f" corners are {label_map.geometry.distance_mm(geometry):.4g} mm apart: bring it back to the source grid first",
            geometry,
            label_map.geometry,
        )
    return origin.files


def _segmentation(label_map: LabelMap, segments: Sequence[Segment], files: Sequence[str], path: Path) -> Dataset:
    import highdicom

    numbers = np.zeros(max(segment.number for segment in segments) + 1, dtype=smallest_unsigned(len(segments)))
    for new, segment in enumerate(segments, start=1):
        numbers[segment.number] = new
    try:
        made = highdicom.seg.Segmentation(
            source_images=_source_headers(files),
            pixel_array=numbers[label_map.array.T],
            segmentation_type="BINARY",
            segment_descriptions=[_description(number, segment) for number, segment in enumerate(segments, start=1)],
            series_instance_uid=highdicom.UID(),
            series_number=300,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="medseg",
            manufacturer_model_name="medseg",
            software_versions=_version(label_map),
            device_serial_number="0",
            content_label="SEGMENTATION",
            content_description="Segmentation by medseg",
            omit_empty_frames=_bytes_of_all_frames(label_map) > EMPTY_FRAMES_BYTES,
        )
    except AttributeError as err:
        raise OutputError(
            f"{path}: the source files lack what a DICOM SEG needs ({err.name or 'an attribute'}); write NIfTI instead"
        ) from None
    except (ValueError, TypeError, KeyError, IndexError, OSError) as err:
        # the text of these errors may quote the patient's header, so it is not passed on
        raise OutputError(f"{path}: no DICOM SEG can be made of these source files ({type(err).__name__}); write NIfTI instead") from None
    for item, segment in zip(made.SegmentSequence, segments, strict=True):
        _complete(item, segment, is_trained=bool(label_map.provenance and label_map.provenance.model))
    made.SeriesDescription = "Segmentation (medseg)"
    return made


def _source_headers(files: Sequence[str]) -> list[Dataset]:
    """Return the source's headers without the oddities that highdicom stops at.

    Scanners write directions that differ in the last digit from slice to slice (the audit found them equal), and empty
    character sets; de-identified files hold words where dates belong, which are left empty then.
    """
    from pydicom import dcmread

    headers = [dcmread(file, stop_before_pixels=True) for file in files]
    for header in headers:
        if not header.get("SpecificCharacterSet", "?"):
            del header.SpecificCharacterSet
        for keyword, is_valid in (("PatientBirthDate", _DATE), ("StudyDate", _DATE), ("StudyTime", _TIME)):
            if not is_valid.fullmatch(str(header.get(keyword) or "")):
                setattr(header, keyword, "")
        for keyword in ("ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID"):
            if keyword in headers[0]:
                header[keyword] = headers[0][keyword]
    return headers


def _bytes_of_all_frames(label_map: LabelMap) -> int:
    return label_map.array.size // 8 * len(label_map.segments)


def _version(label_map: LabelMap) -> str:
    versions = label_map.provenance.versions if label_map.provenance else {}
    return str(versions.get("medseg", "unknown"))[:64]


def _description(number: int, segment: Segment) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    category, type_, _ = GENERIC_TERMS
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.label[:64],
        segmented_property_category=_concept(segment.category or category),
        segmented_property_type=_concept(segment.type or type_),
        # without the name of an algorithm nobody knows how much of the work was done by hand
        algorithm_type="AUTOMATIC" if segment.algorithm else "SEMIAUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=(segment.algorithm or UNSPECIFIED)[:64], family=codes.cid7162.ArtificialIntelligence, version=UNSPECIFIED
        ),
    )


def _concept(code: Any) -> Any:
    import highdicom

    return highdicom.sr.CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning[:64])


def _complete(item: Dataset, segment: Segment, is_trained: bool) -> None:
    """Add what highdicom's description has no argument for: side, region with its side, colour."""
    if not is_trained:  # the family of an algorithm is told only where it is known; its name stays
        del item.SegmentationAlgorithmIdentificationSequence
    if segment.modifier is not None:
        item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [code_item(segment.modifier)]
    if segment.region is not None:
        region = code_item(segment.region)
        if segment.region_modifier is not None:
            region.AnatomicRegionModifierSequence = [code_item(segment.region_modifier)]
        item.AnatomicRegionSequence = [region]
    item.RecommendedDisplayCIELabValue = lab_from_rgb(segment.rgb)


def _verify(file: Path, label_map: LabelMap, segments: Sequence[Segment]) -> None:
    """Decode the file by medseg's own reader, which shares nothing with the writer, and compare it with the label map."""
    try:
        back = read_seg(file, label_map.geometry)
    except MedsegError as err:
        raise OutputVerificationError(f"the segmentation cannot be read back: {err}") from err
    if len(back.segments) != len(segments):
        raise OutputVerificationError(f"{len(segments)} segments were written, {len(back.segments)} are there")
    for new, segment in zip(back.segments, segments, strict=True):
        if new.label != segment.label[:64] or new.modifier != segment.modifier or (segment.type and new.type != segment.type):
            raise OutputVerificationError(f"segment {segment.label!r} came back with another name, code or side")
        if not np.array_equal(back.array == new.number, label_map.array == segment.number):
            raise OutputVerificationError(f"segment {segment.label!r} came back with other voxels")

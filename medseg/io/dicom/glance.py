"""One look at the header of a DICOM file: to which series it belongs, where it lies, and what rules may ask about it.

Much less than `read_headers` takes in: a tree of a hundred thousand files is gone through at the speed of its disk.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medseg.io.dicom import tags
from medseg.io.dicom.elements import HeaderError, NotDicomError, read_elements
from medseg.io.dicom.header import NotAnImageError, SliceHeader, read_headers
from medseg.io.dicom.kinds import ENHANCED_CLASSES, must_have_pixels, other_object
from medseg.io.dicom.raw_values import RawValues, clean_uid

# Header fields that a rule may ask for, by their DICOM keyword
FIELDS = {
    "AcquisitionNumber": tags.ACQUISITION_NUMBER,
    "BodyPartExamined": 0x00180015,
    "ContrastBolusAgent": 0x00180010,
    "ConvolutionKernel": tags.KERNEL,
    "EchoTime": tags.ECHO_TIME,
    "ImageType": tags.IMAGE_TYPE,
    "InstitutionName": 0x00080080,
    "KVP": 0x00180060,
    "MagneticFieldStrength": 0x00180087,
    "Manufacturer": 0x00080070,
    "ManufacturerModelName": 0x00081090,
    "Modality": tags.MODALITY,
    "PatientPosition": tags.PATIENT_POSITION,
    "ProtocolName": 0x00181030,
    "RepetitionTime": 0x00180080,
    "SOPClassUID": tags.SOP_CLASS_UID,
    "ScanningSequence": 0x00180020,
    "SequenceName": 0x00180024,
    "SeriesDescription": 0x0008103E,
    "SeriesInstanceUID": tags.SERIES_UID,
    "SeriesNumber": 0x00200011,
    "SliceThickness": tags.SLICE_THICKNESS,
    "StudyDate": 0x00080020,
    "StudyDescription": 0x00081030,
    "StudyInstanceUID": tags.STUDY_UID,
}
_PATIENT_ID = 0x00100020
_SHARED = tuple(dict.fromkeys((*FIELDS.values(), _PATIENT_ID, tags.ORIENTATION, tags.SAMPLES, tags.ROWS, tags.COLUMNS)))
_OWN = (tags.SOP_INSTANCE_UID, tags.POSITION, tags.FRAME_COUNT)
_WANTED = frozenset((*_SHARED, *_OWN))
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_WITHOUT_PIXELS = "object without pixels"
# ultrasound and X-ray films: their frames follow one another in time
_FILMS = frozenset({"1.2.840.10008.5.1.4.1.1.3.1", "1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.12.2"})


@dataclass(frozen=True)
class SeriesFields:
    """What the files of a series have in common: the texts that rules ask for by keyword, and how its images lie.

    `series_uid` is "" where there is none, `patient_id` keeps bytes that are no UTF-8 as lone surrogates. `normal` is that of
    the images in LPS, None where they do not say. `object_kind` names what is no image ("" for images).
    """

    texts: Mapping[str, str]
    series_uid: str
    study_uid: str
    patient_id: str
    modality: str
    sop_class_uid: str
    object_kind: str
    samples: int
    rows: int
    columns: int
    normal: tuple[float, float, float] | None

    @property
    def image_type(self) -> tuple[str, ...]:
        """The values of ImageType in upper case."""
        return tuple(part.strip().upper() for part in self.texts["ImageType"].split("\\"))


@dataclass(frozen=True)
class DicomGlance:
    """What one file says: its series, its own UID ("" where it has no sound one), and where its slices lie along the normal.

    `low_mm` and `high_mm` are the first and the last of its positions, NaN where it names none; `slices` are those of a
    multi-frame file at different positions, 1 for a classic one, 0 where that is not known.
    """

    fields: SeriesFields
    sop_uid: str
    low_mm: float
    high_mm: float
    slices: int


class BrokenDicomError(Exception):
    """The file is DICOM, but its header cannot be read; the message says why and names no file."""


def glance(path: str) -> DicomGlance | None:
    """Look at a file; None where it is not DICOM. Raises BrokenDicomError or OSError."""
    try:
        elements = read_elements(path, _WANTED)
        values, is_big = elements.values, elements.is_big_endian
        fields = _series_fields(tuple(map(values.get, _SHARED)), is_big, elements.media_sop_class_uid)
        own = RawValues(values, is_big)
        uid = own.text(tags.SOP_INSTANCE_UID) or clean_uid(elements.media_sop_instance_uid.encode())
        uid = uid if len(uid) <= 64 and _UID.fullmatch(uid) else ""
        if fields.object_kind == _WITHOUT_PIXELS and elements.pixels is None and must_have_pixels(fields.sop_class_uid):
            raise HeaderError("the file ends before its rows and columns")
        if fields.object_kind:
            return DicomGlance(fields, uid, math.nan, math.nan, 0)
        if elements.pixels is None:
            raise HeaderError("the file ends before its pixel data")
        count = own.count(tags.FRAME_COUNT) or 1
        has_frames = count != 1 or fields.sop_class_uid in ENHANCED_CLASSES
        if (has_frames and fields.sop_class_uid not in _FILMS) or "MOSAIC" in fields.image_type:
            return _several(path, fields, uid)
        place = _along(fields.normal, own.numbers(tags.POSITION))
        return DicomGlance(fields, uid, place, place, 1)
    except NotDicomError:
        return None
    except HeaderError as reason:
        raise BrokenDicomError(str(reason)) from None


def _several(path: str, fields: SeriesFields, uid: str) -> DicomGlance:
    """A file of many frames or tiles: each is looked at."""
    try:
        headers = read_headers(path)
    except NotAnImageError as kind:  # pragma: no cover - other objects were told apart before
        raise HeaderError(str(kind)) from None
    placed = {round(place, 2) for header in headers if not math.isnan(place := _place_of(header))}
    if not placed:  # of a mosaic whose tiles cannot be told apart nobody knows how many there are
        return DicomGlance(
            fields, uid, math.nan, math.nan, 0 if headers[0].unusable and headers[0].frame_count == 1 else headers[0].frame_count
        )
    return DicomGlance(fields, uid, min(placed), max(placed), len(placed))


def _place_of(header: SliceHeader) -> float:
    return _along(_normal(header.orientation), header.position)


@functools.lru_cache(maxsize=512)
def _series_fields(raw: tuple[bytes | None, ...], is_big_endian: bool, media_sop_class_uid: str) -> SeriesFields:
    """Most files of a series share these bytes, so that they are worked out once for all of them."""
    values = {tag: value for tag, value in zip(_SHARED, raw, strict=True) if value}
    fields = RawValues(values, is_big_endian)
    sop_class = fields.text(tags.SOP_CLASS_UID) or media_sop_class_uid
    rows, columns = fields.integer(tags.ROWS), fields.integer(tags.COLUMNS)
    kind = other_object(sop_class)
    if not kind and (rows is None or columns is None):
        kind = _WITHOUT_PIXELS
    return SeriesFields(
        texts={name: _readable(values.get(tag, b"")) for name, tag in FIELDS.items()},
        series_uid=fields.uid(tags.SERIES_UID),
        study_uid=fields.uid(tags.STUDY_UID),
        patient_id=values.get(_PATIENT_ID, b"").decode("utf-8", "surrogateescape").strip("\0 "),
        modality=fields.text(tags.MODALITY),
        sop_class_uid=sop_class,
        object_kind=kind,
        samples=fields.integer(tags.SAMPLES) or 1,
        rows=rows or 0,
        columns=columns or 0,
        normal=_normal(fields.numbers(tags.ORIENTATION)),
    )


def _readable(raw: bytes) -> str:
    """Free text as it can best be read: rules search in it, nothing writes it."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text.strip("\0 ")


def _normal(orientation: Any) -> tuple[float, float, float] | None:
    if orientation is None or len(orientation) != 6 or not all(map(math.isfinite, orientation)):
        return None
    a, b, c, d, e, f = orientation
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    length = math.hypot(*normal)
    return (normal[0] / length, normal[1] / length, normal[2] / length) if length > 0.5 else None


def _along(normal: tuple[float, float, float] | None, position: tuple[float, ...] | None) -> float:
    if normal is None or position is None or len(position) != 3:
        return math.nan
    return normal[0] * position[0] + normal[1] * position[1] + normal[2] * position[2]

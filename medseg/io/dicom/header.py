"""What a slice says about itself: the header fields that sorting, splitting, auditing and decoding need."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from medseg.io.dicom.elements import Elements, HeaderError, PixelElement, read_elements

Vector = tuple[float, float, float]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf)", re.IGNORECASE)

_TAGS = {
    "image_type": 0x00080008,
    "sop_class_uid": 0x00080016,
    "sop_instance_uid": 0x00080018,
    "modality": 0x00080060,
    "slice_thickness": 0x00180050,
    "echo_time": 0x00180081,
    "echo_numbers": 0x00180086,
    "spacing_between_slices": 0x00180088,
    "trigger_time": 0x00181060,
    "nominal_tilt": 0x00181120,
    "kernel": 0x00181210,
    "patient_position": 0x00185100,
    "b_value": 0x00189087,
    "anatomical_orientation_type": 0x00102210,
    "study_uid": 0x0020000D,
    "series_uid": 0x0020000E,
    "acquisition_number": 0x00200012,
    "instance_number": 0x00200013,
    "position": 0x00200032,
    "orientation": 0x00200037,
    "frame_of_reference_uid": 0x00200052,
    "temporal_position": 0x00200100,
    "temporal_position_count": 0x00200105,
    "images_in_acquisition": 0x00201002,
    "samples": 0x00280002,
    "photometric": 0x00280004,
    "frame_count": 0x00280008,
    "rows": 0x00280010,
    "columns": 0x00280011,
    "pixel_spacing": 0x00280030,
    "bits_allocated": 0x00280100,
    "bits_stored": 0x00280101,
    "high_bit": 0x00280102,
    "pixel_representation": 0x00280103,
    "padding": 0x00280120,
    "intercept": 0x00281052,
    "slope": 0x00281053,
    "rescale_type": 0x00281054,
    "lossy": 0x00282110,
    "pet_units": 0x00541001,
}
_WANTED = frozenset(_TAGS.values())

# Kinds of object that hold no volume, by the beginning of their SOP class UID (PS3.4, B.5); the longest prefix wins
_OTHER_OBJECTS = {
    "1.2.840.10008.1.3.10": "DICOMDIR",
    "1.2.840.10008.5.1.4.1.1.9.": "waveform",
    "1.2.840.10008.5.1.4.1.1.11.": "presentation state",
    "1.2.840.10008.5.1.4.1.1.66.1": "spatial registration",
    "1.2.840.10008.5.1.4.1.1.66.2": "spatial fiducials",
    "1.2.840.10008.5.1.4.1.1.66.3": "deformable registration",
    "1.2.840.10008.5.1.4.1.1.66.4": "segmentation (SEG)",
    "1.2.840.10008.5.1.4.1.1.66.5": "surface segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "segmentation (SEG)",
    "1.2.840.10008.5.1.4.1.1.67": "real world value mapping",
    "1.2.840.10008.5.1.4.1.1.88.": "structured report (SR)",
    "1.2.840.10008.5.1.4.1.1.88.59": "key object selection (KO)",
    "1.2.840.10008.5.1.4.1.1.104.": "encapsulated document",
    "1.2.840.10008.5.1.4.1.1.481.2": "radiotherapy dose",
    "1.2.840.10008.5.1.4.1.1.481.3": "radiotherapy structure set (RTSTRUCT)",
    "1.2.840.10008.5.1.4.1.1.481.5": "radiotherapy plan",
}


@dataclass(frozen=True)
class SliceHeader:
    """One image file: identity, geometry in DICOM's LPS mm, what tells stacks apart, and how its pixels are stored.

    A field that the file lacks or that is no number is None (text: ""); `position`, `orientation` and `pixel_spacing`
    (row spacing, column spacing) may hold NaN: the audit judges them.
    """

    path: str
    file_size: int
    transfer_syntax: str
    is_big_endian: bool
    pixels: PixelElement
    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    modality: str
    rows: int
    columns: int
    samples: int
    frame_count: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    pixel_spacing: tuple[float, ...] | None
    slope: float | None
    intercept: float | None
    padding: int | None
    image_type: tuple[str, ...]
    texts: dict[str, str]
    numbers: dict[str, float | None]

    @property
    def frame_of_reference_uid(self) -> str:
        """The frame of reference, "" where the file names none."""
        return self.texts["frame_of_reference_uid"]

    @property
    def instance_number(self) -> int | None:
        """The instance number; never used to order slices in space."""
        number = self.numbers["instance_number"]
        return None if number is None else int(number)

    @property
    def pixel_bytes(self) -> int:
        """Bytes that the pixels take when not compressed."""
        return self.rows * self.columns * self.samples * self.frame_count * ((self.bits_allocated + 7) // 8)

    @property
    def is_enhanced(self) -> bool:
        """Whether one file holds many frames."""
        return self.frame_count > 1 or self.sop_class_uid in _ENHANCED_CLASSES


_ENHANCED_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.2.1",
        "1.2.840.10008.5.1.4.1.1.2.2",
        "1.2.840.10008.5.1.4.1.1.4.1",
        "1.2.840.10008.5.1.4.1.1.4.3",
        "1.2.840.10008.5.1.4.1.1.4.4",
        "1.2.840.10008.5.1.4.1.1.128.1",
        "1.2.840.10008.5.1.4.1.1.130",
    }
)

_TEXTS = (
    "echo_time", "echo_numbers", "trigger_time", "kernel", "patient_position", "b_value", "anatomical_orientation_type",
    "acquisition_number", "frame_of_reference_uid", "temporal_position", "rescale_type", "lossy", "pet_units",
)  # fmt: skip
_NUMBERS = (
    "slice_thickness", "spacing_between_slices", "nominal_tilt", "instance_number", "temporal_position_count", "images_in_acquisition",
)  # fmt: skip


class NotAnImageError(Exception):
    """The file is DICOM, but no image; the message names its kind. Never leaves `medseg.io.dicom`."""


def read_header(path: str) -> SliceHeader:
    """Read the header of an image file; raises NotDicomError, NotAnImageError, HeaderError or OSError."""
    elements = read_elements(path, _WANTED)
    fields = _Fields(elements)
    sop_class = fields.text("sop_class_uid") or elements.media_sop_class_uid
    kind = other_object(sop_class)
    if kind:
        raise NotAnImageError(kind)
    rows, columns = fields.integer("rows"), fields.integer("columns")
    if rows is None or columns is None:
        raise NotAnImageError("object without pixels" if elements.pixels is None else "image without rows or columns")
    if elements.pixels is None:
        raise HeaderError(f"the file ends before its pixel data ({elements.size} bytes)")
    return _header(path, elements, elements.pixels, sop_class)


def other_object(sop_class_uid: str) -> str:
    """Return what kind of non-image object a SOP class is, "" where it may be an image.

    >>> other_object("1.2.840.10008.5.1.4.1.1.88.59"), other_object("1.2.840.10008.5.1.4.1.1.2")
    ('key object selection (KO)', '')
    """
    matches = [prefix for prefix in _OTHER_OBJECTS if sop_class_uid == prefix or (prefix[-1] == "." and sop_class_uid.startswith(prefix))]
    return _OTHER_OBJECTS[max(matches, key=len)] if matches else ""


def _header(path: str, elements: Elements, pixels: PixelElement, sop_class: str) -> SliceHeader:
    fields = _Fields(elements)
    bits = fields.integer("bits_allocated") or 16
    stored = fields.integer("bits_stored") or bits
    high_bit = fields.integer("high_bit")
    is_signed = fields.integer("pixel_representation") == 1
    return SliceHeader(
        path=path,
        file_size=elements.size,
        transfer_syntax=elements.transfer_syntax,
        is_big_endian=elements.is_big_endian,
        pixels=pixels,
        sop_class_uid=sop_class,
        sop_instance_uid=fields.text("sop_instance_uid") or elements.media_sop_instance_uid,
        study_uid=fields.text("study_uid"),
        series_uid=fields.text("series_uid"),
        modality=fields.text("modality"),
        rows=fields.integer("rows") or 0,
        columns=fields.integer("columns") or 0,
        samples=fields.integer("samples") or 1,
        frame_count=max(int(fields.number("frame_count") or 1), 1),
        photometric=fields.text("photometric"),
        bits_allocated=bits,
        bits_stored=stored,
        high_bit=stored - 1 if high_bit is None else high_bit,
        is_signed=is_signed,
        position=fields.numbers("position"),
        orientation=fields.numbers("orientation"),
        pixel_spacing=fields.numbers("pixel_spacing"),
        slope=fields.number("slope"),
        intercept=fields.number("intercept"),
        padding=fields.integer("padding", is_signed),
        image_type=tuple(part.strip() for part in fields.text("image_type").split("\\")),
        texts={name: fields.text(name) for name in _TEXTS},
        numbers={name: fields.number(name) for name in _NUMBERS},
    )


class _Fields:
    """Turns raw values into Python's; what is no number becomes None, never a guess."""

    def __init__(self, elements: Elements) -> None:
        self._values = elements.values
        self._order = ">" if elements.is_big_endian else "<"

    def text(self, name: str) -> str:
        raw = self._values.get(_TAGS[name], b"")
        if name == "b_value" and len(raw) == 8:  # FD
            return repr(float(struct.unpack(self._order + "d", raw)[0]))
        return raw.decode("ascii", "replace").strip("\0 ")

    def integer(self, name: str, is_signed: bool = False) -> int | None:
        raw = self._values.get(_TAGS[name], b"")
        if len(raw) < 2:
            return None
        return int(struct.unpack_from(self._order + ("h" if is_signed else "H"), raw)[0])

    def numbers(self, name: str) -> tuple[float, ...] | None:
        text = self.text(name)
        if not text:
            return None
        parts = [part.strip("\0 ") for part in text.split("\\")]
        return tuple(float(part) if _NUMBER.fullmatch(part) else float("nan") for part in parts)

    def number(self, name: str) -> float | None:
        found = self.numbers(name)
        return None if found is None else found[0]

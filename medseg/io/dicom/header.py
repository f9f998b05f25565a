"""What a slice says about itself: the header fields that sorting, splitting, auditing and decoding need."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from medseg.io.dicom import functional_groups as groups
from medseg.io.dicom import tags
from medseg.io.dicom.elements import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, Elements, HeaderError, PixelElement, read_elements
from medseg.io.dicom.kinds import ENHANCED_CLASSES, must_have_pixels, other_object
from medseg.io.dicom.mosaic import MOSAIC_TAGS, read_mosaic
from medseg.io.dicom.raw_values import RawValues, clean_uid

Vector = tuple[float, float, float]

MOST_FRAMES = 1 << 17  # a file that announces more is refused: the largest real ones have some 90,000

_UNCOMPRESSED = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG})
_LEAST_FRAME_BYTES = 8  # a compressed frame takes at least the head of its item
_NUMBERS = {
    "slice_thickness": tags.SLICE_THICKNESS,
    "spacing_between_slices": tags.SPACING_BETWEEN_SLICES,
    "nominal_tilt": tags.NOMINAL_TILT,
    "temporal_position_count": tags.TEMPORAL_POSITION_COUNT,
    "images_in_acquisition": tags.IMAGES_IN_ACQUISITION,
}
# Text → where it is looked for, the first that is there: the classic attribute, or the one of a functional group
_TEXTS = {
    "echo_time": (tags.ECHO_TIME, tags.EFFECTIVE_ECHO_TIME),
    "echo_numbers": (tags.ECHO_NUMBERS,),
    "kernel": (tags.KERNEL,),
    "patient_position": (tags.PATIENT_POSITION,),
    "b_value": (tags.B_VALUE,),
    "gradient": (tags.GRADIENT,),
    "anatomical_orientation_type": (tags.ANATOMICAL_ORIENTATION_TYPE,),
    "acquisition_number": (tags.FRAME_ACQUISITION_NUMBER, tags.ACQUISITION_NUMBER),
    "temporal_position": (tags.TEMPORAL_POSITION, tags.TEMPORAL_POSITION_INDEX, tags.TIME_OFFSET),
    "stack_id": (tags.STACK_ID,),
    "rescale_type": (tags.RESCALE_TYPE,),
    "lossy": (tags.LOSSY,),
    "burned_in": (tags.BURNED_IN,),
    "pet_units": (tags.PET_UNITS,),
}
_UIDS = {
    "SOPInstanceUID": tags.SOP_INSTANCE_UID,
    "StudyInstanceUID": tags.STUDY_UID,
    "SeriesInstanceUID": tags.SERIES_UID,
    "FrameOfReferenceUID": tags.FRAME_OF_REFERENCE_UID,
}
_MAPPED_UNITS = {"[hnsf'U]": "HU"}  # UCUM's Hounsfield unit

# Elements whose values most slices of a series share, and those that each slice has for itself
_SHARED_TAGS = (
    *{tag for places in _TEXTS.values() for tag in places}, *_NUMBERS.values(),
    tags.IMAGE_TYPE, tags.FRAME_TYPE, tags.COMPLEX_COMPONENT, tags.MODALITY, tags.STUDY_UID, tags.SERIES_UID, tags.FRAME_OF_REFERENCE_UID,
    tags.ORIENTATION, tags.PIXEL_SPACING, tags.SLOPE, tags.INTERCEPT, tags.MAPPING_SLOPE, tags.MAPPING_INTERCEPT, tags.MAPPING_UNIT,
    tags.ROWS, tags.COLUMNS, tags.SAMPLES, tags.FRAME_COUNT, tags.PHOTOMETRIC, tags.BITS_ALLOCATED, tags.BITS_STORED, tags.HIGH_BIT,
    tags.PIXEL_REPRESENTATION, tags.PADDING, tags.PADDING_LIMIT,
    tags.SIEMENS_CREATOR, tags.SIEMENS_B_VALUE, tags.SIEMENS_GRADIENT, tags.GE_CREATOR,
    tags.GE_B_VALUE, tags.PHILIPS_CREATOR, tags.PHILIPS_B_VALUE,
)  # fmt: skip
_OWN_TAGS = (tags.SOP_CLASS_UID, tags.SOP_INSTANCE_UID, tags.POSITION, tags.INSTANCE_NUMBER, tags.ACQUISITION_TIME, tags.TRIGGER_TIME)
_OF_FRAMES = {tags.FRAME_TYPE, tags.COMPLEX_COMPONENT, tags.MAPPING_SLOPE, tags.MAPPING_INTERCEPT, tags.MAPPING_UNIT}
_WANTED = frozenset({*_SHARED_TAGS, *_OWN_TAGS} - _OF_FRAMES)
_MULTIFRAME = _WANTED | groups.MULTIFRAME_TAGS


@dataclass(frozen=True)
class SliceHeader:
    """One slice: identity, geometry in DICOM's LPS mm, what tells stacks apart, and how its pixels are stored.

    A classic file is one slice. Of a multi-frame file each frame is one (`frame` counts from 0, `frame_count` are those of the
    file), and of a Siemens mosaic each tile: `tile` is its first (row, column) in a stored frame of `stored_size` (rows,
    columns). `file_size`, `pixels` and the encoding are those of the file that they share.
    A field that the file lacks or that is no number is None (text: ""); `position`, `orientation` and `pixel_spacing`
    (row spacing, column spacing) may hold NaN: the audit judges them. `unusable` says why the slice cannot be placed, "" where
    it can. UIDs that are none were replaced by hashes; `texts["invalid_uids"]` names them.
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
    frame: int = 0
    tile: tuple[int, int] | None = None
    stored_size: tuple[int, int] | None = None
    unusable: str = ""
    modified_ns: int = 0
    padding_limit: int | None = None

    @property
    def frame_of_reference_uid(self) -> str:
        """The frame of reference, "" where the file names none."""
        return self.texts["frame_of_reference_uid"]

    @property
    def instance_number(self) -> int | None:
        """The instance number; never used to order slices in space."""
        number = self.numbers["instance_number"]
        return int(number) if number is not None and math.isfinite(number) else None

    @property
    def frame_bytes(self) -> int:
        """Bytes that one stored frame takes when not compressed."""
        rows, columns = self.stored_size or (self.rows, self.columns)
        return rows * columns * self.samples * ((self.bits_allocated + 7) // 8)

    @property
    def pixel_bytes(self) -> int:
        """Bytes that all frames of the file take when not compressed."""
        return self.frame_bytes * self.frame_count

    @property
    def is_enhanced(self) -> bool:
        """Whether one file holds many frames."""
        return self.frame_count > 1 or self.sop_class_uid in ENHANCED_CLASSES


class NotAnImageError(Exception):
    """The file is DICOM, but no image; the message names its kind. Never leaves `medseg.io.dicom`."""


def read_header(path: str) -> SliceHeader:
    """Read the header of an image file, of its first slice where it holds several; raises what `read_headers` raises."""
    return read_headers(path)[0]


def read_headers(path: str) -> tuple[SliceHeader, ...]:
    """Read the header of an image file as one `SliceHeader` for each slice in it, in the order in which they are stored.

    Raises NotDicomError, NotAnImageError, HeaderError (also where frames and their descriptions do not match) or OSError.
    """
    elements = read_elements(path, _WANTED)
    fields = RawValues(elements.values, elements.is_big_endian)
    sop_class = fields.text(tags.SOP_CLASS_UID) or elements.media_sop_class_uid
    kind = other_object(sop_class)
    if kind:
        raise NotAnImageError(kind)
    if fields.integer(tags.ROWS) is None or fields.integer(tags.COLUMNS) is None:
        if elements.pixels is None and must_have_pixels(sop_class):
            raise HeaderError(f"the file ends before its rows and columns ({elements.size} bytes)")
        raise NotAnImageError("object without pixels" if elements.pixels is None else "image without rows or columns")
    if elements.pixels is None:
        raise HeaderError(f"the file ends before its pixel data ({elements.size} bytes)")
    header = _header(path, elements, elements.pixels, elements.values)
    if header.is_enhanced:
        return _frames(path, header)
    if "MOSAIC" in header.image_type:
        return _tiles(path, header)
    return (header,)


def _frames(path: str, first: SliceHeader) -> tuple[SliceHeader, ...]:
    """One header a frame, each with what the functional groups say about it."""
    elements = read_elements(path, _MULTIFRAME)
    encoding = (elements.is_implicit, elements.is_big_endian)
    frames = groups.frame_values(elements.values, *encoding, first.frame_count)
    if frames is None:
        return (_unplaced(first),)
    which = groups.other_dimensions(elements.values, *encoding)
    # one position for the whole file cannot be the position of its frames
    common = {tag: raw for tag, raw in elements.values.items() if tag not in (tags.POSITION, *groups.MULTIFRAME_TAGS)}
    headers = []
    for index, own in enumerate(frames):
        values = {**common, **own}
        header = _header(path, elements, first.pixels, values, index)
        header.texts["dimension"] = groups.dimension_text(RawValues(values, elements.is_big_endian).text(tags.DIMENSION_VALUES), which)
        if tags.INSTANCE_NUMBER not in own and first.frame_count > 1:
            header.numbers["instance_number"] = float(index + 1)
        headers.append(header)
    return tuple(headers)


def _unplaced(first: SliceHeader) -> SliceHeader:
    """A file that says nowhere what each of its frames is: one header for all of them."""
    if first.frame_count == 1 and first.position is not None:
        return first
    there = max(first.file_size - first.pixels.offset, 0)
    needed = first.pixel_bytes if first.transfer_syntax in _UNCOMPRESSED else first.frame_count * _LEAST_FRAME_BYTES
    if needed > there:
        raise HeaderError(
            f"it announces {first.frame_count} frames, which take {needed} bytes, but holds {there}: it is cut short, or"
            " NumberOfFrames is wrong"
        )
    why = (
        f"the file holds {first.frame_count} frame(s) but does not say where any of them lies (no functional groups); export it"
        " again from the scanner or archive with all attributes kept"
    )
    return replace(first, position=None, unusable=why)


def _tiles(path: str, whole: SliceHeader) -> tuple[SliceHeader, ...]:
    """One header a tile of a Siemens mosaic; the picture itself where only the word is left."""
    elements = read_elements(path, MOSAIC_TAGS)
    mosaic = read_mosaic(elements, (whole.rows, whole.columns), whole.position, whole.orientation, whole.pixel_spacing)
    if mosaic is None:
        return (whole,)
    if isinstance(mosaic, str):
        return (replace(whole, unusable=mosaic),)
    numbers = {**whole.numbers, "spacing_between_slices": mosaic.spacing_mm}
    return tuple(
        replace(
            whole,
            rows=mosaic.rows,
            columns=mosaic.columns,
            position=position,
            tile=tile,
            stored_size=(whole.rows, whole.columns),
            numbers=numbers,
        )
        for tile, position in zip(mosaic.tiles, mosaic.positions, strict=True)
    )


def _header(path: str, elements: Elements, pixels: PixelElement, values: Mapping[int, bytes], frame: int = 0) -> SliceHeader:
    """A header from the values of one image: the file's own, or those of one of its frames."""
    own = RawValues(values, elements.is_big_endian)
    fields, texts, numbers = _shared_fields(tuple(map(values.get, _SHARED_TAGS)), elements.is_big_endian)
    moment = own.text(tags.FRAME_MOMENT)
    invalid = [name for name, tag in _UIDS.items() if own.has_bad_uid(tag)]
    return SliceHeader(
        path=path,
        file_size=elements.size,
        transfer_syntax=elements.transfer_syntax,
        is_big_endian=elements.is_big_endian,
        pixels=pixels,
        sop_class_uid=own.text(tags.SOP_CLASS_UID) or elements.media_sop_class_uid,
        sop_instance_uid=own.uid(tags.SOP_INSTANCE_UID) or clean_uid(elements.media_sop_instance_uid.encode()),
        position=own.numbers(tags.POSITION),
        texts={
            **texts,
            "trigger_time": own.text(tags.TRIGGER_TIME) or own.text(tags.TRIGGER_DELAY),
            # of a frame's date and time, the date is nobody's business
            "acquisition_time": moment[8:] or own.text(tags.ACQUISITION_TIME),
            "invalid_uids": ", ".join(invalid),
        },
        numbers={**numbers, "instance_number": own.number(tags.INSTANCE_NUMBER)},
        frame=frame,
        modified_ns=elements.modified_ns,
        **fields,
    )


@functools.lru_cache(maxsize=256)
def _shared_fields(values: tuple[bytes | None, ...], is_big_endian: bool) -> tuple[dict[str, Any], dict[str, str], dict[str, float | None]]:
    """Fields, texts and numbers that most slices of a series have in common, so that they are worked out once for all of them."""
    fields = RawValues({tag: raw for tag, raw in zip(_SHARED_TAGS, values, strict=True) if raw}, is_big_endian)
    integer = fields.integer
    bits = integer(tags.BITS_ALLOCATED) or 16
    stored = integer(tags.BITS_STORED) or bits
    high_bit = integer(tags.HIGH_BIT)
    is_signed = integer(tags.PIXEL_REPRESENTATION) == 1
    slope, intercept = fields.number(tags.SLOPE), fields.number(tags.INTERCEPT)
    kind = fields.text(tags.FRAME_TYPE) or fields.text(tags.IMAGE_TYPE)
    common = {
        "study_uid": fields.uid(tags.STUDY_UID),
        "series_uid": fields.uid(tags.SERIES_UID),
        "modality": fields.text(tags.MODALITY),
        "rows": integer(tags.ROWS) or 0,
        "columns": integer(tags.COLUMNS) or 0,
        "samples": integer(tags.SAMPLES) or 1,
        "frame_count": _frame_count(fields),
        "photometric": fields.text(tags.PHOTOMETRIC),
        "bits_allocated": bits,
        "bits_stored": stored,
        "high_bit": stored - 1 if high_bit is None else high_bit,
        "is_signed": is_signed,
        "orientation": fields.numbers(tags.ORIENTATION),
        "pixel_spacing": fields.numbers(tags.PIXEL_SPACING),
        "slope": fields.number(tags.MAPPING_SLOPE) if slope is None else slope,
        "intercept": fields.number(tags.MAPPING_INTERCEPT) if intercept is None else intercept,
        "padding": integer(tags.PADDING, is_signed),
        "padding_limit": integer(tags.PADDING_LIMIT, is_signed),
        "image_type": tuple(part.strip() for part in kind.split("\\")),
    }
    return common, _texts(fields), {name: fields.number(tag) for name, tag in _NUMBERS.items()}


def _frame_count(fields: RawValues) -> int:
    count = fields.count(tags.FRAME_COUNT)
    if count is not None and not 0 <= count <= MOST_FRAMES:
        what = "no whole number" if count < 0 else f"{count}, more than any scanner writes"
        raise HeaderError(f"NumberOfFrames is {what}")
    return max(count or 1, 1)


def _texts(fields: RawValues) -> dict[str, str]:
    texts = {name: next((text for tag in places if (text := fields.text(tag))), "") for name, places in _TEXTS.items()}
    if not texts["b_value"]:
        texts["b_value"] = _private_b_value(fields)
        texts["gradient"] = texts["gradient"] or (fields.text(tags.SIEMENS_GRADIENT) if texts["b_value"] else "")
    if unit := fields.text(tags.MAPPING_UNIT):
        texts["rescale_type"] = _MAPPED_UNITS.get(unit, unit)
    texts["frame_of_reference_uid"] = fields.uid(tags.FRAME_OF_REFERENCE_UID)
    texts["frame_type"] = _frame_type(fields)
    texts["dimension"] = ""
    return texts


def _private_b_value(fields: RawValues) -> str:
    """The b-value as scanners wrote it before the standard had a place for it; "" where there is none."""
    if fields.text(tags.SIEMENS_CREATOR) == "SIEMENS MR HEADER":
        return fields.text(tags.SIEMENS_B_VALUE)
    if fields.text(tags.PHILIPS_CREATOR) == "Philips Imaging DD 001":
        return fields.text(tags.PHILIPS_B_VALUE)
    if fields.text(tags.GE_CREATOR) == "GEMS_PARM_01":
        first = fields.count(tags.GE_B_VALUE)
        return "" if first is None or first < 0 else str(first % 100_000)  # newer scanners add 10^9 to it
    return ""


def _frame_type(fields: RawValues) -> str:
    """FrameType, else ImageType; magnitude, phase, real and imaginary images, which share it in some files, made different."""
    kind = fields.text(tags.FRAME_TYPE) or fields.text(tags.IMAGE_TYPE)
    component = fields.text(tags.COMPLEX_COMPONENT)
    return f"{kind}\\{component}" if component and component not in kind.split("\\") else kind

"""Header fields by their DICOM names: what tells stacks apart, what disagrees within a series, what `--select` may ask for.

Only fields of the image are here, none of the patient; times of day are compared, never shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from medseg.io.dicom.header import SliceHeader

LONGEST_TEXT = 64  # characters of a header text that a message quotes
MOST_VALUES = 12  # different values of a field that a report lists


@dataclass(frozen=True)
class Field:
    """One header field: our name, DICOM keyword and tag, and how to read it from a slice as text ("" where absent)."""

    name: str
    keyword: str
    tag: str
    value: Callable[[SliceHeader], str]
    is_time_of_day: bool = False


def field(name: str) -> Field:
    """Return a field by our name or its DICOM keyword; raises KeyError."""
    return _BY_NAME[name.strip().lower()]


def values_of(slices: Iterable[SliceHeader], name: str) -> list[str]:
    """Return the different values of a field in natural order, "2" before "10"."""
    value = field(name).value
    return sorted({value(header) for header in slices}, key=natural)


def natural(text: str) -> list[tuple[float, str]]:
    """Sort key of a header text: numbers by size, "" first.

    >>> sorted(["10", "2", "", "b", "-1.5"], key=natural)
    ['', '-1.5', '2', '10', 'b']
    """
    whole = number(text)
    if whole is not None:
        return [(whole, "")]
    return [(float(part), "") if _UNSIGNED.fullmatch(part) else (float("inf"), part) for part in re.split(r"(\d+\.?\d*)", text) if part]


def number(text: str) -> float | None:
    """Return a header text as a finite number, None where it is none."""
    return float(text) if _NUMBER.fullmatch(text.strip()) else None


def is_same_value(one: str, other: str) -> bool:
    """Whether two texts mean the same value: equal numbers, or equal words whatever their case.

    >>> is_same_value("4.920", "4.92"), is_same_value("B30f", "b30F"), is_same_value("4.9", "4.92")
    (True, True, False)
    """
    a, b = number(one), number(other)
    if a is not None and b is not None:
        return abs(a - b) <= 1e-6 * max(abs(a), abs(b), 1e-6)
    return one.strip().casefold() == other.strip().casefold()


def shown(text: object) -> str:
    """Return a header text fit for a terminal: printable, on one line, not too long; "none" where absent.

    >>> shown("B30f\\x1b[31m\\n"), shown("")
    ('B30f[31m', 'none')
    """
    clean = "".join(sign for sign in str(text) if sign.isprintable()).strip()
    return (clean if len(clean) <= LONGEST_TEXT else clean[: LONGEST_TEXT - 1] + "…") or "none"


def disagreements(slices: Sequence[SliceHeader]) -> list[dict[str, object]]:
    """List the fields that differ within a series: tag, keyword and values (times of day as a count only)."""
    rows: list[dict[str, object]] = []
    for one in FIELDS:
        values = values_of(slices, one.name)
        if len(values) < 2:
            continue
        listed = [shown(value) for value in values[:MOST_VALUES]]
        if len(values) > MOST_VALUES:
            listed.append(f"and {len(values) - MOST_VALUES} more")
        if one.is_time_of_day:
            listed = [f"{len(values)} different values"]
        rows.append({"tag": one.tag, "keyword": one.keyword, "values": listed})
    return rows


def _text(name: str) -> Callable[[SliceHeader], str]:
    return lambda header: header.texts.get(name, "")


def _number_of(name: str) -> Callable[[SliceHeader], str]:
    def value(header: SliceHeader) -> str:
        found = header.numbers.get(name)
        return "" if found is None else f"{found:g}"

    return value


def _numbers(values: Sequence[float] | None, digits: int = 4) -> str:
    return "" if values is None else "\\".join(f"{round(value, digits) + 0.0:g}" for value in values)


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_UNSIGNED = re.compile(r"\d+\.?\d*")

FIELDS = (
    Field("image_type", "ImageType", "(0008,0008)", lambda header: "\\".join(header.image_type)),
    Field("sop_class", "SOPClassUID", "(0008,0016)", lambda header: header.sop_class_uid),
    Field("acquisition_time", "AcquisitionTime", "(0008,0032)", _text("acquisition_time"), is_time_of_day=True),
    Field("modality", "Modality", "(0008,0060)", lambda header: header.modality),
    Field("slice_thickness", "SliceThickness", "(0018,0050)", _number_of("slice_thickness")),
    Field("echo_time", "EchoTime", "(0018,0081)", _text("echo_time")),
    Field("echo_numbers", "EchoNumbers", "(0018,0086)", _text("echo_numbers")),
    Field("spacing_between_slices", "SpacingBetweenSlices", "(0018,0088)", _number_of("spacing_between_slices")),
    Field("trigger_time", "TriggerTime", "(0018,1060)", _text("trigger_time")),
    Field("nominal_tilt", "GantryDetectorTilt", "(0018,1120)", _number_of("nominal_tilt")),
    Field("kernel", "ConvolutionKernel", "(0018,1210)", _text("kernel")),
    Field("patient_position", "PatientPosition", "(0018,5100)", _text("patient_position")),
    Field("b_value", "DiffusionBValue", "(0018,9087)", _text("b_value")),
    Field("gradient", "DiffusionGradientOrientation", "(0018,9089)", _text("gradient")),
    Field("acquisition_number", "AcquisitionNumber", "(0020,0012)", _text("acquisition_number")),
    Field("orientation", "ImageOrientationPatient", "(0020,0037)", lambda header: _numbers(header.orientation)),
    Field("frame_of_reference_uid", "FrameOfReferenceUID", "(0020,0052)", _text("frame_of_reference_uid")),
    Field("temporal_position", "TemporalPositionIdentifier", "(0020,0100)", _text("temporal_position")),
    Field("stack_id", "StackID", "(0020,9056)", _text("stack_id")),
    Field("dimension", "DimensionIndexValues", "(0020,9157)", _text("dimension")),
    Field("photometric", "PhotometricInterpretation", "(0028,0004)", lambda header: header.photometric),
    Field("rows", "Rows", "(0028,0010)", lambda header: str(header.rows)),
    Field("columns", "Columns", "(0028,0011)", lambda header: str(header.columns)),
    Field("pixel_spacing", "PixelSpacing", "(0028,0030)", lambda header: _numbers(header.pixel_spacing, 6)),
    Field("bits_stored", "BitsStored", "(0028,0101)", lambda header: str(header.bits_stored)),
    Field("burned_in", "BurnedInAnnotation", "(0028,0301)", _text("burned_in")),
    Field("slope", "RescaleSlope", "(0028,1053)", lambda header: "" if header.slope is None else f"{header.slope:g}"),
    Field("intercept", "RescaleIntercept", "(0028,1052)", lambda header: "" if header.intercept is None else f"{header.intercept:g}"),
    Field("lossy", "LossyImageCompression", "(0028,2110)", _text("lossy")),
)
_ALIASES = {"echo_number": "echo_numbers", "cardiac_phase": "trigger_time", "effectiveechotime": "echo_time",
            "temporalpositionindex": "temporal_position", "frametype": "image_type", "frame_type": "image_type"}  # fmt: skip
_BY_NAME = {one.name: one for one in FIELDS} | {one.keyword.lower(): one for one in FIELDS}
_BY_NAME |= {alias: _BY_NAME[name] for alias, name in _ALIASES.items()}

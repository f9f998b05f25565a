"""Names, colours and codes of labels as CSV text: 3D Slicer's colour table.

3D Slicer writes one beside an exported NIfTI label map, and reads it with names, colours and codes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from medseg.core.codes import Code
from medseg.core.errors import SegmentError
from medseg.core.segment import Colour, Segment

_CODES = {
    "category": "Category",
    "type": "Type",
    "modifier": "TypeModifier",
    "region": "Region",
    "region_modifier": "RegionModifier",
}
_PARTS = ("CodingScheme", "CodeValue", "CodeMeaning")
COLUMNS = (
    "LabelValue",
    "Name",
    "Color_R",
    "Color_G",
    "Color_B",
    "Color_A",
    *(f"{prefix}_{part}" for prefix in _CODES.values() for part in _PARTS),
)


def label_table(segments: Iterable[Segment]) -> str:
    """Return segments as CSV text, one row a segment, colours from 0 to 255."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for segment in segments:
        codes = [getattr(segment, name) for name in _CODES]
        parts = [part for code in codes for part in ((code.scheme, code.value, code.meaning) if code else ("", "", ""))]
        writer.writerow((segment.number, segment.label, *segment.rgb, 255, *parts))
    return text.getvalue()


def segments_from_table(text: str, name: str = "label table") -> tuple[Segment, ...]:
    """Return the segments of a label table; rows of background or without a name are passed over.

    Raises SegmentError where the table has no LabelValue and Name, or a row makes no sense.

    >>> segments_from_table("LabelValue,Name\\n0,background\\n5,liver\\n")[0].label
    'liver'
    """
    try:
        rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    except csv.Error as err:
        raise SegmentError(f"{name} is not a CSV table ({err}); correct or remove it") from err
    if rows and not {"LabelValue", "Name"} <= set(rows[0]):
        raise SegmentError(f"{name} has no columns LabelValue and Name; correct or remove it")
    return tuple(segment for number, row in enumerate(rows, start=2) if (segment := _segment(row, f"{name}, line {number}")))


def _segment(row: Mapping[str, str | None], where: str) -> Segment | None:
    label = (row["Name"] or "").strip()
    try:
        number = int(float(row["LabelValue"] or ""))
        if number == 0 or not label or label == "(none)":
            return None
        colour = _colour([row.get(f"Color_{channel}") or "" for channel in "RGB"])
    except (ValueError, OverflowError) as err:
        raise SegmentError(f"{where}: LabelValue and colours must be whole numbers; correct the table") from err
    codes: dict[str, Any] = {name: _code([row.get(f"{prefix}_{part}") or "" for part in _PARTS]) for name, prefix in _CODES.items()}
    return Segment(number, label, colour=colour, **codes)


def _colour(parts: list[str]) -> Colour | None:
    if not all(parts):
        return None
    red, green, blue = (round(float(part)) for part in parts)
    return red, green, blue


def _code(parts: list[str]) -> Code | None:
    scheme, value, meaning = (part.strip() for part in parts)
    return Code(scheme, value, meaning) if scheme and value else None

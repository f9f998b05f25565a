"""Label names in a NIfTI header: the label table of Connectome Workbench's extension, as TotalSegmentator writes it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from medseg.core.errors import SegmentError
from medseg.core.segment import Colour, Segment

_MOST_BYTES = 1 << 22
_FORBIDDEN = re.compile(rb"<!(DOCTYPE|ENTITY)", re.IGNORECASE)  # what expansion attacks need; label tables need neither


def segments_from_xml(data: bytes) -> tuple[Segment, ...]:
    """Return the named labels of a CaretExtension; nothing where the data are something else or not to be trusted.

    >>> table = b'<CaretExtension><LabelTable><Label Key="5" Red="1" Green="0" Blue="0">liver</Label></LabelTable></CaretExtension>'
    >>> segments_from_xml(table)[0].label
    'liver'
    """
    data = data.strip(b"\0 \r\n\t")
    if not data.startswith(b"<") or len(data) > _MOST_BYTES or b"LabelTable" not in data or _FORBIDDEN.search(data):
        return ()
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError):
        return ()
    segments: dict[int, Segment] = {}
    for entry in root.iter("Label"):
        segment = _segment(entry.get("Key", ""), (entry.text or "").strip(), [entry.get(name, "") for name in ("Red", "Green", "Blue")])
        if segment is not None and segment.number not in segments:
            segments[segment.number] = segment
    return tuple(segments.values())


def _segment(key: str, label: str, parts: list[str]) -> Segment | None:
    try:
        number = int(key)
    except ValueError:
        return None
    if number < 1 or not label:
        return None
    try:
        return Segment(number, label, colour=_colour([float(part) for part in parts]))
    except (ValueError, OverflowError, SegmentError):
        return Segment(number, label)


def _colour(parts: list[float]) -> Colour:
    red, green, blue = (round(255 * part) for part in parts)
    return red, green, blue

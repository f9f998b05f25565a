"""Coded terms as 3D Slicer writes them: one line of text a segment, in its files and in its segmentation nodes.

`context~category~type~modifier~context~region~modifier`, each code as `scheme^value^meaning`, "^^" where there is none. Field
names: 3D Slicer developer guide, "Segmentations", https://slicer.readthedocs.io.
"""

from __future__ import annotations

import re
from dataclasses import replace

from medseg.core.codes import TISSUE, Code
from medseg.core.segment import Segment

TERMINOLOGY_TAG = "TerminologyEntry"  # the tag that holds the line in files, and in segments before 2024
CATEGORY_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
REGION_CONTEXT = "Anatomic codes - DICOM master list"

_RESERVED = re.compile(r"[|~^\r\n]")  # separators of Slicer's tags and terminology lines


def terminology_text(segment: Segment, context: str = CATEGORY_CONTEXT) -> str:
    """Return the codes of a segment as one line, "" where it has no category or no type.

    Characters that Slicer uses as separators (| ~ ^) become spaces.

    >>> from medseg.core.terminology import described
    >>> terminology_text(described(Segment(1, "kidney_left"))).split("~")[2:4]
    ['SCT^64033007^Kidney', 'SCT^7771000^Left']
    """
    if segment.category is None or segment.type is None:
        return ""
    codes = [_code_text(code) for code in (segment.category, segment.type, segment.modifier, segment.region, segment.region_modifier)]
    return "~".join((context, *codes[:3], REGION_CONTEXT, *codes[3:]))


def with_terminology(segment: Segment, text: str) -> Segment:
    """Return the segment with the codes of such a line; one that is no such line changes nothing."""
    parts = text.split("~")
    if len(parts) < 3:
        return segment
    codes = [_code(part) for part in (*parts[1:4], *parts[5:7])] + [None] * 5
    category, kind, modifier, region, region_modifier = codes[:5]
    return replace(segment, category=category, type=kind, modifier=modifier, region=region, region_modifier=region_modifier)


def says_nothing(text: str) -> bool:
    """Whether a line is empty or what Slicer gives every segment that nobody described: the tissue "Tissue", no more."""
    bare = with_terminology(Segment(1, "segment"), text)
    described = (bare.modifier, bare.region, bare.region_modifier) != (None, None, None)
    same = [code is None or (code.scheme, code.value) == (TISSUE.scheme, TISSUE.value) for code in (bare.category, bare.type)]
    return all(same) and not described


def _code_text(code: Code | None) -> str:
    return "^".join(_RESERVED.sub(" ", part) for part in (code.scheme, code.value, code.meaning)) if code else "^^"


def _code(text: str) -> Code | None:
    parts = [part.strip() for part in text.split("^")]
    return Code(parts[0], parts[1], parts[2]) if len(parts) == 3 and parts[0] and parts[1] else None

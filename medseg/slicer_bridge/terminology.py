"""What a segment is, in the forms Slicer reads: terminology lines, segment tags, colour tables, a terminology file.

The side of a paired organ is the type's modifier in every one of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from medseg.core.codes import LEFT, MORPHOLOGICALLY_ABNORMAL_STRUCTURE, RIGHT, RIGHT_AND_LEFT, TISSUE, Code
from medseg.core.errors import SegmentError
from medseg.core.label_table import label_table
from medseg.core.segment import Colour, Segment, default_colour, segment_from_dict
from medseg.core.terminology import described, known_terms
from medseg.core.terminology_text import TERMINOLOGY_TAG, says_nothing, terminology_text, with_terminology

CONTEXT = "medseg"  # the name of our terminology file, as Slicer's selector lists it

_TAG_PREFIX = "medseg."
_TAGGED = ("algorithm", "tracking_id", "tracking_uid")  # what a segment says and a terminology line has no place for
_SCHEMA = "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/schemas/segment-context-schema.json#"
_CODES = ("category", "type", "modifier", "region", "region_modifier")


def colour_of(rgb: Sequence[float] | None) -> Colour | None:
    """Return Slicer's colour, three numbers from 0 to 1, in steps from 0 to 255.

    >>> colour_of((0.5, 1.0, 0.0))
    (128, 255, 0)
    """
    if rgb is None:
        return None
    red, green, blue = (min(max(int(255 * float(part) + 0.5), 0), 255) for part in rgb)
    return red, green, blue


def slicer_colour(segment: Segment) -> tuple[float, float, float]:
    """Return the colour of a segment as Slicer takes it, three numbers from 0 to 1."""
    red, green, blue = segment.rgb
    return red / 255, green / 255, blue / 255


def unique_labels(names: Sequence[str]) -> list[str]:
    """Return names that differ: Slicer lets two segments have one name, a label map does not.

    >>> unique_labels(["cyst", "cyst", "cyst (2)", ""])
    ['cyst', 'cyst (3)', 'cyst (2)', 'segment']
    """
    taken = {name for name in names if name}
    first: set[str] = set()
    labels = []
    for name in (name or "segment" for name in names):
        label, count = name, 1
        while label in first or (count > 1 and label in taken):
            count += 1
            label = f"{name} ({count})"
        first.add(label)
        labels.append(label)
    return labels


def described_by(segment: Segment, terminology: str, tags: Mapping[str, str]) -> Segment:
    """Return the segment with the codes of Slicer's line and what medseg wrote into its tags.

    Where the line is the one that Slicer gives everything nobody described ("Tissue"), the segment keeps no code, so that its
    label can speak.
    """
    line = terminology or tags.get(TERMINOLOGY_TAG, "")
    found = segment if says_nothing(line) else with_terminology(segment, line)
    said: dict[str, Any] = {name: tags[_TAG_PREFIX + name] for name in _TAGGED if tags.get(_TAG_PREFIX + name)}
    return replace(found, **said) if said else found


def terminology_of(segment: Segment) -> str:
    """Return Slicer's line for a segment: its own codes, else those of its label, "" where neither is known.

    >>> terminology_of(Segment(1, "femur_right")).split("~")[2:4]
    ['SCT^71341001^Femur', 'SCT^24028007^Right']
    """
    return terminology_text(described(segment))


def tags_of(segment: Segment) -> dict[str, str]:
    """Return the tags that keep what a terminology line has no place for: the algorithm and the finding's tracking."""
    return {_TAG_PREFIX + name: getattr(segment, name) for name in _TAGGED if getattr(segment, name)}


def segment_dict(segment: Segment) -> dict[str, Any]:
    """Return the JSON form that goes between Slicer and the worker: `Segment.to_dict` with Slicer's `terminology` line and `tags`.

    >>> entry = segment_dict(Segment(3, "liver"))
    >>> entry["number"], entry["terminology"].split("~")[2]
    (3, 'SCT^10200004^Liver')
    """
    return segment.to_dict() | {"terminology": terminology_of(segment), "tags": tags_of(segment)}


def segment_of(entry: Mapping[str, Any]) -> Segment:
    """Return the segment of such a form; `id`, `terminology` and `tags` may be missing, as may the codes.

    Codes given one by one count more than those of the line. Raises SegmentError where it is no segment.
    """
    if not isinstance(entry, Mapping) or not {"number", "label"} <= set(entry):
        raise SegmentError("a segment needs its number and its label")
    terminology, tags = entry.get("terminology") or "", entry.get("tags") or {}
    plain = {key: value for key, value in entry.items() if key not in ("terminology", "tags", "id")}
    try:
        segment = segment_from_dict(plain)
        if not isinstance(tags, Mapping) or not isinstance(terminology, str):
            raise SegmentError(f"segment {segment.number}: terminology is a text, tags are texts by name")
        coded = segment.type is not None or segment.category is not None
        return described_by(
            segment, "" if coded else terminology, {str(k): str(v) for k, v in tags.items() if not (coded and k == TERMINOLOGY_TAG)}
        )
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise SegmentError("a segment has a number, a label, a colour of three numbers and codes of scheme, value and meaning") from err


def color_table_csv(segments: Iterable[Segment]) -> str:
    """Return Slicer's colour table of segments, the codes of known labels among them.

    Double quotes become single ones: Slicer's reader has no way to read them and would lose the name.

    >>> color_table_csv([Segment(2, "liver", colour=(1, 2, 3))]).splitlines()[1]
    '2,liver,1,2,3,255,SCT,123037004,Anatomical Structure,SCT,10200004,Liver,,,,,,,,,'
    """
    return label_table(_without_quotes(described(segment)) for segment in segments)


def _without_quotes(segment: Segment) -> Segment:
    codes = {name: getattr(segment, name) for name in _CODES}
    plain: dict[str, Any] = {
        name: Code(_one_line(code.scheme), _one_line(code.value), _one_line(code.meaning)) for name, code in codes.items() if code
    }
    return replace(segment, label=_one_line(segment.label), **plain)


def _one_line(text: str) -> str:
    return re.sub(r"[\r\n]+", " ", text.replace('"', "'"))


def term_json() -> str:
    """Return all terms medseg knows as a terminology file of Slicer (`medseg.term.json`): category, type, side, colour, label."""
    categories: dict[str, dict[str, Any]] = {}
    for number, term in enumerate(known_terms(), start=1):
        entry = categories.setdefault(
            term.category.value,
            _term(term.category) | {"showAnatomy": term.category in (MORPHOLOGICALLY_ABNORMAL_STRUCTURE, TISSUE), "Type": []},
        )
        colour = {"recommendedDisplayRGBValue": list(default_colour(number))}
        kind = _term(term.type) | {"3dSlicerLabel": term.label} | colour
        if term.is_paired:
            kind["Modifier"] = [_term(side) | colour for side in (RIGHT, LEFT, RIGHT_AND_LEFT)]
        entry["Type"].append(kind)
    document = {
        "SegmentationCategoryTypeContextName": CONTEXT,
        "@schema": _SCHEMA,
        "SegmentationCodes": {"Category": list(categories.values())},
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _term(code: Code) -> dict[str, Any]:
    return {"CodingSchemeDesignator": code.scheme, "CodeValue": code.value, "CodeMeaning": code.meaning}

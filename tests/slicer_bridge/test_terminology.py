"""Codes, sides and colours go to Slicer's forms and come back."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.core.codes import LEFT, RIGHT, RIGHT_AND_LEFT, TISSUE, Code
from medseg.core.errors import SegmentError
from medseg.core.label_table import segments_from_table
from medseg.core.segment import Segment
from medseg.core.terminology import described, known_terms, segment_terms
from medseg.core.terminology_text import says_nothing, terminology_text
from medseg.slicer_bridge.terminology import (
    CONTEXT,
    color_table_csv,
    colour_of,
    described_by,
    segment_dict,
    segment_of,
    slicer_colour,
    tags_of,
    term_json,
    terminology_of,
    unique_labels,
)

DEFAULT = (  # what Slicer gives every new segment
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^85756007^Tissue~SCT^85756007^Tissue~^^~"
    "Anatomic codes - DICOM master list~^^~^^"
)
LESION = Segment(
    4,
    "lesion",
    Code("SCT", "49755003", "Morphologically Altered Structure"),
    Code("SCT", "52988006", "Lesion"),
    None,
    Code("SCT", "64033007", "Kidney"),
    LEFT,
    (10, 20, 30),
    "model abdomen",
    "lesion 1",
    "1.2.3",
)

words = st.text(st.characters(codec="utf-8", exclude_characters="|~^\r\n", exclude_categories=("C", "Z")), min_size=1, max_size=12)
codes = st.builds(Code, words, words, words)
maybe = st.none() | codes
segments = st.builds(
    Segment, st.integers(1, 999), words, codes, codes, maybe, maybe, maybe, st.tuples(*[st.integers(0, 255)] * 3), words, words, words
)


def core(segment: Segment) -> tuple[Code | None, ...]:
    return segment.category, segment.type, segment.modifier, segment.region, segment.region_modifier


@given(segments)
def test_a_segment_comes_back_from_its_json_form(segment: Segment) -> None:
    entry = json.loads(json.dumps(segment_dict(segment)))
    assert segment_of(entry) == segment


@given(segments)
def test_what_only_slicer_says_is_enough(segment: Segment) -> None:
    """The host knows a number, a name, a colour, the line and the tags, no codes one by one."""
    entry = {"id": "Segment_9", "number": segment.number, "label": segment.label, "colour": list(segment.rgb)}
    entry |= {"terminology": terminology_text(segment), "tags": tags_of(segment)}
    if says_nothing(entry["terminology"]):  # a drawn code may be Slicer's own "Tissue"
        return
    assert segment_of(entry) == segment


def test_codes_count_more_than_the_line() -> None:
    entry = segment_dict(described(Segment(1, "kidney_left"))) | {"terminology": terminology_of(Segment(1, "liver"))}
    assert segment_of(entry).type.meaning == "Kidney"
    tagged = entry | {"terminology": "", "tags": {"TerminologyEntry": terminology_of(Segment(1, "liver"))}}
    assert segment_of(tagged).modifier == LEFT


@pytest.mark.parametrize("side", [LEFT, RIGHT, RIGHT_AND_LEFT])
def test_the_side_is_never_lost(side: Code) -> None:
    for term in (term for term in known_terms() if term.is_paired):
        segment = Segment(1, term.label, term.category, term.type, side)
        assert terminology_of(segment).split("~")[3] == f"SCT^{side.value}^{side.meaning}"
        assert segment_of(segment_dict(segment)).modifier == side
        (row,) = segments_from_table(color_table_csv([segment]))
        assert (row.type, row.modifier) == (term.type, side)


@pytest.mark.parametrize("line", ["", DEFAULT, DEFAULT.replace("Segmentation category and type - 3D Slicer General Anatomy list", "other")])
def test_tissue_of_nobody_says_nothing(line: str) -> None:
    assert described_by(Segment(1, "liver"), line, {}) == Segment(1, "liver")
    assert described(described_by(Segment(1, "liver"), line, {})).type.meaning == "Liver"


@pytest.mark.parametrize(
    "line",
    [
        DEFAULT.replace("~^^~A", "~SCT^7771000^Left~A"),
        DEFAULT.replace("list~^^", "list~SCT^64033007^Kidney"),
        DEFAULT.replace("Tissue~SCT^85756007^Tissue", "Tissue~SCT^55603005^Fat"),
    ],
)
def test_tissue_with_anything_more_is_kept(line: str) -> None:
    assert described_by(Segment(1, "liver"), line, {}).category == TISSUE


@pytest.mark.parametrize("line", ["liver", "a~b", "~~~~~~", "c~x^y~SCT^^~^^~r~^^~^^"])
def test_a_line_of_another_kind_gives_no_code(line: str) -> None:
    assert core(described_by(Segment(1, "s"), line, {})) == (None,) * 5


def test_a_finding_is_tracked_through_slicer() -> None:
    assert tags_of(LESION) == {"medseg.algorithm": "model abdomen", "medseg.tracking_id": "lesion 1", "medseg.tracking_uid": "1.2.3"}
    back = described_by(Segment(4, "lesion", colour=(10, 20, 30)), terminology_of(LESION), tags_of(LESION))
    assert back == LESION


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (1, 2, 254), (127, 128, 129)])
def test_colours_are_exact_there_and_back(colour: tuple[int, int, int]) -> None:
    assert colour_of(slicer_colour(Segment(1, "x", colour=colour))) == colour
    assert colour_of(None) is None
    assert colour_of((-0.1, 1.5, 0.0)) == (0, 255, 0)
    assert colour_of((0.5, 0.1, 0.999)) == (128, 26, 255)


@given(st.lists(st.sampled_from(["a", "a (2)", "a (3)", "b", "", "segment"]), max_size=9))
def test_labels_differ_and_first_ones_stay(names: list[str]) -> None:
    labels = unique_labels(names)
    assert len(set(labels)) == len(names)
    for n, name in enumerate(names):
        if name and name not in names[:n] and name != "segment":
            assert labels[n] == name


@pytest.mark.parametrize(
    "entry",
    [
        {"label": "x"},
        {"number": 0, "label": "x"},
        {"number": 1, "label": ""},
        {"number": 1, "label": "x", "colour": [1, 2]},
        {"number": 1, "label": "x", "colour": 7},
        {"number": 1, "label": "x", "type": {"scheme": "SCT"}},
        {"number": 1, "label": "x", "type": "liver"},
        {"number": 1, "label": "x", "tags": ["a"]},
        {"number": 1, "label": "x", "terminology": 3},
        {"number": 1, "label": "x", "wrong": 3},
        {"number": "one", "label": "x"},
        {"number": 1, "label": 5},
        "liver",
    ],
)
def test_what_is_no_segment_is_refused(entry: object) -> None:
    with pytest.raises(SegmentError):
        segment_of(entry)


def test_the_color_table_is_slicers_and_comes_back() -> None:
    made = [Segment(2, 'the "big"\nliver', colour=(1, 2, 3)), described(Segment(1, "kidney_right")), LESION, Segment(7, "structure 7")]
    text = color_table_csv(made)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["LabelValue"], row["Name"]) for row in rows][:2] == [("2", "the 'big' liver"), ("1", "kidney_right")]
    assert (rows[1]["TypeModifier_CodeMeaning"], rows[2]["Region_CodeValue"], rows[2]["RegionModifier_CodeMeaning"]) == (
        "Right",
        "64033007",
        "Left",
    )
    back = segments_from_table(text)
    assert [core(one) for one in back[1:]] == [core(one) for one in made[1:]]
    assert [one.colour for one in back] == [one.colour for one in made]


def test_the_terminology_file_holds_every_term_once() -> None:
    document = json.loads(term_json())
    assert document["SegmentationCategoryTypeContextName"] == CONTEXT
    found = {}
    for category in document["SegmentationCodes"]["Category"]:
        assert isinstance(category["showAnatomy"], bool)
        for kind in category["Type"]:
            assert set(kind) <= {
                "CodingSchemeDesignator",
                "CodeValue",
                "CodeMeaning",
                "3dSlicerLabel",
                "recommendedDisplayRGBValue",
                "Modifier",
            }
            assert len(kind["CodeValue"]) <= 16  # DICOM SH
            assert len(kind["CodeMeaning"]) <= 64  # DICOM LO
            assert kind["CodeValue"] not in found
            found[kind["CodeValue"]] = (category["CodeValue"], kind)
    for value, (category_value, kind) in found.items():
        sides = [entry["CodeMeaning"] for entry in kind.get("Modifier", ())]
        assert sides in ([], ["Right", "Left", "Right and left"])
        label = kind["3dSlicerLabel"]
        name = label if not sides else f"rib_left_{label[4:]}" if label.startswith("rib_") else f"{label}_left"
        category, type_, side = segment_terms(name)
        assert (category.value, type_.value) == (category_value, value)
        assert (side == LEFT) is bool(sides)
    assert len(found) == len(list(known_terms()))


def test_the_extension_ships_this_terminology_file() -> None:
    """Made by `Path(...).write_text(term_json())`: make it again where a term was added."""
    shipped = Path(__file__).resolve().parents[2] / "slicer_extension" / "MedSeg" / "Resources" / "MedSeg.term.json"
    assert shipped.read_text(encoding="utf-8") == term_json()

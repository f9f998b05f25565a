"""Codes as Slicer's line of text: exactly its form, and every code back from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.core.codes import ANATOMICAL_STRUCTURE, Code
from medseg.core.segment import Segment
from medseg.core.terminology import described, known_terms, segment_terms
from medseg.core.terminology_text import says_nothing, terminology_text, with_terminology

TISSUE_LINE = "list~SCT^85756007^Tissue~SCT^85756007^Tissue~^^~codes~^^~^^"

words = st.text(st.characters(codec="utf-8", exclude_characters="|~^\r\n", exclude_categories=("C", "Z")), min_size=1, max_size=12)
codes = st.builds(Code, words, words, words)
maybe = st.none() | codes
segments = st.builds(Segment, st.integers(1, 999), words, codes, codes, maybe, maybe, maybe)


def core(segment: Segment) -> tuple[Code | None, ...]:
    return segment.category, segment.type, segment.modifier, segment.region, segment.region_modifier


@given(segments)
def test_every_code_comes_back_from_the_line(segment: Segment) -> None:
    assert core(with_terminology(Segment(1, "x"), terminology_text(segment))) == core(segment)


def test_the_line_is_slicers() -> None:
    assert terminology_text(described(Segment(1, "kidney_left"))) == (
        "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure~SCT^64033007^Kidney~"
        "SCT^7771000^Left~Anatomic codes - DICOM master list~^^~^^"
    )


def test_separators_inside_codes_become_spaces() -> None:
    segment = Segment(1, "x", ANATOMICAL_STRUCTURE, Code("99MINE", "1", "a~b^c|d\ne"))
    assert with_terminology(Segment(1, "x"), terminology_text(segment)).type == Code("99MINE", "1", "a b c d e")


@pytest.mark.parametrize("segment", [Segment(1, "x"), Segment(1, "x", ANATOMICAL_STRUCTURE), Segment(1, "x", None, ANATOMICAL_STRUCTURE)])
def test_without_category_and_type_there_is_no_line(segment: Segment) -> None:
    assert terminology_text(segment) == ""


@pytest.mark.parametrize(
    ("line", "nothing"),
    [
        ("", True),
        ("liver", True),
        (TISSUE_LINE, True),
        (TISSUE_LINE.replace("~^^~codes", "~SCT^7771000^Left~codes"), False),
        (TISSUE_LINE.replace("codes~^^", "codes~SCT^64033007^Kidney"), False),
        (TISSUE_LINE.replace("SCT^85756007^Tissue~^^", "SCT^55603005^Fat~^^"), False),
    ],
)
def test_slicers_tissue_says_nothing(line: str, nothing: bool) -> None:
    assert says_nothing(line) is nothing


def test_known_terms_are_those_that_labels_have() -> None:
    found = list(known_terms())
    assert len({term.type.value for term in found}) == len(found) > 80
    for term in found:
        rib = term.label.startswith("rib_")
        for name in (f"rib_left_{term.label[4:]}" if rib else f"{term.label}_left",) if term.is_paired else (term.label,):
            category, kind, side = segment_terms(name)
            assert (category, kind, side is not None) == (term.category, term.type, term.is_paired)

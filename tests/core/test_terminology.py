from __future__ import annotations

import re

import pytest
from pydicom.sr._concepts_dict import concepts

from medseg.core import terminology
from medseg.core.codes import LEFT, RIGHT, RIGHT_AND_LEFT, Code
from medseg.core.segment import Segment
from medseg.core.terminology import described, segment_terms

TABLES = {**terminology._PAIRED, **terminology._SINGLE, **terminology._TISSUES, **terminology._ABNORMAL}
STANDARD = {code: meaning for names in concepts["SCT"].values() for code, (meaning, _) in names.items()}

# In the standard's own tables under another wording
OTHER_WORDING = {
    "23451007": "Adrenal structure",
    "15825003": "Aortic structure",
    "87878005": "Left ventricular structure",
    "53085002": "Right ventricular structure",
    "15776009": "Pancreatic structure",
    "41216001": "Prostatic structure",
    "122972007": "Pulmonary venous structure",
    "78961009": "Splenic structure",
    "69748006": "Thyroid structure",
}
# Not in the standard's tables: taken from two published mappings each (TG-263 in FHIR, TotalSegmentator, and others)
ELSEWHERE = {"68786006", "206007", "78333006", "74281007", "110765007", "67769002", "65985001"} | {
    code for code, _ in terminology._RIBS.values()
}


def test_codes_mean_what_the_standard_says() -> None:
    vertebrae = {name: (code, f"{name} vertebra") for name, code in terminology._VERTEBRAE.items()}
    for label, (code, meaning) in {**TABLES, **vertebrae}.items():
        if code in ELSEWHERE:
            assert code not in STANDARD
            continue
        expected = OTHER_WORDING.get(code, meaning).lower()
        assert expected in STANDARD[code].lower(), (label, code, STANDARD[code])


def test_codes_are_not_used_twice_by_accident() -> None:
    codes = [code for code, _ in [*terminology._PAIRED.values(), *terminology._SINGLE.values(), *terminology._RIBS.values()]]
    codes += terminology._VERTEBRAE.values()
    assert len(codes) == len(set(codes))


def test_check_digits() -> None:
    """The last digit of a SNOMED CT identifier is a Verhoeff check digit."""
    multiply = [[(i + j) % 5 if i < 5 and j < 5 else 0 for j in range(10)] for i in range(10)]
    for i in range(10):
        for j in range(10):
            if i < 5:
                multiply[i][j] = (i + j) % 5 if j < 5 else (i + j - 5) % 5 + 5
            else:
                multiply[i][j] = (i - j - 5) % 5 + 5 if j < 5 else (i - j) % 5
    permute = [list(range(10)), [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]]
    for _ in range(6):
        permute.append([permute[-1][permute[1][k]] for k in range(10)])
    codes = [code for code, _ in [*TABLES.values(), *terminology._RIBS.values()]] + list(terminology._VERTEBRAE.values())
    for code in codes:
        check = 0
        for place, digit in enumerate(reversed(code)):
            check = multiply[check][permute[place % 8][int(digit)]]
        assert check == 0, code


@pytest.mark.parametrize("organ", sorted(terminology._PAIRED))
def test_the_side_is_the_modifier_and_the_type_is_the_same_on_both(organ: str) -> None:
    left, right, none = (segment_terms(name) for name in (f"{organ}_left", f"{organ}_right", organ))
    assert left is not None
    assert right is not None
    assert none is not None
    assert left[1] == right[1] == none[1]
    assert (left[2], right[2], none[2]) == (LEFT, RIGHT, None)
    assert not re.search(r"\b(left|right)\b", left[1].meaning, re.IGNORECASE)


@pytest.mark.parametrize(
    ("label", "value", "side"),
    [
        ("kidney_left", "64033007", LEFT),
        ("Left Kidney", "64033007", LEFT),
        ("right-kidney", "64033007", RIGHT),
        ("lung_middle_lobe_right", "40020002", RIGHT),
        ("subclavian_artery_left", "36765005", LEFT),
        ("lungs", "39607008", RIGHT_AND_LEFT),
        ("rib_left_4", "25523003", LEFT),
        ("rib_right_12", "43993008", RIGHT),
        ("vertebrae_T10", "7610001", None),
        ("vertebrae_L1", "66794005", None),
        ("heart_atrium_left", "82471001", None),
        ("tumour", "108369006", None),
        ("spine", "421060004", None),
        ("air", "15158005", None),
        ("body", "38266002", None),
        ("oesophagus", "32849002", None),
        ("visceral_fat", "55603005", None),
    ],
)
def test_names(label: str, value: str, side: Code | None) -> None:
    terms = segment_terms(label)
    assert terms is not None
    assert (terms[1].value, terms[2]) == (value, side)


@pytest.mark.parametrize(
    "label", ["", "segment_3", "liver_left", "left", "left_kidney_right", "kidney cyst left", "rib_left_13", "vertebrae_L7"]
)
def test_names_that_are_not_known_are_not_guessed(label: str) -> None:
    assert segment_terms(label) is None


def test_described_fills_and_never_overrules() -> None:
    filled = described(Segment(3, "kidney_left"))
    assert (filled.number, filled.type.value, filled.modifier) == (3, "64033007", LEFT)
    own = Segment(3, "kidney_left", type=Code("99X", "1", "Mine"))
    assert described(own) is own
    unknown = Segment(3, "thing")
    assert described(unknown) is unknown

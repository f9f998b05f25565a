"""Which series of a study is chosen, and what rules over header fields mean."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from medseg.batch.cases.series_rules import Candidate, parse_selection
from medseg.core.errors import ParameterError

TEXTS = {
    "Modality": "CT", "SliceThickness": "1.50", "ConvolutionKernel": "Br40d\\3", "ImageType": "ORIGINAL\\PRIMARY\\AXIAL",
    "SeriesDescription": "Thorax 1.5 Br40", "SeriesNumber": "4", "Slices": "200", "EchoTime": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ("Modality=ct", True), ("modality = CT", True), ("Modality=MR", False), ("Modality!=MR", True), ("Modality!=CT", False),
        ("SliceThickness<=1.5", True), ("SliceThickness<1.5", False), ("SliceThickness>=1.5", True), ("SliceThickness>1.4999", True),
        ("SliceThickness=1.5", True), ("SliceThickness=1.500", True), ("SliceThickness=2", False),
        ("ConvolutionKernel=Br40d", True), ("ConvolutionKernel~^br4", True), ("ConvolutionKernel!~^br4", False),
        ("ImageType=primary", True), ("ImageType=ORIGINAL\\PRIMARY\\AXIAL", True), ("ImageType=MPR", False),
        ("SeriesDescription~thorax|abdomen", True), ("SeriesDescription~^Abdomen", False), ("SeriesDescription!~lung", True),
        ("EchoTime<=5", False), ("EchoTime>=0", False), ("EchoTime=", True), ("Modality=", False),
        ("EchoTime!=3", True), ("EchoTime~.", False),
        ("Slices>=100", True), ("BodyPartExamined=", True), ("BodyPartExamined!~head", True),
    ],
)  # fmt: skip
def test_a_rule_on_a_field(rule: str, holds: bool) -> None:
    assert parse_selection([rule]).passes(TEXTS) is holds


def test_all_rules_must_hold() -> None:
    assert parse_selection(["Modality=CT", "Slices>=100"]).passes(TEXTS)
    assert not parse_selection(["Modality=CT", "Slices>=201"]).passes(TEXTS)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["thinest"], "neither one of"), (["Modality"], "neither one of"), (["PatientName=x"], "PatientName is not a field"),
        (["SliceThickness<=thin"], "not a number"), (["SliceThickness<=nan"], "not a number"), (["best", "all"], "best and all"),
        (["Modality~("], "no regular expression"), (["Modality~" + "a" * 201], "at most 200"), (["Modality~(a+)+$"], "repeat a group"),
        (["Modality~(a|a)*$"], "repeat a group"), (["Modality~(a){9}"], "repeat a group"), (["Modality~(a)\\1"], "refer back"),
        (["Modality~(?P<x>a)(?P=x)"], "refer back"), (["Modality~a*a*a*a*b"], "at most 3"), (["Modality~.{2,}.+.*.*"], "at most 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(texts: list[str], said: str) -> None:
    with pytest.raises(ParameterError, match=said) as refusal:
        parse_selection(texts)
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [("(MPR|AXIAL)", "AXIAL"), ("[*+]x", "+x"), ("\\(\\)\\*+", "()**"), ("[]*+]{2}", "]*"), ("(ab)?c", "abc"), ("^a{1,3}$", "aaa")],
)
def test_harmless_patterns_are_taken_and_mean_what_they_say(pattern: str, fits: str) -> None:
    (rule,) = parse_selection([f"ImageType~{pattern}"]).rules
    assert rule.holds({"ImageType": fits})
    assert not rule.holds({"ImageType": "zz"})


def test_the_worst_pattern_that_is_taken_ends_soon() -> None:
    (rule,) = parse_selection(["SeriesDescription~a*a*a*$"]).rules
    begin = time.process_time()
    assert rule.holds({"SeriesDescription": "a" * 5000 + "b"})  # the empty end of what is looked at; no error, and soon
    (rule,) = parse_selection(["SeriesDescription~a*a*a*c"]).rules
    assert not rule.holds({"SeriesDescription": "a" * 5000 + "b"})
    assert time.process_time() - begin < 20


def series(key: str, slices: int, spacing_mm: float, **other: Any) -> Candidate:
    known = {"is_derived": False, "axial": 1.0, "coverage_mm": (slices - 1) * spacing_mm, "series_number": math.nan}
    return Candidate(key=key, texts={}, slices=slices, spacing_mm=spacing_mm, series_uid=key, **(known | other))


THIN = series("1.1", 300, 1.0, series_number=5)
THICK = series("1.2", 62, 5.0, series_number=3)
SHORT = series("1.3", 400, 0.25, series_number=7)
SAGITTAL = series("1.4", 500, 1.0, axial=0.0, series_number=1)
DERIVED = series("1.5", 900, 0.5, is_derived=True, series_number=9)


@pytest.mark.parametrize(
    ("choice", "given", "taken"),
    [
        ("best", [DERIVED, SAGITTAL, SHORT, THICK, THIN], "1.1"),  # the thick one is longer by 6 mm, which is no more of the body
        ("best", [DERIVED, SAGITTAL, SHORT, THICK], "1.2"),
        ("best", [DERIVED, SAGITTAL], "1.4"),
        ("best", [DERIVED], "1.5"),
        ("first", [DERIVED, SAGITTAL, SHORT, THICK, THIN], "1.4"),
        ("last", [DERIVED, SAGITTAL, SHORT, THICK, THIN], "1.5"),
        ("largest", [DERIVED, SAGITTAL, SHORT, THICK, THIN], "1.5"),
        ("thinnest", [DERIVED, SAGITTAL, SHORT, THICK, THIN], "1.3"),
    ],
)
def test_one_series_of_a_study_is_chosen_whatever_their_order(choice: str, given: list[Candidate], taken: str) -> None:
    selection = parse_selection([choice])
    for one in (given, given[::-1]):
        assert [chosen.key for chosen in selection.choose(one)] == [taken]


def test_all_are_taken_and_none_of_none() -> None:
    assert parse_selection(["all"]).choose([THIN, THICK]) == [THIN, THICK]
    assert parse_selection([]).choose([]) == []


def test_equal_series_are_told_apart_by_number_and_uid() -> None:
    choose = parse_selection([]).choose
    assert choose([series("1.9", 9, 1.0, series_number=2), series("1.8", 9, 1.0, series_number=3)])[0].key == "1.9"
    assert choose([series("1.9", 9, 1.0), series("1.8", 9, 1.0)])[0].key == "1.8"
    assert choose([series("1.9", 9, 1.0), series("1.8", 9, 1.0, series_number=3)])[0].key == "1.8"


def test_series_without_positions_can_be_chosen() -> None:
    nowhere = series("1.7", 350, math.nan)
    assert parse_selection(["best"]).choose([nowhere, THIN])[0] is nowhere  # more slices
    assert parse_selection(["thinnest"]).choose([nowhere, THIN])[0] is THIN
    assert parse_selection(["largest"]).choose([nowhere, THIN])[0] is nowhere

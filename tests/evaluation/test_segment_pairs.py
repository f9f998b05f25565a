"""Which segments are partners: by label, by spelling, by number, and what is said where that is a guess."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import SegmentError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.evaluation.segment_pairs import pair_segments, renamed

GRID = Geometry((1, 1, 1), np.eye(4))


def named(**numbers: int) -> list[LabelMap]:
    return [LabelMap(np.zeros((1, 1, 1), np.uint8), GRID, tuple(Segment(n, label) for label, n in numbers.items()))]


def partners(reference, prediction):
    pairs = pair_segments(reference, prediction).pairs
    return {(p.reference.label if p.reference else None, p.prediction.label if p.prediction else None): p.matched_by for p in pairs}


def codes(reference, prediction):
    return {finding.code: finding for finding in pair_segments(reference, prediction).findings}


def test_labels_first_though_numbers_would_say_otherwise():
    assert partners(named(liver=1, spleen=2), named(spleen=1, liver=2)) == {("liver", "liver"): "label", ("spleen", "spleen"): "label"}


def test_case_and_separators_do_not_matter():
    found = partners(named(left_kidney=1, Tumour=2), named(**{"Left Kidney": 7, "tumour": 9}))
    assert found == {("left_kidney", "Left Kidney"): "spelling", ("Tumour", "tumour"): "spelling"}


def test_a_spelling_that_two_share_is_no_match():
    found = partners(named(liver=1, lung=5), named(**{"liver": 1, "l-ung": 2, "l_ung": 3}))
    assert found == {("liver", "liver"): "label", ("lung", None): "", (None, "l-ung"): "", (None, "l_ung"): ""}


def test_nameless_segments_are_matched_by_number():
    assert partners(named(liver=1, tumour=2), named(liver=8, segment_2=2)) == {
        ("liver", "liver"): "label",
        ("tumour", "segment_2"): "number",
    }


def test_names_that_differ_are_a_warning():
    """Two named segments matched only by their numbers may be two organs: the user must look."""
    warning = codes(named(liver=1), named(spleen=1))["MATCHED_BY_NUMBER"]
    assert warning.severity.value == "warning"
    assert "liver ↔ spleen" in warning.message
    assert codes(named(liver=1), named(segment_1=1))["MATCHED_BY_NUMBER"].severity.value == "info"
    assert codes(named(liver=1), named(liver=1)) == {}


def test_what_is_left_over_on_both_sides_comes_with_a_hint():
    finding = codes(named(liver=1, tumour=2), named(liver=1, tumor=3))["LABELS_NOT_MATCHED"]
    assert "--map tumor=tumour" in finding.message


def test_renaming_pairs_names_and_refuses_two_of_one_name():
    layers = [*named(Leber=3), *named(tumor=4)]
    assert [s.label for layer in renamed(layers, {"Leber": "liver", "4": "GTV", "absent": "x"}) for s in layer.segments] == ["liver", "GTV"]
    with pytest.raises(SegmentError, match="both called 'Leber'"):
        renamed(layers, {"tumor": "Leber"})


def test_two_names_can_be_exchanged():
    swapped = renamed(named(a=1, b=2), {"a": "b", "b": "a"})
    assert [segment.label for segment in swapped[0].segments] == ["b", "a"]

"""Dice and its family against counting by hand, and every undefined case."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.core.errors import GeometryMismatchError, UnknownSegmentError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.evaluation.overlap import evaluate

GRID = Geometry((6, 5, 4), np.diag([1.0, 2, 3, 1]))


def label_map(array, **numbers):
    return LabelMap(np.asarray(array, np.uint8), GRID, tuple(Segment(n, label) for label, n in numbers.items()))


def masks(draw_seed, share):
    return np.random.default_rng(draw_seed).random((6, 5, 4)) < share


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.floats(0.05, 0.9))
@settings(max_examples=40, deadline=None)
def test_the_scores_are_those_of_counting(first, second, share):
    a, b = masks(first, share), masks(second, share)
    score = evaluate(label_map(a, liver=1), label_map(b, liver=1))["liver"]
    both, either = (a & b).sum(), (a | b).sum()
    if either:
        assert score.dice == pytest.approx(2 * both / (a.sum() + b.sum()))
        assert score.iou == pytest.approx(both / either)
    if a.sum():
        assert score.sensitivity == pytest.approx(both / a.sum())
        assert score.volume_difference_ml == pytest.approx((int(b.sum()) - int(a.sum())) * 6 / 1000)
    if b.sum():
        assert score.precision == pytest.approx(both / b.sum())


@given(st.integers(0, 10_000), st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_dice_is_symmetric(first, second):
    a, b = label_map(masks(first, 0.4), x=1), label_map(masks(second, 0.4), x=1)
    assert evaluate(a, b)["x"].dice == evaluate(b, a)["x"].dice


def test_undefined_cases_are_named():
    empty, full = np.zeros((6, 5, 4)), np.ones((6, 5, 4))
    both = evaluate(label_map(empty, x=1), label_map(empty, x=1))["x"]
    assert (both.dice, both.iou, both.sensitivity, both.precision) == (None, None, None, None)
    assert "none in the prediction" in both.reason
    missed = evaluate(label_map(full, x=1), label_map(empty, x=1))["x"]
    assert (missed.dice, missed.sensitivity, missed.precision) == (0.0, 0.0, None)
    false = evaluate(label_map(empty, x=1), label_map(full, x=1))["x"]
    assert (false.dice, false.sensitivity, false.precision) == (0.0, None, 0.0)
    assert false.volume_difference_percent is None


def test_segments_are_matched_by_label_though_numbers_differ():
    a = np.zeros((6, 5, 4))
    a[:3] = 1
    a[3:] = 2
    b = np.where(a == 1, 9, 4)
    evaluation = evaluate(label_map(a, liver=1, spleen=2), label_map(b, liver=9, spleen=4))
    assert evaluation.matched_by == "label"
    assert evaluation["liver"].dice == evaluation["spleen"].dice == 1


def test_segments_without_a_shared_label_are_matched_by_number():
    a = np.ones((6, 5, 4))
    evaluation = evaluate(label_map(a, liver=1), label_map(a, segment_1=1))
    assert (evaluation.matched_by, evaluation["liver"].dice) == ("number", 1)


def test_a_segment_of_one_side_is_counted_never_dropped():
    a = np.zeros((6, 5, 4))
    a[0], a[1] = 1, 2
    evaluation = evaluate(label_map(a, liver=1, tumour=2), label_map(np.where(a == 1, 1, np.where(a == 2, 7, 0)), liver=1, cyst=7))
    assert evaluation["tumour"].dice == 0
    assert evaluation["cyst"].dice == 0
    summary = evaluation.to_dict()["summary"]
    assert (summary["missed_count"], summary["false_count"], summary["segment_count"]) == (1, 1, 3)
    assert summary["mean_dice"] == pytest.approx(1 / 3)


def test_another_grid_is_refused():
    a = label_map(np.ones((6, 5, 4)), x=1)
    other = LabelMap(a.array, Geometry((6, 5, 4), np.diag([1.0, 2, 3.1, 1])), a.segments)
    with pytest.raises(GeometryMismatchError):
        evaluate(a, other)
    with pytest.raises(UnknownSegmentError):
        evaluate(a, a)["y"]

"""Dice and its family against counting by hand, and every undefined case."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.core.errors import GeometryMismatchError, ParameterError, UnknownSegmentError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.evaluation.overlap import diagonal_mm, evaluate
from medseg.io.read import read_label_map

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


def test_the_message_about_another_grid_says_how_far_apart():
    a = label_map(np.ones((6, 5, 4)), x=1)
    moved = np.diag([1.0, 2, 3, 1])
    moved[2, 3] = 1.5
    with pytest.raises(GeometryMismatchError, match=r"corners up to 1\.5 mm apart.*--resample"):
        evaluate(a, LabelMap(a.array, Geometry((6, 5, 4), moved), a.segments))
    with pytest.raises(GeometryMismatchError, match="6×5×3 voxels of 1×2×3 mm"):
        evaluate(a, LabelMap(a.array[:, :, :3], Geometry((6, 5, 3), GRID.affine), a.segments))
    named = [Geometry((6, 5, 4), GRID.affine, f"1.2.{n}") for n in range(2)]
    with pytest.raises(GeometryMismatchError, match="frames of reference differ"):
        evaluate(LabelMap(a.array, named[0], a.segments), LabelMap(a.array, named[1], a.segments))


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_overlapping_segments_are_scored_each_on_its_own(seed):
    names = ("liver", "tumour", "vessel", "cyst")
    ours, theirs = ({name: masks(seed * 7 + n + side, 0.4) for n, name in enumerate(names)} for side in (0, 100))
    theirs.pop("cyst")
    theirs["extra"] = masks(seed + 55, 0.3)
    reference = [label_map(mask * (n + 1), **{name: n + 1}) for n, (name, mask) in enumerate(ours.items())]
    # the other side has the segments in another order and under other numbers, two of them in one layer
    apart = theirs["vessel"] & ~theirs["liver"]
    prediction = [
        label_map(theirs["extra"] * 1, extra=1),
        label_map(np.where(theirs["liver"], 9, apart * 4), liver=9, vessel=4),
        label_map(theirs["tumour"] * 2, tumour=2),
    ]
    theirs["vessel"] = apart
    evaluation = evaluate(reference, prediction, surfaces=False)
    assert {score.label for score in evaluation.scores} == {*ours, "extra"}
    for label in {*ours, "extra"}:
        a, b = ours.get(label, np.zeros((6, 5, 4), bool)), theirs.get(label, np.zeros((6, 5, 4), bool))
        score = evaluation[label]
        assert (score.reference_voxels, score.prediction_voxels, score.common_voxels) == (a.sum(), b.sum(), (a & b).sum())


def test_surfaces_of_layers_belong_to_their_segments():
    a, b = np.zeros((6, 5, 4)), np.zeros((6, 5, 4))
    a[1:3, 1:3, 1:3] = 1
    b[2:4, 1:3, 1:3] = 1  # one voxel of 1 mm along i
    reference = [label_map(a, one=1), label_map(2 * a, two=2)]
    prediction = [label_map(2 * b, one=2), label_map(a, two=1)]
    evaluation = evaluate(reference, prediction)
    assert evaluation["one"].surface["hd_mm"] == pytest.approx(1)
    assert evaluation["two"].surface["hd_mm"] == 0
    assert evaluation["one"].surface["centre_distance_mm"] == pytest.approx(1)


def test_a_miss_has_no_distance_and_says_why():
    a = np.zeros((6, 5, 4))
    a[1:4, 1:4, 1:3] = 1
    missed = evaluate(label_map(a, x=1), label_map(np.zeros_like(a), x=1)).to_dict()["segments"][0]
    assert missed["outcome"] == "missed"
    for key in ("hd_mm", "hd95_mm", "assd_mm", "masd_mm", "nsd_1mm", "boundary_f1_1mm", "centre_distance_mm"):
        assert missed[key] is None
    assert "prediction" in missed["reason"]
    unmeasured = evaluate(label_map(a, x=1), label_map(a, x=1), surfaces=False).to_dict()["segments"][0]
    assert unmeasured["hd95_mm"] is None
    assert unmeasured["hd95_mm_reason"] == "surfaces were not compared"


def test_a_pooled_percentile_never_stands_under_the_name_hd95():
    a, b = np.zeros((6, 5, 4)), np.zeros((6, 5, 4))
    a[1:4, 1:4, 1:3], b[1:6, 1:4, 1:3] = 1, 1
    row = evaluate(label_map(a, x=1), label_map(b, x=1), definition="pooled", tolerances_mm=(0.5, 2)).to_dict()["segments"][0]
    assert row["hd95_mm"] is None
    assert "hd95_pooled_mm" in row["hd95_mm_reason"]
    assert row["hd95_pooled_mm"] is not None
    assert {"nsd_0.5mm", "nsd_2mm"} <= set(row)
    assert evaluate(label_map(a, x=1), label_map(b, x=1), percentile=90)["x"].surface["hd90_mm"] is not None


@pytest.mark.parametrize(
    "wrong",
    [{"tolerances_mm": (-1,)}, {"percentile": 0}, {"definition": "mean"}, {"lesions": True, "match": "iou>=2"}, {"percentile": 101}],
)
def test_rules_that_make_no_sense_are_refused(wrong):
    a = label_map(np.ones((6, 5, 4)), x=1)
    with pytest.raises(ParameterError):
        evaluate(a, a, **wrong)


def test_the_diagonal_is_the_longest_of_a_sheared_grid():
    sheared = np.array([[1, 0, 0, 5], [0, 2, 1.5, -7], [0, 0, 3, 1], [0, 0, 0, 1.0]])
    grid = Geometry((6, 5, 4), sheared)
    corners = np.array([[i, j, k] for i in (-0.5, 5.5) for j in (-0.5, 4.5) for k in (-0.5, 3.5)]) @ sheared[:3, :3].T
    assert diagonal_mm(grid) == pytest.approx(max(np.linalg.norm(p - q) for p in corners for q in corners))


def test_numbers_up_to_the_largest_label(tmp_path):
    a = np.zeros((6, 5, 4), np.uint32)
    a[0], a[1] = 4_000_000_000, 7
    b = np.where(a == 7, 4_000_000_000, np.where(a == 0, 0, 7)).astype(np.uint32)
    reference = LabelMap(a, GRID, (Segment(4_000_000_000, "liver"), Segment(7, "spleen")))
    prediction = LabelMap(b, GRID, (Segment(4_000_000_000, "spleen"), Segment(7, "liver")))
    assert [score.dice for score in evaluate(reference, prediction, surfaces=False).scores] == [1, 1]


def test_tens_of_thousands_of_labels():
    """65,000 labels, counted by numpy beside."""
    grid = Geometry((60, 60, 60), np.eye(4))
    a = np.zeros(grid.shape, np.uint16)
    a.reshape(-1)[: 65_000 * 3 : 3] = np.arange(1, 65_001)
    b = np.roll(a, 1, axis=2)
    b[:30] = a[:30]
    segments = tuple(Segment(n, f"segment_{n}") for n in range(1, 65_001))
    evaluation = evaluate(LabelMap(a, grid, segments), LabelMap(b, grid, segments), surfaces=False)
    expected = np.bincount(a[a == b], minlength=65_001)[1:]
    assert [score.common_voxels for score in evaluation.scores] == expected.tolist()
    summary = evaluation.to_dict()["summary"]
    assert summary["mean_dice"] == pytest.approx(expected.mean())
    assert "65,000 labels" in summary["labels_reason"]


def test_the_overlap_of_real_masks(shared_data):
    """The counts and shares that the assembler of the data computed apart from us."""
    case = shared_data / "metrics_spine_semantic"
    expected = json.loads((case / "expected.json").read_text())["metrics"]["per_label"]
    evaluation = evaluate(read_label_map(case / "ref.nii.gz"), read_label_map(case / "pred.nii.gz"), surfaces=False)
    assert {str(score.number) for score in evaluation.scores} == set(expected)
    for score in evaluation.scores:
        known = expected[str(score.number)]
        assert (score.reference_voxels, score.prediction_voxels) == (known["ref_voxels"], known["pred_voxels"])
        assert score.dice == pytest.approx(known["dice"], abs=1e-12)
        assert score.iou == pytest.approx(known["jaccard"], abs=1e-12)
        assert score.sensitivity == pytest.approx(known["sensitivity"], abs=1e-12)
        assert score.precision == pytest.approx(known["precision"], abs=1e-12)
        assert score.volume_difference_ml == pytest.approx(known["volume_difference_ml"], abs=1e-5)

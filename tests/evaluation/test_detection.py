"""Lesions against scipy's labels and an assignment by exhaustion, and the cases of the rules one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.evaluation.detection import MatchRule, match_components
from medseg.evaluation.overlap import evaluate
from medseg.io.read import read_label_map

AFFINE = np.array([[0.8, 0, 0, -30], [0, 0, 2.5, 12], [0, -1.1, 0, 7], [0, 0, 0, 1]])


def found(reference, prediction, rule="any-overlap"):
    shape = reference.shape[::-1]
    return match_components(reference.astype(np.uint8), prediction.astype(np.uint8), Geometry(shape, AFFINE), MatchRule.parse(rule))


def by_exhaustion(reference, prediction, rule):
    """Number of matches and their summed IoU by trying every assignment; components by scipy."""
    ours, n_ours = ndimage.label(reference, np.ones((3, 3, 3)))
    theirs, n_theirs = ndimage.label(prediction, np.ones((3, 3, 3)))
    iou = np.zeros((n_ours, n_theirs))
    allowed = np.zeros((n_ours, n_theirs), bool)
    centres = ndimage.center_of_mass(prediction, theirs, range(1, n_theirs + 1)) if n_theirs else []
    for a, b in itertools.product(range(n_ours), range(n_theirs)):
        one, other = ours == a + 1, theirs == b + 1
        iou[a, b] = (one & other).sum() / (one | other).sum()
        at = tuple(int(np.floor(c + 0.5)) for c in centres[b])
        allowed[a, b] = {"any-overlap": iou[a, b] > 0, "iou>=0.3": iou[a, b] >= 0.3, "centre-inside": bool(one[at])}[rule]
    rows, columns = (n_ours, n_theirs) if n_ours <= n_theirs else (n_theirs, n_ours)
    share, may = (iou, allowed) if n_ours <= n_theirs else (iou.T, allowed.T)
    best = (0, 0.0)
    for chosen in itertools.permutations(range(columns), rows):
        hits = [(a, b) for a, b in enumerate(chosen) if may[a, b]]
        best = max(best, (len(hits), round(sum(share[a, b] for a, b in hits), 9)))
    return best, n_ours, n_theirs


@pytest.mark.parametrize("rule", ["any-overlap", "iou>=0.3", "centre-inside"])
@given(seed=st.integers(0, 100_000))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_the_assignment_is_the_best_there_is(rule, seed):
    random = np.random.default_rng(seed)
    reference, prediction = (ndimage.binary_dilation(random.random((5, 9, 9)) < 0.02) for _ in range(2))
    shifted = np.roll(reference, random.integers(0, 3), axis=2) & (random.random(reference.shape) < 0.8)
    prediction = prediction & shifted if seed % 2 else prediction | shifted & (random.random(reference.shape) < 0.4)
    assume(_few(reference, prediction))
    (count, total), n_ours, n_theirs = by_exhaustion(reference, prediction, rule)
    detection = found(reference, prediction, rule)
    assert detection.count("matched") == count
    assert detection.count("matched") + detection.count("missed") == n_ours
    assert detection.count("matched") + detection.count("false") == n_theirs
    assert _iou_sum(detection) == pytest.approx(total, abs=1e-6)


def _few(*masks):
    return all(ndimage.label(mask, np.ones((3, 3, 3)))[1] <= 6 for mask in masks)


def _iou_sum(detection):
    total = 0.0
    for lesion in detection.lesions:
        if lesion.kind == "matched":
            union = lesion.reference_volume_ml + lesion.prediction_volume_ml - lesion.common_volume_ml
            total += lesion.common_volume_ml / union
    return total


def line(text):
    return np.array([[[int(mark == "#") for mark in text]]], np.uint8)


def test_one_prediction_over_two_lesions_is_merged_and_finds_one():
    detection = found(line("##..##..#"), line("######..#"))
    assert (detection.merged_count, detection.split_count) == (1, 0)
    assert (detection.count("matched"), detection.count("missed"), detection.count("false")) == (2, 1, 0)


def test_one_lesion_in_two_parts_is_split_and_one_part_is_false():
    detection = found(line("#######"), line("###.##."))
    assert (detection.merged_count, detection.split_count) == (0, 1)
    assert (detection.count("matched"), detection.count("missed"), detection.count("false")) == (1, 0, 1)
    assert detection.lesions[0].dice == pytest.approx(2 * 3 / (7 + 3))  # the larger part is the partner


def test_more_matches_are_better_than_a_closer_one():
    """The first prediction fits the first lesion best, but then the second lesion would have nobody."""
    reference = line("#####.###########")
    prediction = line("####.#####.......")  # parts: 0-3 and 5-9 (touches the second lesion alone)
    detection = found(reference, prediction)
    assert detection.count("matched") == 2


def test_iou_at_the_limit_counts():
    """IoU is exactly 1/2."""
    assert found(line("##.."), line("####"), "iou>=0.5").sensitivity == 1
    assert found(line("##.."), line("####"), "iou>=0.51").sensitivity == 0


def test_the_centre_of_a_ring_may_lie_in_a_lesion_it_does_not_touch():
    ring = np.zeros((1, 5, 5), np.uint8)
    ring[0, [0, 0, 0, 0, 0, 4, 4, 4, 4, 4], [0, 1, 2, 3, 4] * 2] = 1
    ring[0, 1:4, [0, 4]] = 1
    middle = np.zeros((1, 5, 5), np.uint8)
    middle[0, 2, 2] = 1
    assert found(middle, ring, "centre-inside").sensitivity == 1
    assert found(middle, ring, "any-overlap").sensitivity == 0


def test_empty_sides_are_undefined_not_zero():
    nothing, something = line("...."), line("#..#")
    assert (found(nothing, something).sensitivity, found(nothing, something).precision) == (None, 0)
    assert (found(something, nothing).sensitivity, found(something, nothing).precision) == (0, None)
    assert (found(nothing, nothing).f1, found(nothing, nothing).lesion_dice) == (None, None)
    assert found(something, nothing).to_dict()["missed_volumes_ml"] == pytest.approx([0.0022, 0.0022])


def test_places_and_volumes_are_those_of_the_patient():
    mask = np.zeros((4, 5, 6), np.uint8)
    mask[1:3, 2:4, 3:6] = 1
    (lesion,) = found(mask, np.zeros_like(mask)).lesions
    np.testing.assert_allclose(lesion.centre_mm, (AFFINE @ [4, 2.5, 1.5, 1])[:3])
    assert lesion.reference_volume_ml == pytest.approx(12 * 0.8 * 2.5 * 1.1 / 1000)


def test_lesions_of_a_segmentation_in_its_place():
    """Segments crop to their own box: the places must be those of the whole grid."""
    grid = Geometry((12, 10, 8), AFFINE)
    array = np.zeros(grid.shape, np.uint8)
    array[8:10, 6:8, 5:7], array[0, 0, 0], array[2:5, 2:5, 2:5] = 1, 1, 2
    other = np.zeros_like(array)
    other[8:11, 6:8, 5:7] = 1
    maps = [LabelMap(one, grid, (Segment(1, "lesion"), Segment(2, "organ"))) for one in (array, other)]
    evaluation = evaluate(*maps, surfaces=False, lesions=True)
    rows = evaluation.to_dict()["segments"][0]["lesions"]["rows"]
    np.testing.assert_allclose(rows[0]["centre_ras_mm"], grid.index_to_world([8.5, 6.5, 5.5]))
    assert [row["kind"] for row in rows] == ["matched", "missed"]
    assert evaluation["organ"].detection.count("missed") == 1


@pytest.mark.parametrize("wrong", ["", "iou", "iou>=0", "iou>=1.5", "iou>0.3", "overlap", "iou>=1.2.3"])
def test_a_rule_nobody_knows_is_refused(wrong):
    with pytest.raises(ParameterError, match="any-overlap"):
        MatchRule.parse(wrong)


def test_real_vertebrae_by_another_way(shared_data):
    """Every label of a real pair: components by scipy, and matches by the largest bipartite matching of scipy."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    case = shared_data / "metrics_spine_semantic"
    maps = [read_label_map(case / name) for name in ("ref.nii.gz", "pred.nii.gz")]
    evaluation = evaluate(*maps, surfaces=False, lesions=True)
    for score in evaluation.scores:
        (ours, n), (theirs, m) = (ndimage.label(one.array == score.number, np.ones((3, 3, 3))) for one in maps)
        touching = np.zeros((n, m), int)
        both = (ours > 0) & (theirs > 0)
        np.add.at(touching, (ours[both] - 1, theirs[both] - 1), 1)
        matches = int((maximum_bipartite_matching(csr_array(touching), perm_type="column") >= 0).sum())
        row = score.detection.to_dict()
        assert (row["reference_count"], row["prediction_count"], row["true_positives"]) == (n, m, matches)
        assert row["merged_count"] == ((touching > 0).sum(axis=0) > 1).sum()
        assert row["split_count"] == ((touching > 0).sum(axis=1) > 1).sum()

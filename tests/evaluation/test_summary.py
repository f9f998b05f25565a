"""Means that cannot flatter: the three lines counted by hand, and the bootstrap against an exact one."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.evaluation.bootstrap import Bootstrap, intervals
from medseg.evaluation.cohort import CaseScores, CaseStatus, CohortEvaluation
from medseg.evaluation.overlap import diagonal_mm, evaluate, evaluate_without
from medseg.evaluation.score import SegmentScore, SurfaceRule
from medseg.evaluation.summary import summarise

GRID = Geometry((12, 10, 8), np.diag([1.0, 2, 3, 1]))
SETTINGS = {"surfaces": True}


def boxes(*starts, empty=()):
    """A label map with a box of 3×3×2 voxels for each segment, shifted along i."""
    array = np.zeros(GRID.shape, np.uint8)
    for number, start in enumerate(starts, 1):
        if number not in empty:
            array[start : start + 3, 4 * (number - 1) + 1 : 4 * (number - 1) + 4, 2:4] = number
    return LabelMap(array, GRID, tuple(Segment(n, name) for n, name in zip(range(1, len(starts) + 1), "ab", strict=False)))


def test_a_miss_is_the_diagonal_and_zero_in_the_second_line():
    evaluation = evaluate(boxes(2, 2), boxes(3, 2, empty=(2,)))
    overall = evaluation.to_dict()["summary"]["overall"]
    dice = 2 * 2 / 6
    assert overall["without_misses"]["dice"] == pytest.approx(dice)
    assert overall["misses_as_worst_case"]["dice"] == pytest.approx(dice / 2)
    diagonal = np.linalg.norm([12, 20, 24])
    assert overall["without_misses"]["hd95_mm"] == pytest.approx(1)
    assert overall["misses_as_worst_case"]["hd95_mm"] == pytest.approx((1 + diagonal) / 2)
    assert overall["misses_as_worst_case"]["nsd_1mm"] == pytest.approx(overall["without_misses"]["nsd_1mm"] / 2)
    assert overall["misses_as_worst_case"]["volume_difference_percent"] == pytest.approx(-50)
    assert (overall["compared_count"], overall["missed_count"], overall["false_count"]) == (1, 1, 0)


def test_a_false_segment_is_as_bad_as_a_miss_but_has_no_percent():
    summary = evaluate(boxes(2, 2, empty=(2,)), boxes(2, 2)).to_dict()["summary"]
    lines = {entry["label"]: entry for entry in summary["labels"]}
    assert lines["b"]["false_count"] == 1
    assert lines["b"]["without_misses"]["dice"] is None
    worst = lines["b"]["misses_as_worst_case"]
    assert (worst["dice"], worst["sensitivity"], worst["hd_mm"]) == (0, 0, pytest.approx(diagonal_mm(GRID)))
    assert worst["volume_difference_percent"] is None
    assert lines["b"]["value_counts"]["misses_as_worst_case"]["volume_difference_percent"] == 0
    assert worst["volume_difference_ml"] == pytest.approx(18 * 6 / 1000)


def test_a_segment_that_neither_side_has_is_counted_apart():
    summary = evaluate(boxes(2, 2, empty=(2,)), boxes(2, 2, empty=(2,))).to_dict()["summary"]
    assert summary["undefined_count"] == 1
    assert summary["overall"]["absent_count"] == 1
    assert summary["overall"]["misses_as_worst_case"]["dice"] == 1


def test_a_failed_case_counts_as_if_nothing_had_been_found():
    reference = boxes(2, 2)
    failed = evaluate_without(reference, SETTINGS, failure="the file is damaged")
    assert {score.outcome.value for score in failed.scores} == {"failed"}
    row = failed.to_dict()["segments"][0]
    assert (row["dice"], row["prediction_voxels"], row["volume_difference_ml"], row["reason"]) == (None, None, None, "the file is damaged")
    missing = evaluate_without(reference, SETTINGS, note="no prediction")
    assert {score.outcome.value for score in missing.scores} == {"missed"}
    one, other = (summarise([case.scores], SurfaceRule(), None)["overall"]["misses_as_worst_case"] for case in (failed, missing))
    assert one == other


def test_leaving_cases_out_never_helps():
    """The same five cases, two of them missing or failed: the worst-case line falls, and the counts say why."""
    good = evaluate(boxes(2, 2), boxes(3, 2))
    lost = evaluate_without(boxes(2, 2), SETTINGS, failure="damaged")
    gone = evaluate_without(boxes(2, 2), SETTINGS)

    def cohort(*evaluations):
        statuses = {id(lost): CaseStatus.FAILED, id(gone): CaseStatus.MISSING}
        cases = [CaseScores(f"c{n}", statuses.get(id(one), CaseStatus.COMPARED), "", one) for n, one in enumerate(evaluations)]
        return CohortEvaluation(tuple(cases), SurfaceRule(), bootstrap=Bootstrap(200)).to_dict()["summary"]

    whole, part = cohort(good, good, good, good, good), cohort(good, good, good, lost, gone)
    assert part["overall"]["without_misses"]["dice"] == pytest.approx(whole["overall"]["without_misses"]["dice"])
    assert part["overall"]["misses_as_worst_case"]["dice"] == pytest.approx(0.6 * whole["overall"]["misses_as_worst_case"]["dice"])
    assert part["mean_dice"] == pytest.approx(0.6 * whole["mean_dice"])
    assert (part["failed_cases"], part["missing_predictions"]) == (["c3"], ["c4"])
    assert (part["overall"]["failed_count"], part["overall"]["missed_count"]) == (2, 2)


def test_a_reference_that_cannot_be_read_is_named():
    cases = (CaseScores("x", CaseStatus.FAILED, "damaged"), CaseScores("y", CaseStatus.COMPARED, "", evaluate(boxes(2), boxes(2))))
    document = CohortEvaluation(cases, SurfaceRule()).to_dict()
    assert document["summary"]["cases_without_reference"] == ["x"]
    assert document["cases"][0]["segment_count"] is None
    assert [row["case"] for row in document["segments"]] == ["y"]


def exact_interval(values):
    """The percentile interval over all n^n resamples of a few values."""
    means = np.sort([np.mean(draw) for draw in itertools.product(values, repeat=len(values))])
    return np.percentile(means, (2.5, 97.5))


@pytest.mark.parametrize("values", [(0.1, 0.5, 0.9, 0.95), (0.0, 1.0, 0.8, 0.7, 0.2), (3.0, 3.0, 9.0, 1.0, 2.5, 4.0)])
def test_the_interval_is_that_of_all_resamples(values):
    sums = np.array(values)[:, None]
    draws = Bootstrap(60_000, seed=3).draws(len(values))
    (found,) = intervals(draws, sums, np.ones_like(sums))
    np.testing.assert_allclose(found, exact_interval(values), atol=0.02 * np.ptp(values))


def test_the_interval_of_many_cases_is_the_normal_one():
    random = np.random.default_rng(5)
    values = random.normal(10, 2, (400, 1))
    (found,) = intervals(Bootstrap(20_000, seed=1).draws(400), values, np.ones_like(values))
    half = 1.959964 * values.std() / np.sqrt(400)
    np.testing.assert_allclose(found, (values.mean() - half, values.mean() + half), atol=0.03 * half + 0.004)


def test_segments_of_a_case_stay_together():
    """Four cases of five equal segments know no more than four cases of one."""
    values = np.array([0.2, 0.9, 0.6, 0.8])[:, None]
    draws = Bootstrap(5_000).draws(4)
    assert intervals(draws, 5 * values, np.full((4, 1), 5.0))[0] == pytest.approx(intervals(draws, values, np.ones((4, 1)))[0])


def test_the_same_seed_gives_the_same_interval():
    draws = [Bootstrap(500, seed).draws(6) for seed in (1, 1, 2)]
    assert (draws[0] == draws[1]).all()
    assert (draws[0] != draws[2]).any()
    assert (draws[0].sum(axis=1) == 6).all()


def test_where_no_interval_is_defined_it_says_so():
    assert Bootstrap().draws(1) is None
    assert "needs 2" in Bootstrap().why_none(1)
    assert Bootstrap(0).draws(9) is None
    assert Bootstrap(0).why_none(9)
    found = intervals(Bootstrap(100).draws(3), np.array([[1.0], [0], [0]]), np.array([[1.0], [0], [0]]))
    assert found == [None]  # one case alone has the label
    single = evaluate(boxes(2), boxes(3)).to_dict()["summary"]
    assert single["overall"]["interval"]["dice"] is None
    assert "needs 2" in single["bootstrap"]["reason"]
    for wrong in ({"resamples": -1}, {"seed": -1}, {"resamples": 10**8}):
        with pytest.raises(ParameterError):
            Bootstrap(**wrong)


def test_lesions_of_a_cohort_are_pooled_with_their_interval():
    found = [evaluate(boxes(2, 2), boxes(3, 2, empty=empty), surfaces=False, lesions=True) for empty in ((), (2,), (1, 2))]
    summary = summarise([one.scores for one in found], None, found[0].match, Bootstrap(300))["lesions"]
    assert summary["rule"] == "any-overlap"
    assert summary["overall"]["true_positives"] == 3
    assert summary["overall"]["sensitivity"] == pytest.approx(3 / 6)
    assert summary["overall"]["precision"] == 1
    assert summary["overall"]["false_positives_per_case"] == 0
    low, high = summary["overall"]["interval"]["sensitivity"]
    assert low == 0
    assert high == 1
    by_label = {entry["label"]: entry for entry in summary["labels"]}
    assert by_label["b"]["false_negatives"] == 2


def test_false_positives_are_per_case_whose_prediction_is_known():
    extra = evaluate(boxes(2, 2, empty=(2,)), boxes(2, 2), surfaces=False, lesions=True)
    failed = replace(extra, scores=tuple(replace(score, failure="damaged", detection=None) for score in extra.scores))
    summary = summarise([extra.scores, extra.scores, failed.scores], None, extra.match, Bootstrap(0))["lesions"]
    assert summary["overall"]["false_positives_per_case"] == 1


def test_an_unknown_prediction_of_an_empty_segment_is_not_a_miss():
    score = SegmentScore(1, "a", 0, 0, 0, 0.0, 0.0, failure="damaged")
    assert score.outcome.value == "absent"
    assert score.dice is None

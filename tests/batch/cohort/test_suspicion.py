"""Suspicion: the robust z-score is that of scipy, usual things weigh nothing, and unusual ones come first with their reason."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from medseg.batch.cohort.suspicion import CohortStatistics, distribution_of


def row(volume=1500.0, label="liver", status="measured", half=0.01, **more):
    interval = None if volume is None else [volume * (1 - half), volume * (1 + half)]
    return {"label": label, "status": status, "volume_ml": volume, "volume_interval_ml": interval, **more}


def pieces(count, label="liver"):
    return {"components": {label: count}}


WARNING = {"code": "THICK_SLICES", "severity": "warning", "message": "slices are 8 mm thick"}
ERROR = {"code": "SLICES_MISSING", "severity": "error", "message": "3 slices are missing"}


@pytest.fixture
def cohort():
    """Forty livers with a coefficient of variation of 20 %, as in adults."""
    statistics = CohortStatistics()
    rng = np.random.default_rng(5)
    volumes = 1500 * np.exp(rng.normal(0, 0.2, 40))
    for volume in volumes:
        statistics.add([row(volume, half=0.01 * rng.uniform(0.8, 1.25))], pieces(1), [])
    return statistics, volumes


def test_z_is_that_of_iglewicz_and_hoaglin(cohort):
    statistics, volumes = cohort
    logs = np.log(volumes)
    spread = stats.median_abs_deviation(logs)
    for volume in (300.0, 1500.0, 4000.0):
        expected = 0.6745 * (math.log(volume) - np.median(logs)) / spread
        assert statistics.volume_z(row(volume)) == pytest.approx(expected, rel=1e-12)
    assert statistics.volume_z(row(status="cut_by_field_of_view")) is None
    assert statistics.volume_z(row(None, status="absent")) is None


def test_where_most_agree_the_mean_deviation_stands_in():
    values = [1.0] * 9 + [2.0]
    found = distribution_of(values)
    assert found.z(2.0) == pytest.approx(1 / (1.253314 * np.mean(np.abs(np.array(values) - 1))))
    assert distribution_of([1.0] * 9).z(2.0) is None
    assert distribution_of([1.0, 2.0] * 3) is None


def test_a_usual_case_is_not_suspicious(cohort):
    found = cohort[0].suspicion([row()], pieces(1), [])
    assert (found.score, found.reasons) == (0, ())


@pytest.mark.parametrize(
    ("segment", "checks", "findings", "least", "said"),
    [
        (row(300.0), pieces(1), [], 75, "300.0 ml is far below the cohort"),
        (row(6000.0), pieces(1), [], 75, "is far above the cohort"),
        (row(), pieces(9), [], 30, "9 pieces, usual in the cohort are at most 1"),
        (row(None, status="absent"), {}, [], 90, "nothing was found: liver has no voxel; 100 % of the cases have one"),
        (row(status="cut_by_field_of_view", touches_border=["left"]), pieces(1), [], 30, "cut by the border of the scan (left)"),
        (row(half=0.2), pieces(1), [], 30, "the interval spans 40 % of the volume"),
        (row(None, status="failed", reason="why"), {}, [], 55, "could not be measured (why)"),
        (row(), pieces(1), [ERROR], 70, "SLICES_MISSING: 3 slices are missing"),
        (row(), pieces(1), [WARNING], 15, "THICK_SLICES: slices are 8 mm thick"),
    ],
    ids=["small", "large", "pieces", "empty", "border", "wide", "failed", "error", "warning"],
)
def test_each_reason_is_said_and_weighs(cohort, segment, checks, findings, least, said):
    found = cohort[0].suspicion([segment], checks, findings)
    assert least <= found.score <= 100
    assert said in found.texts[0]


def test_reasons_add_up_and_stay_below_100(cohort):
    one = cohort[0].suspicion([row(300.0)], pieces(1), [])
    two = cohort[0].suspicion([row(300.0)], pieces(9), [])
    all_of_them = cohort[0].suspicion([row(30.0, half=0.4)], pieces(99), [WARNING, ERROR])
    assert one.score < two.score < all_of_them.score <= 100
    weights = [reason.weight for reason in two.reasons]
    assert two.score == round(100 * (1 - (1 - weights[0]) * (1 - weights[1])))


def test_a_hundred_segments_weigh_as_their_worst():
    """A case with many segments is not suspicious for having many."""
    statistics = CohortStatistics()
    for n in range(20):
        statistics.add([row(1000.0 + 10 * n, f"organ {m}") for m in range(100)], {}, [])
    one = statistics.suspicion([row(100.0, "organ 3"), *(row(1100.0, f"organ {m}") for m in range(4, 100))], {}, [])
    many = statistics.suspicion([row(100.0, f"organ {m}") for m in range(100)], {}, [])
    assert one.score == many.score
    assert len(many.texts) == 4
    assert many.texts[-1] == "97 more segments: unusual volume"


def test_a_case_without_any_voxel_comes_before_one_that_is_merely_cut():
    """In a cohort too small to say what is usual; the cause is among what a sheet shows at once."""
    statistics, few = CohortStatistics(), ["air", "bone", "fat", "lung", "muscle", "skin"]
    for _ in range(5):
        statistics.add([row(label=label) for label in few], {}, [])
    no_body = {"code": "NO_BODY", "severity": "warning", "message": "no patient was found"}
    empty = statistics.suspicion([row(None, label, "absent") for label in few], {}, [no_body])
    slab = statistics.suspicion([row(label=label, status="cut_by_field_of_view") for label in few], {}, [ERROR])
    assert empty.score == round(100 * (1 - 0.1 * 0.85))
    assert empty.texts == ("nothing was found: none of 6 segments has a voxel", "NO_BODY: no patient was found")
    assert empty.score > slab.score >= 60
    undrawn = statistics.suspicion([row(None, "air", "absent"), row(None, "fat", "not_attempted")], {}, [])
    assert undrawn.texts == ("nothing was found: air has no voxel",)
    partly = statistics.suspicion([row(None, "air", "absent"), row(label="fat")], {}, [])
    assert [reason.kind for reason in partly.reasons] == ["empty"]
    assert statistics.suspicion([row(None, "air", "not_attempted")], {}, []).score == 0
    assert statistics.suspicion([], {}, []).score == 0


def test_nothing_found_weighs_less_where_it_is_usual():
    """Lesions that most patients do not have: an empty case is what it should be."""
    statistics = CohortStatistics()
    for n in range(20):
        statistics.add([row(label="lesion") if n < 4 else row(None, "lesion", "absent")], {}, [])
    assert statistics.suspicion([row(None, "lesion", "absent")], {}, []).score == round(0.9 * 20)


def test_a_finding_is_not_hidden_by_more_of_the_same(cohort):
    """The first of each kind come first, a finding before a segment where they weigh the same."""
    statistics = CohortStatistics()
    cut = [row(label=f"organ {n}", status="cut_by_field_of_view", half=0.4) for n in range(6)]
    found = statistics.suspicion(cut, {}, [WARNING])
    assert [reason.kind for reason in found.reasons[:3]] == ["cut by the border", "finding THICK_SLICES", "wide interval"]
    assert found.reasons[1].weight == pytest.approx(found.reasons[2].weight)
    assert [reason.kind for reason in found.reasons[3:]] == ["cut by the border"] * 3 + ["wide interval"] * 3
    failed = row(None, status="failed", reason="why")
    both = cohort[0].suspicion([failed], {}, [ERROR])
    assert both.texts[0].startswith("SLICES_MISSING")


def test_what_is_usual_here_says_nothing():
    statistics = CohortStatistics()
    cut = row(status="cut_by_field_of_view")
    for _ in range(20):
        statistics.add([cut, row(None, "spleen", "absent")], pieces(5), [WARNING])
    assert statistics.suspicion([cut, row(None, "spleen", "absent")], pieces(5), [WARNING]).score == 0


def test_few_cases_give_no_verdict_on_volumes():
    statistics = CohortStatistics()
    for n in range(7):
        statistics.add([row(1500.0 + n)], pieces(1), [])
    assert statistics.suspicion([row(10.0)], pieces(40), []).score == 0
    assert statistics.volume_z(row(10.0)) is None


def test_outliers_do_not_hide_each_other():
    """A quarter of the cohort is wrong by a factor of 10: mean and SD would see nothing (z = 1.7), the median does."""
    rng = np.random.default_rng(8)
    statistics = CohortStatistics()
    volumes = np.r_[1500 * np.exp(rng.normal(0, 0.15, 30)), np.full(10, 150.0)]
    for volume in volumes:
        statistics.add([row(volume)], {}, [])
    logs = np.log(volumes)
    assert abs((math.log(150.0) - logs.mean()) / logs.std()) < 3
    assert statistics.volume_z(row(150.0)) < -6

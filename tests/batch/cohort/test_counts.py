"""Counts that add up are drawn, others raise: each sum is broken in each direction."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from medseg.batch.cohort.counts import STAGES, Counts, People, words_of
from medseg.reporting.flow import CountsError


def counts(**changed: Any) -> Counts:
    """Twelve series: three left out, nine cases, two of them failed, one not run; of six finished ones one rejected, one sent back."""
    known: dict[str, Any] = {
        "found": 12,
        "cases": 9,
        "passed_over": Counter({"no image": 40}),  # no part of any sum
        "left_out": Counter({"a localizer or scout": 2, "fewer than 4 slices": 1}),
        "failed": Counter({"MISSING_SLICES": 1, "CRASH": 1}),
        "not_run": 1,
        "done": 6,
        "standing": Counter({"unreviewed": 1, "accepted": 1, "rejected": 1, "to_fix": 1, "corrected": 1, "void": 1}),
        "analysed": 4,
    }
    return Counts(**known | changed)


def test_counts_that_add_up_are_taken_and_said() -> None:
    counts().check()
    Counts().check()
    said = counts().to_dict()
    assert said["left_out"] == {"total": 3, "by_reason": {"a localizer or scout": 2, "fewer than 4 slices": 1}}
    assert (said["found"], said["cases"], said["not_run"], said["done"], said["analysed"]) == (12, 9, 1, 6, 4)
    assert [(step.count, step.left) for step in counts().steps()] == [(12, 3), (9, 3), (6, 2), (4, 0)]


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("found", "found series"),
        ("cases", "found series"),
        ("left_out", "found series"),
        ("failed", " cases, their"),
        ("not_run", " cases, their"),
        ("done", " cases, their"),
        ("standing", "finished cases"),
        ("analysed", "finished cases"),
    ],
)
def test_each_sum_that_is_off_by_one_is_an_error(name: str, said: str, by: int) -> None:
    wrong = counts()
    if isinstance(getattr(wrong, name), Counter):
        getattr(wrong, name)[next(iter(getattr(wrong, name)))] += by
    else:
        setattr(wrong, name, getattr(wrong, name) + by)
    with pytest.raises(CountsError, match=f"do not add up.*{said}"):
        wrong.check()


def test_errors_that_cancel_each_other_are_found() -> None:
    counts(standing=Counter({"unreviewed": 4, "rejected": 2})).check()
    with pytest.raises(CountsError, match="finished cases"):  # six of six, but who was rejected is analysed
        counts(standing=Counter({"unreviewed": 4, "rejected": 2}), analysed=5).check()
    with pytest.raises(CountsError, match="negative"):
        counts(left_out=Counter({"one": 4, "other": -1})).check()


def test_codes_that_mean_the_same_are_one_line_of_the_diagram() -> None:
    step = counts(failed=Counter({"CRASH": 1, "crash": 1})).steps()[1]
    assert step.reasons == {"the program crashed on it": 1, "crash": 1, "not run yet": 1}
    assert (words_of("MISSING_SLICES"), words_of("")) == ("missing slices", "failed")


def test_studies_and_patients_are_counted_once_or_not_at_all() -> None:
    people = People()
    for patient, study in (("p", "s"), ("p", "t"), ("q", "u"), ("q", "u")):
        people.add("found", patient, study)
    people.add("cases", "p", "")
    assert people.of("found") == {"studies": 3, "patients": 2}
    assert people.words("found") == ("in 3 studies of 2 patients",)
    assert people.of("cases") == {"studies": None, "patients": 1}
    assert people.words("cases") == ("in 1 patient",)
    assert all(people.of(stage) == {"studies": None, "patients": None} for stage in STAGES[2:])

from __future__ import annotations

import math

import pytest

from medseg.core.errors import ParameterError
from medseg.core.measurement import Measurement, Status
from medseg.measurement.averages import Rule, average


def volume(value, status=Status.MEASURED, unit="ml"):
    return Measurement("liver", "volume", value, unit, status=status, reason="" if status is Status.MEASURED else "said")


MEASURED = [volume(10.0), volume(14.0), volume(12.0)]
CUT, ABSENT = volume(5.0, Status.CUT_BY_FIELD_OF_VIEW), volume(None, Status.ABSENT)
FAILED, NOT_ATTEMPTED = volume(None, Status.FAILED), volume(None, Status.NOT_ATTEMPTED)


def test_measured_values_need_no_rule():
    found = average(MEASURED)
    assert (found.mean, found.count, found.left_out, found.rule) == (12.0, 3, {}, "")
    assert found.sd == pytest.approx(2.0)


@pytest.mark.parametrize("other", [CUT, ABSENT, FAILED, NOT_ATTEMPTED])
def test_mixed_states_are_refused_without_a_rule(other):
    with pytest.raises(ParameterError, match=f"3 measured, 1 {other.status.value}"):
        average([*MEASURED, other])


@pytest.mark.parametrize(
    ("rule", "mean", "left_out"),
    [
        (Rule.MEASURED_ONLY, 12.0, {"cut_by_field_of_view": 1, "absent": 1, "failed": 1, "not_attempted": 1}),
        ("visible-too", 41 / 4, {"absent": 1, "failed": 1, "not_attempted": 1}),
        ("absent-is-zero", 9.0, {"cut_by_field_of_view": 1, "failed": 1, "not_attempted": 1}),
    ],
)
def test_a_rule_says_what_is_taken_and_the_rest_is_counted(rule, mean, left_out):
    found = average([*MEASURED, CUT, ABSENT, FAILED, NOT_ATTEMPTED], rule=rule)
    assert found.mean == pytest.approx(mean)
    assert found.left_out == left_out
    assert found.count + sum(left_out.values()) == 7


def test_nothing_left_is_no_zero():
    found = average([ABSENT], rule="measured-only")
    assert (found.mean, found.sd, found.count) == (None, None, 0)
    assert found.reason
    one = average([volume(3.0)])
    assert (one.mean, one.sd) == (3.0, None)
    assert not math.isnan(one.mean)


def test_units_and_rules_are_checked():
    with pytest.raises(ParameterError, match="no common mean"):
        average([volume(1.0), volume(2.0, unit="HU")])
    with pytest.raises(ParameterError, match="is no rule"):
        average(MEASURED, rule="drop")

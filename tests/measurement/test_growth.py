"""Per cent change, its interval and the doubling time, against Monte Carlo trials and worked numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medseg.core.errors import ParameterError
from medseg.core.measurement import Measurement, Status
from medseg.measurement.growth import Estimate, beyond_measurement_error, doubling_time_days, percent_change, total

ABSENT = Measurement("x", "volume", None, "ml", status=Status.ABSENT, reason="no voxel has this segment's number")


def volume(value: float, interval: tuple[float, float] | None = None, **rest) -> Measurement:
    return Measurement("x", "volume", value, "ml", interval, **rest)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.2])
def test_the_interval_of_a_change_covers_the_truth_in_95_per_cent(share):
    """Volumes with normal errors of a known share: the interval of their ratio holds the true change as often as it says."""
    random = np.random.default_rng(7)
    before, after, hits, trials = 2.0, 3.0, 0, 4000
    for one, two in random.normal((before, after), (share * before, share * after), (trials, 2)):
        a = volume(one, (one - 1.96 * share * before, one + 1.96 * share * before))
        b = volume(two, (two - 1.96 * share * after, two + 1.96 * share * after))
        change = percent_change(a, b)
        hits += change.low <= 50.0 <= (math.inf if change.high is None else change.high)
    assert 0.935 <= hits / trials <= 0.965


def test_log_normal_errors_give_the_closed_formula():
    """With intervals that are even on the log scale the limits are those of the log-normal ratio."""
    sd = 0.07
    a, b = (volume(v, (v * math.exp(-1.96 * sd), v * math.exp(1.96 * sd))) for v in (2.0, 5.0))
    change = percent_change(a, b)
    expected = [100 * (2.5 * math.exp(sign * 1.96 * sd * math.sqrt(2)) - 1) for sign in (-1, 1)]
    assert [change.low, change.high] == pytest.approx(expected)
    assert beyond_measurement_error(change)


def test_a_lopsided_interval_stays_lopsided():
    change = percent_change(volume(2.0, (1.9, 2.6)), volume(2.0, (1.9, 2.6)))
    # the volumes may both be larger than measured: neither side of their ratio gains by that
    assert math.log1p(change.high / 100) == pytest.approx(-math.log1p(change.low / 100))
    assert beyond_measurement_error(change) is False


def test_repeatability_of_the_reader_widens_the_interval():
    a, b = volume(2.0, (1.999, 2.001)), volume(2.5, (2.499, 2.501))
    change = percent_change(a, b, repeatability_percent=10.0)
    half = math.log1p(change.high / 100) - math.log(1.25)
    assert half == pytest.approx(1.96 * math.sqrt(2 * math.log(1.01)), rel=1e-3)  # repeatability coefficient of 27.7 %
    assert beyond_measurement_error(percent_change(a, b)) is True
    assert beyond_measurement_error(change) is False
    with pytest.raises(ParameterError):
        percent_change(a, b, repeatability_percent=-1)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (volume(0.0, (0.0, 0.0)), volume(1.0, (0.9, 1.1)), "0 ml"),
        (ABSENT, volume(1.0), "no volume at base"),
        (volume(1.0), ABSENT, "no volume at follow-up"),
        (volume(1.0, status=Status.CUT_BY_FIELD_OF_VIEW, reason="touches the border"), volume(1.0), "base the lesion is cut"),
        (volume(1.0), volume(1.0, status=Status.CUT_BY_FIELD_OF_VIEW, reason="touches the border"), "follow-up the lesion is cut"),
    ],
)
def test_what_cannot_be_compared_has_no_value_and_says_why(before, after, words):
    change = percent_change(before, after)
    assert (change.value, change.low, change.high) == (None, None, None)
    assert words in change.reason
    assert beyond_measurement_error(change) is None
    assert doubling_time_days(change, 90).value is None


def test_a_volume_without_interval_gives_a_change_without_one():
    change = percent_change(volume(1.0), volume(1.5, (1.4, 1.6)))
    assert (change.value, change.low) == (50.0, None)
    assert "base has no interval" in change.reason
    assert beyond_measurement_error(change) is None


def test_an_interval_that_reaches_zero_leaves_a_limit_open():
    change = percent_change(volume(0.01, (0.0, 0.03)), volume(0.5, (0.45, 0.55)))
    assert change.low is not None
    assert change.high is None
    assert "no upper limit" in change.reason
    down = percent_change(volume(0.5, (0.45, 0.55)), volume(0.01, (0.0, 0.03)))
    assert down.low == -100.0
    assert beyond_measurement_error(down) is True


def test_doubling_times():
    """t·ln 2/ln ratio: twice the volume in 90 days is 90, four times 45, half as much again 153.9."""
    assert doubling_time_days(Estimate(100.0, 80.0, 120.0), 90).value == pytest.approx(90)
    assert doubling_time_days(Estimate(300.0, 80.0, 420.0), 90).value == pytest.approx(45)
    slow = doubling_time_days(Estimate(50.0, 25.0, 80.0), 90)
    assert (slow.value, slow.low, slow.high) == pytest.approx((153.8560, 106.1316, 279.5657), abs=1e-3)
    open_end = doubling_time_days(Estimate(5.0, -5.0, 16.0), 90)
    assert open_end.high is None
    assert "no upper limit" in open_end.reason


@pytest.mark.parametrize(("change", "days", "words"), [(-20.0, 90, "did not grow"), (20.0, None, "not known"), (20.0, 0, "no day lies")])
def test_no_doubling_time_without_growth_or_days(change, days, words):
    time = doubling_time_days(Estimate(change, change - 5, change + 5), days)
    assert time.value is None
    assert words in time.reason


def test_sums_add_independent_errors():
    parts = [volume(2.0, (1.4, 2.3)), volume(3.0, (2.2, 3.4)), ABSENT]
    whole = total(parts, "both")
    assert whole.value == 5.0
    assert whole.interval == pytest.approx((4.0, 5.5))
    assert total([volume(1.0), volume(2.0, (1.9, 2.1))], "x").interval is None
    assert total([ABSENT], "x").value is None
    with pytest.raises(ParameterError):
        total([], "x")

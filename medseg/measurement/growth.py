"""How much two volumes differ, with an interval: per cent change, and the time in which a lesion doubles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medseg.core.errors import ParameterError
from medseg.core.measurement import Measurement, Status

NORMAL_95 = 1.959963984540054  # a normal error stays within this many standard deviations in 95 % of cases


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % limits; a limit that does not exist is None, and `reason` says why.

    >>> Estimate(12.0, 3.0, None, "no upper limit").to_dict("change")
    {'change': 12.0, 'change_interval': [3.0, None], 'change_reason': 'no upper limit'}
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    def to_dict(self, name: str) -> dict[str, Any]:
        """Return the JSON entries: value, interval (null where neither limit is known), and the reason for what is missing."""
        limits = None if self.low is None and self.high is None else [self.low, self.high]
        return {name: self.value, f"{name}_interval": limits, f"{name}_reason": self.reason}


def total(volumes: Sequence[Measurement], label: str) -> Measurement:
    """Add up volumes: independent errors, each side of the interval by itself (MOVER, doi:10.1002/sim.3095).

    A sum with an absent part is that of the others; the sum has no interval where a part has none. Raises ParameterError
    for nothing to add.

    >>> parts = [Measurement("a", "volume", 2.0, "ml", interval=(1.7, 2.3)), Measurement("b", "volume", 3.0, "ml", interval=(2.6, 3.4))]
    >>> print(total(parts, "both"))
    5.0 ml [4.5, 5.5]
    """
    if not volumes:
        raise ParameterError("nothing to add up: give at least one volume")
    there = [volume for volume in volumes if volume.value is not None]
    if not there:
        return Measurement(label, "volume", None, "ml", status=Status.ABSENT, reason=volumes[0].reason)
    value = sum(volume.value or 0.0 for volume in there)
    cut = next((volume for volume in there if volume.status is not Status.MEASURED), None)
    interval = None
    if all(volume.interval is not None for volume in there):
        sides = [(volume.value - volume.interval[0], volume.interval[1] - volume.value) for volume in there if volume.interval]  # type: ignore[operator]
        interval = (value - math.hypot(*(low for low, _ in sides)), value + math.hypot(*(high for _, high in sides)))
    status, reason = (Status.MEASURED, "") if cut is None else (cut.status, cut.reason)
    return Measurement(label, "volume", value, "ml", interval, status, reason)


def percent_change(before: Measurement, after: Measurement, *, repeatability_percent: float = 0.0) -> Estimate:
    """Return by how many per cent a volume changed, 100·(V₂/V₁ - 1), with its 95 % interval.

    On the log scale each side of the interval is the root of the sum of the squares of the distances of both volumes to
    their own limits (MOVER: doi:10.1002/sim.3095), so that lopsided intervals stay lopsided:
    ln L = ln(V₂/V₁) - √((ln V₂/l₂)² + (ln h₁/V₁)²), ln U = ln(V₂/V₁) + √((ln h₂/V₂)² + (ln V₁/l₁)²). The errors of the two
    scans are taken as independent. `repeatability_percent` is the within-subject coefficient of variation of the reader or
    program (`medseg agreement`): its 1.96·√2·√ln(1+CV²) joins the sum. None where there is no base volume (absent, 0 ml), or
    where a volume is that of a visible part only; no interval where a volume has none.

    >>> a = Measurement("lesion", "volume", 2.0, "ml", interval=(1.8, 2.2))
    >>> b = Measurement("lesion", "volume", 3.0, "ml", interval=(2.8, 3.2))
    >>> estimate = percent_change(a, b)
    >>> estimate.value, round(estimate.low), round(estimate.high)
    (50.0, 33, 70)
    """
    if not repeatability_percent >= 0:
        raise ParameterError(f"a repeatability is 0 % or more, got {repeatability_percent}")
    refusal = _refusal(before, after)
    if refusal:
        return Estimate(None, reason=refusal)
    one, two = float(before.value or 0.0), float(after.value or 0.0)
    value = 100 * (two / one - 1)
    if two == 0:
        return Estimate(-100.0, reason="a volume of 0 ml has no interval")
    if before.interval is None or after.interval is None:
        which = "base" if before.interval is None else "follow-up"
        return Estimate(value, reason=f"the volume at {which} has no interval: the change cannot be told from measurement error")
    common = NORMAL_95 * math.sqrt(2 * math.log1p((repeatability_percent / 100) ** 2))
    down = _hypot(_log_ratio(two, after.interval[0]), _log_ratio(before.interval[1], one), common)
    up = _hypot(_log_ratio(after.interval[1], two), _log_ratio(one, before.interval[0]), common)
    low = -100.0 if math.isinf(down) else 100 * (two / one * math.exp(-down) - 1)
    if math.isinf(up):
        return Estimate(value, low, None, "the interval of the base volume reaches 0 ml: the change has no upper limit")
    return Estimate(value, low, 100 * (two / one * math.exp(up) - 1))


def beyond_measurement_error(change: Estimate) -> bool | None:
    """Whether the interval of a change leaves out 0 %; None where it has no interval.

    >>> beyond_measurement_error(Estimate(12.0, 3.0, 21.0)), beyond_measurement_error(Estimate(12.0, -3.0, 27.0))
    (True, False)
    """
    if change.low is None:
        return None
    return change.low > 0 or (change.high is not None and change.high < 0)


def doubling_time_days(change: Estimate, days: float | None) -> Estimate:
    """Return the volume doubling time in days, t·ln 2 / ln(V₂/V₁), with the limits that the interval of the change gives.

    Exponential growth is assumed (doi:10.1002/1097-0142(196111/12)14:6<1272::AID-CNCR2820140618>3.0.CO;2-H). None where the
    lesion did not grow or the days are not known; no upper limit where the interval of the change holds 0 %.

    >>> doubling_time_days(Estimate(100.0, 50.0, 150.0), 90).value
    90.0
    """
    refusal = _no_doubling(change, days)
    if refusal or change.value is None or days is None:
        return Estimate(None, reason=refusal)
    value = _doubling(change.value, days)
    low = _doubling(change.high, days) if change.high is not None else None
    if change.low is None:
        return Estimate(value, reason=change.reason)
    if change.low <= 0:
        return Estimate(value, low, None, "growth is not beyond measurement error: the doubling time has no upper limit")
    return Estimate(value, low, _doubling(change.low, days), "" if low is not None else change.reason)


def _no_doubling(change: Estimate, days: float | None) -> str:
    """Why there is no doubling time; "" where there is one."""
    if change.value is None:
        return change.reason
    if days is None:
        return "the days between the scans are not known: give --date or --days"
    if days <= 0:
        return "no day lies between the scans: check their dates, or give --days"
    return "" if change.value > 0 else "the lesion did not grow: it has no doubling time"


def _doubling(percent: float, days: float) -> float:
    return days * math.log(2) / math.log1p(percent / 100)


def _refusal(before: Measurement, after: Measurement) -> str:
    """Why a change cannot be given; "" where it can."""
    if before.value is None:
        return f"no volume at base: {before.reason}"
    if before.value == 0:
        return "the base volume is 0 ml: a change in per cent is not defined"
    if after.value is None:
        return f"no volume at follow-up: {after.reason}"
    for volume, when in ((before, "base"), (after, "follow-up")):
        if volume.status is not Status.MEASURED:
            return f"at {when} the lesion is {volume.status.value}: {volume.reason or 'its volume is not the whole'}"
    return ""


def _log_ratio(upper: float, lower: float) -> float:
    return math.inf if lower <= 0 else math.log(upper / lower)


def _hypot(*parts: float) -> float:
    return math.inf if any(math.isinf(part) for part in parts) else math.hypot(*parts)

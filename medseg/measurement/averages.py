"""Means over segments or cases that never mix what was measured with what was not, unless a rule says how."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from medseg.core.errors import ParameterError
from medseg.core.measurement import Measurement, Status


class Rule(str, Enum):
    """What becomes of values that are not simply measured.

    `measured-only` leaves them out and counts them; `visible-too` also takes the visible part of what the field of view
    cuts; `absent-is-zero` takes an absent segment as 0. What was not attempted or failed is always left out and counted.
    """

    MEASURED_ONLY = "measured-only"
    VISIBLE_TOO = "visible-too"
    ABSENT_IS_ZERO = "absent-is-zero"


@dataclass(frozen=True)
class Average:
    """The mean and standard deviation (n - 1) of `count` values in `unit`, the rule, and what was left out, by status."""

    mean: float | None
    sd: float | None
    count: int
    unit: str
    rule: str
    left_out: dict[str, int]
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return dict(vars(self))


def average(measurements: Iterable[Measurement], *, rule: Rule | str | None = None) -> Average:
    """Average one quantity over segments or cases; refuses mixed states where no rule is given.

    The mean is None, with a reason, where nothing is left; the standard deviation where fewer than two values are. Raises
    ParameterError where units differ, the rule is unknown, or the states are mixed and there is no rule.

    >>> found = [Measurement("liver", "volume", v, "ml") for v in (1400.0, 1600.0)]
    >>> average(found).mean
    1500.0
    >>> average([*found, Measurement("liver", "volume", None, "ml", status="absent", reason="no voxel")])
    Traceback (most recent call last):
    medseg.core.errors.ParameterError: 2 measured, 1 absent: say what becomes of the others (measured-only, visible-too, absent-is-zero)
    """
    found = list(measurements)
    if rule is not None and rule not in set(Rule):
        raise ParameterError(f"{rule!r} is no rule for an average: {', '.join(each.value for each in Rule)}")
    states = Counter(each.status.value for each in found)
    if rule is None and any(each.status is not Status.MEASURED for each in found):
        counted = ", ".join(f"{count} {status}" for status, count in states.items())
        raise ParameterError(f"{counted}: say what becomes of the others ({', '.join(each.value for each in Rule)})")
    units = sorted({each.unit for each in found})
    if len(units) > 1:
        raise ParameterError(f"values in {' and '.join(map(repr, units))} have no common mean")
    values = [value for each in found if (value := _value(each, rule)) is not None]
    taken = {Status.MEASURED.value, *_TAKEN.get(rule, ())}
    left_out = {status: count for status, count in states.items() if status not in taken}
    text = "" if rule is None else Rule(rule).value
    unit = units[0] if units else ""
    if not values:
        return Average(None, None, 0, unit, text, left_out, "no value is left to average")
    mean = math.fsum(values) / len(values)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)) if len(values) > 1 else None
    return Average(mean, sd, len(values), unit, text, left_out, "" if sd is not None else "one value has no standard deviation")


_TAKEN: dict[Rule | str | None, tuple[str, ...]] = {
    Rule.VISIBLE_TOO: (Status.CUT_BY_FIELD_OF_VIEW.value,),
    Rule.ABSENT_IS_ZERO: (Status.ABSENT.value,),
}


def _value(measurement: Measurement, rule: Rule | str | None) -> float | None:
    if measurement.status is Status.MEASURED:
        return measurement.value
    if measurement.status is Status.CUT_BY_FIELD_OF_VIEW and rule == Rule.VISIBLE_TOO:
        return measurement.value
    return 0.0 if measurement.status is Status.ABSENT and rule == Rule.ABSENT_IS_ZERO else None

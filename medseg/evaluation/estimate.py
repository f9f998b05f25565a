"""A figure with its 95 % interval, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from medseg.core.errors import ParameterError


@dataclass(frozen=True)
class Estimate:
    """`value` and its 95 % interval from `low` to `high`; what is not defined is None, and `reason` says why.

    >>> Estimate(2.0, 1.5, 2.5).scaled(10).high
    25.0
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        numbers = [number for number in (self.value, self.low, self.high) if number is not None]
        if not all(math.isfinite(number) for number in numbers):
            raise ParameterError("an estimate is finite: give None and a reason instead")
        if len(numbers) < 3 and not self.reason:
            raise ParameterError("an estimate without value or interval needs a reason")

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval, None where it is not defined."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def scaled(self, factor: float) -> Estimate:
        """Return the estimate times a positive factor."""
        return self.mapped(lambda number: number * factor)

    def mapped(self, function: Callable[[float], float]) -> Estimate:
        """Return the estimate with an increasing function applied to all its numbers."""
        value, low, high = (None if number is None else float(function(number)) for number in (self.value, self.low, self.high))
        return Estimate(value, low, high, self.reason)

    def to_dict(self) -> dict[str, Any]:
        """Return {"value", "interval", "reason"}."""
        return {"value": self.value, "interval": None if self.interval is None else list(self.interval), "reason": self.reason}


def undefined(reason: str) -> Estimate:
    """Return an estimate without a value."""
    return Estimate(None, reason=reason)

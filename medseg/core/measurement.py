"""A measured value is never a bare number: it has a unit, a status, and where it can be given an interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from medseg.core.errors import ParameterError, UnknownSegmentError


class Status(str, Enum):
    """Whether a value may be reported, and if not why."""

    MEASURED = "measured"
    ABSENT = "absent"
    CUT_BY_FIELD_OF_VIEW = "cut_by_field_of_view"
    NOT_ATTEMPTED = "not_attempted"
    FAILED = "failed"


@dataclass(frozen=True)
class Measurement:
    """One quantity of one segment: `value` in `unit` (UCUM), its 95 % `interval` where known, its `status` and the reason.

    `parts` are the standard deviations that the interval is made of, in `unit`, by their source (grid, boundary, model). A
    value that could not be measured is None with a reason, never 0, NaN or infinity by accident. A segment cut by the field
    of view keeps the value of its visible part. Raises ParameterError where that is broken.

    >>> print(Measurement("liver", "volume", 1512.42, "ml", interval=(1498.0, 1526.9)))
    1512.4 ml [1498.0, 1526.9]
    """

    segment: str
    quantity: str
    value: float | None
    unit: str = ""
    interval: tuple[float, float] | None = None
    status: Status = Status.MEASURED
    reason: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "status", Status(self.status))
        if self.value is not None and not math.isfinite(self.value):
            raise ParameterError(f"{self.quantity} of {self.segment} is {self.value}: give None and a reason instead")
        if self.value is None and not self.reason:
            raise ParameterError(f"{self.quantity} of {self.segment} has no value and no reason")

    def __str__(self) -> str:
        if self.value is None:
            return f"not available: {self.reason}"
        text = f"{self.value:.1f} {self.unit}".rstrip()
        if self.interval is not None:
            text += f" [{self.interval[0]:.1f}, {self.interval[1]:.1f}]"
        return text if self.status is Status.MEASURED else f"{text} ({self.status.value}: {self.reason})"


@dataclass(frozen=True)
class SegmentRow:
    """Everything measured of one segment: its status, its measurements by quantity, and its place."""

    number: int
    label: str
    status: Status
    reason: str
    measurements: dict[str, Measurement]
    voxel_count: int
    centroid_mm: tuple[float, float, float] | None = None
    bounding_box: tuple[tuple[int, int, int], tuple[int, int, int]] | None = None
    touches: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON row; intensities are in the table's `intensity_unit`, None where undefined."""
        volume = self.measurements["volume"]
        row: dict[str, Any] = {
            "number": self.number,
            "label": self.label,
            "status": self.status.value,
            "reason": self.reason,
            "volume_ml": volume.value,
            "volume_interval_ml": list(volume.interval) if volume.interval else None,
            "volume_sd_ml": dict(volume.parts) or None,
            "visible_ml": volume.value if self.status is Status.CUT_BY_FIELD_OF_VIEW else None,
            "voxel_count": self.voxel_count,
            "centroid_ras_mm": list(self.centroid_mm) if self.centroid_mm else None,
            "bounding_box_ijk": [list(corner) for corner in self.bounding_box] if self.bounding_box else None,
            "touches_border": list(self.touches),
        }
        for name, measurement in self.measurements.items():
            if name != "volume":
                row[name] = measurement.value
                if measurement.reason:
                    row[f"{name}_reason"] = measurement.reason
        return row


@dataclass(frozen=True)
class MeasurementTable:
    """The measurements of a label map, one row a segment; `table["liver", "volume"]` gives one Measurement."""

    rows: tuple[SegmentRow, ...]
    modality: str = ""
    unit: str = ""

    def __iter__(self) -> Iterator[SegmentRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[str, str]) -> Measurement:
        label, quantity = key
        for row in self.rows:
            if row.label == label:
                if quantity in row.measurements:
                    return row.measurements[quantity]
                raise UnknownSegmentError(f"no quantity {quantity!r}; {label} has: {', '.join(row.measurements)}")
        raise UnknownSegmentError(f"no segment {label!r}; the table has: {', '.join(row.label for row in self.rows)}")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `medseg measure`."""
        return {
            "schema": "medseg.measure/1",
            "modality": self.modality,
            "intensity_unit": self.unit,
            "segments": [row.to_dict() for row in self.rows],
        }
